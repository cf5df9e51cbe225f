"""Runs queued events: a lane is read only while its function may run, so that a throttled, slow or flooded
function delays no other; and ends each event as `retry` decides.

Everything here happens on the event loop and waits for events: a delivery, a finished run, a freed slot, the
end of a lane's pause.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lambent.kernel import lineage, metrics, tracing
from lambent.kernel.arn import LATEST, function_arn
from lambent.kernel.errors import EventQueueUnavailable, LambdaError, NotStarted, TooManyRequestsException
from lambent.kernel.events import Condition, DeadEvent, Ending, Item, OutcomeRecord
from lambent.kernel.log import Log
from lambent.kernel.models import Event, Function, FunctionVersion, Invocation, RecursiveLoop, Response, Tried
from lambent.kernel.ports import Clock, Delivery, Dispatcher, EnvironmentHost, EventQueue, Lease, Run
from lambent.kernel.routing import Route
from lambent.kernel.tasks import Tasks
from lambent.scheduler.destinations.record import error_message
from lambent.scheduler.retry import (
    MAX_AGE,
    RETRY_BASE,
    Action,
    Decision,
    Result,
    RetryLimits,
    decide,
    given_up_before,
    limits_of,
)

_log = Log(__name__)
_HOLDER = "lanes"
_SHARE_SECONDS = 1.0
# In all a little longer than a takeover takes.
_TRY_AGAIN_SECONDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0)

Resolve = Callable[[str], Awaitable[Function | None]]
FindRoute = Callable[[Function, str | None], Awaitable[Route | None]]


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


class _Attempt(NamedTuple):
    """How a try of an event ended. `function` and `target` are None where there is none; `response` where
    nothing ran."""

    result: Result
    function: Function | None = None
    target: FunctionVersion | None = None
    response: Response | None = None
    status: int | None = None
    message: str = ""
    refused: Condition | None = None
    not_started: bool = False


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """`per_lane`: runs of one function at once; `total`: in all; `batch`: the most one read may bring;
    `known`: lanes that are remembered though nothing is under way in them."""

    per_lane: int = 64
    total: int = 512
    batch: int = 256
    known: int = 1024


class Lanes:
    """`resolve(name)` gives the function, or None; it may answer from a cache. `look(name)` is asked before an
    event is dropped for want of its function, so it must ask the store. `route(function, qualifier)` gives what
    of a function an event runs, or None. `region` and `account` are for ARNs;
    `retry_base`: seconds before the first retry. The feed calls `room`, `take` and `stop`; call `freed` when
    slots come back to the dispatcher."""

    def __init__(
        self,
        *,
        queue: EventQueue,
        dispatcher: Dispatcher,
        host: EnvironmentHost,
        resolve: Resolve,
        look: Resolve,
        route: FindRoute,
        clock: Clock,
        tasks: Tasks,
        region: str,
        account: str,
        retry_base: float = RETRY_BASE,
        limits: LaneLimits | None = None,
    ) -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._host = host
        self._resolve = resolve
        self._look = look
        self._route = route
        self._clock = clock
        self._tasks = tasks
        self._region = region
        self._account = account
        self._retry_base = retry_base
        self._limits = limits or LaneLimits()
        self._lanes: dict[str, _Lane] = {}
        self._running = 0
        self._full = False  # the reader has been told that there is no room at all
        self._changed = asyncio.Event()
        self._stopping = False
        self._timers: set[asyncio.Task[None]] = set()
        self._pooled: dict[str, _Lane] = {}  # by uid, those that pause for want of a shared slot
        self._sharing: asyncio.Task[None] | None = None
        self._freed = 0

    def room(self) -> tuple[dict[str, int], int]:
        """How many more events can be taken: by lane, and of one that is not known yet."""
        self._full = self._stopping or self._running > self._limits.total - self._limits.batch
        now = self._clock.monotonic()
        room: dict[str, int] = {}
        for uid, lane in self._lanes.items():
            room[uid] = 0 if self._full else lane.room(now)
            lane.shut = room[uid] == 0
        return room, 0 if self._full else 1

    async def stop(self) -> None:
        """Waits for what runs; the caller bounds it. What is cut off is delivered again."""
        self._stopping = True
        for timer in list(self._timers):  # a drain would wait for them, and a pause may be minutes long
            timer.cancel()
        while self._running:
            self._changed.clear()
            await self._changed.wait()

    @property
    def running(self) -> int:
        """Events under way."""
        return self._running

    def freed(self, uid: str) -> None:
        """Slots came back to the dispatcher: a lane that was throttled may go on before its pause ends."""
        self._freed += 1
        lane = self._lanes.get(uid)
        if lane is not None and lane.paused_until and not lane.failing:
            self._end_pause(uid, lane)
        if self._pooled and self._sharing is None and not self._stopping:
            self._sharing = self._timer("lanes share slots", self._share())

    async def _share(self) -> None:
        """Slots of the shared pool came back: the lane that has waited longest for one may try, now and then
        another, for they would wait out their pauses, minutes long, beside free slots."""
        try:
            while self._pooled:
                uid = next(iter(self._pooled))
                lane = self._pooled[uid]
                lane.setbacks = max(0, lane.setbacks - 1)  # a try that fails is no reason for a longer pause
                before = self._freed
                self._end_pause(uid, lane)
                await self._clock.sleep(_SHARE_SECONDS)
                if self._freed == before:
                    return
        finally:
            self._sharing = None

    def _opened(self, lane: _Lane) -> None:
        """To be called after whatever may give a lane room: the reader waits with what it was told before."""
        if lane.shut and lane.room(self._clock.monotonic()):
            lane.shut = False
            self._queue.wake()

    def take(self, delivery: Delivery) -> None:
        """Runs a delivered event."""
        uid = delivery.event.lane
        lane = self._lanes.get(uid)
        if lane is None:
            if len(self._lanes) >= self._limits.known:
                self._forget_quiet()
            lane = self._lanes[uid] = _Lane()
        lane.name = delivery.event.function
        lane.running += 1
        self._running += 1
        self._tasks.once("event", self._serve(delivery, lane, lane.era))

    def _forget_quiet(self) -> None:
        """Each read is told the room of every known lane: of those in which nothing is under way it is what an
        unknown one has."""
        now = self._clock.monotonic()
        for uid, lane in list(self._lanes.items()):
            if not lane.running and lane.paused_until <= now and not lane.setbacks:
                del self._lanes[uid]

    async def _serve(self, delivery: Delivery, lane: _Lane, era: int) -> None:
        try:
            attempt = await self._attempt(delivery.event, lane)
            self._learn(lane, attempt, era)
            await self._end(delivery, lane, attempt)
        except EventQueueUnavailable as failure:
            _log.info(
                "An event's end could not be stored; it comes again.",
                request_id=delivery.event.request_id,
                why=failure.message,
            )
        finally:
            lane.running -= 1
            self._running -= 1
            if lane.gone and not lane.running:
                self._lanes.pop(delivery.event.lane, None)
            self._changed.set()
            if self._full and self._running <= self._limits.total - self._limits.batch:
                self._full = False
                self._queue.wake()
            else:
                self._opened(lane)

    async def _attempt(self, event: Event, lane: _Lane) -> _Attempt:
        """One execution. What no executor has taken was none, and is begun anew."""
        for pause in _TRY_AGAIN_SECONDS:
            attempt = await self._try(event, lane)
            if not attempt.not_started:
                return attempt
            await self._clock.sleep(pause)
        return attempt

    async def _try(self, event: Event, lane: _Lane) -> _Attempt:
        """One execution. A run that was started is seen to its report, for only then is its slot free."""
        function: Function | None = None
        target: FunctionVersion | None = None
        try:
            function, route = await self._find(event)
            if function is None:
                return _Attempt(Result.NO_FUNCTION)
            self._know(function, lane)
            if route is None:
                return self._no_such_version(event, function)
            target = route.target
            refused = self._refused(event, function)
            if refused is not None:
                return _Attempt(Result.FUNCTION_ERROR, function, target, refused=refused)
            lease = await self._acquire(event, function, route)
            metrics.event_age.labels(metrics.function_label(event.function)).observe(self._age(event))
            response = await self._run(self._invocation(event, function, route), lease, lane)
        except NotStarted as failure:
            return _Attempt(
                Result.PLATFORM,
                function,
                target,
                status=failure.status,
                message=failure.message,
                not_started=True,
            )
        except TooManyRequestsException as error:
            return _Attempt(Result.THROTTLED, function, target, status=error.status, message=error.message)
        except LambdaError as error:
            _log.warning("An event's run failed.", request_id=event.request_id, error=str(error))
            return _Attempt(Result.PLATFORM, function, target, status=error.status, message=error.message)
        except Exception as error:
            # A defect of ours: said in full, and the event is kept, or it would lie in flight until a restart.
            _log.error("An event's run failed.", request_id=event.request_id, exc_info=error)
            return _Attempt(Result.PLATFORM, function, target, status=500, message="The service failed.")
        result = Result.FUNCTION_ERROR if response.function_error else Result.SUCCESS
        return _Attempt(result, function, target, response, status=200)

    async def _find(self, event: Event) -> tuple[Function | None, Route | None]:
        """The function and what of it the event runs. A cache may be behind, and a drop cannot be undone."""
        function: Function | None = None
        for find in (self._resolve, self._look):
            function = await find(event.function)
            if function is None or function.uid != event.lane:
                function = None
                continue
            route = await self._route(function, event.qualifier)
            if route is not None:
                return function, route
        return function, None

    def _no_such_version(self, event: Event, function: Function) -> _Attempt:
        """Its version or alias was deleted since it was accepted: no later attempt would find it."""
        return _Attempt(
            Result.FUNCTION_ERROR,
            function,
            status=404,
            message=f"Function not found: {self._arn(function.name, event.qualifier)}",
            refused=Condition.RETRIES_EXHAUSTED,
        )

    async def _acquire(self, event: Event, function: Function, route: Route) -> Lease:
        asked = self._dispatcher.acquire(function, route.target, holder=_HOLDER, alias=route.alias)
        if tracing.active is None:
            return await asked
        waited: tracing.Attributes = {"faas.name": function.name, "lambent.attempt": event.attempt}
        tracing.note("queue wait", event.trace_id, began=event.accepted, attributes=waited)
        return await tracing.timed("acquire", event.trace_id, lambda _: asked)

    def _refused(self, event: Event, function: Function) -> Condition | None:
        looped = function.recursive_loop is RecursiveLoop.TERMINATE and lineage.looped(
            event.trace_id, self._arn(function.name)
        )
        why = given_up_before(
            age=self._age(event),
            reserved=function.reserved_concurrency,
            looped=looped,
            limits=self._limits_of(event, function),
        )
        if why is Condition.RECURSION_DETECTED:
            metrics.recursive_dropped.labels(metrics.function_label(function.name)).inc()
        return why

    def _age(self, event: Event) -> float:
        return max(0.0, self._clock.now() - event.accepted)

    def _limits_of(self, event: Event, function: Function) -> RetryLimits:
        return limits_of(function.event_invoke.get(event.qualifier or LATEST), base=self._retry_base)

    def _release(self, lease: Lease, lane: _Lane, *, failed: bool) -> None:
        """Gives the slot back. A failed run's slot is no reason to end its own lane's pause: it was there
        before, and the run failed all the same."""
        lane.failing = failed
        try:
            self._dispatcher.release(lease)
        finally:
            lane.failing = False

    async def _run(self, invocation: Invocation, lease: Lease, lane: _Lane) -> Response:
        try:
            response = await self._invoke(invocation, lease)
        except NotStarted as failure:
            self._dispatcher.not_taken(lease, failure.reason)
            raise
        except BaseException:
            self._release(lease, lane, failed=True)
            raise
        self._release(lease, lane, failed=False)
        return response

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
        # With a reservation of 0 nothing runs: each event is given up at once, and takes no slot.
        reserved = function.reserved_concurrency or None
        limit = self._limits.per_lane if reserved is None else min(self._limits.per_lane, reserved)
        if limit != lane.limit:
            lane.limit = lane.places = limit
            self._opened(lane)

    def _arn(self, name: str, qualifier: str | None = None) -> str:
        return function_arn(region=self._region, account=self._account, name=name, qualifier=qualifier)

    def _invocation(self, event: Event, function: Function, route: Route) -> Invocation:
        return Invocation(
            request_id=event.request_id,
            target=route.target,
            alias=route.alias,
            invoked_arn=self._arn(function.name, event.qualifier),
            payload=event.payload,
            trace_id=lineage.followed(event.trace_id, self._arn(function.name)),
            trigger=event.source,
            tags=function.tags,
        )

    async def _end(self, delivery: Delivery, lane: _Lane, attempt: _Attempt) -> None:
        event = delivery.event
        if attempt.refused is not None:
            decision = Decision(Action.GIVE_UP, event.attempt, condition=attempt.refused)
        else:
            limits = RetryLimits(max_age=MAX_AGE, base=self._retry_base)
            if attempt.function is not None:
                limits = self._limits_of(event, attempt.function)
            decision = decide(
                attempt.result,
                attempt=event.attempt,
                setbacks=lane.setbacks,
                age=self._age(event),
                limits=limits,
            )
        if decision.action in (Action.AGAIN, Action.LATER):
            if decision.action is Action.LATER:
                self._pause(event.lane, lane, decision.wait, pooled=_pooled(attempt))
            due = self._clock.now() + decision.wait
            ending = self._ending(event, decision, attempt)  # said, should the event get too old meanwhile
            tried = Tried(ending.status, ending.function_error, ending.message)
            again = replace(event, attempt=decision.attempt, due=due, tried=tried)
            await self._queue.replace(delivery, [again])
            return
        items: list[Item] = []
        if decision.action is Action.DROP:
            self._dropped(event, "its function is deleted", attempt)
        elif attempt.function is not None:
            items = self._outcomes(event, attempt, attempt.function, self._ending(event, decision, attempt))
        if items:
            await self._queue.replace(delivery, items)
        else:
            await self._queue.ack([delivery])

    def _ending(self, event: Event, decision: Decision, attempt: _Attempt) -> Ending:
        response = attempt.response
        ending = Ending(
            condition=decision.condition,
            at=self._clock.now(),
            attempts=event.attempt if response is not None else event.attempt - 1,
            status=attempt.status,
            executed_version=attempt.target.version if attempt.target and response is not None else None,
            function_error=response.function_error if response is not None else None,
            response=response.payload if response is not None else None,
            message=attempt.message,
        )
        if attempt.refused is not None and attempt.status is None and event.tried is not None:
            status, error, message = event.tried
            return ending._replace(status=status, function_error=error, message=message)
        # A dead event is kept without the answer, but not without a word.
        return ending._replace(message=error_message(ending)) if ending.function_error else ending

    def _outcomes(self, event: Event, attempt: _Attempt, function: Function, ending: Ending) -> list[Item]:
        """What takes the event's place: a record for each target; a dead event where nobody would get one."""
        config = function.event_invoke.get(event.qualifier or LATEST)
        if ending.condition is Condition.SUCCESS:
            target = config.on_success if config is not None else None
            return [OutcomeRecord(event, ending, target, dead_letter=False)] if target else []
        items: list[Item] = []
        dead_letter = (attempt.target or function.to_run).dead_letter  # a version has its own
        if dead_letter:
            items.append(OutcomeRecord(event, ending, dead_letter, dead_letter=True))
        if config is not None and config.on_failure:
            items.append(OutcomeRecord(event, ending, config.on_failure, dead_letter=False))
        self._dropped(event, ending.condition.value, None, targets=len(items))
        return items or [DeadEvent(event, ending)]

    def _learn(self, lane: _Lane, attempt: _Attempt, era: int) -> None:
        """`era`: the lane's when the run was started."""
        if attempt.result in (Result.THROTTLED, Result.PLATFORM):
            # In a pause, one of this era had been read already when the pause began.
            if lane.era == era and lane.paused_until <= self._clock.monotonic():
                lane.era += 1
                lane.setbacks += 1
                lane.places = max(1, lane.places // 2)
            return
        lane.setbacks = 0
        lane.gone = attempt.result is Result.NO_FUNCTION
        if not lane.gone:
            lane.places = min(lane.limit, lane.places + 1)
            self._opened(lane)

    def _dropped(self, event: Event, why: str, attempt: _Attempt | None, *, targets: int = 0) -> None:
        """AWS: AsyncEventsDropped counts events that go to a dead-letter queue or destination, too."""
        metrics.events_dropped.labels(metrics.function_label(event.function)).inc()
        say = _log.warning if attempt is not None else _log.error
        say(
            "An event was given up.",
            function=event.function,
            request_id=event.request_id,
            why=why,
            attempts=event.attempt,
            targets=targets,
        )

    def _pause(self, uid: str, lane: _Lane, seconds: float, *, pooled: bool) -> None:
        until = self._clock.monotonic() + seconds
        if until > lane.paused_until:
            lane.paused_until = until
            self._pooled.pop(uid, None)
            if pooled:
                self._pooled[uid] = lane
            if not self._stopping:
                self._timer("lane pause", self._pause_over(uid, lane, until, seconds))

    def _end_pause(self, uid: str, lane: _Lane) -> None:
        lane.paused_until = 0.0
        self._pooled.pop(uid, None)
        self._opened(lane)

    def _timer(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        timer = self._tasks.once(name, work)
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)
        return timer

    async def _pause_over(self, uid: str, lane: _Lane, until: float, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if lane.paused_until == until:
            self._end_pause(uid, lane)


def _pooled(attempt: _Attempt) -> bool:
    """Whether it was throttled for want of a slot that functions share."""
    function = attempt.function
    return attempt.result is Result.THROTTLED and function is not None and function.reserved_concurrency is None
