"""retry.py: what becomes of an event before and after an attempt."""

import pytest

from lambent.kernel.events import Condition
from lambent.kernel.models import EventInvokeConfig
from lambent.scheduler.retry import (
    Action,
    Decision,
    Result,
    RetryLimits,
    backoff,
    decide,
    given_up_before,
    limits_of,
)

LIMITS = RetryLimits()


def after(
    result: Result, *, attempt: int = 1, setbacks: int = 0, age: float = 0.0, limits: RetryLimits = LIMITS
) -> Decision:
    return decide(result, attempt=attempt, setbacks=setbacks, age=age, limits=limits)


def test_success_is_done() -> None:
    assert after(Result.SUCCESS, attempt=2) == Decision(Action.DONE, 2)


def test_a_function_error_waits_one_minute_then_two_then_is_given_up() -> None:
    assert after(Result.FUNCTION_ERROR, attempt=1) == Decision(Action.AGAIN, 2, 60.0)
    assert after(Result.FUNCTION_ERROR, attempt=2) == Decision(Action.AGAIN, 3, 120.0)
    assert after(Result.FUNCTION_ERROR, attempt=3) == Decision(
        Action.GIVE_UP, 3, condition=Condition.RETRIES_EXHAUSTED
    )


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (2, 3)])
def test_there_are_as_many_retries_as_configured(retries: int, attempts: int) -> None:
    limits = RetryLimits(retries=retries)
    assert after(Result.FUNCTION_ERROR, attempt=attempts, limits=limits).action is Action.GIVE_UP
    assert after(Result.FUNCTION_ERROR, attempt=attempts - 1, limits=limits).action is Action.AGAIN


def test_no_retry_is_planned_beyond_the_events_age() -> None:
    assert after(Result.FUNCTION_ERROR, age=50, limits=RetryLimits(max_age=60)).wait == 10
    assert after(Result.FUNCTION_ERROR, age=70, limits=RetryLimits(max_age=60)).wait == 0


@pytest.mark.parametrize("result", [Result.THROTTLED, Result.PLATFORM])
def test_throttles_and_platform_failures_wait_longer_each_time_and_count_no_attempt(result: Result) -> None:
    waits = [after(result, setbacks=n).wait for n in (1, 2, 3, 9, 10, 10_000)]
    assert waits == [1, 2, 4, 256, 300, 300]
    assert {after(result, attempt=2, setbacks=n).attempt for n in (1, 50)} == {2}


def test_a_setback_waits_to_the_events_end_and_never_not_at_all() -> None:
    limits = RetryLimits(max_age=60)
    assert after(Result.THROTTLED, setbacks=9, age=50, limits=limits).wait == 10
    assert after(Result.PLATFORM, setbacks=9, age=90, limits=limits).wait == 1


def test_an_event_of_no_function_is_dropped() -> None:
    assert after(Result.NO_FUNCTION).action is Action.DROP


def test_backoff_starts_at_one_second() -> None:
    assert [backoff(n) for n in (0, 1)] == [1.0, 1.0]


def before(age: float = 0.0, reserved: int | None = None, *, looped: bool = False) -> Condition | None:
    return given_up_before(age=age, reserved=reserved, looped=looped, limits=RetryLimits(max_age=60))


def test_an_event_is_tried_while_nothing_speaks_against_it() -> None:
    assert before(59.9) is None
    assert before(reserved=1) is None


def test_an_event_is_given_up_before_it_is_tried() -> None:
    assert before(60.0) is Condition.EVENT_AGE_EXCEEDED
    assert before(reserved=0) is Condition.ZERO_RESERVED_CONCURRENCY
    assert before(90.0, 0) is Condition.ZERO_RESERVED_CONCURRENCY
    assert before(looped=True) is Condition.RECURSION_DETECTED


def test_a_functions_own_numbers_stand_in_for_the_defaults() -> None:
    assert limits_of(None, base=5) == RetryLimits(2, 21_600, 5)
    assert limits_of(EventInvokeConfig(0.0), base=5) == RetryLimits(2, 21_600, 5)
    assert limits_of(EventInvokeConfig(0.0, 0, 60), base=5) == RetryLimits(0, 60, 5)
