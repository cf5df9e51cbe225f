"""Every error is written as AWS's model has it: its name, its HTTP status, how its message member is spelt."""

from collections.abc import Iterator

import botocore.loaders
import pytest

from lambent.kernel import errors

MODEL = botocore.loaders.Loader().load_service_model("lambda", "service-2")["shapes"]


def every_class(root: type[errors.LambdaError] = errors.LambdaError) -> Iterator[type[errors.LambdaError]]:
    for child in root.__subclasses__():
        yield child
        yield from every_class(child)


CLASSES = sorted(
    {error for error in every_class() if error.__module__ == errors.__name__}, key=lambda e: e.__name__
)
MODELLED = [error for error in CLASSES if error.__name__ in MODEL]


def test_most_errors_are_in_the_model() -> None:
    assert len(MODELLED) >= 15


@pytest.mark.parametrize("error", MODELLED)
def test_status_and_message_member_are_the_models(error: type[errors.LambdaError]) -> None:
    shape = MODEL[error.__name__]
    assert error.status == shape.get("error", {}).get("httpStatusCode", 500)
    assert error.message_member in shape["members"]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_a_default_message(error: type[errors.LambdaError]) -> None:
    made = (
        error("ReservedFunctionConcurrentInvocationLimitExceeded")
        if error is errors.TooManyRequestsException
        else error()
    )
    assert made.message
    assert "\n" not in made.message
    assert str(made) == made.message


def test_the_fault_follows_the_status() -> None:
    assert errors.ResourceNotFoundException().fault == "User"
    assert errors.ServiceException().fault == "Service"


def test_a_message_may_be_given() -> None:
    error = errors.ResourceNotFoundException("Function not found: f", Extra="x")
    assert (error.message, error.members, error.code) == (
        "Function not found: f",
        {"Extra": "x"},
        "ResourceNotFoundException",
    )


def test_a_throttle_says_its_reason() -> None:
    error = errors.TooManyRequestsException("CallerRateLimitExceeded")
    assert error.members == {"Reason": "CallerRateLimitExceeded"}
    assert error.message == "Rate Exceeded."


def test_an_unavailable_queue_is_a_503_that_sdks_know() -> None:
    error = errors.EventQueueUnavailable()
    assert (error.status, error.code, error.fault) == (503, "ServiceException", "Service")
