"""One environment made by the sandbox driver: everything it holds in one place, so that freeing it is one
method whether a start failed half way, the function ended, or the server stops."""

import asyncio
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence

from lambent.executor.drivers.base import Exit
from lambent.executor.drivers.sandbox import ephemeral, sockets, usage
from lambent.executor.drivers.sandbox.cgroups import Groups
from lambent.executor.drivers.sandbox.netport import Attachment
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_LONG_LOOK_SECONDS = 0.005

_GONE_SECONDS = 10.0


class RunningSandbox:
    """The sandbox driver's `Sandbox`. `key` is its name among those that the driver holds: its id, or that of a
    slot before it was an environment's. `release(sandbox, clean)` is called once, when all is freed; `clean` is
    false when processes or groups could not be confirmed gone, so that the uid must not be used again."""

    def __init__(
        self,
        environment_id: str,
        uid: int,
        memory_limit: int,
        *,
        tasks: Tasks,
        release: Callable[["RunningSandbox", bool], None],
    ) -> None:
        self.id = self.key = environment_id
        self.uid = uid
        self.memory_limit = memory_limit
        self.start = "plain"
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.listener: socket.socket = None  # type: ignore[assignment]  # set before `start` returns
        self.output = -1
        self.cpus = 1.0  # its share of CPU after init, in cores
        self.groups: Groups | None = None
        self.image: ephemeral.Image | None = None
        self.attachment: Attachment | None = None
        self.spawner: object = None  # whose end is its own: the spawner or a zygote
        self.channel: socket.socket | None = None  # to the process, while it is not a function's yet
        self.namespace = -1
        self.user_namespace: str | None = None  # path of the one that owns it, where it is not the host's
        self.tmp = -1
        self.sampled_peak = self._cpu_us = 0
        self._looked_until = 0.0  # monotonic
        self._tasks = tasks
        self._release = release
        self._init = self._runtime = -1
        self._killed = self._over_memory = self._was_frozen = False
        self._ends = select.poll()
        self._disposing: asyncio.Task[None] | None = None

    # ---- while it is made -----------------------------------------------------------------------------

    def adopt(self, init: int, runtime: int) -> None:
        """Takes the pidfds of its PID 1 and of the runtime process."""
        self._init, self._runtime = init, runtime
        self._ends.register(runtime, select.POLLIN)

    @property
    def adopted(self) -> bool:
        return self._init >= 0

    def pidfd(self) -> int:
        """Of the runtime process; the sandbox's to close."""
        return self._runtime

    def hang_up(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()

    def last_words(self) -> str:
        """The last line that it has printed, for an error; nobody else reads it then."""
        try:
            text = os.read(self.output, 65_536).decode(errors="replace").strip()
        except BlockingIOError:
            text = ""
        return text.rpartition("\n")[2] or "it ended"

    def pid(self) -> int:
        """The runtime process's pid as this process sees it; -1 once it is reaped."""
        return pid_of(self._runtime)

    def pids(self) -> tuple[int, int]:
        """(PID 1, the runtime process): every other process descends from them."""
        return pid_of(self._init), pid_of(self._runtime)

    # ---- the Sandbox protocol -------------------------------------------------------------------------

    async def sockets(self, count: int) -> Sequence[socket.socket]:
        return await sockets.make(self.namespace, self.user_namespace, count)

    def freeze(self) -> None:
        if self.groups is not None and not self.exited.done():
            self.groups.freeze()
            self._was_frozen = True

    def thaw(self) -> None:
        if self.groups is not None and not self.exited.done():
            self.groups.thaw()

    def alive(self) -> bool:
        if self.exited.done() or self._killed or self._ends.poll(0):
            return False
        # Version 1's freezer keeps what was killed in it from dying before the thaw.
        was_frozen, self._was_frozen = self._was_frozen, False
        return not (was_frozen and usage.is_dying(self.pid()))

    def initialised(self) -> None:
        if self.groups is not None and not self.exited.done():
            self.groups.limit_cpu(self.cpus)

    def kill(self) -> None:
        if self.exited.done():
            return
        self._killed = True
        if self.groups is None or not self.groups.counts_memory:
            try:
                self.used()  # a dead process's memory can't be looked at
            except OSError as failure:  # out of descriptors: it dies all the same
                _log.warning("The memory of a killed one is not known.", environment=self.id, failure=failure)
        self._send(self._init, signal.SIGKILL)  # and with it, its PID namespace
        if self.groups is not None:
            self.groups.kill()

    def signal(self, number: int) -> None:
        self._send(self._runtime, number)

    def used(self) -> tuple[int, int]:
        memory = self.groups if self.groups is not None and self.groups.counts_memory else None
        cpu = self.groups if self.groups is not None and self.groups.counts_cpu else None
        now = time.monotonic()
        # Once for an end that is told, killed and reported in one go: a function's processes may be a thousand.
        if (memory is None or cpu is None) and not self.exited.done() and now > self._looked_until:
            looked_at = usage.used_by(self.pids())
            took = time.monotonic() - now
            self._looked_until = now + (11 * took if took > _LONG_LOOK_SECONDS else 0.0)
            self.sampled_peak = max(self.sampled_peak, looked_at[0])
            self._cpu_us = max(self._cpu_us, looked_at[1])
        return (
            self.sampled_peak if memory is None else memory.peak(),
            self._cpu_us if cpu is None else cpu.cpu_us(),
        )

    async def dispose(self) -> None:
        if self._disposing is None:
            self._disposing = self._tasks.once(f"dispose {self.id}", self._free())
        await asyncio.shield(self._disposing)  # a caller that goes away must not leave half of it

    # ---- what the driver hears ------------------------------------------------------------------------

    def ended(self, status: int | None) -> None:
        """Everything of it is dead. `status`: the runtime process's wait status; None when the spawner died."""
        if self.exited.done():
            return
        if status is None:
            self.exited.set_result(Exit(signal=signal.SIGKILL))
        elif os.WIFEXITED(status):
            self.exited.set_result(Exit(code=os.WEXITSTATUS(status)))
        else:
            number = os.WTERMSIG(status)
            self.exited.set_result(Exit(signal=number, oom=self._out_of_memory(number)))

    def over_memory(self) -> None:
        """The sampler found it above its limit: kills, and says so as the kernel would."""
        self._over_memory = True
        self.kill()

    def _out_of_memory(self, number: int) -> bool:
        if self._over_memory:
            return True
        if self._killed or number != signal.SIGKILL or self.groups is None:
            return False
        try:
            return self.groups.oom_kills() > 0
        except OSError as failure:  # out of descriptors: it is a kill all the same, and must be told
            _log.warning("Whether memory ran out could not be read.", environment=self.id, failure=failure)
            return False

    @staticmethod
    def _send(pidfd: int, number: int) -> None:
        if pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            _log.debug("A process to signal was gone already.", signal=number)

    # ---- freeing --------------------------------------------------------------------------------------

    async def _free(self) -> None:
        clean = True
        try:
            if self._init >= 0:
                clean = await self._await_end()
            if self.attachment is not None:
                await self.attachment.close()
        finally:
            self.used()  # read for the last time, and kept
            loop = asyncio.get_running_loop()
            gone = await loop.run_in_executor(None, self._free_blocking)
            self._close_descriptors()
            self.ended(None)
            self._release(self, clean and gone)

    async def _await_end(self) -> bool:
        self.kill()
        done, _ = await asyncio.wait([self.exited], timeout=_GONE_SECONDS)
        if not done:
            _log.error("An environment does not die.", environment=self.id, uid=self.uid)
        return bool(done)

    def _free_blocking(self) -> bool:
        """Discards /tmp and removes the groups, which stay busy for moments after their last process's end."""
        if self.tmp >= 0:
            descriptor, self.tmp = self.tmp, -1
            ephemeral.discard(descriptor) if self.image is not None else os.close(descriptor)
        if self.groups is None:
            return True
        end = time.monotonic() + _GONE_SECONDS
        while not self.groups.remove():
            if time.monotonic() > end:
                _log.error("The control groups of an environment stay.", environment=self.id)
                return False
            self.groups.kill()
            time.sleep(0.002)
        return True

    def _close_descriptors(self) -> None:
        self.hang_up()
        if self.listener is not None:
            self.listener.close()
        for name in ("output", "namespace", "_init", "_runtime"):
            descriptor: int = getattr(self, name)
            if descriptor >= 0:
                setattr(self, name, -1)
                os.close(descriptor)


def pid_of(pidfd: int) -> int:
    """The pid as this process sees it; -1 of a process that is reaped, and of no descriptor."""
    if pidfd < 0:
        return -1
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line[4:])
    return -1
