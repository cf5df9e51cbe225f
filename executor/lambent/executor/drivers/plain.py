"""Environments without any isolation, for LAMBENT_ISOLATION=none only: a machine that refuses namespaces
may still run code that its owner trusts. A process in a session of its own, which reads the host's files,
network and processes as the server does; nothing is limited.

The paths /var/task, /var/runtime and /opt in the command and its variables become the host's, and
AWS_LAMBDA_RUNTIME_API names a free port of loopback.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

from lambent.executor.drivers.base import (
    DriverConfig,
    EnvironmentSpec,
    Exit,
    NoSnapshot,
    Sandbox,
    Snapshot,
)
from lambent.executor.drivers.sandbox import usage
from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log
from lambent.kernel.models import Enforcement
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

_DRAIN_SECONDS = 10.0
_OFF = ("namespaces", "uid separation", "capabilities", "system calls", "memory", "cpu", "processes")


class PlainSandbox:
    """A process group; see `base.Sandbox`."""

    def __init__(
        self, environment_id: str, listener: socket.socket, output: int, process: "subprocess.Popen[bytes]"
    ) -> None:
        self.id = environment_id
        self.start = "plain"
        self.listener = listener
        self.output = output
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._process = process
        self._peak = self._cpu = 0
        self._disposed = False

    async def sockets(self, count: int) -> Sequence[socket.socket]:
        made = [socket.socket() for _ in range(count)]
        for each in made:
            each.setblocking(False)
        return made

    def freeze(self) -> None:
        self._to_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self._to_group(signal.SIGCONT)

    def initialised(self) -> None:
        """No CPU limit here: see `enforcement`."""

    def kill(self) -> None:
        self.used()  # what is dead uses nothing
        self._to_group(signal.SIGKILL)

    def signal(self, number: int) -> None:
        if not self.exited.done():
            os.kill(self._process.pid, number)

    def _to_group(self, number: int) -> None:
        if self.exited.done():
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            _log.debug("A process group to signal was gone already.", environment=self.id)

    def alive(self) -> bool:
        if self.exited.done():
            return False
        # Not reaped here: its group must still be killed whole.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    async def dispose(self) -> None:
        self.kill()
        await asyncio.wait([self.exited])
        if not self._disposed:
            self._disposed = True
            self.listener.close()
            os.close(self.output)

    def used(self) -> tuple[int, int]:
        if not self.exited.done():
            memory, cpu = usage.used_by([self._process.pid])
            self._peak, self._cpu = max(self._peak, memory), max(self._cpu, cpu)
        return self._peak, self._cpu

    async def watch(self) -> None:
        """Waits for the process's end, without reaping it first, so that its group can still be killed
        whole."""
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(self._process.pid)
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(pidfd, _resolve, ended)
        try:
            await ended
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        self.kill()
        code = self._process.wait()
        self.exited.set_result(Exit(code=code) if code >= 0 else Exit(signal=-code))


class PlainDriver:
    """See `base.Driver`."""

    def __init__(self, config: DriverConfig) -> None:
        self._config = config
        self._tasks = Tasks("plain driver")
        self._sandboxes: set[PlainSandbox] = set()

    async def open(self) -> None:
        _log.warning("Functions run without any isolation: the setting isolation is none.")

    async def start(self, spec: EnvironmentSpec) -> Sandbox:
        if spec.root is not None or spec.task_dir is None:
            raise ServiceException("images run in isolated environments only; isolation is none")
        if spec.shares:
            raise ServiceException("file systems are mounted in isolated environments only; isolation is none")
        listener = socket.socket()
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            listener.setblocking(False)
            os.set_blocking(read, False)
            process = self._launch(spec, listener.getsockname()[1], write)
        except OSError as error:
            listener.close()
            os.close(read)
            raise ServiceException(f"the environment does not start: {error}") from error
        finally:
            os.close(write)
        sandbox = PlainSandbox(spec.id, listener, read, process)
        self._sandboxes.add(sandbox)
        sandbox.exited.add_done_callback(lambda _: self._sandboxes.discard(sandbox))
        self._tasks.once(f"watch {spec.id}", sandbox.watch())
        return sandbox

    @staticmethod
    def _launch(spec: EnvironmentSpec, port: int, output: int) -> "subprocess.Popen[bytes]":
        folders = {"/var/task": str(spec.task_dir), "/var/runtime": str(spec.runtime_dir)}
        if spec.opt_dir is not None:
            folders["/opt"] = str(spec.opt_dir)
        env = {name: on_host(value, folders) for name, value in spec.env.items()}
        env["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{port}"
        return subprocess.Popen(
            [on_host(argument, folders) for argument in spec.argv],
            env=env,
            cwd=spec.task_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    async def snapshot(self, sandbox: Sandbox) -> Snapshot:
        raise NoSnapshot("the setting isolation is none")

    def drop(self, snapshot: Snapshot) -> None:
        raise AssertionError("there is none")

    def expect(self, spec: EnvironmentSpec) -> None:
        """Nothing is made ahead of need."""

    async def close(self) -> None:
        await asyncio.gather(*(sandbox.dispose() for sandbox in list(self._sandboxes)))
        await self._tasks.drain(_DRAIN_SECONDS)

    @property
    def parked(self) -> int:
        return 0

    def promised(self) -> int:
        return 0

    def enforcement(self) -> Sequence[Enforcement]:
        advice = "set isolation to auto, in LAMBENT_ISOLATION or lambent.toml"
        how = "off: isolation is none"
        return (
            *(Enforcement(name, False, how, advice) for name in _OFF),
            Enforcement("freeze", False, "SIGSTOP to the process group, which a function can leave", advice),
            Enforcement("/tmp size", False, "functions share the host's /tmp", advice),
            Enforcement("network", False, "functions use the host's network, loopback included", advice),
        )


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def on_host(text: str, folders: Mapping[str, str]) -> str:
    """`text` with the paths of an environment (whole components, in lists with ":") made the host's."""
    for inside, outside in folders.items():
        text = re.sub(rf"(?<![\w./-]){re.escape(inside)}(?=[/:]|$)", outside.replace("\\", r"\\"), text)
    return text
