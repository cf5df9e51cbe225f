"""The driver's end of the processes that fork environments, the spawner and zygotes: starts them, hands
them requests and passes on what they report, because the driver must notice a death at once (every
environment forked there died with it) and start another."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lambent.executor.drivers.sandbox import wire
from lambent.executor.drivers.sandbox.running import pid_of
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


class ForkingProcess:
    """One such process. Called on the event loop: `exited(id, wait status)`; `dying(it)` when it is lost,
    so that what is frozen gets thawed and can die; `died(it)` when the kernel has ended everything that was
    under it."""

    name = "process"

    def __init__(
        self,
        *,
        exited: Callable[[str, int], None],
        dying: "Callable[[ForkingProcess], None]",
        died: "Callable[[ForkingProcess], None]",
    ) -> None:
        self._exited = exited
        self._dying = dying
        self._died = died
        self._control: socket.socket | None = None
        self._pidfd = -1
        self._failure = ""

    @property
    def alive(self) -> bool:
        return self._control is not None

    def start(self, body: int, channel: int, output: int, *more: int) -> None:
        """Asks for an environment; the rest comes over `channel`. Raises ServiceException."""
        self._ask({}, [body, channel, output, *more])

    def _ask(self, message: Mapping[str, object], descriptors: Sequence[int]) -> None:
        if self._control is None:
            raise ServiceException(f"the {self.name} has died")
        try:
            wire.send(self._control, message, descriptors)
        except OSError as error:
            raise ServiceException(f"the {self.name} takes no request: {error}") from error

    def _failed(self, message: Mapping[str, object]) -> None:
        self._failure = str(message.get("fatal", message))
        _log.debug(f"The {self.name} failed.", traceback=message.get("traceback"))

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
        _log.error(f"The {self.name} died, and every environment with it.", failure=self._failure)
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
                _log.debug(f"The {self.name} was gone already.")
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


class SpawnerProcess(ForkingProcess):
    """The spawner."""

    name = "spawner"

    def __init__(
        self,
        folder: Path,
        *,
        rootless: bool,
        exited: Callable[[str, int], None],
        dying: Callable[[ForkingProcess], None],
        died: Callable[[ForkingProcess], None],
    ) -> None:
        super().__init__(exited=exited, dying=dying, died=died)
        self._folder = folder
        self._rootless = rootless
        self.pid = 0

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

    def mount_trees(self, trees: Mapping[str, str], channel: int, process: int) -> None:
        """Asks for the trees to be mounted, by place, where the process of this pidfd sees them; whoever holds
        the other end of `channel` is told. Raises ServiceException."""
        self._ask({"trees": dict(trees)}, [channel, process])

    def unmount_trees(self, channel: int, process: int) -> None:
        """As `mount_trees`: what the process was started with is taken away."""
        self._ask({"trees": {}}, [channel, process])

    def start_zygote(self, body: int, channel: int, output: int, control: int) -> None:
        """Asks for a zygote; the rest comes over `channel`. Raises ServiceException."""
        self._ask({"zygote": True}, [body, channel, output, control])

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


class ZygoteProcess(ForkingProcess):
    """One zygote, a child of the spawner's."""

    name = "zygote"

    def __init__(
        self,
        *,
        exited: Callable[[str, int], None],
        dying: Callable[[ForkingProcess], None],
        died: Callable[[ForkingProcess], None],
    ) -> None:
        super().__init__(exited=exited, dying=dying, died=died)
        self._said = -1

    def pid(self) -> int:
        """As this process sees it; -1 once it is gone."""
        return pid_of(self._pidfd)

    async def open(
        self, spawner: SpawnerProcess, request: Mapping[str, object], preload: Sequence[str]
    ) -> None:
        """Starts it; `request` as `contain.become_zygote` reads it, `preload`: modules for it to load.
        Raises ServiceException with what it said."""
        ours, theirs = wire.pair()
        ours.setblocking(False)
        self._control = ours
        self._said, output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._said, False)
        source_root = str(Path(__file__).resolve().parents[4])
        body = wire.body({**request, "sources": source_root})
        wire.send(ours, {"preload": list(preload)})
        channel, far = wire.pair()
        channel.setblocking(False)
        try:
            with channel:
                try:
                    with theirs, far:
                        spawner.start_zygote(body, far.fileno(), output, theirs.fileno())
                finally:
                    os.close(body)
                    os.close(output)
                async with asyncio.timeout(_READY_SECONDS):
                    ready = await self._begun(channel) and await self._ready(ours)
            if not ready:
                raise ServiceException(f"the zygote does not start: {self._failure or self._last_words()}")
        except BaseException:
            self._close_descriptors()
            raise
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)

    async def _begun(self, channel: socket.socket) -> bool:
        """Whether it came as far as to be executed."""
        while (received := await next_message(channel)) is not None:
            message, descriptors = received
            if "error" in message:
                self._failure = str(message["error"])
                return False
            self._pidfd = descriptors[0]
        return self._pidfd >= 0

    async def _ready(self, control: socket.socket) -> bool:
        received = await next_message(control)
        if received is None:
            return False
        if received[0].get("problem"):
            _log.warning("Forked starts are slower than they could be.", why=received[0]["problem"])
        return True

    def _lost(self) -> None:
        self._failure = self._failure or self._last_words()
        super()._lost()

    def _last_words(self) -> str:
        try:
            text = os.read(self._said, 65_536).decode(errors="replace").strip()
        except BlockingIOError:
            text = ""
        return text.rpartition("\n")[2] or "it ended"

    def _close_descriptors(self) -> None:
        super()._close_descriptors()
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
