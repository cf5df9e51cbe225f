"""What is refused before a handler sees it, and AWS's words for it."""

import json
import re
from base64 import b64encode
from typing import Any

import pytest
from botocore.model import DenormalizedStructureBuilder, ServiceModel

from lambent.gateway.protocol.api import LambdaProtocol, Match, _Input
from lambent.gateway.protocol.constraints import StructureCheck, raise_if_any
from lambent.kernel.errors import (
    InvalidParameterValueException,
    SerializationException,
    ValidationException,
)

PROTOCOL = LambdaProtocol()
ROLE = "arn:aws:iam::123456789012:role/r"
FAILED = "failed to satisfy constraint: "
ENUM_ARCHITECTURES = "Member must satisfy enum value set: [x86_64, arm64]"
ZIP = b64encode(b"zip").decode()


def create(**members: Any) -> dict[str, Any]:
    """Parses CreateFunction with good members, changed by `members` (None: left out)."""
    body = {"FunctionName": "f", "Role": ROLE, "Code": {"ZipFile": ZIP}, **members}
    body = {name: value for name, value in body.items() if value is not None}
    return parse("POST", "/2015-03-31/functions", body=json.dumps(body).encode())


def parse(
    method: str,
    path: str,
    query: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    body: bytes = b"",
) -> dict[str, Any]:
    return PROTOCOL.parse(PROTOCOL.match(method, path, query), headers, body)


def one(value: str, path: str, constraint: str) -> str:
    return f"1 validation error detected: Value {value} at '{path}' {FAILED}{constraint}"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Timeout": 0}, one("'0'", "timeout", "Member must have value greater than or equal to 1")),
        ({"Timeout": 901}, one("'901'", "timeout", "Member must have value less than or equal to 900")),
        (
            {"MemorySize": 127},
            one("'127'", "memorySize", "Member must have value greater than or equal to 128"),
        ),
        (
            {"MemorySize": 10241},
            one("'10241'", "memorySize", "Member must have value less than or equal to 10240"),
        ),
        (
            {"EphemeralStorage": {"Size": 10241}},
            one("'10241'", "ephemeralStorage.size", "Member must have value less than or equal to 10240"),
        ),
        ({"Role": None}, one("null", "role", "Member must not be null")),
        (
            {"Role": "nobody"},
            one(
                "'nobody'",
                "role",
                "Member must satisfy regular expression pattern: "
                r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
            ),
        ),
        (
            {"Handler": ""},
            one("''", "handler", r"Member must satisfy regular expression pattern: [^\s]+"),
        ),
        (
            {"Architectures": ["sparc"]},
            one(
                "'[sparc]'",
                "architectures",
                f"Member must satisfy constraint: [{ENUM_ARCHITECTURES}, Member must not be null]",
            ),
        ),
        (
            {"Architectures": ["x86_64", "arm64"]},
            one("'[x86_64, arm64]'", "architectures", "Member must have length less than or equal to 1"),
        ),
        (
            {"Architectures": [None]},
            one(
                "'[null]'",
                "architectures",
                f"Member must satisfy constraint: [{ENUM_ARCHITECTURES}, Member must not be null]",
            ),
        ),
        (
            {"FileSystemConfigs": [{"Arn": None, "LocalMountPath": "/mnt/x"}]},
            one("null", "fileSystemConfigs.1.member.arn", "Member must not be null"),
        ),
        (
            {"Tags": {"k": "v" * 257}},
            one(
                "'{k=" + "v" * 257 + "}'",
                "tags",
                "Map value must satisfy constraint: [Member must have length less than or equal to 256, "
                "Member must have length greater than or equal to 0, "
                r"Member must satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*), "
                "Member must not be null]",
            ),
        ),
        (
            {"FunctionName": "n" * 65},
            one(f"'{'n' * 65}'", "functionName", "Member must have length less than or equal to 64"),
        ),
    ],
)
def test_a_violation_has_awss_message(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationException) as caught:
        create(**members)
    assert caught.value.message == message


