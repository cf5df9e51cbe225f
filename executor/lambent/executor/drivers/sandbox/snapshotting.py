"""The driver's end of the process that takes and restores snapshots: starts it when it is first needed, hands
it one request after the other, and starts another when it has ended."""

import asyncio
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.drivers.base import NoSnapshot
from lambent.executor.drivers.sandbox import ptrace, wire
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.drivers.sandbox.spawning import ZygoteProcess, next_message
from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log

_log = Log(__name__)

_SECONDS = 90.0  # more than the process gives any request
# The source root goes last: nothing beside us may stand before the standard library.
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from lambent.executor.drivers.sandbox.snapshotter import main; "
    "main(int(sys.argv[2]))"
)


@dataclass(slots=True, eq=False)
class Taken:
    """A snapshot, good as long as its zygote lives, until it is dropped. `memory`: a descriptor, -1 then;
    `size` in bytes."""

    name: str
    zygote: ZygoteProcess
    memory: int
    size: int
    keeper: "_Keeper"

    @property
    def alive(self) -> bool:
        return self.memory >= 0 and self.zygote.alive and self.keeper.alive


class _Keeper:
    """One such process."""

    def __init__(self) -> None:
        ours, theirs = wire.pair()
        ours.setblocking(False)
        self._control: socket.socket | None = ours
        source_root = str(Path(__file__).resolve().parents[4])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-E", "-c", _CODE, source_root, str(theirs.fileno())],
                env={},
                cwd="/",
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the server's to handle
            )

    @property
    def alive(self) -> bool:
        return self._control is not None and self._process.poll() is None

    def tell(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        if self._control is not None:
            wire.send(self._control, message, descriptors)

    async def ask(
        self, message: Mapping[str, object], descriptors: Sequence[int]
    ) -> tuple[dict[str, object], list[int]]:
        """Raises OSError when it ends or does not answer; it is ended then."""
        try:
            async with asyncio.timeout(_SECONDS):
                self.tell(message, descriptors)
                received = await next_message(self._control) if self._control is not None else None
        except BaseException:
            await self.close()
            raise
        if received is None:
            await self.close()
            raise OSError("the process that keeps snapshots has ended")
        return received

    async def close(self) -> None:
        """With it end the processes that it has stopped."""
        control, self._control = self._control, None
        if control is not None:
            control.close()
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


class Snapshots:
    """All of one driver."""

    def __init__(self) -> None:
        self._keeper: _Keeper | None = None
        self._taken: set[Taken] = set()
        self._turn = asyncio.Lock()

    @property
    def zygotes(self) -> set[ZygoteProcess]:
        """That must not end yet."""
        return {taken.zygote for taken in self._taken}

    async def take(self, sandbox: RunningSandbox) -> Taken:
        """Of an environment whose runtime waits for its restore; it must be disposed of then. Raises
        NoSnapshot, ServiceException."""
        zygote = sandbox.spawner
        if not ptrace.available():
            raise NoSnapshot("this machine's processor is not supported")
        if not isinstance(zygote, ZygoteProcess):
            raise NoSnapshot("the environment was started plainly, not forked")
        name = uuid.uuid4().hex
        pid, init = sandbox.pid(), sandbox.pids()[0]
        async with self._turn:
            if self._keeper is not None and not self._keeper.alive:
                await self._keeper.close()
                self._keeper = None
            if self._keeper is None:
                self._keeper = await asyncio.to_thread(_Keeper)
            keeper = self._keeper
            try:
                message = {"take": name, "pid": pid, "init": init}
                answer, descriptors = await keeper.ask(message, [sandbox.pidfd()])
            except OSError as failure:
                raise ServiceException(f"no snapshot could be taken: {failure}") from failure
        if "refused" in answer:
            raise NoSnapshot(str(answer["refused"]))
        if "error" in answer:
            raise ServiceException(f"no snapshot could be taken: {answer['error']}")
        made = Taken(name, zygote, descriptors[0], int(str(answer["taken"])), keeper)
        self._taken.add(made)
        return made

    async def restore(self, taken: Taken, slot: RunningSandbox) -> None:
        """Into a slot that waits for it. Raises OSError."""
        async with self._turn:
            answer, _ = await taken.keeper.ask({"restore": taken.name, "pid": slot.pid()}, [slot.pidfd()])
        if "restored" not in answer:
            raise OSError(str(answer.get("error", answer)))

    def drop(self, taken: Taken) -> None:
        """Nothing is restored from it any more. Idempotent."""
        if taken not in self._taken:
            return
        self._taken.discard(taken)
        memory, taken.memory = taken.memory, -1
        os.close(memory)
        try:
            taken.keeper.tell({"drop": taken.name})
        except OSError as failure:
            _log.warning("A snapshot could not be dropped; it goes with its process.", failure=failure)

    async def close(self) -> None:
        for taken in list(self._taken):
            self.drop(taken)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.close()
