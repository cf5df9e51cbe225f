"""The commands that run one role of a cluster each. They meet in one Redis, and share one place for code
(LAMBENT_BLOBS); every option can be an environment variable as well."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lambent.cli.client import Failed, told

app = typer.Typer()

Redis = Annotated[
    str | None,
    typer.Option(help="The cluster's Redis, as redis://HOST:PORT/0.", show_default="LAMBENT_REDIS_URL"),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of what is this process's own.", show_default="as for `lambent up`")
]
Blobs = Annotated[
    str | None,
    typer.Option(
        help="Where code lies, s3://BUCKET/PREFIX or a folder; the same for all roles.",
        show_default="in the data folder",
    ),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        "--port", min=0, max=65535, help="Port of /healthz and /metrics; 0 takes a free one.", show_default="0"
    ),
]
InternalPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port for the other roles; 0 takes a free one.", show_default="0"),
]


def _run(role: str, flags: dict[str, Any]) -> None:
    given = {name: value for name, value in flags.items() if value is not None}
    # An executor forks to exec something else at once; gRPC's handlers for forks would only warn.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    with told():
        try:
            from lambent.cli.process import run
            from lambent.cli.roles import ROLES
        except ImportError as missing:
            raise Failed(
                f"the roles of a cluster need the extra `grpc`: pip install 'lambent[grpc]' ({missing})."
            ) from None
        code = run(ROLES[role], given)
    raise typer.Exit(code)


def _free_unless_told(port: int | None) -> int | None:
    """A scheduler or an executor beside a gateway takes no port that that one wants."""
    return 0 if port is None and "LAMBENT_PORT" not in os.environ else port


@app.command(
    epilog="Example: lambent gateway --redis-url redis://10.0.0.5:6379/0 --blobs /shared/blobs --port 9000"
)
def gateway(
    redis_url: Redis = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API.", show_default="9000")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the gRPC API.", show_default="none")
    ] = None,
    data_dir: DataDir = None,
    blobs: Blobs = None,
) -> None:
    """Serves the AWS API and gRPC for a cluster. Any number of them."""
    flags = {"host": host, "port": port, "grpc_port": grpc_port, "data_dir": data_dir, "blobs": blobs}
    _run("gateway", {**flags, "redis_url": redis_url})


@app.command(epilog="Example: lambent scheduler --redis-url redis://10.0.0.5:6379/0 --blobs /shared/blobs")
def scheduler(
    redis_url: Redis = None,
    port: HealthPort = None,
    internal_port: InternalPort = None,
    data_dir: DataDir = None,
    blobs: Blobs = None,
) -> None:
    """Grants slots and runs queued events for a cluster. Two or more: each owns a share of the functions."""
    flags = {"port": _free_unless_told(port), "data_dir": data_dir, "blobs": blobs, "redis_url": redis_url}
    _run("scheduler", {**flags, "internal_port": internal_port})


@app.command(epilog="Example: lambent executor --redis-url redis://10.0.0.5:6379/0 --blobs /shared/blobs")
def executor(
    redis_url: Redis = None,
    port: HealthPort = None,
    internal_port: InternalPort = None,
    data_dir: DataDir = None,
    blobs: Blobs = None,
) -> None:
    """Runs functions on this machine for a cluster. One per machine."""
    flags = {"port": _free_unless_told(port), "data_dir": data_dir, "blobs": blobs, "redis_url": redis_url}
    _run("executor", {**flags, "internal_port": internal_port})