def test_all_violations_are_in_one_message() -> None:
    with pytest.raises(ValidationException) as caught:
        create(Timeout=0, MemorySize=1, Role=None)
    head, _, rest = caught.value.message.partition(": ")
    assert head == "3 validation errors detected"
    assert sorted(item.split(" failed")[0] for item in rest.split("; ")) == [
        "Value '0' at 'timeout'",
        "Value '1' at 'memorySize'",
        "Value null at 'role'",
    ]


def test_a_secret_is_checked_and_not_echoed() -> None:
    with pytest.raises(ValidationException) as caught:
        create(Environment={"Variables": {"1BAD": "hunter2"}})
    assert caught.value.message == (
        f"1 validation error detected: Value at 'environment.variables' {FAILED}"
        "Map keys must satisfy constraint: "
        "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"
    )


def test_an_arn_may_be_longer_than_a_bare_name() -> None:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{'n' * 64}"
    assert create(FunctionName=arn)["FunctionName"] == arn
    assert create(FunctionName="n" * 64)["FunctionName"] == "n" * 64
    with pytest.raises(ValidationException, match="less than or equal to 140"):
        create(FunctionName=f"arn:aws:lambda:us-east-1:123456789012:function:{'n' * 100}")


def test_an_unknown_runtime_is_an_invalid_parameter_with_its_own_text() -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        create(Runtime="cobol74")
    assert re.fullmatch(
        r"Value cobol74 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        r"\[.*python3\.11.*\] or be a valid ARN",
        caught.value.message,
    )
    assert create(Runtime="python3.11")["Runtime"] == "python3.11"


def test_constraints_come_before_the_unknown_runtime() -> None:
    with pytest.raises(ValidationException):
        create(Runtime="cobol74", Timeout=0)


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        (b"X-Amz-Invocation-Type", b"Maybe", "invocationType"),
        (b"x-amz-log-type", b"Head", "logType"),
    ],
)
def test_a_header_is_validated_by_its_member(name: bytes, value: bytes, path: str) -> None:
    with pytest.raises(ValidationException, match=f"at '{path}' failed.*enum value set"):
        parse("POST", "/2015-03-31/functions/f/invocations", headers=((name, value),), body=b"{}")


def test_invoke_takes_its_body_as_it_is() -> None:
    path = "/2015-03-31/functions/f/invocations"
    assert parse("POST", path, body=b"\xff not json") == {"FunctionName": "f", "Payload": b"\xff not json"}
    assert parse("POST", path) == {"FunctionName": "f"}


def test_a_bad_qualifier_and_a_missing_query_member_are_violations() -> None:
    with pytest.raises(ValidationException, match="at 'qualifier' failed"):
        parse("GET", "/2015-03-31/functions/f", b"Qualifier=a%20b")
    with pytest.raises(ValidationException, match="Value null at 'tagKeys' failed"):
        parse("DELETE", "/2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:function:f")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "Could not parse request body into json"),
        (b'{"FunctionName": NaN}', "NaN is not JSON"),
        (b"\xff\xfe{}", "Could not parse request body into json"),
        (b"[" * 100_000, "Could not parse request body into json"),
        (b'{"Description": "\\ud800"}', "Could not parse request body into json"),
        (b"[]", "must be a JSON object"),
        (b'{"Timeout": "3"}', "STRING_VALUE can not be converted to an Integer (at 'timeout')"),
        (b'{"Timeout": true}', "TRUE_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 1.5}', "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 2147483648}', "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"FunctionName": 1}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"Publish": "true"}', "STRING_VALUE can not be converted to a Boolean"),
        (b'{"Layers": {}}', "STRUCTURE_VALUE can not be converted to a list"),
        (b'{"Tags": []}', "LIST_VALUE can not be converted to a map"),
        (b'{"Code": "x"}', "STRING_VALUE can not be converted to a structure"),
        (b'{"Code": {"ZipFile": 1}}', "NUMBER_VALUE can not be converted to a Blob (at 'code.zipFile')"),
        (b'{"Code": {"ZipFile": "*"}}', "'code.zipFile' is not valid base64"),
        (b'{"Layers": ["a", 1]}', "(at 'layers.2.member')"),
    ],
)
def test_what_is_not_json_or_of_a_wrong_type_is_a_serialization_error(body: bytes, says: str) -> None:
    with pytest.raises(SerializationException) as caught:
        parse("POST", "/2015-03-31/functions", body=body)
    assert says in caught.value.message
    reply = PROTOCOL.error(caught.value)
    assert reply.status == 400
    assert json.loads(reply.body) == {"Message": caught.value.message}


