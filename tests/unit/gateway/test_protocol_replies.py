"""Answers and errors byte by byte."""

import json
from datetime import UTC, datetime

import pytest

from lambent.gateway.protocol.api import LambdaProtocol, not_built
from lambent.kernel.errors import (
    AccessDeniedException,
    EventQueueUnavailable,
    LambdaError,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
    TooManyRequestsException,
    UnknownOperationException,
    ValidationException,
)

PROTOCOL = LambdaProtocol()


def test_a_body_leaves_out_what_is_none_at_every_depth() -> None:
    reply = PROTOCOL.serialise(
        "CreateFunction",
        {
            "FunctionName": "f",
            "Handler": None,
            "Environment": {"Variables": {"A": "ü"}, "Error": None},
            "Layers": (),
        },
    )
    assert reply.status == 201
    assert reply.body == b'{"FunctionName":"f","Environment":{"Variables":{"A":"\\u00fc"}},"Layers":[]}'
    assert reply.headers == [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    "operation", ["DeleteFunction", "DeleteLayerVersion", "TagResource", "UntagResource", "DeleteAlias"]
)
def test_no_content_has_neither_body_nor_type(operation: str) -> None:
    assert PROTOCOL.serialise(operation, None) == (204, [], b"")


def test_invoke_answers_the_functions_own_bytes() -> None:
    reply = PROTOCOL.serialise(
        "Invoke",
        {"StatusCode": 200, "Payload": b'"x"', "FunctionError": "Unhandled", "ExecutedVersion": "$LATEST"},
    )
    assert reply.status == 200
    assert reply.body == b'"x"'
    assert dict(reply.headers) == {
        b"x-amz-function-error": b"Unhandled",
        b"x-amz-executed-version": b"$LATEST",
        b"content-type": b"application/json",
    }


def test_the_status_member_is_the_status() -> None:
    accepted = PROTOCOL.serialise("Invoke", {"StatusCode": 202})
    assert (accepted.status, accepted.body) == (202, b"")
    assert PROTOCOL.serialise("Invoke", {"StatusCode": 204, "Payload": b""})[0::2] == (204, b"")


def test_timestamps_are_epoch_seconds_and_model_strings_stay() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 123000, UTC)
    for value in (moment, moment.timestamp()):
        body = PROTOCOL.serialise("PutFunctionEventInvokeConfig", {"LastModified": value}).body
        assert json.loads(body) == {"LastModified": 1769860800.123}
    text = "2026-01-31T12:00:00.000+0000"
    assert json.loads(PROTOCOL.serialise("GetFunctionConfiguration", {"LastModified": text}).body) == {
        "LastModified": text
    }


def test_no_output_is_an_empty_object() -> None:
    assert PROTOCOL.serialise("ListFunctions", None).body == b"{}"


@pytest.mark.parametrize("output", [{"Colour": 1}, {"Environment": {"Colour": 1}}])
def test_a_member_that_the_model_has_not_is_a_loud_slip(output: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no output member Colour"):
        PROTOCOL.serialise("CreateFunction", output)


@pytest.mark.parametrize(
    ("failure", "status", "name", "body"),
    [
        (
            ResourceNotFoundException("Function not found: a"),
            404,
            b"ResourceNotFoundException",
            {"Type": "User", "Message": "Function not found: a"},
        ),
        (
            ResourceConflictException("Function already exist: f"),
            409,
            b"ResourceConflictException",
            {"Type": "User", "message": "Function already exist: f"},
        ),
        (
            TooManyRequestsException("ReservedFunctionConcurrentInvocationLimitExceeded"),
            429,
            b"TooManyRequestsException",
            {
                "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
                "Type": "User",
                "message": "Rate Exceeded.",
            },
        ),
        (ServiceException("x"), 500, b"ServiceException", {"Type": "Service", "Message": "x"}),
        (EventQueueUnavailable("x"), 503, b"ServiceException", {"Type": "Service", "Message": "x"}),
        (ValidationException("x"), 400, b"ValidationException", {"message": "x"}),
        (AccessDeniedException("x"), 403, b"AccessDeniedException", {"Message": "x"}),
        (UnknownOperationException("x"), 404, b"UnknownOperationException", {"message": "x"}),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else None,
)
def test_errors_are_written_as_aws_writes_them(
    failure: LambdaError, status: int, name: bytes, body: dict[str, str]
) -> None:
    reply = PROTOCOL.error(failure)
    assert (reply.status, json.loads(reply.body)) == (status, body)
    assert dict(reply.headers) == {
        b"x-amzn-errortype": name,
        b"content-type": b"application/json",
    }


def test_a_member_that_belongs_in_a_header_goes_there() -> None:
    failure = TooManyRequestsException("CallerRateLimitExceeded")
    failure.members = {**failure.members, "retryAfterSeconds": "3"}
    reply = PROTOCOL.error(failure)
    assert (b"retry-after", b"3") in reply.headers
    assert b"retryAfterSeconds" not in reply.body


def test_an_operation_that_is_not_built_is_named_in_a_501() -> None:
    reply = PROTOCOL.error(not_built("PublishVersion"))
    assert reply.status == 501
    assert "PublishVersion" in json.loads(reply.body)["message"]
