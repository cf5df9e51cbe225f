"""A real RabbitMQ of the tests' own: on loopback and free ports, with its data, its cookie and its epmd in a
folder of its own, so that it meets no other and leaves nothing."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from amqp import Connection

# Debian's script in /usr/sbin runs as the user rabbitmq only; this one as anybody.
_PLACES = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)
NO_RABBIT = "no rabbitmq-server: as root, apt-get install rabbitmq-server (scripts/install.sh does)"


def rabbit_binary() -> Path | None:
    """The start script, where there is an epmd too."""
    found = next((place for place in _PLACES if os.access(place, os.X_OK)), shutil.which("rabbitmq-server"))
    return Path(found) if found and shutil.which("epmd") else None


class RabbitServer:
    """`url`: amqp://guest:guest@127.0.0.1:PORT//. The data stays over `kill` and `start`, `close` removes
    it."""

    def __init__(self, binary: Path, **config: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lambent-rabbit-"))
        self.binary = binary
        self.port, distribution, epmd = _port(), _port(), _port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        lines = {"disk_free_limit.absolute": "1MB", **{key.replace("__", "."): v for key, v in config.items()}}
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text("".join(f"{key} = {v}\n" for key, v in lines.items()))
        folder = str(self.folder)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,  # of the cookie
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"lambent{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/none.config",
            "RABBITMQ_ALLOW_INPUT": "1",  # without the script's shell, which would outlive a kill
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false -noinput"
            ),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(epmd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def connect(self, seconds: float = 5) -> Connection:
        """A plain client; the caller closes it."""
        client = Connection(f"127.0.0.1:{self.port}", connect_timeout=seconds)
        client.connect()
        return client

    def start(self, seconds: float = 60) -> None:
        """Starts it on its old port and data, and returns once it takes a connection."""
        assert self._process is None, "it runs already"
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(self.binary)],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C in the terminal is for pytest, which then stops this
            )
        end = time.monotonic() + seconds
        while True:
            try:
                self.connect().close()
                return
            except OSError as failure:
                if self._process.poll() is not None or time.monotonic() > end:
                    said = (self.folder / "out").read_text(errors="replace")[-3000:]
                    raise AssertionError(f"RabbitMQ does not start: {failure}\n{said}") from failure
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, and waits until it is gone with what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        helpers = _descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in helpers) and time.monotonic() < end:
            time.sleep(0.01)

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

    def control(self, expression: str) -> None:
        """Has the server itself evaluate Erlang, as `rabbitmqctl eval` does."""
        script = self.binary.parent / "rabbitmqctl"
        environment = {**self._environment, "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ""}
        subprocess.run(
            [str(script), "eval", expression],
            env=environment,
            cwd=self.folder,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )

    def close(self) -> None:
        """Ends it and its epmd, and removes its folder."""
        if self._process is not None:
            self.resume()
        self.kill()
        self._epmd.kill()
        self._epmd.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def _port() -> int:
    """A free one below those that the kernel gives to connections, which would take it during a slow start."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                children = [int(child) for child in task.read_text().split()]
            except OSError:
                continue  # it ended meanwhile
            found += children
            waiting += children
    return found
