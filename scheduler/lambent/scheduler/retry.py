"""What becomes of an event after an attempt: pure, because this is what a lost or a doubled event would hang
on.

AWS: a function error is tried again, at most twice; a throttle (429) or a system error (5xx) returns the
event to the queue without counting an attempt, with waits of 1 s doubling to 5 min. Until the retry settings
are built, the two retries follow at once.
"""

from dataclasses import dataclass
from enum import StrEnum

MAX_ATTEMPTS = 3
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
    AGAIN = "again"  # the same event as its next attempt
    LATER = "later"  # the same attempt after `wait`
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Decision:
    """`attempt`: the number the event carries on; `wait` in seconds."""

    action: Action
    attempt: int
    wait: float = 0.0


def decide(result: Result, *, attempt: int, setbacks: int) -> Decision:
    """`attempt` counts from 1; `setbacks`: how often in a row this lane was throttled or failed by the
    platform, this time included."""
    if result is Result.SUCCESS:
        return Decision(Action.DONE, attempt)
    if result is Result.NO_FUNCTION:
        return Decision(Action.DROP, attempt)
    if result is Result.FUNCTION_ERROR:
        if attempt < MAX_ATTEMPTS:
            return Decision(Action.AGAIN, attempt + 1)
        return Decision(Action.DROP, attempt)
    return Decision(Action.LATER, attempt, backoff(setbacks))


def backoff(setbacks: int) -> float:
    """Seconds to wait after so many setbacks in a row: 1, 2, 4, ... 300."""
    if setbacks > 9:  # 2**9 is past the end already, and a count may grow without bound
        return BACKOFF_LAST
    return min(BACKOFF_FIRST * 2.0 ** max(0, setbacks - 1), BACKOFF_LAST)
