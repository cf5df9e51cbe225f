"""`ports.EventQueue` in memory, for tests and for trying things: the same behaviour, and nothing survives
the process."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lambent.kernel.models import Event, LaneDepth
from lambent.kernel.ports import Clock, Delivery


@dataclass(slots=True)
class _Line:
    ready: "OrderedDict[str, tuple[Event, float, bool]]" = field(default_factory=OrderedDict)
    in_flight: dict[str, tuple[Event, float]] = field(default_factory=dict)
    delayed: dict[str, tuple[Event, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ready) + len(self.in_flight) + len(self.delayed)


class MemoryEventQueue:
    """Delays follow the clock that is given; one loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._tags = itertools.count(1)
        self._changed = asyncio.Event()
        self._woken = False

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """What is in flight is delivered again to the next consumer."""
        for line in self._lines.values():
            for tag, (event, since) in line.in_flight.items():
                line.ready[tag] = (event, since, True)
            line.in_flight.clear()

    async def publish(self, event: Event) -> None:
        self._add(event, self._clock.now())

    def _add(self, event: Event, since: float) -> None:
        line = self._lines.setdefault(event.lane, _Line())
        tag = f"{event.lane}|{next(self._tags)}"
        if event.due is not None and event.due > self._clock.now():
            line.delayed[tag] = (event, since)
        else:
            line.ready[tag] = (replace(event, due=None), since, False)
        self._changed.set()

    async def consume(self, room: Mapping[str, int], *, wait: float) -> Sequence[Delivery]:
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
        due = [event.due or 0.0 for line in self._lines.values() for event, _ in line.delayed.values()]
        return max(0.0, min(due) - self._clock.now()) if due else float("inf")

    def _move_due(self) -> None:
        now = self._clock.now()
        for line in self._lines.values():
            for tag, (event, since) in list(line.delayed.items()):
                if event.due is None or event.due <= now:
                    del line.delayed[tag]
                    line.ready[tag] = (replace(event, due=None), since, False)

    def _take(self, room: Mapping[str, int]) -> list[Delivery]:
        found: list[Delivery] = []
        for lane, line in self._lines.items():
            if not line.ready:
                continue
            try:
                space = room[lane]
            except KeyError:
                continue
            for _ in range(min(space, len(line.ready))):
                tag, (event, since, redelivered) = line.ready.popitem(last=False)
                line.in_flight[tag] = (event, since)
                found.append(Delivery(event, tag, redelivered))
        return found

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            line = self._lines.get(delivery.event.lane)
            if line is not None:
                line.in_flight.pop(delivery.tag, None)
                self._forget_if_empty(delivery.event.lane)

    async def delay(self, delivery: Delivery, event: Event) -> None:
        line = self._lines.get(delivery.event.lane)
        taken = line.in_flight.pop(delivery.tag, None) if line else None
        if taken is not None:
            self._add(event, taken[1])

    async def redrive(self, source: str, lane: str, *, limit: int) -> int:
        line = self._lines.get(source)
        moved = 0
        while line is not None and line.ready and moved < limit:
            _, (event, since, _) = line.ready.popitem(last=False)
            self._add(replace(event, lane=lane, attempt=1, due=None), since)
            moved += 1
        self._forget_if_empty(source)
        return moved

    async def lanes(self) -> Sequence[LaneDepth]:
        now = self._clock.now()
        depths = []
        for lane, line in self._lines.items():
            times = [since for _, since, _ in line.ready.values()]
            times += [since for _, since in (*line.in_flight.values(), *line.delayed.values())]
            depths.append(
                LaneDepth(lane, len(line.ready), len(line.in_flight), len(line.delayed), now - min(times))
            )
        return depths

    async def drop_lane(self, lane: str) -> int:
        line = self._lines.pop(lane, None)
        return len(line) if line is not None else 0

    def wake(self) -> None:
        self._woken = True
        self._changed.set()

    def _forget_if_empty(self, lane: str) -> None:
        line = self._lines.get(lane)
        if line is not None and not len(line):
            del self._lines[lane]
