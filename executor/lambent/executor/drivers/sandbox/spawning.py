"""The driver's end of the spawner: starts that process, hands it requests and passes on what it reports,
because the driver must notice its death at once (every environment died with it) and start another."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lambent.executor.drivers.sandbox import wire
from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log

_log = Log(__name__)

_READY_SECONDS = 20.0
# The source root goes last: nothing beside us may stand before the standard library.
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from lambent.executor.drivers.sandbox.spawner import main; "
    "main(int(sys.argv[2]), sys.argv[3], sys.argv[4] == 'rootless')"
)


async def next_message(end: socket.socket) -> tuple[dict[str, object], list[int]] | None:
    """Awaits a message on a non-blocking end; None when the other end is gone."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return wire.receive(end)
        except BlockingIOError:
            readable: asyncio.Future[None] = loop.create_future()
            loop.add_reader(end.fileno(), _resolve, readable)
            try:
                await readable
            finally:
                loop.remove_reader(end.fileno())


def _last_line(said: int) -> str:
    """Of what it wrote to standard error: of a traceback, the error itself."""
    text = os.pread(said, 65_536, 0).decode(errors="replace").strip()
    _log.debug("The spawner ended before it was ready.", said=text)
    return text.rpartition("\n")[2] or "it ended"


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class SpawnerProcess:
    """One spawner. Called on the event loop: `exited(id, wait status)`; `dying(it)` when it is lost, so that
    what is frozen gets thawed and can die; `died(it)` when the kernel has ended everything that was under
    it."""

    def __init__(
        self,
        folder: Path,
        *,
        rootless: bool,
        exited: Callable[[str, int], None],
        dying: "Callable[[SpawnerProcess], None]",
        died: "Callable[[SpawnerProcess], None]",
    ) -> None:
        self._folder = folder
        self._rootless = rootless
        self._exited = exited
        self._dying = dying
        self._died = died
        self._control: socket.socket | None = None
        self._pidfd = -1
        self._failure = ""
        self.pid = 0

    @property
    def alive(self) -> bool:
        return self._control is not None

    @property
    def user_namespace(self) -> str | None:
        """The path of the user namespace that its network namespaces belong to; None: the server's own."""
        return f"/proc/{self.pid}/ns/user" if self._rootless else None

    async def open(self) -> None:
        """Starts it. Raises ServiceException with what it said."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ours, theirs = wire.pair()
        ours.setblocking(False)
        self._control = ours
        said = os.memfd_create("lambent-spawner", os.MFD_CLOEXEC)
        try:
            with theirs:
                process = self._launch(theirs.fileno(), said)
            async with asyncio.timeout(_READY_SECONDS):
                ready = await self._read_until_ready()
            await asyncio.to_thread(process.wait)
            if not ready:
                raise ServiceException(f"the spawner does not start: {self._failure or _last_line(said)}")
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            os.close(said)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)

    def _launch(self, descriptor: int, said: int) -> "subprocess.Popen[bytes]":
        source_root = str(Path(__file__).resolve().parents[4])
        mode = "rootless" if self._rootless else "root"
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", "-c", _CODE]
            + [source_root, str(descriptor), str(self._folder), mode],
            env={},
            cwd="/",
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # Ctrl-C is the server's to handle
        )

    async def _read_until_ready(self) -> bool:
        """Two processes answer, in any order: the first one who the spawner is, that one that it is ready."""
        assert self._control is not None
        ready = False
        while not (ready and self._pidfd >= 0):
            received = await next_message(self._control)
            if received is None:
                return False
            message, descriptors = received
            if "spawner" in message:
                self.pid, self._pidfd = int(str(message["spawner"])), descriptors[0]
            elif "ready" in message:
                ready = True
            else:
                self._failed(message)
                return False
        return True

    def _failed(self, message: Mapping[str, object]) -> None:
        self._failure = str(message.get("fatal", message))
        _log.debug("The spawner failed.", traceback=message.get("traceback"))

    def start(self, body: int, channel: int, output: int) -> None:
        """Asks for an environment; the rest comes over `channel`. Raises ServiceException."""
        if self._control is None:
            raise ServiceException("the spawner has died")
        try:
            wire.send(self._control, {}, [body, channel, output])
        except OSError as error:
            raise ServiceException(f"the spawner takes no request: {error}") from error

    def _readable(self) -> None:
        while self._control is not None:
            try:
                received = wire.receive(self._control)
            except BlockingIOError:
                return
            if received is None:
                self._lost()
                return
            message = received[0]
            if "exited" in message:
                self._exited(str(message["exited"]), int(message["status"]))
            else:
                self._failed(message)

    def _lost(self) -> None:
        _log.error("The spawner died, and every environment with it.", failure=self._failure)
        gone = os.dup(self._pidfd)
        self._close_descriptors()
        self._dying(self)
        asyncio.get_running_loop().add_reader(gone, self._gone, gone)

    def _gone(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._died(self)

    def _close_descriptors(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                _log.debug("The spawner was gone already.", pid=self.pid)
            os.close(self._pidfd)
            self._pidfd = -1

    async def close(self) -> None:
        """Ends it and everything it started; returns when the kernel has done so."""
        if self._control is None:
            return
        gone = os.dup(self._pidfd)
        self._close_descriptors()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(gone, _resolve, ended)
        try:
            await ended
        finally:
            loop.remove_reader(gone)
            os.close(gone)
