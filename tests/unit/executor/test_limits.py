import json

import pytest

from lambent.executor import limits
from lambent.executor.drivers.base import Exit
from lambent.kernel.models import Outcome


def test_a_timeout_reads_as_aws_writes_it() -> None:
    answer = limits.timed_out("id-1", 3.0)
    assert json.loads(answer.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: id-1 Error: Task timed out after 3.00 seconds",
    }
    assert answer.function_error == "Unhandled"


@pytest.mark.parametrize(
    ("end", "outcome", "error_type", "text"),
    [
        (Exit(code=1), Outcome.CRASH, "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        (Exit(code=0), Outcome.CRASH, "Runtime.ExitError", "Runtime exited without providing a reason"),
        (
            Exit(signal=11),
            Outcome.CRASH,
            "Runtime.ExitError",
            "Runtime exited with error: signal: segmentation fault",
        ),
        (
            Exit(signal=9, oom=True),
            Outcome.OUT_OF_MEMORY,
            "Runtime.OutOfMemory",
            "Runtime exited with error: signal: killed",
        ),
    ],
)
def test_an_exit_reads_as_aws_writes_it(end: Exit, outcome: Outcome, error_type: str, text: str) -> None:
    seen, answer = limits.exited("id-1", end)
    assert seen is outcome
    assert json.loads(answer.payload) == {
        "errorType": error_type,
        "errorMessage": f"RequestId: id-1 Error: {text}",
    }


@pytest.mark.parametrize(
    ("duration", "init", "billed"),
    [(100.77, 476.09, 577), (12.34, None, 13), (13.0, None, 13), (0.0, None, 1), (3000.0, None, 3000)],
)
def test_billing_rounds_up_to_the_millisecond_and_counts_init(
    duration: float, init: float | None, billed: int
) -> None:
    assert limits.billed_ms(duration, init) == billed
