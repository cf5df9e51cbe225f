"""status.py: what an AWS error is to a gRPC client."""

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.rpc.status import Refusal, code_of, refusal
from lambent.kernel import errors
from lambent.kernel.errors import LambdaError

C = grpc.StatusCode


def details(refused: Refusal) -> tuple[ErrorInfo, BadRequest, RetryInfo]:
    status = Status.FromString(refused.status)
    assert (status.code, status.message) == (refused.code.value[0], refused.message)
    found = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        assert any([detail.Unpack(each) for each in found])
    return found


@pytest.mark.parametrize(
    ("failure", "operation", "code"),
    [
        (errors.ResourceNotFoundException(), "GetFunction", C.NOT_FOUND),
        (errors.ResourceConflictException(), "CreateFunction", C.ALREADY_EXISTS),
        (errors.ResourceConflictException(), "Invoke", C.ABORTED),
        (errors.PreconditionFailedException(), "UpdateFunctionCode", C.ABORTED),
        (errors.TooManyRequestsException("CallerRateLimitExceeded"), "Invoke", C.RESOURCE_EXHAUSTED),
        (errors.RequestEntityTooLargeException(), "Invoke", C.INVALID_ARGUMENT),
        (errors.AccessDeniedException(), "Invoke", C.PERMISSION_DENIED),
        (errors.NotImplementedException(), "CreateAlias", C.UNIMPLEMENTED),
        (errors.EventQueueUnavailable(), "Invoke", C.UNAVAILABLE),
        (errors.InvalidZipFileException(), "UpdateFunctionCode", C.INVALID_ARGUMENT),
        (errors.ServiceException(), "Invoke", C.INTERNAL),
        (errors.SerializationException(), "Invoke", C.INVALID_ARGUMENT),
    ],
)
def test_codes(failure: LambdaError, operation: str, code: grpc.StatusCode) -> None:
    assert code_of(failure, operation) is code


def test_the_reason_is_aws_name_and_its_members_are_the_metadata() -> None:
    failure = errors.TooManyRequestsException("ReservedFunctionConcurrentInvocationLimitExceeded")
    info, bad, retry = details(refusal(failure, "Invoke"))
    assert (info.reason, info.domain) == ("TooManyRequestsException", "lambent")
    assert dict(info.metadata) == {
        "reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        "httpStatus": "429",
        "fault": "User",
    }
    assert not bad.field_violations
    assert retry.retry_delay.ToMilliseconds() == 500


def test_an_event_that_was_not_accepted_may_be_sent_again() -> None:
    info, _, retry = details(refusal(errors.EventQueueUnavailable(), "Invoke"))
    assert (info.reason, retry.retry_delay.seconds) == ("ServiceException", 1)


def test_what_is_of_no_use_again_has_no_delay() -> None:
    refused = refusal(errors.ResourceNotFoundException(), "Invoke")
    assert refused.retry is None
    assert not details(refused)[2].HasField("retry_delay")


def test_each_violation_names_its_field() -> None:
    with pytest.raises(errors.ValidationException) as caught:
        LambdaProtocol().check(
            "CreateFunction", {"FunctionName": "a at 'x' failed", "MemorySize": 1, "Code": {}}
        )
    _, bad, _ = details(refusal(caught.value, "CreateFunction"))
    fields = {each.field: each.description for each in bad.field_violations}
    assert set(fields) == {"function_name", "memory_size", "role"}
    assert fields["memory_size"] == "Member must have value greater than or equal to 128"


def test_a_violation_without_the_list_is_read_from_the_message() -> None:
    text = "1 validation error detected: Value 'x' at 'functionName' failed to satisfy constraint: too long"
    _, bad, _ = details(refusal(errors.ValidationException(text), "CreateFunction"))
    assert [(each.field, each.description) for each in bad.field_violations] == [("function_name", "too long")]
