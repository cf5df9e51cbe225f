"""Input that no one should send: each answer is AWS's own (type, status, message), the next invoke works, and
nothing is left behind. What functions do wrong once they run is in test_function_failures.py.

AWS: the exceptions of each operation, and "Lambda quotas".
"""

import base64
import json
import os
import re
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import ECHO, INVOKE, create, eventually, raw, refused
from residue import PARKED, Residue, slots_are_parked
from running import ROLE, RUNTIME, Functions, Server, request, zipped

pytestmark = pytest.mark.usefixtures("unharmed")


def test_what_is_left_would_be_seen(server: Server, functions: Functions) -> None:
    """The control of this file's checks: an environment that lives is residue of every kind."""
    slots_are_parked(server, functions, PARKED)
    before = Residue.of(server)
    functions.invoke(functions.create(ECHO))
    slots_are_parked(server, functions, PARKED)
    (server.data_dir / "trees/partial/forgotten").touch()
    seen = Residue.of(server).beyond(before)
    (server.data_dir / "trees/partial/forgotten").unlink()
    kinds = {line.split(" ")[0] for line in seen}
    assert {"process", "file"} <= kinds
    assert any(line.endswith(" more open socket:") for line in seen), seen
    if os.geteuid() == 0:
        assert {"cgroup", "link", "loop", "1"} <= kinds, "and open descriptors"


# ---- payloads ------------------------------------------------------------------------------------------------


def test_a_payload_of_six_megabytes_passes_and_one_byte_more_does_not(
    functions: Functions, canary: str
) -> None:
    largest = b'"' + b"x" * (6_291_456 - 2) + b'"'
    assert functions.invoke(canary, largest).payload == largest
    status, code, said = refused(functions.aws.invoke, FunctionName=canary, Payload=largest + b" ")
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert said == (
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"
    )
    # What is far over it isn't even read.
    wanted = "Request must be smaller than 6291556 bytes for the InvokeFunction operation"
    refusal = refused(functions.aws.invoke, FunctionName=canary, Payload=largest * 2)
    assert refusal == (413, "RequestEntityTooLargeException", wanted)


def test_an_event_of_one_megabyte_passes_and_one_byte_more_does_not(functions: Functions) -> None:
    name = functions.create("def handler(event, context):\n    print('got', len(event))\n")
    largest = b'"' + b"x" * (1_048_576 - 2) + b'"'
    invoke = functions.aws.invoke
    assert invoke(FunctionName=name, InvocationType="Event", Payload=largest)["StatusCode"] == 202
    wanted = (
        413,
        "RequestEntityTooLargeException",
        "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)",
    )
    assert refused(invoke, FunctionName=name, InvocationType="Event", Payload=largest + b" ") == wanted
    eventually(lambda: "got 1048574" in functions.logged(name))
    assert [line for line in functions.logged(name) if line.startswith("got")] == ["got 1048574"]


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
@pytest.mark.parametrize(
    "body",
    [b"not json", b'{"a":', b"\x00\x01\x02", b'"\xff\xfe"', b'{"a":1}\x00', b"[" * 100_000, b" "],
    ids=["words", "cut off", "zeros", "no UTF-8", "zero at the end", "deep", "blank"],
)
def test_a_payload_that_is_no_json(functions: Functions, canary: str, kind: str, body: bytes) -> None:
    status, code, said = refused(functions.aws.invoke, FunctionName=canary, InvocationType=kind, Payload=body)
    assert (status, code) == (400, "InvalidRequestContentException")
    assert said.startswith("Could not parse request body into json: Could not parse payload into json: ")


def test_a_payload_may_hold_every_character(functions: Functions, canary: str) -> None:
    text = "".join(map(chr, range(0x250))) + "\u2028\U0001f600"
    assert functions.invoke(canary, {"text": text}).result == {"text": text}
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    assert functions.invoke(canary, deep).result == deep


