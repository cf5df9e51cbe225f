"""PublishEvents on a real server: what is acknowledged runs, whatever is killed or stopped, and one slow client
stalls nobody."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from collector import Collector, reporting
from running import Functions, Server
from support import RedisServer

from lambent.client import AsyncClient, Client, Event, LambentError, errors
from lambent.v1.invocations_pb2 import InvokeStreamRequest, PublishEvent, PublishEventsRequest
from lambent.v1.invocations_pb2_grpc import InvocationServiceStub

Start = Callable[..., Server]
GRPC = ("--no-s3", "--grpc-port", "0")


def waited(what: str, holds: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def numbered(name: str, *, stop: threading.Event) -> Iterator[Event]:
    """Events without end, until `stop`."""
    number = 0
    while not stop.is_set():
        yield Event(str(number), name, {"id": str(number)})
        number += 1


@pytest.mark.parametrize("batch", [1, 50])
def test_every_acknowledged_event_runs_though_the_server_is_killed(
    own_server: Start, collector: Collector, batch: int
) -> None:
    server = own_server(*GRPC, environment=collector.environment)
    name = reporting(Functions(server), collector)
    stop, acknowledged = threading.Event(), list[str]()
    with Client(server.grpc_target) as client, pytest.raises(LambentError) as caught:
        for each in client.publish_events(numbered(name, stop=stop), batch=batch):
            assert each.error is None
            acknowledged.append(each.id)
            if len(acknowledged) == 1500:
                server.kill()
    stop.set()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(acknowledged) >= 1500
    server.start()
    waited("every acknowledged event has run", lambda: set(acknowledged) <= set(collector.seen))


def test_a_stop_answers_what_it_read_and_tells_the_client_to_send_the_rest_again(
    own_server: Start, collector: Collector
) -> None:
    server = own_server(*GRPC, environment=collector.environment)
    name = reporting(Functions(server), collector)
    stop, acknowledged = threading.Event(), list[str]()
    with Client(server.grpc_target) as client, pytest.raises(LambentError, match="is stopping") as caught:
        for each in client.publish_events(numbered(name, stop=stop), batch=10):
            acknowledged.append(each.id)
            if len(acknowledged) == 500:
                server.signal(signal.SIGTERM)
    stop.set()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert server.stop() == 0
    assert "Traceback" not in server.output()
    server.start()
    waited("every acknowledged event has run", lambda: set(acknowledged) <= set(collector.seen))


def test_a_stop_waits_for_what_runs_and_takes_no_new_rpcs(own_server: Start, collector: Collector) -> None:
    server = own_server(*GRPC, environment=collector.environment)
    name = reporting(Functions(server), collector)
    collector.open.clear()
    answers: list[Any] = []
    with Client(server.grpc_target) as client:
        thread = threading.Thread(target=lambda: answers.append(client.invoke(name, {"id": "running"})))
        thread.start()
        waited("it runs", lambda: collector.seen["running"])
        server.signal(signal.SIGTERM)
        with Client(server.grpc_target) as late:
            waited("no new RPCs", lambda: refused(late, name))
        collector.open.set()
        thread.join(30)
    assert server.stop() == 0
    assert [answer.function_error for answer in answers] == [None]


def refused(client: Client, name: str) -> bool:
    try:
        client.invoke(name, invocation_type="DryRun")
    except LambentError as failure:
        return failure.code is grpc.StatusCode.UNAVAILABLE
    return False


def test_events_that_the_queue_does_not_take_are_refused_one_by_one(
    own_server: Start, own_redis: RedisServer
) -> None:
    # It stops after its Redis, and would wait for that.
    environment = {"LAMBENT_REDIS_URL": own_redis.url, "LAMBENT_DRAIN_SECONDS": "0"}
    server = own_server(*GRPC, environment=environment)
    name = Functions(server).create("def handler(event, context):\n    return 1\n")
    with Client(server.grpc_target) as client:
        assert [each.error for each in client.publish_events([Event("first", name)])] == [None]
        own_redis.kill()
        [answer] = client.publish_events([Event("second", name)])
        assert isinstance(answer.error, errors.ServiceException)
        assert answer.error.code is grpc.StatusCode.UNAVAILABLE
        assert answer.error.retry_after == 1.0
        own_redis.start()

        def taken() -> bool:
            [again] = client.publish_events([Event("second", name)])
            return again.error is None

        waited("it is taken again", taken)


async def test_a_client_that_does_not_read_stalls_nobody_and_gets_everything(
    rpc_server: Server, rpc_functions: Functions, echo: str
) -> None:
    held = rpc_functions.create("def handler(event, context):\n    return 1\n")
    rpc_functions.aws.put_function_event_invoke_config(FunctionName=held, MaximumEventAgeInSeconds=60)
    message = PublishEventsRequest(
        events=[PublishEvent(id=f"{number:0>100}", function_name=held) for number in range(1000)]
    )
    async with grpc.aio.insecure_channel(rpc_server.grpc_target) as channel:
        stub: Any = InvocationServiceStub(channel)
        stream = stub.PublishEvents()

        async def write() -> None:
            for _ in range(20):
                await stream.write(message)
            await stream.done_writing()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            async with AsyncClient(rpc_server.grpc_target) as other:
                assert (await other.invoke(echo, 1)).json() == 1
                events = [Event(str(number), echo) for number in range(100)]
                assert len([each async for each in other.publish_events(events)]) == 100
            results = 0
            async for response in stream:
                results += len(response.results)
        assert results == 20_000
    rpc_functions.aws.delete_function(FunctionName=held)


async def test_a_client_that_goes_away_leaves_no_error(rpc_server: Server, echo: str) -> None:
    went = asyncio.Event()

    async def few() -> AsyncIterator[Event]:
        for number in range(10):
            yield Event(str(number), echo)
        await went.wait()  # never: the stream is left in the middle

    async with AsyncClient(rpc_server.grpc_target) as client:
        answers = client.publish_events(few())
        async for each in answers:
            assert each.error is None
            break
        await answers.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert (await client.invoke(echo, 2)).json() == 2
    assert "An RPC failed" not in rpc_server.output()


def test_bad_events_are_refused_and_the_others_go_on(rpc: Client, echo: str) -> None:
    large = b'"' + b"x" * 1_048_576 + b'"'
    events = [
        Event("good", echo, {}),
        Event("", echo),
        Event("x" * 129, echo),
        Event("no function", "no-such-function"),
        Event("no name", ""),
        Event("no JSON", echo, b"{"),
        Event("large", echo, large),
        Event("no version", echo, qualifier="77"),
        Event("good too", echo, {}),
    ]
    answers = {each.id: each for each in rpc.publish_events(events)}
    reasons = {name: each.error.reason if each.error else None for name, each in answers.items()}
    assert reasons == {
        "good": None,
        "": "InvalidParameterValueException",
        "x" * 128: "InvalidParameterValueException",
        "no function": "ResourceNotFoundException",
        "no name": "ValidationException",
        "no JSON": "InvalidRequestContentException",
        "large": "RequestEntityTooLargeException",
        "no version": "ResourceNotFoundException",
        "good too": None,
    }
    assert all(each.request_id for each in answers.values() if each.error is None)


def test_an_error_of_the_callers_own_iterator_is_raised_after_the_answers(rpc: Client, echo: str) -> None:
    def broken() -> Iterator[Event]:
        yield Event("one", echo)
        raise RuntimeError("the source is dry")

    got = []
    with pytest.raises(RuntimeError, match="the source is dry"):
        for each in rpc.publish_events(broken()):
            got.append(each.id)
    assert got == ["one"]


async def test_an_error_of_an_asynchronous_source_is_raised_too(rpc_server: Server, echo: str) -> None:
    async def broken() -> AsyncIterator[Event]:
        yield Event("one", echo)
        raise RuntimeError("the source is dry")

    got = []
    async with AsyncClient(rpc_server.grpc_target) as client:
        with pytest.raises(RuntimeError, match="the source is dry"):
            async for each in client.publish_events(broken()):
                got.append(each.id)
    assert got == ["one"]


def test_a_message_of_too_many_events_ends_the_stream(rpc_server: Server, echo: str) -> None:
    message = PublishEventsRequest(events=[PublishEvent(id="x", function_name=echo)] * 1001)
    with grpc.insecure_channel(rpc_server.grpc_target) as channel:
        call = InvocationServiceStub(channel).PublishEvents(iter([message]))
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_second_signal_cuts_off_what_runs_with_a_clear_error(own_server: Start) -> None:
    server = own_server(*GRPC)
    functions = Functions(server)
    name = functions.create(
        "import time\ndef handler(e, c):\n    print('began')\n    time.sleep(60)\n", Timeout=90
    )
    failures: list[LambentError] = []

    def invoke(client: Client) -> None:
        try:
            client.invoke(name)
        except LambentError as failure:
            failures.append(failure)

    with Client(server.grpc_target) as client:
        thread = threading.Thread(target=invoke, args=(client,))
        thread.start()
        waited("it runs", lambda: "began" in functions.logged(name))
        server.signal(signal.SIGTERM)
        waited("the drain has begun", lambda: "Stopping" in server.output())
        assert server.stop() == 0
        thread.join(30)
    [failure] = failures
    assert "stop" in failure.message.lower()


async def test_a_client_that_reads_nothing_keeps_no_server_from_stopping(own_server: Start) -> None:
    server = own_server(*GRPC, environment={"LAMBENT_DRAIN_SECONDS": "1"})
    name = Functions(server).create("def handler(event, context):\n    return 'x' * 6_000_000\n")
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        stub: Any = InvocationServiceStub(channel)
        call = stub.InvokeStream(InvokeStreamRequest(function_name=name))
        assert len((await call.read()).payload_chunk) == 65_536
        assert await asyncio.to_thread(server.stop) == 0
