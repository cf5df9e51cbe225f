"""retry.py: every outcome's decision."""

import pytest

from lambent.scheduler.retry import BACKOFF_LAST, Action, Decision, Result, backoff, decide


def test_a_success_is_done() -> None:
    assert decide(Result.SUCCESS, attempt=2, setbacks=0) == Decision(Action.DONE, 2)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_function_error_is_tried_again_as_the_next_attempt(attempt: int) -> None:
    assert decide(Result.FUNCTION_ERROR, attempt=attempt, setbacks=0) == Decision(Action.AGAIN, attempt + 1)


@pytest.mark.parametrize("attempt", [3, 4])
def test_after_two_retries_the_event_is_dropped(attempt: int) -> None:
    assert decide(Result.FUNCTION_ERROR, attempt=attempt, setbacks=0).action is Action.DROP


@pytest.mark.parametrize("result", [Result.THROTTLED, Result.PLATFORM])
@pytest.mark.parametrize("attempt", [1, 3])
def test_throttles_and_platform_failures_wait_and_count_no_attempt(result: Result, attempt: int) -> None:
    assert decide(result, attempt=attempt, setbacks=3) == Decision(Action.LATER, attempt, 4.0)


def test_an_event_of_a_deleted_function_is_dropped_at_once() -> None:
    assert decide(Result.NO_FUNCTION, attempt=1, setbacks=0).action is Action.DROP


def test_the_wait_doubles_from_one_second_to_five_minutes() -> None:
    assert [backoff(n) for n in range(0, 12)] == [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert backoff(10_000) == BACKOFF_LAST
