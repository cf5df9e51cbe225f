"""publish.py: what is read while answers are not, and what becomes of a stream whose server stops."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import grpc
import pytest

from lambent.gateway.invoke import Invoked, Invoker
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.rpc.calls import Calls
from lambent.gateway.rpc.publish import MAX_BYTES, MAX_EVENTS, Publisher
from lambent.kernel.errors import AccessDeniedException, EventQueueUnavailable, LambdaError
from lambent.kernel.tasks import Tasks
from lambent.v1.invocations_pb2 import (
    PublishEvent,
    PublishEventsRequest,
    PublishEventsResponse,
    PublishResult,
)

PROTOCOL = LambdaProtocol()


class FakeContext:
    """A client: sends what it is given, and reads while `reads` is set."""

    def __init__(self, *messages: PublishEventsRequest) -> None:
        self.messages = list(messages)
        self.read_events = 0
        self.ends = True
        self.reads = asyncio.Event()
        self.reads.set()
        self.asked = asyncio.Event()
        self.results: list[PublishResult] = []
        self.aborted: grpc.StatusCode | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("user-agent", "a test"),)

    async def read(self) -> object:
        self.asked.set()
        if not self.messages:
            if not self.ends:
                await asyncio.Event().wait()
            return grpc.aio.EOF
        message = self.messages.pop(0)
        self.read_events += len(message.events)
        return message

    async def write(self, response: PublishEventsResponse) -> None:
        await self.reads.wait()
        self.results += response.results

    def set_trailing_metadata(self, metadata: object) -> None:
        return

    async def abort(self, code: grpc.StatusCode, details: str, metadata: object) -> None:
        self.aborted = code
        raise grpc.aio.AbortError


class FakeInvoker:
    """Accepts at once, or when `go` is set; raises what `failures` has for a function."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.failures: dict[str, Exception] = {}
        self.accepted: list[Mapping[str, Any]] = []

    async def invoke(
        self, params: Mapping[str, Any], *, request_id: str, trace_id: str | None = None
    ) -> Invoked:
        await self.go.wait()
        if failure := self.failures.get(params["FunctionName"]):
            raise failure
        self.accepted.append(params)
        return Invoked(202)


class World:
    def __init__(self) -> None:
        self.tasks = Tasks("test")
        self.invoker = FakeInvoker()
        self.publisher = Publisher(cast(Invoker, self.invoker), PROTOCOL, self.tasks)
        self.refusal: LambdaError | None = None
        self.calls = Calls(self.tasks, self._authorise)

    def _authorise(self, headers: object) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def serve(self, context: FakeContext) -> None:
        await asyncio.wait_for(self.publisher.serve(self.calls.begin(cast(Any, context))), 20)

    async def quiet(self) -> None:
        """Until every task waits for something."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


def message(count: int, *, size: int = 1, function: str = "f", first: int = 0) -> PublishEventsRequest:
    payload = b'"' + b"x" * size + b'"'
    events = [
        PublishEvent(id=str(first + number), function_name=function, payload=payload) for number in range(count)
    ]
    return PublishEventsRequest(events=events)


async def test_every_event_is_answered_by_its_id(world: World) -> None:
    world.invoker.failures["down"] = EventQueueUnavailable()
    context = FakeContext(message(3), message(1, function="down", first=3))
    await world.serve(context)
    by_id = {result.id: result for result in context.results}
    assert sorted(by_id) == ["0", "1", "2", "3"]
    assert len({by_id[each].accepted.request_id for each in ("0", "1", "2")}) == 3
    error = by_id["3"].error
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE.value[0], "ServiceException")
    assert error.retry_delay.seconds == 1
    assert context.aborted is None


async def test_an_unforeseen_failure_is_one_events_and_not_the_streams(world: World) -> None:
    world.invoker.failures["broken"] = RuntimeError("a slip")
    context = FakeContext(message(1, function="broken"), message(1, first=1))
    await world.serve(context)
    by_id = {result.id: result for result in context.results}
    assert by_id["0"].error.reason == "ServiceException"
    assert "a slip" not in by_id["0"].error.message
    assert by_id["1"].accepted.request_id


async def test_no_more_is_read_while_so_many_events_wait(world: World) -> None:
    world.invoker.go.clear()
    context = FakeContext(*(message(100, first=100 * number) for number in range(30)))
    serving = world.tasks.once("serve", world.serve(context))
    await world.quiet()
    assert context.read_events == MAX_EVENTS
    world.invoker.go.set()
    await serving
    assert len(context.results) == 3000


async def test_no_more_is_read_while_so_many_bytes_wait(world: World) -> None:
    world.invoker.go.clear()
    context = FakeContext(*(message(1, size=1_000_000, first=number) for number in range(40)))
    serving = world.tasks.once("serve", world.serve(context))
    await world.quiet()
    assert context.read_events == MAX_BYTES // 1_000_000 + 1
    world.invoker.go.set()
    await serving
    assert len(context.results) == 40


async def test_a_client_that_does_not_read_is_read_from_no_more(world: World) -> None:
    context = FakeContext(*(message(100, first=100 * number) for number in range(30)))
    context.reads.clear()
    serving = world.tasks.once("serve", world.serve(context))
    await world.quiet()
    assert context.read_events == MAX_EVENTS
    context.reads.set()
    await serving
    assert len(context.results) == 3000


async def test_a_stop_answers_what_was_read_and_ends_the_stream(world: World) -> None:
    world.invoker.go.clear()
    context = FakeContext(message(5))
    context.ends = False
    serving = world.tasks.once("serve", world.serve(context))
    await world.quiet()
    world.publisher.close()
    await world.quiet()
    assert not serving.done()
    world.invoker.go.set()
    with pytest.raises(grpc.aio.AbortError):
        await serving
    assert len(context.results) == 5
    assert context.aborted is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_comes_during_the_stop_is_told(world: World) -> None:
    world.publisher.close()
    context = FakeContext(message(5))
    with pytest.raises(grpc.aio.AbortError):
        await world.serve(context)
    assert (context.read_events, context.aborted) == (0, grpc.StatusCode.UNAVAILABLE)


async def test_events_that_came_in_go_on_when_the_client_has_gone(world: World) -> None:
    world.invoker.go.clear()
    context = FakeContext(message(5))
    context.ends = False
    serving = world.tasks.once("serve", world.serve(context))
    await world.quiet()
    serving.cancel()
    await world.quiet()
    world.invoker.go.set()
    await world.tasks.drain(5)
    assert len(world.invoker.accepted) == 5


async def test_too_many_events_in_a_message_end_the_stream(world: World) -> None:
    context = FakeContext(message(3), message(MAX_EVENTS + 1))
    with pytest.raises(grpc.aio.AbortError):
        await world.serve(context)
    assert len(context.results) == 3
    assert context.aborted is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_may_not_ask_is_read_nothing_from(world: World) -> None:
    world.refusal = AccessDeniedException()
    context = FakeContext(message(3))
    with pytest.raises(grpc.aio.AbortError):
        await world.serve(context)
    assert (context.read_events, context.aborted) == (0, grpc.StatusCode.PERMISSION_DENIED)