@pytest.mark.parametrize("query", [b"MaxItems=ten", b"MaxItems=1_0", "MaxItems=١".encode(), b"MaxItems=1e1"])
def test_a_query_number_that_is_none_is_a_serialization_error(query: bytes) -> None:
    with pytest.raises(SerializationException):
        parse("GET", "/2015-03-31/functions", query)


def test_unknown_members_and_nulls_are_absent() -> None:
    assert create(Description="d", Colour="red", Timeout=3.0) == {
        "FunctionName": "f",
        "Role": ROLE,
        "Code": {"ZipFile": b"zip"},
        "Description": "d",
        "Timeout": 3,
    }
    assert parse("GET", "/2015-03-31/functions", b"Colour=red", body=b"not read") == {}


def test_an_empty_body_is_an_empty_object() -> None:
    with pytest.raises(ValidationException, match="3 validation errors detected"):
        parse("POST", "/2015-03-31/functions")


def test_nested_lists_and_maps_nest_their_constraints() -> None:
    with pytest.raises(ValidationException) as caught:
        parse(
            "POST",
            "/2015-03-31/event-source-mappings",
            body=json.dumps(
                {
                    "FunctionName": "f",
                    "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["nope"]}},
                }
            ).encode(),
        )
    assert caught.value.message.startswith(
        "1 validation error detected: Value '{KAFKA_BOOTSTRAP_SERVERS=[nope]}' at "
        f"'selfManagedEventSource.endpoints' {FAILED}Map value must satisfy constraint: "
        "[Member must have length less than or equal to 10, "
        "Member must have length greater than or equal to 1, Member must satisfy constraint: "
        "[Member must have length less than or equal to 300, "
    )
    assert caught.value.message.endswith("Member must not be null], Member must not be null]")


def test_a_map_of_structures_is_walked() -> None:
    shape = DenormalizedStructureBuilder().with_members(
        {
            "KMSMap": {
                "type": "map",
                "key": {"type": "string"},
                "value": {"type": "structure", "members": {"N": {"type": "integer"}}},
            }
        }
    )
    model = shape.build_model()
    model.members["KMSMap"].value.members["N"].metadata["max"] = 1
    problems: list[str] = []
    StructureCheck(model, "Any")({"KMSMap": {"k": {"N": 2}}}, "", problems)
    with pytest.raises(ValidationException, match="Value '2' at 'kMSMap.k.member.n' failed"):
        raise_if_any(problems)


def test_headers_by_prefix_become_a_map() -> None:
    model = ServiceModel(
        {
            "metadata": {},
            "operations": {"Op": {"name": "Op", "http": {"method": "GET"}, "input": {"shape": "In"}}},
            "shapes": {
                "In": {
                    "type": "structure",
                    "members": {"Meta": {"shape": "M", "location": "headers", "locationName": "X-Meta-"}},
                },
                "M": {"type": "map", "key": {"shape": "S"}, "value": {"shape": "S"}},
                "S": {"type": "string"},
            },
        },
        "made-up",
    )
    read = _Input(model.operation_model("Op"))
    assert read(Match("Op", {}, {}), [(b"X-Meta-a", b"1"), (b"host", b"h")], b"") == {"Meta": {"a": "1"}}
