"""`ports.EventQueue` in memory, for tests and for trying things: the same behaviour, and nothing survives
the process."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import DeadEvent, Item, LaneDepth, Line, OutcomeRecord, Room
from lambent.kernel.models import Event
from lambent.kernel.ports import Clock, Delivery
from lambent.scheduler.queue_codec import event_of, line_of
from lambent.scheduler.retry import redriven


class _Entry(NamedTuple):
    """An item and when it was first put on its line; `due` None: ready."""

    item: Item
    since: float
    due: float | None = None
    redelivered: bool = False


@dataclass(slots=True)
class _Queue:
    ready: "OrderedDict[str, _Entry]" = field(default_factory=OrderedDict)
    in_flight: dict[str, _Entry] = field(default_factory=dict)
    delayed: dict[str, _Entry] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ready) + len(self.in_flight) + len(self.delayed)

    def entries(self) -> list[_Entry]:
        return [*self.ready.values(), *self.in_flight.values(), *self.delayed.values()]


Place = tuple[Line, str]


class MemoryEventQueue:
    """Delays follow the clock that is given; one loop only. `max_events`: of a lane (0: any number)."""

    def __init__(self, clock: Clock, *, max_events: int = 0) -> None:
        self._clock = clock
        self._max_events = max_events
        self._queues: dict[Place, _Queue] = {}
        self._tags = itertools.count(1)
        self._changed = asyncio.Event()
        self._woken = False

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """What is in flight is delivered again to the next consumer."""
        for queue in self._queues.values():
            for tag, entry in queue.in_flight.items():
                queue.ready[tag] = entry._replace(redelivered=True)
            queue.in_flight.clear()

    async def publish(self, event: Event) -> None:
        there = len(self._queues.get((Line.LANE, event.lane), ()))
        if self._max_events and there >= self._max_events:
            refusal = EventQueueUnavailable(
                f"The event was not accepted: the function's queue is full ({there})."
            )
            refusal.certain = refusal.full = True
            raise refusal
        self._add(event, self._clock.now())

    def _add(self, item: Item, since: float) -> None:
        place = (line_of(item), event_of(item).lane)
        queue = self._queues.setdefault(place, _Queue())
        tag = f"{place[0]}|{place[1]}|{next(self._tags)}"
        due = None if isinstance(item, DeadEvent) else item.due
        if due is not None and due > self._clock.now():
            queue.delayed[tag] = _Entry(_undelayed(item), since, due)
        else:
            queue.ready[tag] = _Entry(_undelayed(item), since)
        self._changed.set()

    async def consume(self, room: Room, *, wait: float) -> Sequence[Delivery]:
        self._woken = False
        end = self._clock.monotonic() + wait
        while True:
            self._changed.clear()
            self._move_due()
            found = self._take(room)
            left = end - self._clock.monotonic()
            if found or self._woken or left <= 0:
                return found
            await self._something_or(min(left, self._next_due()))

    async def _something_or(self, seconds: float) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        change = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({sleeper, change}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            change.cancel()

    def _next_due(self) -> float:
        due = [entry.due or 0.0 for queue in self._queues.values() for entry in queue.delayed.values()]
        return max(0.0, min(due) - self._clock.now()) if due else float("inf")

    def _move_due(self) -> None:
        now = self._clock.now()
        for queue in self._queues.values():
            for tag, entry in list(queue.delayed.items()):
                if entry.due is None or entry.due <= now:
                    del queue.delayed[tag]
                    queue.ready[tag] = entry._replace(due=None)

    def _take(self, room: Room) -> list[Delivery]:
        found: list[Delivery] = []
        for (line, lane), queue in self._queues.items():
            for _ in range(min(max(0, room.of(line, lane)), len(queue.ready))):
                tag, entry = queue.ready.popitem(last=False)
                queue.in_flight[tag] = entry
                outcome = entry.item if isinstance(entry.item, OutcomeRecord) else None
                found.append(Delivery(event_of(entry.item), tag, entry.redelivered, outcome))
        return found

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            place = self._place(delivery)
            queue = self._queues.get(place)
            if queue is not None:
                queue.in_flight.pop(delivery.tag, None)
                self._forget_if_empty(place)

    @staticmethod
    def _place(delivery: Delivery) -> Place:
        return (Line.LANE if delivery.outcome is None else Line.OUTCOMES, delivery.event.lane)

    async def replace(self, delivery: Delivery, items: Sequence[Item]) -> None:
        place = self._place(delivery)
        queue = self._queues.get(place)
        taken = queue.in_flight.pop(delivery.tag, None) if queue else None
        if taken is not None:
            for item in items:
                self._add(item, taken.since if line_of(item) is place[0] else self._clock.now())
            self._forget_if_empty(place)

    async def lanes(self) -> Sequence[LaneDepth]:
        now = self._clock.now()
        depths = []
        for lane in sorted({lane for _, lane in self._queues}):
            queue = self._queues.get((Line.LANE, lane), _Queue())
            depths.append(
                LaneDepth(
                    lane=lane,
                    ready=len(queue.ready),
                    in_flight=len(queue.in_flight),
                    delayed=len(queue.delayed),
                    oldest_age=now - min(entry.since for entry in queue.entries()) if len(queue) else None,
                    outcomes=len(self._queues.get((Line.OUTCOMES, lane), ())),
                    dead=len(self._queues.get((Line.DEAD, lane), ())),
                )
            )
        return depths

    async def peek(self, lane: str, line: Line, *, limit: int) -> Sequence[Item]:
        queue = self._queues.get((line, lane), _Queue())
        here = [entry.item for entry in (*queue.in_flight.values(), *queue.ready.values())]
        later = sorted(queue.delayed.values(), key=lambda entry: entry.due or 0.0)
        return [*here, *(_delayed(entry.item, entry.due) for entry in later)][:limit]

    async def redrive(self, lane: str, *, limit: int, request_id: str | None = None) -> int:
        queue = self._queues.get((Line.DEAD, lane), _Queue())
        chosen = [
            tag
            for tag, entry in queue.ready.items()
            if request_id is None or event_of(entry.item).request_id == request_id
        ][:limit]
        for tag in chosen:
            dead = queue.ready.pop(tag).item
            assert isinstance(dead, DeadEvent)
            self._add(redriven(dead, self._clock.now()), self._clock.now())
        self._forget_if_empty((Line.DEAD, lane))
        return len(chosen)

    async def hasten(self, lane: str, request_id: str) -> int:
        queue = self._queues.get((Line.LANE, lane), _Queue())
        chosen = [tag for tag, entry in queue.delayed.items() if event_of(entry.item).request_id == request_id]
        for tag in chosen:
            queue.ready[tag] = queue.delayed.pop(tag)._replace(due=None)
        self._changed.set()
        return len(chosen)

    async def purge(self, lane: str, line: Line) -> int:
        queue = self._queues.get((line, lane), _Queue())
        gone = len(queue.ready) + len(queue.delayed)
        queue.ready.clear()
        queue.delayed.clear()
        self._forget_if_empty((line, lane))
        return gone

    async def trim_dead(self, lane: str, *, keep: int) -> int:
        queue = self._queues.get((Line.DEAD, lane), _Queue())
        gone = 0
        while len(queue.ready) > keep:
            queue.ready.popitem(last=False)
            gone += 1
        self._forget_if_empty((Line.DEAD, lane))
        return gone

    async def drop_lane(self, lane: str) -> int:
        self._queues.pop((Line.DEAD, lane), None)
        return len(self._queues.pop((Line.LANE, lane), _Queue()))

    async def sweep(self) -> int:
        return 0

    def wake(self) -> None:
        self._woken = True
        self._changed.set()

    def _forget_if_empty(self, place: Place) -> None:
        queue = self._queues.get(place)
        if queue is not None and not len(queue):
            del self._queues[place]


def _undelayed(item: Item) -> Item:
    return item if isinstance(item, DeadEvent) else replace(item, due=None)


def _delayed(item: Item, due: float | None) -> Item:
    return item if isinstance(item, DeadEvent) else replace(item, due=due)
