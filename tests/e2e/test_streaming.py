"""InvokeWithResponseStream by boto3: a response leaves while the function still makes it."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError
from residue import settle
from running import Functions, Server, request
from streamers import streamer

from lambent.client import Client

COUNTING = """
def respond(event):
    for number in range(event["parts"]):
        yield f"{number};"
"""
ANY = """
def respond(event):
    if "ask" in event:  # until another function may run
        import boto3
        lam = boto3.client("lambda")
        yield "first"
        while True:
            try:
                lam.invoke(FunctionName=event["ask"])
                break
            except lam.exceptions.TooManyRequestsException:
                time.sleep(0.02)
        yield "second"
    elif "large" in event:
        for _ in range(event["large"]):
            yield b"x" * 65536
    elif "sleep" in event:
        yield "before"
        time.sleep(event["sleep"])
    elif "exit" in event:
        yield "before"
        time.sleep(0.2)
        sys.exit(3)
    elif "raise" in event:
        yield "before"
        raise ValueError(event["raise"])
    elif "context" in event:
        yield headers.get("lambda-runtime-client-context", "none")
    elif "environment" in event:
        yield os.environ[event["environment"]]
    else:
        yield json.dumps(event)
"""


@pytest.fixture(scope="module")
def streams(functions: Functions) -> str:
    return functions.create(streamer(ANY), Timeout=10)


class Stream:
    """An answer to InvokeWithResponseStream, as boto3 gives it."""

    def __init__(self, functions: Functions, name: str, event: Any = None, **members: Any) -> None:
        self.answer: Mapping[str, Any] = functions.aws.invoke_with_response_stream(
            FunctionName=name, Payload=json.dumps(event or {}), **members
        )
        self._events = iter(self.answer["EventStream"])
        self.complete: Mapping[str, Any] | None = None

    def __iter__(self) -> Iterator[bytes]:
        for event in self._events:
            if "InvokeComplete" in event:
                self.complete = event["InvokeComplete"]
                self.answer["EventStream"].close()
                return
            yield event["PayloadChunk"]["Payload"]

    def whole(self) -> bytes:
        return b"".join(self)


def test_chunks_come_while_the_function_runs(functions: Functions, streams: str) -> None:
    gate = functions.create("def handler(event, context):\n    return 1\n")
    functions.aws.put_function_concurrency(FunctionName=gate, ReservedConcurrentExecutions=0)
    stream = Stream(functions, streams, {"ask": gate})
    assert next(iter(stream)) == b"first"
    functions.aws.delete_function_concurrency(FunctionName=gate)
    assert stream.whole() == b"second"
    assert stream.complete == {}
    assert stream.answer["StatusCode"] == 200
    assert stream.answer["ExecutedVersion"] == "$LATEST"
    assert stream.answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"


def test_a_large_response_arrives_whole(functions: Functions, streams: str) -> None:
    stream = Stream(functions, streams, {"large": 320})
    assert stream.whole() == b"x" * (320 * 65536), "20 MB: more than a buffered response may have"
    assert stream.complete == {}


def test_a_slow_reader_holds_the_function_back(functions: Functions, streams: str) -> None:
    parts = 1600  # 100 MB; what sockets and buffers hold is far less
    stream = Stream(functions, streams, {"large": parts}, LogType="Tail")
    first = next(iter(stream))
    time.sleep(0.5)  # the test reads nothing in this time; the function would be done in less
    lines = functions.logged(streams)
    assert sum(line.startswith("posted") for line in lines) == _posts(lines), "nothing is posted meanwhile"
    rest = stream.whole()
    assert len(first) + len(rest) == parts * 65536
    assert b"posted 202" in base64.b64decode(stream.complete["LogResult"])  # type: ignore[index]


def _posts(lines: list[str]) -> int:
    """How many invocations of the log have ended."""
    return sum(line.startswith("END ") for line in lines)


def test_the_end_has_the_tail_of_the_log(functions: Functions, streams: str) -> None:
    stream = Stream(functions, streams, {"a": 1}, LogType="Tail")
    assert json.loads(stream.whole()) == {"a": 1}
    assert stream.complete is not None
    log = base64.b64decode(stream.complete["LogResult"]).decode()
    assert log.startswith("START RequestId: ") and "REPORT RequestId: " in log


def test_the_client_context_is_the_functions(functions: Functions, streams: str) -> None:
    context = base64.b64encode(b'{"client": {"installation_id": "i-1"}}').decode()
    stream = Stream(functions, streams, {"context": True}, ClientContext=context)
    assert json.loads(stream.whole())["client"]["installation_id"] == "i-1"


def test_a_qualifier_chooses_the_version(functions: Functions) -> None:
    name = functions.create(streamer(ANY), Environment={"Variables": {"WHICH": "one"}})
    version = functions.aws.publish_version(FunctionName=name)["Version"]
    functions.aws.update_function_configuration(FunctionName=name, Environment={"Variables": {"WHICH": "two"}})
    functions.active(name)
    for qualifier, expected in ((version, b"one"), ("$LATEST", b"two")):
        stream = Stream(functions, name, {"environment": "WHICH"}, Qualifier=qualifier)
        assert stream.answer["ExecutedVersion"] == qualifier
        assert stream.whole() == expected


def test_a_dry_run_checks_and_runs_nothing(functions: Functions, streams: str) -> None:
    answer = functions.aws.invoke_with_response_stream(FunctionName=streams, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    answer["EventStream"].close()
    with pytest.raises(ClientError, match="Function not found"):
        functions.aws.invoke_with_response_stream(FunctionName="nobody", InvocationType="DryRun")


def test_an_error_in_the_middle_ends_the_stream_and_keeps_what_was_sent(
    functions: Functions, streams: str
) -> None:
    stream = Stream(functions, streams, {"raise": "käse"})
    assert stream.whole() == b"before"
    assert stream.complete is not None
    assert stream.complete["ErrorCode"] == "Runtime.StreamError"
    assert json.loads(stream.complete["ErrorDetails"]) == {"errorType": "ValueError", "errorMessage": "käse"}


@pytest.mark.parametrize(
    "event, code, message",
    [
        ({"sleep": 30}, "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
        ({"exit": True}, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
    ],
    ids=["timeout", "exit"],
)
def test_what_was_sent_before_the_end_of_the_runtime_is_delivered(
    functions: Functions, unharmed: None, event: Any, code: str, message: str
) -> None:
    name = functions.create(streamer(ANY), Timeout=1)
    stream = Stream(functions, name, event)
    assert stream.whole() == b"before"
    assert stream.complete is not None
    assert stream.complete["ErrorCode"] == code
    assert message in json.loads(stream.complete["ErrorDetails"])["errorMessage"]
    assert Stream(functions, name, {"again": 1}).whole() == b'{"again": 1}'
    functions.aws.delete_function(FunctionName=name)


def test_invoke_gets_a_streamed_response_as_one(functions: Functions, streams: str) -> None:
    assert functions.invoke(streams, {"a": 2}).result == {"a": 2}
    answer = functions.invoke(streams, {"raise": "no"})
    assert (answer.error, answer.result["errorType"]) == ("Unhandled", "ValueError")
    answer = functions.invoke(streams, {"large": 97})
    assert (answer.error, answer.result["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")


def test_a_function_that_does_not_stream_answers_in_one_chunk(functions: Functions) -> None:
    name = functions.create("def handler(event, context):\n    return event['a']\n")
    stream = Stream(functions, name, {"a": "b"})
    assert (stream.whole(), stream.complete) == (b'"b"', {})
    stream = Stream(functions, name, {})
    assert stream.whole() == b""
    assert stream.complete is not None
    assert stream.complete["ErrorCode"] == "KeyError"
    assert json.loads(stream.complete["ErrorDetails"])["errorMessage"] == "'a'"


def test_a_client_that_goes_away_stops_nothing(
    server: Server, functions: Functions, streams: str, unharmed: None
) -> None:
    stream = Stream(functions, streams, {"large": 640, "who": "leaver"})
    assert next(iter(stream))
    request_id = stream.answer["ResponseMetadata"]["RequestId"]
    stream.answer["EventStream"].close()
    lines = functions.logged(streams, until=f"END RequestId: {request_id}")
    assert "posted 202" in lines
    settle(server)


def test_errors_before_the_first_byte_are_ordinary_ones(server: Server, functions: Functions) -> None:
    path = "/2021-11-15/functions/nobody/response-streaming-invocations"
    status, headers, body = request(server, "POST", path, b"{}")
    assert (status, headers["x-amzn-errortype"]) == (404, "ResourceNotFoundException")
    assert json.loads(body)["Type"] == "User"
    status, headers, _ = request(server, "POST", path, b"{")
    assert status == 404, "existence comes first"


def test_a_reader_of_event_streams_sees_no_error_in_it(functions: Functions, streams: str) -> None:
    """botocore checks each message's lengths and checksums."""
    try:
        assert len(Stream(functions, streams, {"large": 3}).whole()) == 3 * 65536
    except EventStreamError as failure:
        pytest.fail(str(failure))


