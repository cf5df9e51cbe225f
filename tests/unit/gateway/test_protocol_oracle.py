"""botocore's own client as the oracle: what it sends for every operation is parsed back to what it was given,
and what we answer is parsed by it to what the handler gave."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import UNSIGNED
from botocore.awsrequest import HeadersDict
from botocore.config import Config
from botocore.parsers import create_parser
from botocore.session import Session

from lambent.gateway.protocol.api import LambdaProtocol, Match
from lambent.gateway.protocol.model import exceptions, service_model
from lambent.gateway.protocol.patterns import compile_java
from lambent.kernel import errors
from lambent.kernel.errors import LambdaError

PROTOCOL = LambdaProtocol()
OPERATIONS = sorted(PROTOCOL.operations)
ANSWERED = [  # an event stream is framed by who streams it
    name for name in OPERATIONS if not service_model().operation_model(name).has_event_stream_output
]
MOMENT = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f-1_x"
SAMPLES = [
    "a b/c+d%ü.:=@-_",  # what needs escaping in a URI, where a pattern allows it
    "abc-def_1",
    "1",
    FUNCTION,
    f"{FUNCTION}:1/durable-execution/name/id-1",
    "arn:aws:iam::123456789012:role/service-role/r",
    "arn:aws:lambda:us-east-1:123456789012:layer:l:1",
    "arn:aws:lambda:us-east-1:123456789012:layer:l",
    "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdefg",
    "arn:aws:lambda:us-east-1:123456789012:capacity-provider:c",
    "arn:aws:lambda:us-east-1:123456789012:runtime/my-own-runtime-name",
    "arn:aws:lambda:us-east-1::runtime:abc",
    "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0",
    "00000000-1111-2222-3333-444444444444",
    "123456789012",
    "lambda:GetLayerVersion",
    "lambda:InvokeFunction",
    "o-abcdefghij",
    "host.example:9092",
    "/mnt/data",
    "sg-1",
    "subnet-1",
    "us-east-1",
    "$LATEST",
    "$LATEST.PUBLISHED",
    "QUJD",
    "SomeException",
    "csc-0123456789abcdefg",
    "arn:aws:lambda:us-east-1:123456789012:event-source-mapping:00000000-1111-2222-3333-444444444444",
]


class _Captured(Exception):
    """Carries the prepared request out of the client before anything is sent."""

    def __init__(self, request: Any) -> None:
        super().__init__("captured")
        self.request = request


def _capture(request: Any, **_: Any) -> None:
    raise _Captured(request)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    made = Session().create_client(
        "lambda",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 0}),
    )
    made.meta.events.register("before-send.lambda", _capture)
    yield made
    made.close()


def _string(shape: Any) -> str:
    meta = shape.metadata
    if "enum" in meta:
        return str(meta["enum"][0])
    pattern = compile_java(meta["pattern"]) if "pattern" in meta else re.compile(r"[\s\S]*")
    for sample in SAMPLES:
        if pattern.fullmatch(sample) and meta.get("min", 0) <= len(sample) <= meta.get("max", 10**6):
            return sample
    raise AssertionError(f"no sample for {shape.name}: {meta}")


def _example(shape: Any, *, full: bool, output: bool = False) -> Any:
    """A value that the model allows, with all members or the required ones only."""
    match shape.type_name:
        case "structure":
            wanted = shape.members if full else shape.required_members
            return {name: _example(shape.members[name], full=full, output=output) for name in wanted}
        case "list":
            return [_example(shape.member, full=full, output=output)]
        case "map":
            return {_string(shape.key): _example(shape.value, full=full, output=output)}
        case "string":
            return _string(shape)
        case "integer" | "long":
            return max(1, shape.metadata.get("min", 1))
        case "double" | "float":
            return float(shape.metadata.get("min", 0)) + 0.5
        case "boolean":
            return False
        case "blob":
            return b"\x00\xffPK"
        case "timestamp":
            return MOMENT
    raise AssertionError(shape.type_name)


def _parse(request: Any) -> tuple[Match, dict[str, Any]]:
    url = urlsplit(request.url)
    match = PROTOCOL.match(request.method, url.path.encode(), url.query.encode())
    headers = [
        (
            name.encode(),
            value if isinstance(value, bytes) else str(value).encode("latin-1"),
        )  # as http.client does
        for name, value in request.headers.items()
    ]
    body = request.body or b""
    return match, PROTOCOL.parse(match, headers, body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize("full", [False, True], ids=["required", "all"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_the_client_was_given_is_what_is_parsed(client: Any, operation: str, full: bool) -> None:
    shape = service_model().operation_model(operation).input_shape
    params = _example(shape, full=full) if shape is not None else {}
    with pytest.raises(_Captured) as caught:
        client._make_api_call(operation, dict(params))
    match, parsed = _parse(caught.value.request)
    assert match.operation == operation
    for token in service_model().operation_model(operation).idempotent_members:
        if token not in params:
            parsed.pop(token)  # the client made one up
    for name in set(parsed) - set(params):
        assert parsed.pop(name) == {}, name  # the client sends `{}` as the body for want of a structure
    assert parsed == params


@pytest.mark.parametrize("full", [False, True], ids=["required", "all"])
@pytest.mark.parametrize("operation", ANSWERED)
def test_what_a_handler_gives_is_what_the_client_reads(operation: str, full: bool) -> None:
    model = service_model().operation_model(operation)
    shape = model.output_shape
    output = _example(shape, full=full, output=True) if shape is not None else {}
    if shape is not None and full:
        for name, member in shape.members.items():
            if member.serialization.get("location") == "statusCode":
                output[name] = 204 if operation == "DeleteFunction" else 202
    reply = PROTOCOL.serialise(operation, output)
    response: dict[str, Any] = {
        "status_code": reply.status,
        "headers": HeadersDict({name.decode(): value.decode("latin-1") for name, value in reply.headers}),
        "body": reply.body,
    }
    payload = shape.serialization.get("payload") if shape is not None else None
    if payload:
        response["body"] = BytesIO(reply.body)  # as the client has a blob's
    read = create_parser("rest-json").parse(response, shape)
    read.pop("ResponseMetadata")
    if payload:
        read[payload] = read[payload].read()
    if not full and shape is not None:  # the client itself adds the status and an empty payload
        for name in set(read) - set(output):
            assert shape.members[name].serialization.get("location") == "statusCode" or read[name] in (b"", "")
            read.pop(name)
    assert read == output


def _error_classes() -> list[type[LambdaError]]:
    return [
        found
        for found in vars(errors).values()
        if isinstance(found, type)
        and issubclass(found, LambdaError)
        and found is not LambdaError
        # Between processes only: whoever gets it tries again.
        and found is not errors.NotStarted
    ]


@pytest.mark.parametrize("name", sorted({found.__name__ for found in _error_classes()} & set(exceptions())))
def test_our_exceptions_are_spelled_as_the_model_spells_them(name: str) -> None:
    ours, theirs = getattr(errors, name), exceptions()[name]
    assert (ours.status, ours.message_member) == (theirs.status, theirs.message_member)


@pytest.mark.parametrize("found", _error_classes(), ids=lambda found: found.__name__)
def test_the_client_reads_code_and_message_of_every_exception(found: type[LambdaError]) -> None:
    failure = found("SomeReason", "gone") if found is errors.TooManyRequestsException else found("gone")
    reply = PROTOCOL.error(failure)
    response = {
        "status_code": reply.status,
        "headers": HeadersDict({name.decode(): value.decode("latin-1") for name, value in reply.headers}),
        "body": reply.body,
    }
    read = create_parser("rest-json").parse(response, None)
    assert read["Error"] == {"Code": failure.code, "Message": "gone"}
