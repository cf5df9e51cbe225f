"""The gRPC API over a real port, by the Python client's two faces."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running import ROLE, RUNTIME, Functions, Server, request, zipped

from lambent.client import AsyncClient, Client, Event, LambentError, errors
from lambent.v1 import functions_pb2, queue_pb2
from lambent.v1.functions_pb2 import (
    CreateAliasRequest,
    CreateFunctionRequest,
    DeleteFunctionRequest,
    Environment,
    FunctionCode,
    GetFunctionRequest,
    ListFunctionsRequest,
    UpdateFunctionCodeRequest,
    UpdateFunctionConfigurationRequest,
)

ANSWERS = "def handler(event, context):\n    return {}\n"
SAYS = """
import json, os
def handler(event, context):
    print("hello from", event["who"])
    client = context.client_context
    return {
        "trace": os.environ["_X_AMZN_TRACE_ID"],
        "custom": client.custom if client else None,
        "id": context.aws_request_id,
    }
"""
RAISES = "def handler(event, context):\n    raise ValueError('boom')\n"


def test_an_invocation_has_everything_that_http_gives(rpc: Client, rpc_functions: Functions) -> None:
    name = rpc_functions.create(SAYS)
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    answer = rpc.invoke(
        name,
        {"who": "gRPC"},
        log_tail=True,
        client_context={"custom": {"a": "b"}},
        trace_header=trace,
        qualifier="$LATEST",
    )
    found = answer.json()
    assert found["custom"] == {"a": "b"}
    assert found["trace"].startswith("Root=1-5759e988-bd862e3fe1be46a994272793;")
    assert found["id"] == answer.request_id
    assert (answer.status_code, answer.executed_version, answer.function_error) == (200, "$LATEST", None)
    assert "hello from gRPC" in answer.log
    assert f"REPORT RequestId: {answer.request_id}" in answer.log


def test_the_request_id_and_the_trace_are_in_the_trailing_metadata(rpc_server: Server, echo: str) -> None:
    from lambent.v1.invocations_pb2 import InvokeRequest
    from lambent.v1.invocations_pb2_grpc import InvocationServiceStub

    with grpc.insecure_channel(rpc_server.grpc_target) as channel:
        stub = InvocationServiceStub(channel)
        response, call = stub.Invoke.with_call(InvokeRequest(function_name=echo))
    trailing = {name: value for name, value in call.trailing_metadata()}
    assert trailing["x-amzn-requestid"] == response.request_id
    assert str(trailing["x-amzn-trace-id"]).startswith("root=1-")


def test_a_functions_error_is_an_answer(rpc: Client, rpc_functions: Functions) -> None:
    answer = rpc.invoke(rpc_functions.create(RAISES))
    assert answer.function_error == "Unhandled"
    assert answer.json()["errorMessage"] == "boom"


def test_a_dry_run_and_an_event(rpc: Client, echo: str) -> None:
    assert rpc.invoke(echo, invocation_type="DryRun").status_code == 204
    answer = rpc.invoke(echo, {"n": 1}, invocation_type="Event")
    assert (answer.status_code, answer.payload) == (202, b"")
    assert answer.request_id


def test_a_streamed_response_comes_in_chunks_and_says_how_it_ended(rpc: Client, echo: str) -> None:
    sent = "x" * 200_000
    stream = rpc.invoke_stream(echo, sent, log_tail=True)
    chunks = list(stream)
    assert max(map(len, chunks)) == 65_536
    assert json.loads(b"".join(chunks)) == sent
    assert stream.result is not None
    assert stream.result.executed_version == "$LATEST"
    assert f"REPORT RequestId: {stream.result.request_id}" in stream.result.log


async def test_the_asynchronous_face(rpc_server: Server, echo: str) -> None:
    async with AsyncClient(rpc_server.grpc_target) as client:
        assert (await client.invoke(echo, 5)).json() == 5
        stream = client.invoke_stream(echo, "y" * 70_000)
        assert len([chunk async for chunk in stream]) == 2
        assert stream.result is not None and stream.result.function_error is None
        events = [Event(f"e{number}", echo, number) for number in range(5)]
        answers = [each async for each in client.publish_events(events, batch=2)]
        assert sorted(each.id for each in answers) == [event.id for event in events]
        assert all(each.error is None and each.request_id for each in answers)
        with pytest.raises(errors.ResourceNotFoundException):
            await client.invoke("no-such-function")
        assert (await client.usage()).by == "function"
        assert (await client.queue_depths()).targets == []


# ---- functions ----------------------------------------------------------------------------------------


def created(rpc: Client, name: str, **more: Any) -> functions_pb2.FunctionConfiguration:
    request = CreateFunctionRequest(
        function_name=name,
        runtime=RUNTIME,
        role=ROLE,
        handler="app.handler",
        code=FunctionCode(zip_file=zipped({"app.py": ANSWERS})),
        **more,
    )
    made: functions_pb2.FunctionConfiguration = rpc.call(request).configuration
    return made


def settled(rpc: Client, name: str) -> functions_pb2.GetFunctionResponse:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found: functions_pb2.GetFunctionResponse = rpc.call(GetFunctionRequest(function_name=name))
        last = found.configuration.last_update_status
        if (
            found.configuration.state == functions_pb2.STATE_ACTIVE
            and last == functions_pb2.LAST_UPDATE_STATUS_SUCCESSFUL
        ):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def test_a_function_is_created_changed_listed_and_deleted(rpc: Client, rpc_server: Server) -> None:
    made = created(rpc, "by-grpc", memory_size=256, tags={"team": "rpc"})
    assert (made.function_name, made.memory_size, made.timeout) == ("by-grpc", 256, 3)
    assert made.state == functions_pb2.STATE_PENDING
    assert abs(made.last_modified.ToSeconds() - time.time()) < 600
    found = settled(rpc, "by-grpc")
    assert dict(found.tags) == {"team": "rpc"}
    assert found.code.location.startswith(rpc_server.url)
    assert rpc.invoke("by-grpc").json() == {}

    change = UpdateFunctionConfigurationRequest(
        function_name="by-grpc", timeout=7, environment=Environment(variables={"AB": "1"})
    )
    changed = rpc.call(change).configuration
    assert (changed.timeout, changed.memory_size) == (7, 256)
    revision = settled(rpc, "by-grpc").configuration.revision_id
    code = FunctionCode(zip_file=zipped({"app.py": ANSWERS.replace("{}", "[1]")}))
    rpc.call(UpdateFunctionCodeRequest(function_name="by-grpc", code=code, revision_id=revision))
    settled(rpc, "by-grpc")
    assert rpc.invoke("by-grpc").json() == [1]
    with pytest.raises(errors.PreconditionFailedException):
        rpc.call(UpdateFunctionCodeRequest(function_name="by-grpc", code=code, revision_id=revision))

    listed = rpc.call(ListFunctionsRequest()).functions
    assert "by-grpc" in [each.function_name for each in listed]
    first = rpc.call(ListFunctionsRequest(max_items=1))
    assert len(first.functions) == 1
    rpc.call(DeleteFunctionRequest(function_name="by-grpc"))
    with pytest.raises(errors.ResourceNotFoundException):
        rpc.call(GetFunctionRequest(function_name="by-grpc"))


def test_an_archive_of_nearly_50_mb_is_taken(rpc: Client, rpc_functions: Functions) -> None:
    code = zipped({"app.py": ANSWERS, "noise": os.urandom(49 << 20)})
    name = rpc_functions.create(ANSWERS)
    made = rpc.call(UpdateFunctionCodeRequest(function_name=name, code=FunctionCode(zip_file=code)))
    assert made.configuration.code_size == len(code)
    settled(rpc, name)
    assert rpc.invoke(name).json() == {}


def test_what_exists_is_not_created_again(rpc: Client, echo: str) -> None:
    with pytest.raises(errors.ResourceConflictException) as caught:
        created(rpc, echo)
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS


def test_versions_and_aliases_are_those_of_http(rpc: Client, rpc_functions: Functions) -> None:
    name = rpc_functions.create("def handler(event, context):\n    return context.function_version\n")
    first = rpc.call(functions_pb2.PublishVersionRequest(function_name=name, description="one")).configuration
    assert (first.version, first.description) == ("1", "one")
    made = rpc.call(CreateAliasRequest(function_name=name, name="live", function_version="1")).alias
    assert made.alias_arn.endswith(f":function:{name}:live") and made.function_version == "1"
    answer = rpc.invoke(name, {}, qualifier="live")
    assert (answer.json(), answer.executed_version) == ("1", "1")
    rpc_functions.aws.update_function_configuration(FunctionName=name, Description="two")
    rpc_functions.active(name)
    rpc.call(functions_pb2.PublishVersionRequest(function_name=name))
    listed = rpc.call(functions_pb2.ListVersionsByFunctionRequest(function_name=name))
    assert [version.version for version in listed.versions] == ["$LATEST", "1", "2"]
    weights = functions_pb2.AliasRoutingConfig(additional_version_weights={"2": 1.0})
    moved = functions_pb2.UpdateAliasRequest(function_name=name, name="live", routing_config=weights)
    assert dict(rpc.call(moved).alias.routing_config.additional_version_weights) == {"2": 1.0}
    assert rpc.invoke(name, {}, qualifier="live").json() == "2"
    [alias] = rpc.call(functions_pb2.ListAliasesRequest(function_name=name)).aliases
    assert alias.name == "live"
    with pytest.raises(errors.ResourceConflictException):
        rpc.call(functions_pb2.DeleteFunctionRequest(function_name=name, qualifier="1"))
    rpc.call(functions_pb2.DeleteAliasRequest(function_name=name, name="live"))
    with pytest.raises(errors.ResourceNotFoundException):
        rpc.call(functions_pb2.GetAliasRequest(function_name=name, name="live"))


# ---- bad input ----------------------------------------------------------------------------------------


def test_every_violation_is_told_with_its_field(rpc: Client) -> None:
    with pytest.raises(errors.ValidationException) as caught:
        rpc.call(CreateFunctionRequest(function_name="f", memory_size=1, timeout=0))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(caught.value.violations) == {"memory_size", "timeout", "role", "code"}
    assert caught.value.message.startswith("4 validation errors detected")
    assert caught.value.request_id


@pytest.mark.parametrize("options", [{}, {"invocation_type": "Event"}])
def test_no_function_and_no_name(rpc: Client, options: dict[str, Any]) -> None:
    with pytest.raises(errors.ResourceNotFoundException, match="no-such-function"):
        rpc.invoke("no-such-function", **options)
    with pytest.raises(errors.ValidationException) as caught:
        rpc.invoke("", **options)
    assert list(caught.value.violations) == ["function_name"]


def test_what_is_not_json(rpc: Client, echo: str) -> None:
    with pytest.raises(errors.InvalidRequestContentException):
        rpc.invoke(echo, b"{")
    with pytest.raises(errors.InvalidRequestContentException, match="Client context"):
        rpc.invoke(echo, client_context=b"[]")


def test_too_large_payloads_are_refused_with_the_limit(rpc: Client, echo: str) -> None:
    whole = b'"' + b"x" * (6_291_456 - 2) + b'"'
    assert rpc.invoke(echo, whole).payload == whole
    with pytest.raises(errors.RequestEntityTooLargeException, match="limit 6291456 bytes") as caught:
        rpc.invoke(echo, whole + b" ")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(errors.RequestEntityTooLargeException, match="limit 1048576 bytes"):
        rpc.invoke(echo, b'"' + b"x" * 1_048_576 + b'"', invocation_type="Event")


def test_a_message_beyond_all_limits_is_refused_by_grpc_itself(rpc: Client, echo: str) -> None:
    with pytest.raises(LambentError) as caught:
        rpc.invoke(echo, b" " * (52 << 20))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
    assert rpc.invoke(echo, 1).json() == 1


def test_a_throttle_says_why_and_when_to_come_again(rpc: Client, rpc_functions: Functions) -> None:
    name = rpc_functions.create(ANSWERS)
    rpc_functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(errors.TooManyRequestsException) as caught:
        rpc.invoke(name)
    assert caught.value.metadata["reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert caught.value.retry_after == 0.5


def test_a_web_pages_request_is_refused_as_over_http(rpc_server: Server, echo: str) -> None:
    from lambent.v1.invocations_pb2 import InvokeRequest
    from lambent.v1.invocations_pb2_grpc import InvocationServiceStub

    with grpc.insecure_channel(rpc_server.grpc_target) as channel:
        stub = InvocationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Invoke(InvokeRequest(function_name=echo), metadata=(("origin", "https://evil.example"),))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


# ---- deadlines ----------------------------------------------------------------------------------------

WAITS = """
import os, time
def handler(event, context):
    print("began", os.getpid())
    time.sleep(event["seconds"])
    print("came to its end")
    return "done"