def context_of(length: int) -> str:
    """A client context that is right, of so many characters of Base64."""
    frame = len(json.dumps({"custom": {"k": ""}}))
    text = json.dumps({"custom": {"k": "x" * (length * 3 // 4 - frame)}})
    encoded = base64.b64encode(text.encode()).decode()
    assert len(encoded) == length
    return encoded


@pytest.mark.parametrize(
    "context",
    ["no base64!", base64.b64encode(b"no json").decode(), "W10=", context_of(3584)],
    ids=["no Base64", "no JSON", "a list", "too long"],
)
def test_a_client_context_that_is_none(functions: Functions, canary: str, context: str) -> None:
    wanted = "Client context must be a valid Base64-encoded JSON object."
    refusal = refused(functions.aws.invoke, FunctionName=canary, ClientContext=context)
    assert refusal == (400, "InvalidRequestContentException", wanted)


def test_a_client_context_of_the_largest_size_arrives(functions: Functions) -> None:
    """AWS: 3583 characters, of which Base64 has a multiple of four."""
    name = functions.create("def handler(event, context):\n    return context.client_context.custom['k']\n")
    largest = context_of(3580)
    given = json.loads(base64.b64decode(largest))["custom"]["k"]
    assert functions.invoke(name, ClientContext=largest).result == given


# ---- callers that go away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["in the headers", "in the body", "before the answer"])
def test_a_caller_that_hangs_up(functions: Functions, server: Server, cut: str) -> None:
    name = functions.create(
        "import time\ndef handler(event, context):\n    time.sleep(event)\n    print('done')\n    return 1\n"
    )
    head = f"POST {INVOKE.format(name)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    sent = {"in the headers": head, "in the body": head + "\r\n0.", "before the answer": head + "\r\n0.4"}[cut]
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(sent.encode())
        if cut == "before the answer":
            eventually(lambda: any(line.startswith("START") for line in functions.logged(name)))
    if cut == "before the answer":
        eventually(lambda: functions.logged(name)[-1].startswith("REPORT"))
        assert "done" in functions.logged(name), "a caller's end is not the function's"
    assert functions.invoke(name, 0).result == 1


# ---- at the same time ----------------------------------------------------------------------------------------


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Runs all at once; results, or (status, code, message) of those that were refused."""
    results: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(at: int, call: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[at] = call()
        except ClientError as failure:
            answer = failure.response
            status = answer["ResponseMetadata"]["HTTPStatusCode"]
            results[at] = (status, answer["Error"]["Code"], answer["Error"]["Message"])

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def slow_to_unpack() -> bytes:
    """New each time, for a tree that is there already takes no time."""
    mark = uuid.uuid4().hex
    return zipped({"app.py": ECHO, **{f"data/{at}": mark for at in range(4000)}})


def test_of_creates_of_one_name_exactly_one_wins(functions: Functions) -> None:
    name = f"twice-{uuid.uuid4().hex[:8]}"
    calls = [
        lambda number=number: create(
            functions,
            zipped({"app.py": f"def handler(event, context):\n    return {number}\n"}),
            FunctionName=name,
        )
        for number in range(4)
    ]
    results = together(*calls)
    won = [number for number, result in enumerate(results) if isinstance(result, dict)]
    assert len(won) == 1, results
    lost = {result for result in results if isinstance(result, tuple)}
    assert lost == {(409, "ResourceConflictException", f"Function already exist: {name}")}
    functions.active(name)
    assert functions.invoke(name).result == won[0], "and the one that won is the one that runs"


def test_an_update_during_an_update_is_refused(functions: Functions, server: Server) -> None:
    name = functions.create(ECHO)
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    update = functions.aws.update_function_configuration
    results = together(*[lambda at=at: update(FunctionName=name, Timeout=at) for at in range(5, 11)])
    won = [result for result in results if isinstance(result, dict)]
    assert won
    lost = {result for result in results if isinstance(result, tuple)}
    assert lost <= {
        (
            409,
            "ResourceConflictException",
            f"The operation cannot be performed at this time. An update is in progress for resource: {arn}",
        )
    }
    functions.active(name)
    left = functions.aws.get_function_configuration(FunctionName=name)["Timeout"]
    assert left in [result["Timeout"] for result in won]
    assert functions.invoke(name, 1).result == 1


def test_an_update_right_after_one_is_refused_until_it_is_done(functions: Functions) -> None:
    name = functions.create(ECHO)
    large = slow_to_unpack()
    updated = functions.aws.update_function_code(FunctionName=name, ZipFile=large)
    assert updated["LastUpdateStatus"] == "InProgress"
    status, code, said = refused(functions.aws.update_function_configuration, FunctionName=name, Timeout=9)
    assert (status, code) == (409, "ResourceConflictException")
    assert said.endswith(f"An update is in progress for resource: {updated['FunctionArn']}")
    assert functions.invoke(name, 1).result == 1, "meanwhile the old code serves"
    functions.active(name)
    assert functions.invoke(name, 2).result == 2


def test_an_invoke_during_the_creation_is_refused(functions: Functions) -> None:
    name = f"slow-{uuid.uuid4().hex[:8]}"
    large = slow_to_unpack()
    assert create(functions, large, FunctionName=name)["State"] == "Pending"
    pending = (
        "The operation cannot be performed at this time. The function is currently in the following state: "
    )
    wanted = (409, "ResourceConflictException", pending + "Pending")
    assert refused(functions.aws.invoke, FunctionName=name) == wanted
    assert refused(functions.aws.update_function_configuration, FunctionName=name, Timeout=9) == wanted
    functions.active(name)
    assert functions.invoke(name, 2).result == 2


def test_a_function_that_is_deleted_during_its_creation_stays_deleted(functions: Functions) -> None:
    name = f"brief-{uuid.uuid4().hex[:8]}"
    create(functions, slow_to_unpack(), FunctionName=name)
    functions.aws.delete_function(FunctionName=name)
    assert refused(functions.aws.get_function, FunctionName=name)[0] == 404
    create(functions, zipped({"app.py": ECHO}), FunctionName=name)
    functions.active(name)
    assert functions.invoke(name, "the new one").result == "the new one"


# ---- names ---------------------------------------------------------------------------------------------------


def test_a_function_that_is_not_there(functions: Functions) -> None:
    aws, arn = functions.aws, "arn:aws:lambda:us-east-1:000000000000:function:nobody"
    wanted = (404, "ResourceNotFoundException", f"Function not found: {arn}")
    for call in (aws.invoke, aws.get_function, aws.get_function_configuration, aws.delete_function):
        assert refused(call, FunctionName="nobody") == wanted
        assert refused(call, FunctionName=arn) == wanted
    assert refused(aws.invoke, FunctionName="nobody", InvocationType="Event") == wanted
    assert refused(aws.invoke, FunctionName="nobody", InvocationType="DryRun") == wanted
    assert refused(aws.update_function_configuration, FunctionName="nobody", Timeout=3) == wanted
    assert refused(aws.update_function_code, FunctionName="nobody", ZipFile=zipped({"a": "b"})) == wanted
    assert refused(aws.list_tags, Resource=arn) == wanted


def test_an_arn_of_elsewhere(functions: Functions, canary: str) -> None:
    region = f"arn:aws:lambda:eu-west-1:000000000000:function:{canary}"
    account = f"arn:aws:lambda:us-east-1:111122223333:function:{canary}"
    for call in (functions.aws.invoke, functions.aws.get_function):
        assert refused(call, FunctionName=region) == (
            404,
            "ResourceNotFoundException",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        )
        status, code, said = refused(call, FunctionName=account)
        assert (status, code) == (404, "ResourceNotFoundException")
        assert said == f"Function not found: {account}"


@pytest.mark.parametrize("qualifier", ["7", "live"])
def test_a_qualifier_that_names_nothing(functions: Functions, canary: str, qualifier: str) -> None:
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{canary}:{qualifier}"
    aws = functions.aws
    for call in (aws.invoke, aws.get_function, aws.get_function_configuration):
        for named in (
            {"FunctionName": f"{canary}:{qualifier}"},
            {"FunctionName": canary, "Qualifier": qualifier},
        ):
            assert refused(call, **named) == (404, "ResourceNotFoundException", f"Function not found: {arn}")


def test_an_alias_and_latest_cannot_be_deleted(functions: Functions, canary: str) -> None:
    for qualifier, said in (
        ("live", "Deletion of aliases is not currently supported."),
        ("$LATEST", "$LATEST version cannot be deleted without deleting the function."),
    ):
        for named in (
            {"FunctionName": f"{canary}:{qualifier}"},
            {"FunctionName": canary, "Qualifier": qualifier},
        ):
            refusal = refused(functions.aws.delete_function, **named)
            assert refusal == (400, "InvalidParameterValueException", said)


def test_a_request_id_that_is_no_uuid(server: Server, canary: str) -> None:
    path, wrong = INVOKE.format(canary), "The x-amzn-RequestId header must be a valid UUID."
    for value in ("nonsense", "", "0" * 32, "{00000000-0000-4000-8000-000000000000}"):
        refusal = raw(server, "POST", path, b"{}", **{"x-amzn-RequestId": value})
        assert refusal == (400, "InvalidRequestContentException", wrong)
    status, _, _ = request(server, "POST", path, b"{}", {"x-amzn-RequestId": str(uuid.uuid4())})
    assert status == 200


def test_two_qualifiers_that_differ(functions: Functions, canary: str) -> None:
    assert refused(functions.aws.invoke, FunctionName=f"{canary}:7", Qualifier="$LATEST") == (
        400,
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


def test_a_qualifier_that_can_be_none(functions: Functions, canary: str) -> None:
    status, code, said = refused(functions.aws.invoke, FunctionName=canary, Qualifier="not one!")
    assert (status, code) == (400, "ValidationException")
    assert said.startswith(
        "1 validation error detected: Value 'not one!' at 'qualifier' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: "
    )


# ---- runtimes and configuration ------------------------------------------------------------------------------


def test_a_runtime_that_is_not_built_is_refused(functions: Functions) -> None:
    archive = zipped({"A.dll": "x"})
    status, code, said = refused(create, functions, archive, Runtime="dotnet8", Handler="A::B::C")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert said.startswith("Lambent cannot run dotnet8 yet: "), said


def test_a_runtime_that_is_not_installed_names_what_to_install(functions: Functions, server: Server) -> None:
    runtimes = json.loads(request(server, "GET", "/_lambent/runtimes")[2])["runtimes"]
    pythons = [row for row in runtimes if row["runtime"].startswith("python")]
    absent = next(row["runtime"] for row in pythons if not row["available"])
    status, code, said = refused(create, functions, zipped({"app.py": ECHO}), Runtime=absent)
    assert (status, code) == (400, "InvalidParameterValueException")
    assert absent in said and "nstall" in said, said


def test_a_runtime_that_is_retired(functions: Functions) -> None:
    assert refused(create, functions, zipped({"app.py": ECHO}), Runtime="python2.7") == (
        400,
        "InvalidParameterValueException",
        "The runtime parameter of python2.7 is no longer supported for creating or updating AWS Lambda "
        "functions. We recommend you use a supported runtime while creating or updating functions.",
    )


def test_a_runtime_that_never_was(functions: Functions) -> None:
    status, code, said = refused(create, functions, zipped({"app.py": ECHO}), Runtime="cobol74")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert re.fullmatch(
        r"Value cobol74 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        r"\[.*python3\.13.*\] or be a valid ARN",
        said,
    )


@pytest.mark.parametrize(
    ("members", "code", "message"),
    [
        (
            {"Timeout": 0},
            "ValidationException",
            "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or "
            "equal to 1",
        ),
        (
            {"Timeout": 901},
            "ValidationException",
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or "
            "equal to 900",
        ),
        (
            {"MemorySize": 127},
            "ValidationException",
            "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or "
            "equal to 128",
        ),
        (
            {"EphemeralStorage": {"Size": 511}},
            "ValidationException",
            "Value '511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value "
            "greater than or equal to 512",
        ),
        ({"Role": "nobody"}, "ValidationException", "Value 'nobody' at 'role' failed to satisfy constraint: "),
        (
            {"Handler": "two words"},
            "ValidationException",
            "Value 'two words' at 'handler' failed to satisfy constraint: ",
        ),
        (
            {"Handler": "app.handler\0"},
            "InvalidParameterValueException",
            "The handler must not contain NUL characters.",
        ),
        (
            {"Environment": {"Variables": {"AB": "x\0y"}}},
            "InvalidParameterValueException",
            "contain NUL characters",
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "mars"}}},
            "InvalidParameterValueException",
            "Reserved keys used in this request: AWS_REGION",
        ),
        (
            {"Environment": {"Variables": {"LARGE": "x" * 4096}}},
            "InvalidParameterValueException",
            "exceeded the 4KB limit",
        ),
        (
            {"Layers": [f"arn:aws:lambda:us-east-1:000000000000:layer:none:{at}" for at in (1,)]},
            "InvalidParameterValueException",
            "does not exist.",
        ),
        (
            {"Layers": [f"arn:aws:lambda:us-east-1:000000000000:layer:l{at}:1" for at in range(6)]},
            "InvalidParameterValueException",
            "Cannot reference more than 5 layers.",
        ),
        (
            {"SnapStart": {"ApplyOn": "PublishedVersions"}, "Runtime": "provided.al2023"},
            "InvalidParameterValueException",
            "provided.al2023 is not supported for SnapStart enabled functions.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_is_none(
    functions: Functions, server: Server, members: dict[str, Any], code: str, message: str
) -> None:
    """By plain HTTP, since boto3 checks some of it before it sends."""
    body = {
        "FunctionName": "bad-one",
        "Runtime": RUNTIME,
        "Handler": "app.handler",
        "Role": ROLE,
        "Code": {"ZipFile": base64.b64encode(zipped({"app.py": ECHO})).decode()},
        **members,
    }
    status, found, said = raw(server, "POST", "/2015-03-31/functions", json.dumps(body))
    assert (status, found) == (400, code), said
    assert message in said, said
    assert refused(functions.aws.get_function, FunctionName="bad-one")[0] == 404


def test_every_violation_is_in_one_message(server: Server) -> None:
    body = json.dumps({"FunctionName": "bad-one", "Timeout": 0, "MemorySize": 1, "Code": {}})
    status, code, said = raw(server, "POST", "/2015-03-31/functions", body)
    assert (status, code) == (400, "ValidationException")
    assert said.startswith("3 validation errors detected: ")
    assert "Value null at 'role' failed to satisfy constraint: Member must not be null" in said
