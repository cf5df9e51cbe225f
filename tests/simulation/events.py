"""Asynchronous events: one queue for all processes, and in each scheduler the real reader of lanes, which
spends leases as a gateway does. What a dead reader had in its hands is delivered again."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from lambent.kernel.errors import EventQueueUnavailable, NotStarted, ServiceException
from lambent.kernel.events import Item, Line, Room
from lambent.kernel.holder import LeaseHolder
from lambent.kernel.models import (
    Event,
    Function,
    FunctionVersion,
    Invocation,
    Outcome,
    Report,
    Response,
)
from lambent.kernel.ports import Delivery, EnvironmentHost, EventQueue, Lease
from lambent.kernel.response_stream import ResponseStream
from lambent.kernel.routing import Route
from lambent.scheduler.feed import Feed
from lambent.scheduler.lanes import Lanes
from lambent.scheduler.outcomes import Outcomes
from lambent.scheduler.queue_memory import MemoryEventQueue
from simulation.network import Network, Node
from simulation.parts import SHARDS, Executor, Link, Redis, Scheduler, View, run_at

_SILENT_SECONDS = 30.0
_POLL_SECONDS = 0.25
_REPORT = Report(Outcome.SUCCESS, 1.0, 1, None, 128, 64)


class SharedQueue(MemoryEventQueue):
    """The queue as Redis has it. `accepted` and `ran` are the truth, by request id."""

    def __init__(self, redis: Redis, clock: Any) -> None:
        super().__init__(clock)
        self.redis = redis
        self.accepted: set[str] = set()
        self.ran: Counter[str] = Counter()
        self._holds: dict[str, str] = {}  # by tag: its reader
        self._seen: dict[str, float] = {}

    def read(self, reader: str, room: Room) -> list[Delivery]:
        """What there is room for; a reader that has not come for so long gives up what it had."""
        now = self._clock.monotonic()
        self._seen[reader] = now
        for queue in self._queues.values():
            for tag in list(queue.in_flight):
                if now - self._seen[self._holds[tag]] > _SILENT_SECONDS:
                    queue.ready[tag] = queue.in_flight.pop(tag)._replace(redelivered=True)
        self._move_due()
        found = self._take(room)
        self._holds.update((delivery.tag, reader) for delivery in found)
        return found

    @property
    def left(self) -> int:
        """Events that have not come to an end."""
        return sum(len(queue) for (line, _), queue in self._queues.items() if line is not Line.DEAD)

    def lost(self) -> set[str]:
        """Accepted events that neither ran to an end nor were given up."""
        dead = {
            entry.item.event.request_id  # type: ignore[union-attr]
            for (line, _), queue in self._queues.items()
            if line is Line.DEAD
            for entry in queue.entries()
        }
        return self.accepted - set(self.ran) - dead


class QueueView:
    """`ports.EventQueue` as one process sees it, as much of it as the lanes use."""

    def __init__(self, queue: SharedQueue, node: Node) -> None:
        self._queue, self._node = queue, node
        self._woken = asyncio.Event()

    async def _there(self) -> None:
        await self._node.clock.sleep(0.001)
        if self._queue.redis.down:
            raise EventQueueUnavailable("The queue does not answer.")

    async def publish(self, event: Event) -> None:
        await self._there()
        await self._queue.publish(event)
        self._queue.accepted.add(event.request_id)

    async def consume(self, room: Room, *, wait: float) -> Sequence[Delivery]:
        end = self._node.clock.monotonic() + wait
        while True:
            await self._there()
            found = self._queue.read(self._node.name, room)
            if found or self._woken.is_set() or self._node.clock.monotonic() >= end:
                self._woken.clear()
                return found
            await self._node.clock.sleep(_POLL_SECONDS)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._outage_over()
        await self._queue.ack(deliveries)

    async def replace(self, delivery: Delivery, items: Sequence[Item]) -> None:
        await self._outage_over()
        await self._queue.replace(delivery, items)

    async def _outage_over(self) -> None:
        while True:
            try:
                return await self._there()
            except EventQueueUnavailable:
                await self._node.clock.sleep(_POLL_SECONDS)

    def wake(self) -> None:
        self._woken.set()


class _Run:
    """`ports.Run` of an invocation on a simulated executor."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.stream: ResponseStream | None = None

    def over(self, failure: Exception | None) -> None:
        for future, value in ((self.response, Response(b"1")), (self.report, _REPORT)):
            if not future.done():
                if failure is None:
                    cast("asyncio.Future[Any]", future).set_result(value)
                else:
                    future.set_exception(failure)
                    future.exception()

    def cancel(self) -> None:
        """Nobody goes away here."""