"""


def lines_of(functions: Functions, name: str, start: str, count: int) -> list[str]:
    """The log once it has so many lines that start so; more are a failure."""
    until = time.monotonic() + 30
    while True:
        lines = functions.logged(name)
        found = sum(line.startswith(start) for line in lines)
        if found >= count:
            assert found == count, lines
            return lines
        assert time.monotonic() < until, lines
        time.sleep(0.02)


def test_a_deadline_that_passes_stops_nothing(rpc: Client, rpc_functions: Functions) -> None:
    name = rpc_functions.create(WAITS)
    rpc.invoke(name, {"seconds": 0})
    with pytest.raises(LambentError) as caught:
        rpc.invoke(name, {"seconds": 1.5}, timeout=0.3)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    lines_of(rpc_functions, name, "came to its end", 2)
    assert rpc.invoke(name, {"seconds": 0}).json() == "done"
    lines_of(rpc_functions, name, "began", 3)


def whole(client: Client, *arguments: Any, **options: Any) -> bytes:
    return b"".join(client.invoke_stream(*arguments, **options))


@pytest.mark.parametrize("how", [Client.invoke, whole], ids=["Invoke", "InvokeStream"])
def test_a_deadline_that_passes_stops_the_run_if_that_was_asked_for(
    rpc: Client, rpc_functions: Functions, how: Callable[..., object]
) -> None:
    name = rpc_functions.create(WAITS, Timeout=60)
    rpc_functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    rpc.invoke(name, {"seconds": 0})
    lines_of(rpc_functions, name, "REPORT", 1)  # at the report, not at the answer, the slot is free again
    with pytest.raises(LambentError) as caught:
        how(rpc, name, {"seconds": 50}, timeout=0.5, cancel_on_disconnect=True)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    lines = lines_of(rpc_functions, name, "REPORT", 2)
    assert lines.count("came to its end") == 1
    assert lines.count("The caller has gone and asked for the invocation to be cancelled.") == 1
    # With the only slot that there is: it is free, and the environment is another one.
    assert rpc.invoke(name, {"seconds": 0}).json() == "done"
    lines_of(rpc_functions, name, "INIT_START", 2)


def test_a_client_that_is_gone_before_a_cold_start_stops_it_if_asked(
    rpc: Client, rpc_functions: Functions
) -> None:
    slow = "import time\ntime.sleep(3)\n" + WAITS
    name = rpc_functions.create(slow, Timeout=60)
    with pytest.raises(LambentError):
        rpc.invoke(name, {"seconds": 50}, timeout=0.3, cancel_on_disconnect=True)
    assert rpc.invoke(name, {"seconds": 0}).json() == "done"
    lines_of(rpc_functions, name, "began", 1)


# ---- queue, usage -------------------------------------------------------------------------------------


def test_the_queue_is_shown_brought_back_and_emptied(rpc: Client, rpc_functions: Functions) -> None:
    name = rpc_functions.create(ANSWERS)
    rpc_functions.aws.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    rpc_functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    answer = rpc.invoke(name, {"n": 1}, invocation_type="Event")
    until = time.monotonic() + 30
    while not (items := rpc.peek(name, "dead").items):
        assert time.monotonic() < until
        time.sleep(0.02)
    [item] = items
    assert (item.request_id, item.payload) == (answer.request_id, '{"n": 1}')
    assert item.condition == queue_pb2.CONDITION_ZERO_RESERVED_CONCURRENCY
    assert abs(item.accepted.ToSeconds() - time.time()) < 600
    [row] = [row for row in rpc.queue_depths().functions if row.function_name == name]
    assert (row.dead, row.ready) == (1, 0)
    assert rpc.redrive(name) == 1
    while not rpc.peek(name, "dead").items:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert rpc.replay(answer.request_id) == 1
    while not rpc.peek(name, "dead").items:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert rpc.purge(name, "dead") == 1
    with pytest.raises(errors.ResourceNotFoundException):
        rpc.replay(answer.request_id)


def test_bad_input_of_the_queue(rpc: Client, echo: str) -> None:
    with pytest.raises(errors.InvalidParameterValueException, match="from 1 to 100"):
        rpc.peek(echo, limit=101)
    with pytest.raises(errors.InvalidParameterValueException, match="line must be named"):
        rpc.call(queue_pb2.PurgeRequest(function_name=echo))
    with pytest.raises(errors.ResourceNotFoundException):
        rpc.redrive("no-such-function")


def test_usage_is_what_http_tells(rpc: Client, rpc_server: Server, rpc_functions: Functions) -> None:
    name = rpc_functions.create(ANSWERS, Tags={"team": "usage"})
    rpc.invoke(name)
    until = time.monotonic() + 30
    while not (rows := [row for row in rpc.usage("tag:team").rows if row.group == {"tag:team": "usage"}]):
        assert time.monotonic() < until
        time.sleep(0.05)
    told = json.loads(request(rpc_server, "GET", "/_lambent/usage?by=tag:team")[2])
    [same] = [row for row in told["rows"] if row["tag:team"] == "usage"]
    use = rows[0].usage
    assert (use.invocations, use.cold_starts) == (same["invocations"], same["cold_starts"]) == (1, 1)
    assert (use.billed_ms, use.cost) == (same["billed_ms"], same["cost_usd"])
    with pytest.raises(errors.InvalidParameterValueException):
        rpc.usage("planet")


# ---- health, reflection -------------------------------------------------------------------------------


def test_health_is_grpcs_own(rpc_server: Server) -> None:
    with grpc.insecure_channel(rpc_server.grpc_target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "lambent.v1.InvocationService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError):
            health.Check(health_pb2.HealthCheckRequest(service="nothing.v1.Of"))


def test_a_client_that_knows_no_stub_finds_everything_by_reflection(rpc_server: Server, echo: str) -> None:
    """As grpcurl works: names, then files, then messages that are built of what the files say."""
    with grpc.insecure_channel(rpc_server.grpc_target) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = stub.ServerReflectionInfo
        request_of = reflection_pb2.ServerReflectionRequest
        [listed] = ask(iter([request_of(list_services="")]))
        names = [service.name for service in listed.list_services_response.service]
        assert {"lambent.v1.InvocationService", "grpc.health.v1.Health"} <= set(names)
        pool = descriptor_pool.DescriptorPool()
        load(ask, pool, request_of(file_containing_symbol="lambent.v1.InvocationService"))
        method = pool.FindServiceByName("lambent.v1.InvocationService").methods_by_name["Invoke"]
        made = message_factory.GetMessageClass(method.input_type)
        answered = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=made.SerializeToString,
            response_deserializer=answered.FromString,
        )
        response: Any = call(made(function_name=echo, payload=b'{"by": "reflection"}'))
    assert json.loads(response.payload) == {"by": "reflection"}


def load(ask: Any, pool: descriptor_pool.DescriptorPool, wanted: Any) -> None:
    """The file that was asked for and, before it, those that it imports, as grpcurl does it."""
    [answer] = ask(iter([wanted]))
    for data in answer.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        for needed in file.dependency:
            load(ask, pool, reflection_pb2.ServerReflectionRequest(file_by_filename=needed))
        try:
            pool.FindFileByName(file.name)
        except KeyError:
            pool.Add(file)


def test_the_proto_files_are_in_the_package() -> None:
    import lambent.v1.invocations_pb2 as stub

    folder = Path(stub.__file__).parent
    assert {path.name for path in folder.glob("*.proto")} == {
        "functions.proto",
        "invocations.proto",
        "queue.proto",
        "usage.proto",
    }
