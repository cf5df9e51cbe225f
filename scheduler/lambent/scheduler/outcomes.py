"""Carries outcomes of events to their destinations and dead-letter queues, from a line of their own: it holds
no lease, and never makes the function run again.

A target that fails is left alone for a while, 1 s doubling to 5 min, with all that is on its way to it; it is
counted, said once, and shown to operators. What it has not taken after a day, or will never take, becomes a
dead event, which is kept."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lambent.kernel import metrics, tracing
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import DeadEvent, FailingTarget, OutcomeRecord
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock, Delivery, EventQueue
from lambent.kernel.targets import TargetKind, parse_target
from lambent.kernel.tasks import Tasks
from lambent.scheduler.destinations.base import DeliveryFailed, Send
from lambent.scheduler.retry import backoff

_log = Log(__name__)
MAX_AGE = 86_400.0
_BUSY_SECONDS = 1.0
_UNTRIED_SECONDS = 60.0  # longer than a try takes


@dataclass(slots=True)
class _TargetState:
    """A target that has failed. `until`: monotonic time until which it is left alone; `since`: seconds since
    the epoch."""

    since: float
    failures: int = 0
    until: float = 0.0
    error: str = ""


class Outcomes:
    """`senders` by kind of target. `total`: sent at once in all; `per_lane`: of one function, so that a slow
    target of one takes nobody else's turn; `per_target`: to one target, of all functions. `max_age`: seconds
    until an outcome that nobody takes is given up. The feed calls `room`, `take` and `stop`."""

    def __init__(
        self,
        *,
        queue: EventQueue,
        senders: Mapping[TargetKind, Send],
        clock: Clock,
        tasks: Tasks,
        total: int = 32,
        per_lane: int = 4,
        per_target: int = 16,
        max_age: float = MAX_AGE,
    ) -> None:
        self._queue = queue
        self._senders = senders
        self._clock = clock
        self._tasks = tasks
        self._total = total
        self._per_lane = per_lane
        self._per_target = per_target
        self._max_age = max_age
        self._running: dict[str, int] = {}
        self._count = 0
        self._full = False
        self._sending: Counter[str] = Counter()  # by target
        self._failing: dict[str, _TargetState] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    def room(self) -> tuple[dict[str, int], int]:
        """How many more records can be taken: by lane, and of one that is not in the mapping."""
        left = 0 if self._stopping else self._total - self._count
        self._full = left <= 0 or any(count >= self._per_lane for count in self._running.values())
        each = max(0, min(self._per_lane, left))
        return {lane: max(0, each - count) for lane, count in self._running.items()}, each

    def failing(self) -> Sequence[FailingTarget]:
        """The targets that do not take what they are sent, the longest first. One that nothing has tried for a
        while is forgotten: what was on its way there was purged, or given up."""
        now = self._clock.monotonic()
        for arn in [arn for arn, state in self._failing.items() if state.until + _UNTRIED_SECONDS < now]:
            del self._failing[arn]
        rows = [FailingTarget(arn, s.since, s.failures, s.error) for arn, s in self._failing.items()]
        return sorted(rows, key=lambda row: row.since)

    async def stop(self) -> None:
        """Waits for what is being sent; what is cut off is sent again."""
        self._stopping = True
        while self._count:
            self._changed.clear()
            await self._changed.wait()

    def take(self, delivery: Delivery, record: OutcomeRecord) -> None:
        """Sends a delivered record."""
        lane = record.event.lane
        self._running[lane] = self._running.get(lane, 0) + 1
        self._count += 1
        self._tasks.once("outcome", self._serve(delivery, record, lane))

    async def _serve(self, delivery: Delivery, record: OutcomeRecord, lane: str) -> None:
        try:
            await self._carry(delivery, record)
        except EventQueueUnavailable as failure:
            _log.info(
                "An outcome's end could not be stored; it is sent again.",
                request_id=record.event.request_id,
                why=failure.message,
            )
        finally:
            self._count -= 1
            self._running[lane] -= 1
            if not self._running[lane]:
                del self._running[lane]
            self._changed.set()
            if self._full:
                self._full = False
                self._queue.wake()

    async def _carry(self, delivery: Delivery, record: OutcomeRecord) -> None:
        wait = self._wait(record)
        if wait > 0:
            await self._later(delivery, record, wait)
            return
        self._sending[record.target] += 1
        try:
            await self._send(record)
        except DeliveryFailed as failure:
            await self._failed(delivery, record, failure)
            return
        finally:
            self._sending[record.target] -= 1
            if not self._sending[record.target]:
                del self._sending[record.target]
        if self._failing.pop(record.target, None) is not None:
            _log.info("A target of outcomes takes them again.", target=record.target)
        await self._queue.ack([delivery])

    def _wait(self, record: OutcomeRecord) -> float:
        """Seconds until it may be tried; 0: now. A target that has failed gets one at a time, and none for a
        while; one that may hang gets not all places, for each of them is taken until its time is out."""
        state = self._failing.get(record.target)
        left = state.until - self._clock.monotonic() if state is not None else 0.0
        if left > 0 and not self._too_old(record):
            return left
        most = self._per_target if state is None else 1
        return _BUSY_SECONDS if self._sending[record.target] >= most else 0.0

    async def _send(self, record: OutcomeRecord) -> None:
        target = parse_target(record.target)
        sender = self._senders.get(target.kind) if target is not None else None
        if target is None or sender is None:
            raise DeliveryFailed(f"{record.target} is no target that this server can send to.", final=True)
        try:
            await tracing.timed(
                f"deliver to {target.kind.value}",
                record.event.trace_id,
                lambda header: sender(_under(record, header), target),
                kind="producer",
                attributes={"faas.name": record.event.function, "lambent.target": record.target},
            )
        except DeliveryFailed:
            raise
        except Exception as defect:
            # Ours: said in full, and the record is kept.
            _log.error("Sending an outcome failed.", target=record.target, exc_info=defect)
            raise DeliveryFailed(f"The server failed: {defect!r}") from defect

    async def _failed(self, delivery: Delivery, record: OutcomeRecord, failure: DeliveryFailed) -> None:
        counter = metrics.dead_letter_errors if record.dead_letter else metrics.destination_failures
        counter.labels(metrics.function_label(record.event.function)).inc()
        if failure.final or self._too_old(record):
            _log.error(
                "An outcome was given up; its event is kept as a dead one.",
                function=record.event.function,
                request_id=record.event.request_id,
                target=record.target,
                why=failure.message,
            )
            dead = DeadEvent(record.event, record.ending, record.target, failure.message)
            await self._queue.replace(delivery, [dead])
            return
        state = self._failing.get(record.target)
        if state is None:
            state = self._failing[record.target] = _TargetState(since=self._clock.now())
            _log.warning(
                "A target of outcomes does not take them; they wait.",
                target=record.target,
                function=record.event.function,
                why=failure.message,
            )
        if state.until <= self._clock.monotonic():  # those that failed together are one failure
            state.failures += 1
            state.until = self._clock.monotonic() + backoff(state.failures)
        state.error = failure.message
        wait = max(0.0, state.until - self._clock.monotonic())
        await self._later(delivery, replace(record, tries=record.tries + 1), wait)

    async def _later(self, delivery: Delivery, record: OutcomeRecord, wait: float) -> None:
        await self._queue.replace(delivery, [replace(record, due=self._clock.now() + wait)])

    def _too_old(self, record: OutcomeRecord) -> bool:
        return self._clock.now() - record.ending.at >= self._max_age


def _under(record: OutcomeRecord, header: str) -> OutcomeRecord:
    """The record whose target goes on with this trace header."""
    if header == record.event.trace_id:
        return record
    return replace(record, event=replace(record.event, trace_id=header))
