"""An executor's side of leases: it joins every scheduler, says once a second what it has, does what the owners
of shards ask, and ends runs whose owner has been silent for too long.

It knows no wire format: `connect` gives a stream to a scheduler, in one process or over gRPC. Rules:
docs/leases.md.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from lambent.executor.gate import Gate
from lambent.kernel.errors import LambdaError
from lambent.kernel.leases import BEAT_SECONDS, Answer, Beat, Bye, Claim, Done, FromExecutor, Keep, ToExecutor
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_RECONNECT_SECONDS = (0.1, 0.2, 0.5, 1.0)
_KEPT_BEATS = 64


class Stream(Protocol):
    """To one scheduler. Iterating raises or ends when it is broken."""

    def send(self, message: FromExecutor) -> None: ...

    def __aiter__(self) -> AsyncIterator[ToExecutor]: ...

    async def close(self) -> None: ...


class _Link:
    """The stream to one scheduler, made anew whenever it breaks."""

    def __init__(self, joining: "Joining", scheduler: str, address: str) -> None:
        self._joining = joining
        self.scheduler = scheduler
        self.address = address
        self._stream: Stream | None = None
        self._sent: dict[int, float] = {}

    async def run(self, connect: "Callable[[str, str], Awaitable[Stream]]", clock: Clock) -> None:
        tries = 0
        while True:
            try:
                self._stream = await connect(self.scheduler, self.address)
                self._joining.gate.connected(self.scheduler)
                tries = 0
                self.beat()
                async for message in self._stream:
                    self._received(message, clock.monotonic())
            except (LambdaError, OSError) as failure:
                _log.info("No stream to a scheduler.", scheduler=self.scheduler, why=str(failure))
            finally:
                stream, self._stream = self._stream, None
                self._sent.clear()
                if stream is not None:
                    await stream.close()
            await clock.sleep(_RECONNECT_SECONDS[min(tries, len(_RECONNECT_SECONDS) - 1)])
            tries += 1

    @property
    def stands(self) -> bool:
        """Whether there is a stream now."""
        return self._stream is not None

    def _received(self, message: ToExecutor, now: float) -> None:
        gate = self._joining.gate
        if isinstance(message, Answer):
            sent = self._sent.pop(message.number, None)
            if sent is not None:
                gate.answered(self.scheduler, message, sent, now)
            return
        done = self._joining.request(self.scheduler, message, now)
        if isinstance(message, Claim):
            self.beat()
        elif done is not None:
            self.send(done)

    def beat(self) -> None:
        if self._stream is None:
            return
        beat = self._joining.beat(self.scheduler)
        if len(self._sent) >= _KEPT_BEATS:
            self._sent.pop(next(iter(self._sent)))
        self._sent[beat.number] = self._joining.clock.monotonic()
        self._stream.send(beat)

    def send(self, message: FromExecutor) -> None:
        if self._stream is not None:
            self._stream.send(message)


class Joining:
    """`schedulers()`: {scheduler: address} of those that are there; `facts()`: the executor's own numbers;
    `end(lease)`: ends what runs under a lease; `keep(keep)`: keeps provisioned environments."""

    def __init__(
        self,
        *,
        connect: Callable[[str, str], Awaitable[Stream]],
        schedulers: Callable[[], Awaitable[Mapping[str, str]]],
        facts: Callable[[], Beat],
        end: Callable[[str], None],
        keep: Callable[[Keep], None] = lambda keep: None,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self.gate = Gate(self._push)
        self.clock = clock
        self._connect = connect
        self._schedulers = schedulers
        self._facts = facts
        self._end = end
        self._keep = keep
        self._tasks = tasks
        self._links: dict[str, tuple[_Link, asyncio.Task[None]]] = {}
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Beats, for ever."""
        while True:
            self.watch_owners()
            self.tell()
            await self.clock.sleep(BEAT_SECONDS)

    async def run_meeting(self) -> None:
        """Joins schedulers as they come, for ever. Apart from the beats, which no slow answer may hold up."""
        while True:
            await self._meet()
            await self.clock.sleep(BEAT_SECONDS)

    def watch_owners(self) -> None:
        """Ends the runs of shards whose owner has been silent for too long."""
        now = self.clock.monotonic()
        self.gate.expire(now)
        for lease in self.gate.abandoned(now):
            _log.error("The owner of a shard is silent: what runs under its lease is ended.", lease=lease)
            self._end(lease)

    async def _meet(self) -> None:
        try:
            found = await self._schedulers()
        except LambdaError as failure:
            _log.warning("The schedulers are not known.", why=failure.message)
            return
        for scheduler, address in found.items():
            if scheduler not in self._links:
                link = _Link(self, scheduler, address)
                work = link.run(self._connect, self.clock)
                self._links[scheduler] = link, self._tasks.once(f"scheduler {scheduler}", work)
        # A stream that stands is a better proof of life than a list that may be behind an outage.
        for scheduler in [id for id, (link, _) in self._links.items() if id not in found and not link.stands]:
            _, task = self._links.pop(scheduler)
            task.cancel()
            self.gate.parted(scheduler)

    def request(self, scheduler: str, message: ToExecutor, now: float) -> Done | None:
        """Does what a scheduler asks."""
        assert not isinstance(message, Answer)
        if isinstance(message, Keep):
            if self.gate.goes_by(scheduler, message.shard, message.epoch):
                self._keep(message)
            return None
        return self.gate.request(scheduler, message, now)

    def beat(self, scheduler: str) -> Beat:
        """What a scheduler is to know now."""
        facts = self._facts()._replace(number=next(self._numbers))
        return self.gate.beat(scheduler, facts, self.clock.monotonic())

    def _push(self, owner: str, done: Done) -> None:
        link = self._links.get(owner)
        if link is not None:
            link[0].send(done)

    def tell(self) -> None:
        """A beat to everybody."""
        for link, _ in list(self._links.values()):
            link.beat()

    def say_bye(self, executor: str) -> None:
        """All environments have ended: everybody may forget it."""
        for link, _ in self._links.values():
            link.send(Bye(executor))

    async def close(self) -> None:
        """Leaves all schedulers."""
        tasks = [task for _, task in self._links.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._links.clear()