def test_grpc_streams_too(rpc_functions: Functions, rpc: Client) -> None:
    gate = rpc_functions.create("def handler(event, context):\n    return 1\n")
    name = rpc_functions.create(streamer(ANY), Timeout=10)
    rpc_functions.aws.put_function_concurrency(FunctionName=gate, ReservedConcurrentExecutions=0)
    stream = rpc.invoke_stream(name, {"ask": gate})
    chunks = iter(stream)
    assert next(chunks) == b"first"
    rpc_functions.aws.delete_function_concurrency(FunctionName=gate)
    assert b"".join(chunks) == b"second"
    assert stream.result is not None and stream.result.function_error is None


def test_grpc_says_how_a_stream_broke_off(rpc_functions: Functions, rpc: Client) -> None:
    name = rpc_functions.create(streamer(ANY), Timeout=10)
    stream = rpc.invoke_stream(name, {"raise": "no"})
    assert b"".join(stream) == b"before"
    assert stream.result is not None
    assert stream.result.function_error == "Unhandled"
    assert stream.result.json() == {"errorType": "ValueError", "errorMessage": "no"}


def test_a_grpc_client_that_goes_away_can_stop_the_function(
    rpc_server: Server, rpc_functions: Functions, rpc: Client
) -> None:
    name = rpc_functions.create(streamer(ANY), Timeout=60)
    stream = rpc.invoke_stream(name, {"sleep": 50}, cancel_on_disconnect=True)
    assert next(iter(stream)) == b"before"
    stream.cancel()
    lines = rpc_functions.logged(name, until="END ")
    assert any("asked for the invocation to be cancelled" in line for line in lines)
    settle(rpc_server)
