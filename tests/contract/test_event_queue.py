"""What every EventQueue must do, run against each adapter: one in memory, one over a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from lambent.kernel.clock import SystemClock
from lambent.kernel.models import Event
from lambent.kernel.ports import EventQueue
from lambent.scheduler.queue import KombuEventQueue
from lambent.scheduler.queue_memory import MemoryEventQueue

CLOCK = SystemClock()


@pytest.fixture(params=["memory", "redis+streams"])
async def queue(request: pytest.FixtureRequest) -> AsyncIterator[EventQueue]:
    if request.param == "memory":
        yield MemoryEventQueue(CLOCK)
        return
    url: str = request.getfixturevalue("redis_url")
    made = KombuEventQueue(url.replace("redis://", "redis+streams://"), consumer_name="one", shards=4)
    await made.start()
    yield made
    await made.close()


def event(number: int = 1, *, lane: str = "uid-a", payload: bytes = b"{}") -> Event:
    return Event(f"request-{number}", lane, f"function-of-{lane}", payload, CLOCK.now())


async def test_an_event_comes_as_it_was_published(queue: EventQueue) -> None:
    sent = replace(
        event(payload=bytes(range(256)) * 4),
        qualifier="live",
        trace_id="Root=1-2-3",
        source="s3",
        attempt=2,
    )
    await queue.publish(sent)
    [delivery] = await queue.consume({"uid-a": 10}, wait=5)
    assert delivery.event == sent
    assert not delivery.redelivered


async def test_a_payload_of_a_megabyte_passes(queue: EventQueue) -> None:
    payload = b"\x00\xff" * (512 * 1024)
    await queue.publish(event(payload=payload))
    [delivery] = await queue.consume({"uid-a": 1}, wait=5)
    assert delivery.event.payload == payload


async def test_consume_waits_for_an_event(queue: EventQueue) -> None:
    waiting = asyncio.ensure_future(queue.consume({"uid-a": 1}, wait=20))
    await asyncio.sleep(0)
    await queue.publish(event())
    assert len(await waiting) == 1


async def test_consume_ends_empty_after_its_wait(queue: EventQueue) -> None:
    assert list(await queue.consume({"uid-a": 1}, wait=0.05)) == []


async def test_a_lane_without_room_is_not_read(queue: EventQueue) -> None:
    await queue.publish(event(1, lane="uid-a"))
    await queue.publish(event(2, lane="uid-b"))
    deliveries = await queue.consume({"uid-a": 0, "uid-b": 5}, wait=1)
    assert [delivery.event.lane for delivery in deliveries] == ["uid-b"]
    assert list(await queue.consume({"uid-c": 5}, wait=0.05)) == []


async def test_no_more_events_come_than_there_is_room(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i)) for i in range(10)))
    assert len(await queue.consume({"uid-a": 3}, wait=1)) == 3
    assert len(await queue.consume({"uid-a": 100}, wait=1)) == 7


async def test_a_mapping_that_answers_for_unknown_lanes_opens_them(queue: EventQueue) -> None:
    class Open(dict[str, int]):
        def __missing__(self, lane: str) -> int:
            return 1

    await queue.publish(event(lane="never-heard-of"))
    [delivery] = await queue.consume(Open(), wait=5)
    assert delivery.event.lane == "never-heard-of"


async def test_wake_ends_a_waiting_consume(queue: EventQueue) -> None:
    waiting = asyncio.ensure_future(queue.consume({"uid-a": 1}, wait=30))
    await asyncio.sleep(0)
    queue.wake()
    assert list(await asyncio.wait_for(waiting, 10)) == []


async def test_a_delivered_event_is_in_flight_until_it_is_acked(queue: EventQueue) -> None:
    await queue.publish(event())
    deliveries = await queue.consume({"uid-a": 1}, wait=5)
    [depth] = await queue.lanes()
    assert (depth.lane, depth.ready, depth.in_flight, depth.delayed) == ("uid-a", 0, 1, 0)
    assert depth.oldest_age is not None and 0 <= depth.oldest_age < 5
    assert list(await queue.consume({"uid-a": 1}, wait=0.05)) == []
    await queue.ack(deliveries)
    assert list(await queue.lanes()) == []


async def test_acking_twice_changes_nothing(queue: EventQueue) -> None:
    await queue.publish(event())
    deliveries = await queue.consume({"uid-a": 1}, wait=5)
    await queue.ack(deliveries)
    await queue.publish(event(2))
    await queue.ack(deliveries)
    assert len(await queue.consume({"uid-a": 1}, wait=5)) == 1


async def test_delay_puts_the_changed_event_in_its_place_now(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await queue.consume({"uid-a": 1}, wait=5)
    await queue.delay(delivery, replace(delivery.event, attempt=2))
    [again] = await queue.consume({"uid-a": 1}, wait=5)
    assert again.event.attempt == 2
    await queue.ack([again])
    assert list(await queue.lanes()) == []


async def test_a_delayed_event_comes_when_it_is_due_and_not_before(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await queue.consume({"uid-a": 1}, wait=5)
    due = CLOCK.now() + 0.3
    await queue.delay(delivery, replace(delivery.event, due=due))
    [depth] = await queue.lanes()
    assert (depth.ready, depth.in_flight, depth.delayed) == (0, 0, 1)
    [again] = await queue.consume({"uid-a": 1}, wait=10)
    assert CLOCK.now() >= due - 0.005
    assert again.event.due is None
    await queue.ack([again])
    assert list(await queue.lanes()) == []


async def test_delaying_what_is_already_acked_brings_it_not_back(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await queue.consume({"uid-a": 1}, wait=5)
    await queue.ack([delivery])
    await queue.delay(delivery, delivery.event)
    assert list(await queue.lanes()) == []


async def test_an_event_published_with_a_due_time_waits_for_it(queue: EventQueue) -> None:
    await queue.publish(replace(event(), due=CLOCK.now() + 0.2))
    assert list(await queue.consume({"uid-a": 1}, wait=0.02)) == []
    assert len(await queue.consume({"uid-a": 1}, wait=10)) == 1


async def test_a_dropped_lane_is_gone_with_its_events_and_works_anew(queue: EventQueue) -> None:
    for number in range(3):
        await queue.publish(event(number))
    [delivery] = await queue.consume({"uid-a": 1}, wait=5)
    await queue.delay(delivery, replace(delivery.event, due=CLOCK.now() + 60))
    assert await queue.drop_lane("uid-a") == 3
    assert await queue.drop_lane("uid-a") == 0
    assert list(await queue.lanes()) == []
    await queue.publish(event(9))
    [delivery] = await queue.consume({"uid-a": 5}, wait=5)
    assert delivery.event.request_id == "request-9"


async def test_a_flooded_lane_leaves_others_their_turn(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i, lane="flood")) for i in range(600)))
    await queue.publish(event(1, lane="quiet"))
    seen: list[str] = []
    while "quiet" not in seen:
        deliveries = await queue.consume({"flood": 64, "quiet": 64}, wait=5)
        assert deliveries
        seen += [delivery.event.lane for delivery in deliveries]
        await queue.ack(deliveries)
    assert len(seen) <= 2 * 64 + 1


async def test_a_lane_that_begins_during_a_flood_is_heard_of(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i, lane="flood")) for i in range(300)))
    room = {"flood": 10, "late": 10}
    await queue.ack(await queue.consume(room, wait=5))
    await queue.publish(event(1, lane="late"))
    seen: list[str] = []
    for _ in range(3):
        deliveries = await queue.consume(room, wait=5)
        seen += [delivery.event.lane for delivery in deliveries]
        await queue.ack(deliveries)
    assert "late" in seen


async def test_many_publishers_lose_and_double_nothing(queue: EventQueue) -> None:
    lanes = [f"uid-{i}" for i in range(5)]
    await asyncio.gather(*(queue.publish(event(i, lane=lanes[i % 5])) for i in range(500)))
    seen: list[str] = []
    while len(seen) < 500:
        deliveries = await queue.consume(dict.fromkeys(lanes, 50), wait=5)
        assert deliveries
        seen += [delivery.event.request_id for delivery in deliveries]
        await queue.ack(deliveries)
    assert sorted(seen) == sorted(f"request-{i}" for i in range(500))
    assert list(await queue.lanes()) == []


async def test_a_consume_that_is_cancelled_loses_no_event(queue: EventQueue) -> None:
    waiting = asyncio.ensure_future(queue.consume({"uid-a": 1}, wait=30))
    await asyncio.sleep(0)
    publishing = asyncio.ensure_future(queue.publish(event()))
    waiting.cancel()
    await publishing
    queue.wake()
    deliveries = await _until(queue, lambda: {"uid-a": 1})
    assert len(deliveries) == 1


async def _until(queue: EventQueue, room: Callable[[], dict[str, int]]) -> list[object]:
    """The first events, however the cancelled consume before it ended."""
    for _ in range(50):
        try:
            found = list(await queue.consume(room(), wait=1))
        except RuntimeError:
            await asyncio.sleep(0.01)
            continue
        if found:
            return list(found)
    return []
