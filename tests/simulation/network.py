"""Nodes that can be paused or killed, and what travels between them: in order on each way, late, held up by a
partition, or lost with the one who was to get it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from lambent.kernel.errors import ServiceException
from lambent.kernel.tasks import Tasks

_T = TypeVar("_T")


class Node:
    """A process. While it is paused nothing of it runs, and what comes to it waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks = Tasks(name)
        self.clock = NodeClock(self)
        self._paused = False
        self._backlog: list[Callable[[], None]] = []
        self._resumed: list[asyncio.Future[None]] = []

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        """Its timers first, then what has come: both at once, as far as it can tell."""
        self._paused = False
        waiting, self._resumed = self._resumed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        backlog, self._backlog = self._backlog, []
        loop = asyncio.get_running_loop()
        for work in backlog:
            loop.call_soon(self.do, work)

    async def running(self) -> None:
        """Returns while it is not paused."""
        while self._paused:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._resumed.append(future)
            await future

    def do(self, work: Callable[[], None]) -> None:
        if not self.alive:
            return
        if self._paused:
            self._backlog.append(work)
        else:
            work()

    def kill(self) -> None:
        self.alive = False
        self.resume()
        for task in list(self.tasks._tasks):
            task.cancel()


class NodeClock:
    """`ports.Clock` of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._node.running()


class Network:
    """`delay` in seconds, drawn evenly up to twice as much; now and then a hundred times as much."""

    def __init__(self, draw: random.Random, *, delay: float = 0.0005) -> None:
        self.draw = draw
        self.delay = delay
        self.cut: set[frozenset[str]] = set()
        self._held: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._last: dict[tuple[str, str], float] = {}
        self.sent = 0

    def send(self, source: Node, target: Node, work: Callable[[], None]) -> None:
        """Does `work` at the target, in its turn."""
        self.sent += 1
        way = (source.name, target.name)
        if frozenset(way) in self.cut:
            self._held.setdefault(way, []).append(lambda: target.do(work))
            return
        loop = asyncio.get_running_loop()
        delay = self.draw.random() * 2 * self.delay
        if self.draw.random() < 0.001:
            delay *= 100
        at = max(loop.time() + delay, self._last.get(way, 0.0))
        self._last[way] = at
        loop.call_at(at, target.do, work)

    def part(self, one: Node, other: Node) -> None:
        """Nothing passes between them any more; it waits."""
        self.cut.add(frozenset((one.name, other.name)))

    def heal(self, one: Node, other: Node) -> None:
        """What has waited comes now, late."""
        self.cut.discard(frozenset((one.name, other.name)))
        loop = asyncio.get_running_loop()
        for way in ((one.name, other.name), (other.name, one.name)):
            for work in self._held.pop(way, []):
                self._last[way] = loop.time()
                loop.call_soon(work)

    async def call(
        self, source: Node, target: Node | None, work: Callable[[], Awaitable[_T]], seconds: float = 5.0
    ) -> _T:
        """A question and its answer. Raises ServiceException when none comes in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()
        if target is None or not target.alive:
            await source.clock.sleep(self.delay)
            raise ServiceException("Nobody is there.")
        there = target

        async def serve() -> None:
            try:
                result = await work()
            except Exception as error:
                failure = error
                self.send(there, source, lambda: None if answer.done() else answer.set_exception(failure))
            else:
                self.send(there, source, lambda: None if answer.done() else answer.set_result(result))

        self.send(source, there, lambda: void(there.tasks.once("serve", serve())))
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise ServiceException("No answer.") from None


def void(_: object) -> None:
    """For a callback that answers nothing."""


class Pipe(Generic[_T]):
    """One end of a stream: what the other end has sent, until it breaks."""

    def __init__(self) -> None:
        self._messages: list[_T] = []
        self._news = asyncio.Event()
        self.broken = False

    def put(self, message: _T) -> None:
        self._messages.append(message)
        self._news.set()

    def break_(self) -> None:
        self.broken = True
        self._news.set()

    async def read(self) -> AsyncIterator[_T]:
        while True:
            while self._messages:
                yield self._messages.pop(0)
            if self.broken:
                return
            self._news.clear()
            await self._news.wait()
