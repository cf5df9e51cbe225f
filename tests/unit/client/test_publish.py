"""The client's streams of events: how they are gathered, and how many are under way. Against a server that
answers when it is told to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from lambent.client import AsyncClient, Client, Event
from lambent.client.sync import Window
from lambent.client.values import batches
from lambent.v1 import invocations_pb2_grpc
from lambent.v1.invocations_pb2 import PublishAccepted, PublishEvent, PublishEventsResponse, PublishResult


class Held(invocations_pb2_grpc.InvocationServiceServicer):
    """Takes so many events, waits for `go`, and answers them and all that follow."""

    HOLDS = 20

    def __init__(self) -> None:
        self.full, self.go = asyncio.Event(), asyncio.Event()

    async def PublishEvents(self, requests: object, context: Any) -> None:
        pending: list[PublishEvent] = []
        taken = 0
        while (request := await context.read()) is not grpc.aio.EOF:
            taken += len(request.events)
            pending += request.events
            if taken >= self.HOLDS:
                self.full.set()
                await self.go.wait()
                accepted = PublishAccepted(request_id="r")
                results = [PublishResult(id=event.id, accepted=accepted) for event in pending]
                await context.write(PublishEventsResponse(results=results))
                pending.clear()


@pytest.fixture
async def held() -> AsyncIterator[tuple[Held, str]]:
    server, service = grpc.aio.server(), Held()
    invocations_pb2_grpc.add_InvocationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_no_more_is_taken_from_the_source_than_may_be_under_way(
    held: tuple[Held, str], face: str
) -> None:
    service, target = held
    given: list[int] = []

    def events() -> Iterator[Event]:
        for number in range(100):
            given.append(number)
            yield Event(str(number), "f")

    def publish() -> list[str]:
        with Client(target) as client:
            return [each.id for each in client.publish_events(events(), batch=5, in_flight=Held.HOLDS)]

    async def publish_async() -> list[str]:
        async with AsyncClient(target) as client:
            return [each.id async for each in client.publish_events(events(), batch=5, in_flight=Held.HOLDS)]

    async with asyncio.TaskGroup() as group:
        work = asyncio.to_thread(publish) if face == "sync" else publish_async()
        publishing = group.create_task(work)
        await asyncio.wait_for(service.full.wait(), 20)
        assert len(given) <= Held.HOLDS + 5  # and a message that waits for its turn
        service.go.set()
    assert sorted(publishing.result(), key=int) == [str(number) for number in range(100)]


def test_what_came_before_an_error_of_the_source_is_sent() -> None:
    def broken() -> Iterator[Event]:
        yield Event("1", "f")
        raise RuntimeError("dry")

    messages = batches(broken(), 10)
    assert [event.id for event in next(messages).events] == ["1"]
    with pytest.raises(RuntimeError, match="dry"):
        next(messages)


def test_large_events_do_not_wait_for_a_full_message() -> None:
    payload = b'"' + b"x" * 600_000 + b'"'
    sizes = [len(message.events) for message in batches([Event(str(n), "f", payload) for n in range(5)], 100)]
    assert sizes == [2, 2, 1]


def test_a_window_that_is_closed_lets_its_sender_go() -> None:
    window = Window(1)
    assert window.take(5), "one message may always go"
    window.close()
    assert not window.take(1)


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": 1001}, {"in_flight": 0}])
def test_numbers_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(ValueError, match="must be"):
        list(client.publish_events([], **options))


def test_an_invocation_type_that_is_none_is_refused() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(ValueError, match="RequestResponse, Event, DryRun"):
        client.invoke("f", invocation_type="event")
    with Client("127.0.0.1:1") as client, pytest.raises(ValueError, match="lane, outcomes or dead"):
        client.peek("f", "left")
