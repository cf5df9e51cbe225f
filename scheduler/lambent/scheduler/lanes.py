"""Runs queued events: reads a lane only while its function may run, so that a throttled, slow or flooded
function delays no other, and ends each event as `retry` decides.

Everything here happens on the event loop and waits for events: a delivery, a finished run, a freed slot, the
end of a lane's pause.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lambent.kernel import metrics
from lambent.kernel.arn import function_arn
from lambent.kernel.errors import EventQueueUnavailable, LambdaError, TooManyRequestsException
from lambent.kernel.log import Log
from lambent.kernel.models import Event, Function, Invocation, LaneDepth, Response
from lambent.kernel.ports import Clock, Delivery, Dispatcher, EnvironmentHost, EventQueue, Lease, Run
from lambent.kernel.tasks import Tasks
from lambent.scheduler.retry import Action, Result, decide

_log = Log(__name__)
_HOLDER = "lanes"
_WAIT_SECONDS = 30.0
_GAUGE_SECONDS = 5.0

Resolve = Callable[[str], Awaitable[Function | None]]


@dataclass(slots=True)
class _Lane:
    """What is known of a lane. `limit`: how many may run at once; 1 until its function is known. `places`:
    how many are tried at once now; halved by a setback, for others hold slots too, and one more after each
    success. `era` counts the setbacks of all time: runs of one era that fail are one setback, however far
    apart they end. `shut`: the reader has been told that there is no room. `failing`: a failed run is giving
    its slot back."""

    limit: int = 1
    places: int = 1
    running: int = 0
    setbacks: int = 0
    era: int = 0
    shut: bool = False
    failing: bool = False
    paused_until: float = 0.0
    name: str = ""
    gone: bool = False

    def room(self, now: float) -> int:
        """How many more may be started; `now` is monotonic."""
        return 0 if self.paused_until > now else max(0, self.places - self.running)


class Room(dict[str, int]):
    """Free places by lane, a snapshot; a lane that is not in it has `unknown` places."""

    unknown = 1

    def __missing__(self, lane: str) -> int:
        return self.unknown


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """`per_lane`: runs of one function at once; `total`: in all; `batch`: the most one read may bring."""

    per_lane: int = 64
    total: int = 512
    batch: int = 256


class Lanes:
    """`resolve(name)` gives the function, or None; it may answer from a cache. `look(name)` is asked before an
    event is dropped for want of its function, so it must ask the store. `region` and `account` are for ARNs.
    Run `run` under `Tasks.forever`; call `freed` when slots come back to the dispatcher."""

    def __init__(
        self,
        *,
        queue: EventQueue,
        dispatcher: Dispatcher,
        host: EnvironmentHost,
        resolve: Resolve,
        look: Resolve,
        clock: Clock,
        tasks: Tasks,
        region: str,
        account: str,
        limits: LaneLimits | None = None,
    ) -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._host = host
        self._resolve = resolve
        self._look = look
        self._clock = clock
        self._tasks = tasks
        self._region = region
        self._account = account
        self._limits = limits or LaneLimits()
        self._lanes: dict[str, _Lane] = {}
        self._running = 0
        self._changed = asyncio.Event()
        self._stopping = False
        self._gauged: set[str] = set()
        self._gauge_task: asyncio.Task[None] | None = None
        self._timers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Reads and starts events until `stop`, then rests until cancelled."""
        while not self._stopping:
            self._changed.clear()
            if self._running > self._limits.total - self._limits.batch:
                await self._changed.wait()
                continue
            try:
                deliveries = await self._queue.consume(self._room(), wait=_WAIT_SECONDS)
            except EventQueueUnavailable as error:
                _log.warning("The event queue cannot be read; trying again.", error=str(error))
                await self._clock.sleep(1.0)
                continue
            if self._stopping:
                await self._hand_back(deliveries)
            else:
                for delivery in deliveries:
                    self._start(delivery)
        # Its end would be the death of a task that runs forever: whoever stopped it drains the tasks too.
        await asyncio.get_running_loop().create_future()

    async def _hand_back(self, deliveries: Sequence[Delivery]) -> None:
        """Makes what was read just before the stop ready for the next reader, all at once."""
        steps = (self._queue.delay(delivery, delivery.event) for delivery in deliveries)
        outcomes = await asyncio.gather(*steps, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, EventQueueUnavailable):
                raise failure
        if failures:
            _log.info("Events that were read at the stop come again after a restart.", events=len(failures))

    async def stop(self) -> None:
        """Stops reading and waits for what runs; the caller bounds it. What is cut off is delivered again."""
        self._stopping = True
        for timer in list(self._timers):  # a drain would wait for them, and a pause may be minutes long
            timer.cancel()
        self._wake()
        while self._running:
            self._changed.clear()
            await self._changed.wait()

    @property
    def running(self) -> int:
        """Events under way."""
        return self._running

    def freed(self, uid: str) -> None:
        """Slots came back to the dispatcher: a lane that was throttled may go on before its pause ends."""
        lane = self._lanes.get(uid)
        if lane is not None and lane.paused_until and not lane.failing:
            lane.paused_until = 0.0
            self._opened(lane)

    def _room(self) -> Room:
        now = self._clock.monotonic()
        room = Room()
        for uid, lane in self._lanes.items():
            room[uid] = 0 if self._stopping else lane.room(now)
            lane.shut = room[uid] == 0
        return room

    def _opened(self, lane: _Lane) -> None:
        """To be called after whatever may give a lane room: the reader waits with what it was told before."""
        if lane.shut and lane.room(self._clock.monotonic()):
            lane.shut = False
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._queue.wake()

    def _start(self, delivery: Delivery) -> None:
        lane = self._lanes.setdefault(delivery.event.lane, _Lane())
        lane.name = delivery.event.function
        lane.running += 1
        self._running += 1
        if self._gauge_task is None or self._gauge_task.done():
            self._gauge_task = self._timer("queue gauges", self._gauge())
        self._tasks.once("event", self._serve(delivery, lane, lane.era))

    async def _serve(self, delivery: Delivery, lane: _Lane, era: int) -> None:
        try:
            result = await self._attempt(delivery.event, lane)
            self._learn(lane, result, era)
            await self._end(delivery, lane, result)
        except EventQueueUnavailable:
            _log.info(
                "An event's end could not be stored; it comes again.", request_id=delivery.event.request_id
            )
        finally:
            lane.running -= 1
            self._running -= 1
            if lane.gone and not lane.running:
                self._lanes.pop(delivery.event.lane, None)
            if self._stopping or self._running >= self._limits.total - self._limits.batch:
                self._wake()
            else:
                self._opened(lane)

    async def _attempt(self, event: Event, lane: _Lane) -> Result:
        """One execution. A run that was started is seen to its report, for only then is its slot free."""
        try:
            function = await self._resolve(event.function)
            if function is None or function.uid != event.lane:
                # A cache may be behind, and a drop cannot be taken back.
                function = await self._look(event.function)
            if function is None or function.uid != event.lane:
                return Result.NO_FUNCTION
            self._know(function, lane)
            lease = await self._dispatcher.acquire(function, function.to_run, holder=_HOLDER)
            ended = False
            try:
                response = await self._invoke(self._invocation(event, function), lease)
                ended = True
            finally:
                self._release(lease, lane, failed=not ended)
        except TooManyRequestsException:
            return Result.THROTTLED
        except LambdaError as error:
            _log.warning("An event's run failed.", request_id=event.request_id, error=str(error))
            return Result.PLATFORM
        except Exception as error:
            # A defect of ours: said in full, and the event is kept, or it would lie in flight until a restart.
            _log.error("An event's run failed.", request_id=event.request_id, exc_info=error)
            return Result.PLATFORM
        return Result.FUNCTION_ERROR if response.function_error else Result.SUCCESS

    def _release(self, lease: Lease, lane: _Lane, *, failed: bool) -> None:
        """Gives the slot back. A failed run's slot is no reason to end its own lane's pause: it was there
        before, and the run failed all the same."""
        lane.failing = failed
        try:
            self._dispatcher.release(lease)
        finally:
            lane.failing = False

    async def _invoke(self, invocation: Invocation, lease: Lease) -> Response:
        run = self._host.invoke(invocation, lease)
        try:
            response = await run.response
        except LambdaError:
            await self._reported(run)
            raise
        await self._reported(run)
        return response

    @staticmethod
    async def _reported(run: Run) -> None:
        await asyncio.wait([run.report])
        if not run.report.cancelled():
            run.report.exception()  # the response has said it; unread, asyncio would complain

    def _know(self, function: Function, lane: _Lane) -> None:
        reserved = function.reserved_concurrency
        limit = self._limits.per_lane if reserved is None else min(self._limits.per_lane, max(1, reserved))
        if limit != lane.limit:
            lane.limit = lane.places = limit
            self._opened(lane)

    def _invocation(self, event: Event, function: Function) -> Invocation:
        return Invocation(
            request_id=event.request_id,
            target=function.to_run,
            invoked_arn=function_arn(
                region=self._region, account=self._account, name=function.name, qualifier=event.qualifier
            ),
            payload=event.payload,
            trace_id=event.trace_id,
            trigger=event.source,
        )

    async def _end(self, delivery: Delivery, lane: _Lane, result: Result) -> None:
        event = delivery.event
        decision = decide(result, attempt=event.attempt, setbacks=lane.setbacks)
        if decision.action is Action.AGAIN:
            await self._queue.delay(delivery, replace(event, attempt=decision.attempt, due=None))
        elif decision.action is Action.LATER:
            self._pause(lane, decision.wait)
            await self._queue.delay(delivery, replace(event, due=self._clock.now() + decision.wait))
        else:
            if decision.action is Action.DROP:
                self._dropped(event, result)
            await self._queue.ack([delivery])

    def _learn(self, lane: _Lane, result: Result, era: int) -> None:
        """`era`: the lane's when the run was started."""
        if result in (Result.THROTTLED, Result.PLATFORM):
            # In a pause, one of this era had been read already when the pause began.
            if lane.era == era and lane.paused_until <= self._clock.monotonic():
                lane.era += 1
                lane.setbacks += 1
                lane.places = max(1, lane.places // 2)
            return
        lane.setbacks = 0
        lane.gone = result is Result.NO_FUNCTION
        if not lane.gone:
            lane.places = min(lane.limit, lane.places + 1)
            self._opened(lane)

    def _dropped(self, event: Event, result: Result) -> None:
        metrics.events_dropped.labels(metrics.function_label(event.function)).inc()
        if result is Result.NO_FUNCTION:
            _log.warning(
                "An event was dropped: its function is deleted.",
                function=event.function,
                request_id=event.request_id,
            )
            return
        _log.error(
            "An event was dropped: its function failed each time.",
            function=event.function,
            request_id=event.request_id,
            attempts=event.attempt,
        )

    def _pause(self, lane: _Lane, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        if until > lane.paused_until:
            lane.paused_until = until
            if not self._stopping:
                self._timer("lane pause", self._end_pause(lane, until, seconds))

    def _timer(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        timer = self._tasks.once(name, work)
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)
        return timer

    async def _end_pause(self, lane: _Lane, until: float, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if lane.paused_until == until:
            lane.paused_until = 0.0
            self._opened(lane)

    async def _gauge(self) -> None:
        """Depth and age, every few seconds while there are events; a lane that ran empty is shown as 0."""
        while not self._stopping:
            depths: Sequence[LaneDepth] | None
            try:
                depths = await self._queue.lanes()
            except EventQueueUnavailable:
                depths = None  # said by the queue already; the gauges stay as they are
            else:
                self._show(depths)
            if depths is not None and not depths and not self._running:
                return
            await self._clock.sleep(_GAUGE_SECONDS)

    def _show(self, depths: Sequence[LaneDepth]) -> None:
        shown: dict[str, tuple[int, float]] = {}
        for depth in depths:
            lane = self._lanes.get(depth.lane)
            if lane is None:
                continue  # not read so far, so its function's name is not known
            label = metrics.function_label(lane.name)
            count, age = shown.get(label, (0, 0.0))
            total = depth.ready + depth.in_flight + depth.delayed
            shown[label] = (count + total, max(age, depth.oldest_age or 0.0))
        for label in self._gauged - shown.keys():
            shown[label] = (0, 0.0)
        for label, (count, age) in shown.items():
            metrics.queue_depth.labels(label).set(count)
            metrics.queue_age.labels(label).set(age)
        self._gauged = {label for label, (count, _) in shown.items() if count}
