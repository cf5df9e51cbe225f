"""What becomes of an event before and after an attempt: pure, because this is what a lost or a doubled event
would hang on.

AWS: a function error is tried again, at most twice, after one and after two minutes; a throttle (429) or a
system error (5xx) returns the event to the queue without counting an attempt, with waits of 1 s doubling to 5
min; an event older than MaximumEventAgeInSeconds is given up, whatever it waited for; so is one of a function
whose reserved concurrency is 0, at once."""

from dataclasses import dataclass, replace
from enum import StrEnum

from lambent.kernel import lineage
from lambent.kernel.events import Condition, DeadEvent, Item, OutcomeRecord
from lambent.kernel.models import EventInvokeConfig

MAX_RETRIES = 2
MAX_AGE = 21_600.0
RETRY_BASE = 60.0
BACKOFF_FIRST = 1.0
BACKOFF_LAST = 300.0


class Result(StrEnum):
    """How an attempt ended."""

    SUCCESS = "success"
    FUNCTION_ERROR = "function_error"  # whatever the function's code or its environment did: counted
    THROTTLED = "throttled"
    PLATFORM = "platform"  # ours to mend: not counted
    NO_FUNCTION = "no_function"  # deleted, perhaps created again under another uid


class Action(StrEnum):
    """What to do with the event."""

    DONE = "done"
    AGAIN = "again"  # the next attempt after `wait`
    LATER = "later"  # the same attempt after `wait`
    GIVE_UP = "give_up"  # for `condition`
    DROP = "drop"  # it is nobody's any more


@dataclass(frozen=True, slots=True)
class Decision:
    """`attempt`: the number the event carries on; `wait` in seconds."""

    action: Action
    attempt: int
    wait: float = 0.0
    condition: Condition = Condition.SUCCESS


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """`retries` after the first attempt; `max_age` in seconds since the event was accepted; `base`: seconds
    before the first retry, the second waits twice as long."""

    retries: int = MAX_RETRIES
    max_age: float = MAX_AGE
    base: float = RETRY_BASE


def limits_of(config: EventInvokeConfig | None, *, base: float) -> RetryLimits:
    """The function's own numbers over AWS's defaults."""
    retries = config.maximum_retry_attempts if config is not None else None
    age = config.maximum_event_age if config is not None else None
    return RetryLimits(
        retries=MAX_RETRIES if retries is None else retries,
        max_age=MAX_AGE if age is None else float(age),
        base=base,
    )


def given_up_before(*, age: float, reserved: int | None, looped: bool, limits: RetryLimits) -> Condition | None:
    """Why an event is not even tried; None: it is. `age` in seconds; `looped`: its function calls itself in a
    chain and may not."""
    if reserved == 0:
        return Condition.ZERO_RESERVED_CONCURRENCY
    if age >= limits.max_age:
        return Condition.EVENT_AGE_EXCEEDED
    return Condition.RECURSION_DETECTED if looped else None


def record_is_missing(dead: DeadEvent) -> bool:
    """Whether all that is left to do is to tell a destination of its success."""
    return dead.ending.condition is Condition.SUCCESS and dead.target is not None


def redriven(dead: DeadEvent, now: float) -> Item:
    """What an operator's redrive makes of a dead event: a new event, whose age, attempts and chain of calls
    begin now, or it would be given up again for them. One whose run succeeded, and whose destination did not
    take the record, must not run again: the record is sent once more."""
    if record_is_missing(dead) and dead.target is not None:
        return OutcomeRecord(dead.event, dead.ending, dead.target, dead_letter=False)
    trace = lineage.begun(dead.event.trace_id)
    return replace(dead.event, accepted=now, attempt=1, tried=None, due=None, trace_id=trace)


def decide(result: Result, *, attempt: int, setbacks: int, age: float, limits: RetryLimits) -> Decision:
    """`attempt` counts from 1; `setbacks`: how often in a row this lane was throttled or failed by the
    platform, this time included. No wait goes far beyond the end of the event's age: it is given up then."""
    if result is Result.SUCCESS:
        return Decision(Action.DONE, attempt)
    if result is Result.NO_FUNCTION:
        return Decision(Action.DROP, attempt)
    left = max(0.0, limits.max_age - age)
    if result is Result.FUNCTION_ERROR:
        if attempt > limits.retries:
            return Decision(Action.GIVE_UP, attempt, condition=Condition.RETRIES_EXHAUSTED)
        return Decision(Action.AGAIN, attempt + 1, min(limits.base * attempt, left))
    # Never at once: what fails before the event's age can be asked would go round and round.
    return Decision(Action.LATER, attempt, max(BACKOFF_FIRST, min(backoff(setbacks), left)))


def backoff(setbacks: int) -> float:
    """Seconds to wait after so many setbacks in a row: 1, 2, 4, ... 300."""
    if setbacks > 9:  # 2**9 is past the end already, and a count may grow without bound
        return BACKOFF_LAST
    return min(BACKOFF_FIRST * 2.0 ** max(0, setbacks - 1), BACKOFF_LAST)