class LaneReader:
    """The lanes of one scheduler: `ports.Dispatcher` around a holder, and `EnvironmentHost.invoke`."""

    def __init__(
        self,
        scheduler: Scheduler,
        network: Network,
        redis: Redis,
        queue: SharedQueue,
        schedulers: Mapping[str, Scheduler],
        executors: Mapping[str, Executor],
    ) -> None:
        self._node = node = scheduler.node
        self._network, self._executors, self._queue = network, executors, queue
        self._store = View(redis, node, redis.store)
        self._cache: dict[str, Function] = {}
        view = cast(EventQueue, QueueView(queue, node))
        self.holder = LeaseHolder(
            f"{node.name}-lanes",
            Link(node, network, redis, schedulers),
            shards=SHARDS,
            clock=node.clock,
            tasks=node.tasks,
            stale=self._stale,
            freed=lambda uid: self.lanes.freed(uid),
        )
        self.lanes = Lanes(
            queue=view,
            dispatcher=self,  # type: ignore[arg-type]
            host=cast(EnvironmentHost, self),
            resolve=self._resolve,
            look=self._store.get,
            route=self._route,
            clock=node.clock,
            tasks=node.tasks,
            region="us-east-1",
            account="000000000000",
        )
        outcomes = Outcomes(queue=view, senders={}, clock=node.clock, tasks=node.tasks)
        feed = Feed(queue=view, lanes=self.lanes, outcomes=outcomes, clock=node.clock)
        node.tasks.forever("renew", self.holder.run())
        node.tasks.forever("feed", feed.run())

    def _stale(self, name: str) -> None:
        if name == "*":
            self._cache.clear()
        else:
            self._cache.pop(name, None)

    async def _resolve(self, name: str) -> Function | None:
        function = self._cache.get(name)
        if function is None:
            function = await self._store.get(name)
            if function is not None:
                self._cache[name] = function
        return function

    async def _route(self, function: Function, qualifier: str | None) -> Route | None:
        return Route(function.to_run)

    async def acquire(
        self, function: Function, target: FunctionVersion, *, holder: str, slots: int = 1, alias: str = ""
    ) -> Lease:
        """`Dispatcher.acquire`."""
        try:
            return await self.holder.acquire(function, target)
        except NotStarted:
            self._stale(function.name)
            raise

    def release(self, lease: Lease, *, slots: int = 1) -> None:
        """`Dispatcher.release`."""
        self.holder.release(lease)

    def not_taken(self, lease: Lease, reason: str) -> None:
        """`Dispatcher.not_taken`."""
        self.holder.not_taken(lease, reason)

    def invoke(self, invocation: Invocation, lease: Lease) -> _Run:
        """`EnvironmentHost.invoke`; the payload says how many seconds it takes."""
        run = _Run()
        self._node.tasks.once("run", self._invoked(invocation, lease, run))
        return run

    async def _invoked(self, invocation: Invocation, lease: Lease, run: _Run) -> None:
        def ended() -> None:
            self._queue.ran[invocation.request_id] += 1

        failure = await run_at(
            self._node,
            self._network,
            self._executors,
            lease,
            invocation.target.key,
            float(invocation.payload),
            ended=ended,
        )
        if failure is not None and not isinstance(failure, ServiceException):
            raise failure
        run.over(failure)
