"""The commands about this machine: the server itself, what can be enforced, the runtimes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lambent.cli.client import Endpoint, Failed, told

app = typer.Typer()


@app.command(epilog="Example: lambent up --port 9010 --data-dir ./lambent-data")
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="9000")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the gRPC API; 0 takes a free one.", show_default="none"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of everything durable.", show_default="/var/lib/lambent as root"),
    ] = None,
    no_s3: Annotated[bool, typer.Option("--no-s3", help="Without the bundled S3 server.")] = False,
) -> None:
    """Starts a server, all in one, and stays. Ctrl-C or SIGTERM drains and ends it."""
    from lambent.cli.up import run

    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "data_dir": data_dir,
        "s3": False if no_s3 else None,
    }
    with told():
        code = run({name: value for name, value in flags.items() if value is not None})
    raise typer.Exit(code)


@app.command(epilog="Example: lambent doctor")
def doctor(endpoint: Endpoint = None) -> None:
    """Says what this machine can enforce, what it can't, and what to do about it."""
    from lambent.cli.doctor import run

    with told():
        raise typer.Exit(run(endpoint))


@app.command(
    epilog="Examples: lambent runtimes   lambent runtimes install python3.12   "
    "lambent runtimes install nodejs22.x --package @aws-sdk/client-ses"
)
def runtimes(
    action: Annotated[str | None, typer.Argument(help="`install`, or nothing to list.")] = None,
    name: Annotated[str | None, typer.Argument(help="The runtime to install.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The server's data folder.", show_default="as for `lambent up`")
    ] = None,
    build: Annotated[
        bool, typer.Option(help="Compile a client's native part where there is a compiler.")
    ] = True,
    sdk: Annotated[bool, typer.Option(help="Node.js: bring the AWS SDK's usual clients, as AWS does.")] = True,
    package: Annotated[
        list[str] | None, typer.Option(help="Node.js: another npm package for all functions; again for more.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Run it in this image: HOST/NAME:TAG, or oci-layout:/FOLDER."),
    ] = None,
) -> None:
    """Lists the runtimes this machine has, and what to install for the rest; or installs one."""
    from lambent.cli import runtimes as command

    with told():
        if action is None:
            command.listing(data_dir)
        elif action == "install" and name:
            command.install(name, data_dir, build=build, sdk=sdk, packages=package or (), image=image)
        else:
            raise Failed("use `lambent runtimes` or `lambent runtimes install NAME`.")
