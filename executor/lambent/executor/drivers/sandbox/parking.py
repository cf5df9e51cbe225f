"""Zygotes and parked slots: environments made ahead of need, so that a cold start only has to give one its
code and variables. One line per kind of start (interpreter and runtime folder); `demand` says how many
slots it keeps. A slot is forked from the line's zygote or, where an interpreter cannot be forked, is a process
of its own that waits.

Slots are made one at a time and when no start is under way, so that making them takes nothing from requests. A
start that finds none forks one for itself; one that cannot be forked, or whose fork fails, is a plain start.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from lambent.executor.drivers.base import EnvironmentSpec, NoRoom
from lambent.executor.drivers.sandbox import forkable
from lambent.executor.drivers.sandbox.demand import Demand
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.drivers.sandbox.snapshotting import Taken
from lambent.executor.drivers.sandbox.spawning import ZygoteProcess
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

EPHEMERAL_MB = 512  # AWS's default: the only size that is parked
_MOST_MEMORY_MB = 10_240
# A slot's own memory; of what the machine has left, so much may be parked.
_SLOT_BYTES, _WAITING_BYTES, _SHARE = 3 << 20, 16 << 20, 0.05
_QUIET_SECONDS, _PATIENCE_SECONDS = 0.03, 0.5
_FORKS_AT_ONCE = 8  # more only wait for each other, and the zygote's socket holds no more than some dozens
_LOOK_SECONDS, _GIVEN_WAY_SECONDS = 5.0, 60.0
# What forks share (the hash seed, the layout of addresses) does not live for ever.
_ZYGOTE_SECONDS = 3600.0
_ZYGOTE_WAIT_SECONDS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0


class Refused(Exception):
    """A step of a start failed; the text says which and why."""


class Maker(Protocol):
    """What of the driver makes things."""

    async def open_zygote(self, spec: EnvironmentSpec, preload: Sequence[str]) -> ZygoteProcess: ...

    async def make_slot(self, spec: EnvironmentSpec, zygote: ZygoteProcess | None) -> RunningSandbox: ...

    async def assign(
        self, spec: EnvironmentSpec, sandbox: RunningSandbox, restored: Taken | None = None
    ) -> None: ...

    def etc_files(self) -> dict[str, str]: ...

    def holds(self, zygote: ZygoteProcess) -> bool: ...

    def needs(self, zygote: ZygoteProcess) -> bool: ...

    @property
    def spare_uids(self) -> int: ...


@dataclass(slots=True, eq=False)
class _Line:
    """The starts of one kind. `sample`: the last of them; `preload`: modules that its zygote has loaded;
    `made`: when its zygote was, or its first slot; `etc`: what the zygote's /etc was made of, or the slots';
    `problem`: why the last of them could not be made; `keeping`: the task that does."""

    sample: EnvironmentSpec
    preload: Sequence[str]
    demand: Demand
    zygote: ZygoteProcess | None = None
    made: float = 0.0
    etc: dict[str, str] = field(default_factory=dict)
    parked: deque[RunningSandbox] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: float = 0.0
    failures: int = 0
    problem: str = ""
    not_before: float = 0.0
    keeping: asyncio.Task[None] | None = None

    @property
    def forks(self) -> bool:
        return self.sample.fork_env is not None

    @property
    def slot_bytes(self) -> int:
        return _SLOT_BYTES if self.forks else _WAITING_BYTES


class Parking:
    """All lines of one driver. `most`: slots kept at most, in all lines together; 0: nothing is forked."""

    def __init__(self, maker: Maker, most: int) -> None:
        self._maker = maker
        self._most = most
        self._lines: dict[tuple[object, ...], _Line] = {}
        self._old: set[ZygoteProcess] = set()  # retired, with environments that live
        self._tasks = Tasks("parking")
        self._starting = 0
        self._forks = asyncio.Semaphore(_FORKS_AT_ONCE)
        self._told: set[str] = set()
        self._closed = False

    @property
    def parked(self) -> int:
        return sum(len(line.parked) for line in self._lines.values())

    @property
    def how(self) -> str:
        """How environments start, in words."""
        if not self._most:
            return "each is started plainly: LAMBENT_PARKED_SLOTS is 0"
        problems = sorted({line.problem for line in self._lines.values() if line.problem})
        if problems:
            works = any(line.made and not line.problem for line in self._lines.values())
            return f"{'some are' if works else 'each is'} started plainly: {'; '.join(problems)}"
        return (
            f"Python functions are forks; of them and of those in Node.js and Ruby at most {self._most} "
            "are made ahead of need"
        )

    # ---- starts ---------------------------------------------------------------------------------------

    async def start(self, spec: EnvironmentSpec) -> RunningSandbox | None:
        """The environment, forked; None if it has to be started plainly. Raises NoRoom."""
        self._starting += 1
        try:
            return await self._fork(forkable.started_with(spec)) if self._may_fork(spec) else None
        finally:
            self._starting -= 1

    def expect(self, spec: EnvironmentSpec) -> None:
        """Makes slots as if one had been asked for: the first start after a deploy finds them."""
        spec = forkable.started_with(spec)
        if self._may_fork(spec) and forkable.obstacle(spec) is None:
            line = self._line(spec)
            line.demand.expected(time.monotonic())
            line.changed.set()

    def _may_fork(self, spec: EnvironmentSpec) -> bool:
        ahead = spec.fork_env is not None or spec.ahead_env is not None
        return ahead and not spec.shares and self._most > 0

    async def _fork(self, spec: EnvironmentSpec) -> RunningSandbox | None:
        obstacle = forkable.obstacle(spec)
        if obstacle is not None:
            self._tell(
                f"A function sets {obstacle}, which acts when a process starts: for it none is made ahead."
            )
            return None
        line = self._line(spec)
        line.asked = time.monotonic()
        line.demand.arrived(line.asked)
        asyncio.get_running_loop().call_later(_QUIET_SECONDS, line.changed.set)  # off the way of this start
        kind = "parked"
        sandbox = self._take(line) if spec.ephemeral_mb == EPHEMERAL_MB else None
        try:
            if sandbox is None:
                if spec.template:  # a snapshot can be taken only of what was forked
                    await self._zygote(line)
                if line.zygote is None or not line.zygote.alive:
                    return None
                kind = "forked"
                async with self._forks:
                    sandbox = await self._maker.make_slot(_slot(spec, spec.ephemeral_mb), line.zygote)
            restored = self._snapshot(spec, sandbox)
            kind = "restored" if restored is not None else kind
            await self._maker.assign(spec, sandbox, restored)
        except NoRoom:
            raise
        except (Refused, LambdaError, OSError) as failure:
            _log.warning("A fork failed; the start is a plain one.", environment=spec.id, why=str(failure))
            return None
        sandbox.start = kind
        return sandbox

    async def _zygote(self, line: _Line) -> None:
        """Waits until it is there, or cannot be made."""
        until, failures = time.monotonic() + _ZYGOTE_WAIT_SECONDS, line.failures
        while line.zygote is None and line.failures == failures and time.monotonic() < until:
            line.changed.set()
            await asyncio.sleep(_QUIET_SECONDS)

    @staticmethod
    def _snapshot(spec: EnvironmentSpec, slot: RunningSandbox) -> Taken | None:
        """The function's, if it fits the slot."""
        taken = spec.snapshot
        fits = isinstance(taken, Taken) and taken.alive and taken.zygote is slot.spawner
        return taken if isinstance(taken, Taken) and fits else None

    def _line(self, spec: EnvironmentSpec) -> _Line:
        preload: Sequence[str] = ()
        if spec.fork_env is not None:
            preload = forkable.preload(spec.task_dir, spec.env.get("_HANDLER", ""))
        key = (*forkable.key(spec), *preload)
        line = self._lines.get(key)
        if line is None:
            self._forget()
            line = self._lines[key] = _Line(spec, preload, Demand(self._most))
            line.keeping = self._tasks.forever(f"park for {spec.runtime_dir.name}", self._keep(line))
        line.sample = spec
        return line

    def _forget(self) -> None:
        """Lines that nobody has asked for in a long time: functions make any number of kinds."""
        now = time.monotonic()
        for key, line in list(self._lines.items()):
            empty = line.zygote is None and not line.parked and not self._old
            if empty and line.demand.silent(now) and line.keeping is not None:
                line.keeping.cancel()
                del self._lines[key]

    @staticmethod
    def _take(line: _Line) -> RunningSandbox | None:
        while line.parked:
            sandbox = line.parked.popleft()
            if not sandbox.exited.done():
                return sandbox
        return None

    async def give_way(self) -> bool:
        """Frees one slot, since a start lacks what it holds, and makes none for a while; whether there was
        one."""
        for line in self._lines.values():
            slot = self._take(line)
            if slot is not None:
                line.not_before = time.monotonic() + _GIVEN_WAY_SECONDS
                await slot.dispose()
                return True
        return False

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            _log.info(text)

    # ---- keeping --------------------------------------------------------------------------------------

    def released(self) -> None:
        """An environment has been freed: a zygote may not be needed any more."""
        if self._old:
            for line in self._lines.values():
                line.changed.set()

    async def _keep(self, line: _Line) -> None:
        """Keeps a line's zygote and slots as many as are wanted."""
        while True:
            line.changed.clear()
            now = time.monotonic()
            wanted = line.demand.wanted(now, self._room(line, now))
            await self._let_go(line, wanted, now)
            missing = wanted > len(line.parked) and now >= line.not_before
            if missing and self._quiet(line, now):
                await self._make_one(line)
                # Half of one core at most, and requests that come meanwhile go first.
                await asyncio.sleep(time.monotonic() - now)
                continue
            seconds = _QUIET_SECONDS if missing else _LOOK_SECONDS
            idle = line.demand.silent(now) and line.zygote is None and not line.parked and not self._old
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation that comes with its result.
                async with asyncio.timeout(None if idle else seconds):
                    await line.changed.wait()
                if missing:
                    await asyncio.sleep(_QUIET_SECONDS)
            except TimeoutError:
                continue

    def _room(self, line: _Line, now: float) -> int:
        """Slots that the line may have: its share of them all, of the memory, and of the uids."""
        active = sum(not other.demand.silent(now) for other in self._lines.values())
        share = max(1, self._most // max(1, active))
        others = [other for other in self._lines.values() if other is not line]
        taken = sum(len(other.parked) * other.slot_bytes for other in others)
        memory = int((_available_bytes() * _SHARE - taken) / line.slot_bytes)
        left = self._most - sum(len(other.parked) for other in others)
        return min(share, left, memory, self._maker.spare_uids + len(line.parked))

    def _quiet(self, line: _Line, now: float) -> bool:
        since = now - line.asked
        return (not self._starting and since >= _QUIET_SECONDS) or since >= _PATIENCE_SECONDS

    async def _let_go(self, line: _Line, wanted: int, now: float) -> None:
        """Of what is too much or too old."""
        zygote = line.zygote
        old = line.demand.silent(now) or now - line.made >= _ZYGOTE_SECONDS
        if zygote is not None and (
            (old and not self._maker.needs(zygote)) or not zygote.alive or line.etc != self._maker.etc_files()
        ):
            self._old.add(zygote)
            line.zygote, wanted = None, 0
        if not line.forks and line.parked and line.etc != self._maker.etc_files():
            wanted = 0
        while len(line.parked) > wanted:
            await line.parked.pop().dispose()
        for unused in [each for each in self._old if not self._maker.holds(each)]:
            self._old.discard(unused)
            await unused.close()

    async def _make_one(self, line: _Line) -> None:
        try:
            if not line.parked and not line.forks:
                line.etc = self._maker.etc_files()
            elif line.zygote is None and line.forks:
                etc = self._maker.etc_files()
                zygote = await self._maker.open_zygote(line.sample, line.preload)
                line.zygote, line.made, line.etc = zygote, time.monotonic(), etc
            sandbox = await self._maker.make_slot(_slot(line.sample, EPHEMERAL_MB), line.zygote)
        except (Refused, LambdaError, OSError) as failure:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * float(2 ** min(line.failures, 9)))
            line.failures += 1
            line.not_before = time.monotonic() + pause
            line.problem = str(failure)
            self._tell(f"Environments are not made ahead of need: {failure}")
            return
        line.failures, line.problem, line.made = 0, "", line.made or time.monotonic()
        line.parked.append(sandbox)
        sandbox.exited.add_done_callback(lambda _: self._lost(line, sandbox))

    def _lost(self, line: _Line, sandbox: RunningSandbox) -> None:
        """A slot that ends while it is parked is freed at once."""
        if sandbox in line.parked:
            line.parked.remove(sandbox)
            line.changed.set()
            if not self._closed:
                self._tasks.once("dispose of a slot", sandbox.dispose())

    async def stop(self) -> None:
        """Ends the making, and frees the slots."""
        self._closed = True
        await self._tasks.drain(30.0)
        for line in self._lines.values():
            slots = list(line.parked)
            line.parked.clear()
            await asyncio.gather(*(slot.dispose() for slot in slots))

    async def close(self) -> None:
        """After `stop`, when no environment lives that was forked."""
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            if line.zygote is not None:
                self._old.add(line.zygote)
        for zygote in self._old:
            await zygote.close()
        self._old.clear()


def _slot(spec: EnvironmentSpec, ephemeral_mb: int) -> EnvironmentSpec:
    """What of a start a slot is made from; its name is its own. One that waits knows its memory already."""
    nowhere = Path("/nonexistent")
    return replace(
        spec,
        id=f"slot-{uuid.uuid4().hex}",
        env={},
        task_dir=nowhere,
        opt_dir=None,
        memory_mb=_MOST_MEMORY_MB if spec.fork_env is not None else spec.memory_mb,
        ephemeral_mb=ephemeral_mb,
    )


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0
