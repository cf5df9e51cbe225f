"""What every EventQueue must do, run against each adapter: one in memory, the others over real brokers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from unittest.mock import AsyncMock

import pytest

from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Condition, DeadEvent, Ending, Line, OutcomeRecord, Room
from lambent.kernel.models import Event, Tried
from lambent.kernel.ports import Delivery, EventQueue
from lambent.scheduler.amqp.queue import AmqpEventQueue
from lambent.scheduler.queue import KombuEventQueue
from lambent.scheduler.queue_memory import MemoryEventQueue

CLOCK = SystemClock()


MOST = 1000  # events of a lane


AnyQueue = KombuEventQueue | AmqpEventQueue | MemoryEventQueue

# What each adapter has; a test says what it needs and is skipped, by name, where that is missing.
HAS = {
    "memory": set[str](),
    "redis+streams": {"durability", "several processes"},
    "redis+cluster": {"durability", "several processes"},
    "amqp": {"durability", "several processes"},
    "kombu memory": set[str](),
}


@dataclass(frozen=True)
class Broker:
    """Makes adapters of one kind, as processes that start one after another or at once would."""

    name: str
    request: pytest.FixtureRequest

    async def start(self, consumer: str = "one") -> AnyQueue:
        made = make(self.name, self.request, consumer)
        await made.start()
        return made


@pytest.fixture(params=list(HAS))
def broker(request: pytest.FixtureRequest) -> Broker:
    marker = request.node.get_closest_marker("needs")
    needs = set(marker.args) if marker is not None else set[str]()
    if not needs <= HAS[request.param]:
        pytest.skip(f"{request.param} lacks: {', '.join(sorted(needs - HAS[request.param]))}")
    return Broker(request.param, request)


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[EventQueue]:
    made = await broker.start()
    yield made
    if isinstance(made, AmqpEventQueue):  # its brokers are not emptied between tests
        for lane in {depth.lane for depth in await made.lanes()}:
            await made.drop_lane(lane)
    await made.close()


def make(broker: str, request: pytest.FixtureRequest, consumer: str) -> AnyQueue:
    """An adapter, over a server of this run where it needs one."""
    if broker == "memory":
        return MemoryEventQueue(CLOCK, max_events=MOST)
    if broker.startswith("redis+"):
        found: str = request.getfixturevalue("redis_url" if broker == "redis+streams" else "redis_nodes_url")
        url = found.replace("redis://", "redis+streams://")
        return KombuEventQueue(url, consumer_name=consumer, blobs=MemoryBlobs(), shards=4, max_events=MOST)
    url = request.getfixturevalue("rabbit_server").url if broker == "amqp" else "memory://"
    return AmqpEventQueue(
        url, blobs=MemoryBlobs(), space=AsyncMock(return_value="test"), max_events=MOST, settle=0
    )


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
    [delivery] = await queue.consume(Room({"uid-a": 10}), wait=5)
    assert delivery.event == sent
    assert not delivery.redelivered


async def test_a_payload_of_a_megabyte_passes(queue: EventQueue) -> None:
    payload = b"\x00\xff" * (512 * 1024)
    await queue.publish(event(payload=payload))
    [delivery] = await queue.consume(Room({"uid-a": 1}), wait=5)
    assert delivery.event.payload == payload


async def test_consume_waits_for_an_event(queue: EventQueue) -> None:
    waiting = asyncio.ensure_future(queue.consume(Room({"uid-a": 1}), wait=20))
    await asyncio.sleep(0)
    await queue.publish(event())
    assert len(await waiting) == 1


async def test_consume_ends_empty_after_its_wait(queue: EventQueue) -> None:
    assert list(await queue.consume(Room({"uid-a": 1}), wait=0.05)) == []


async def test_a_lane_without_room_is_not_read(queue: EventQueue) -> None:
    await queue.publish(event(1, lane="uid-a"))
    await queue.publish(event(2, lane="uid-b"))
    deliveries = await queue.consume(Room({"uid-a": 0, "uid-b": 5}), wait=1)
    assert [delivery.event.lane for delivery in deliveries] == ["uid-b"]
    assert list(await queue.consume(Room({"uid-c": 5}), wait=0.05)) == []


async def test_no_more_events_come_than_there_is_room(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i)) for i in range(10)))
    first = await queue.consume(Room({"uid-a": 3}), wait=5)
    assert 1 <= len(first) <= 3
    await take(queue, Room({"uid-a": 100}), 10 - len(first))


async def test_room_for_other_lanes_opens_those_that_nobody_named(queue: EventQueue) -> None:
    await queue.publish(event(lane="never-heard-of"))
    [delivery] = await queue.consume(Room(other_lanes=1), wait=5)
    assert delivery.event.lane == "never-heard-of"


async def test_wake_ends_a_waiting_consume(queue: EventQueue) -> None:
    waiting = asyncio.ensure_future(queue.consume(Room({"uid-a": 1}), wait=30))
    await asyncio.sleep(0)
    queue.wake()
    assert list(await asyncio.wait_for(waiting, 10)) == []


async def test_a_delivered_event_is_in_flight_until_it_is_acked(queue: EventQueue) -> None:
    await queue.publish(event())
    deliveries = await queue.consume(Room({"uid-a": 1}), wait=5)
    [depth] = await queue.lanes()
    assert (depth.lane, depth.ready, depth.in_flight, depth.delayed) == ("uid-a", 0, 1, 0)
    assert depth.oldest_age is not None and 0 <= depth.oldest_age < 5
    assert list(await queue.consume(Room({"uid-a": 1}), wait=0.05)) == []
    await queue.ack(deliveries)
    assert list(await queue.lanes()) == []


async def test_acking_twice_changes_nothing(queue: EventQueue) -> None:
    await queue.publish(event())
    deliveries = await queue.consume(Room({"uid-a": 1}), wait=5)
    await queue.ack(deliveries)
    await queue.publish(event(2))
    await queue.ack(deliveries)
    assert len(await queue.consume(Room({"uid-a": 1}), wait=5)) == 1


async def test_delay_puts_the_changed_event_in_its_place_now(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await queue.consume(Room({"uid-a": 1}), wait=5)
    await queue.replace(delivery, [replace(delivery.event, attempt=2)])
    [again] = await queue.consume(Room({"uid-a": 1}), wait=5)
    assert again.event.attempt == 2
    await queue.ack([again])
    assert list(await queue.lanes()) == []


async def test_a_delayed_event_comes_when_it_is_due_and_not_before(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await queue.consume(Room({"uid-a": 1}), wait=5)
    due = CLOCK.now() + 0.3
    await queue.replace(delivery, [replace(delivery.event, due=due)])
    [depth] = await queue.lanes()
    assert (depth.ready, depth.in_flight, depth.delayed) == (0, 0, 1)
    [again] = await queue.consume(Room({"uid-a": 1}), wait=10)
    assert CLOCK.now() >= due - 0.005
    assert again.event.due is None
    await queue.ack([again])
    assert list(await queue.lanes()) == []


async def test_delaying_what_is_already_acked_brings_it_not_back(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await queue.consume(Room({"uid-a": 1}), wait=5)
    await queue.ack([delivery])
    await queue.replace(delivery, [delivery.event])
    assert list(await queue.lanes()) == []


async def test_an_event_published_with_a_due_time_waits_for_it(queue: EventQueue) -> None:
    await queue.publish(replace(event(), due=CLOCK.now() + 0.2))
    assert list(await queue.consume(Room({"uid-a": 1}), wait=0.02)) == []
    assert len(await queue.consume(Room({"uid-a": 1}), wait=10)) == 1


async def test_a_dropped_lane_is_gone_with_its_events_and_works_anew(queue: EventQueue) -> None:
    for number in range(3):
        await queue.publish(event(number))
    [delivery] = await queue.consume(Room({"uid-a": 1}), wait=5)
    await queue.replace(delivery, [replace(delivery.event, due=CLOCK.now() + 60)])
    assert await queue.drop_lane("uid-a") == 3
    assert await queue.drop_lane("uid-a") == 0
    assert list(await queue.lanes()) == []
    await queue.publish(event(9))
    [delivery] = await queue.consume(Room({"uid-a": 5}), wait=5)
    assert delivery.event.request_id == "request-9"


async def test_a_flooded_lane_leaves_others_their_turn(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i, lane="flood")) for i in range(600)))
    await queue.publish(event(1, lane="quiet"))
    seen: list[str] = []
    while "quiet" not in seen:
        deliveries = await queue.consume(Room({"flood": 64, "quiet": 64}), wait=5)
        assert deliveries
        seen += [delivery.event.lane for delivery in deliveries]
        await queue.ack(deliveries)
    assert len(seen) <= 2 * 64 + 1


async def test_a_lane_that_begins_during_a_flood_is_heard_of(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i, lane="flood")) for i in range(300)))
    room = {"flood": 10, "late": 10}
    await queue.ack(await queue.consume(Room(room), wait=5))
    await queue.publish(event(1, lane="late"))
    seen: list[str] = []
    for _ in range(3):
        deliveries = await queue.consume(Room(room), wait=5)
        seen += [delivery.event.lane for delivery in deliveries]
        await queue.ack(deliveries)
    assert "late" in seen


async def test_many_publishers_lose_and_double_nothing(queue: EventQueue) -> None:
    lanes = [f"uid-{i}" for i in range(5)]
    await asyncio.gather(*(queue.publish(event(i, lane=lanes[i % 5])) for i in range(500)))
    seen: list[str] = []
    while len(seen) < 500:
        deliveries = await queue.consume(Room(dict.fromkeys(lanes, 50)), wait=5)
        assert deliveries
        seen += [delivery.event.request_id for delivery in deliveries]
        await queue.ack(deliveries)
    assert sorted(seen) == sorted(f"request-{i}" for i in range(500))
    assert list(await queue.lanes()) == []


async def test_a_consume_that_is_cancelled_loses_no_event(queue: EventQueue) -> None:
    waiting = asyncio.ensure_future(queue.consume(Room({"uid-a": 1}), wait=30))
    await asyncio.sleep(0)
    publishing = asyncio.ensure_future(queue.publish(event()))
    waiting.cancel()
    await publishing
    queue.wake()
    deliveries = await _until(queue, lambda: {"uid-a": 1})
    assert len(deliveries) == 1


def ending(condition: Condition = Condition.RETRIES_EXHAUSTED, response: bytes | None = b"[1]") -> Ending:
    return Ending(
        condition,
        at=1.5,
        attempts=3,
        status=200,
        executed_version="$LATEST",
        function_error="Unhandled",
        response=response,
        message="why",
    )


def outcome(of: Event, number: int = 1) -> OutcomeRecord:
    return OutcomeRecord(of, ending(), f"arn:{number}", dead_letter=number == 1, tries=2)


async def take(queue: EventQueue, room: Room, count: int = 1) -> list[Delivery]:
    """`count` deliveries."""
    found: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await queue.consume(room, wait=5)
    assert len(found) == count
    return found


async def dead_events(queue: EventQueue, *numbers: int, lane: str = "uid-a") -> None:
    """Publishes events and gives them up."""
    for number in numbers:
        await queue.publish(event(number, lane=lane))
        [delivery] = await take(queue, Room({lane: 1}))
        await queue.replace(delivery, [DeadEvent(delivery.event, ending(response=None), "arn", "it is down")])


@pytest.mark.parametrize("payload", [b"{}", b"\xff" * 200_000])
async def test_an_events_outcomes_take_its_place(queue: EventQueue, payload: bytes) -> None:
    await queue.publish(event(payload=payload))
    [delivery] = await take(queue, Room({"uid-a": 1}))
    records = [outcome(delivery.event), outcome(delivery.event, 2)]
    await queue.replace(delivery, records)
    [depth] = await queue.lanes()
    assert (depth.ready, depth.in_flight, depth.delayed, depth.outcomes) == (0, 0, 0, 2)
    assert list(await queue.consume(Room({"uid-a": 5}, other_lanes=5), wait=0.05)) == []
    deliveries = await take(queue, Room(other_outcomes=5), 2)
    assert [each.outcome for each in deliveries] == records
    assert deliveries[0].event == delivery.event
    await queue.ack(deliveries)
    assert list(await queue.lanes()) == []


async def test_an_outcome_is_delayed_and_read_only_where_there_is_room(queue: EventQueue) -> None:
    await queue.publish(event())
    [delivery] = await take(queue, Room({"uid-a": 1}))
    await queue.replace(delivery, [outcome(delivery.event)])
    assert list(await queue.consume(Room(outcomes={"uid-a": 0}, other_outcomes=5), wait=0.05)) == []
    [sent] = await take(queue, Room(outcomes={"uid-a": 5}))
    assert sent.outcome is not None
    again = replace(sent.outcome, tries=3)
    await queue.replace(sent, [replace(again, due=CLOCK.now() + 0.2)])
    [sent] = await take(queue, Room(other_outcomes=1))
    assert sent.outcome == again
    await queue.ack([sent])


async def test_dead_events_are_kept_and_never_delivered(queue: EventQueue) -> None:
    await dead_events(queue, 1, 2)
    [depth] = await queue.lanes()
    assert (depth.ready, depth.in_flight, depth.oldest_age, depth.dead) == (0, 0, None, 2)
    room = Room(other_lanes=10, other_outcomes=10)
    assert list(await queue.consume(room, wait=0.1)) == []
    [first, second] = await queue.peek("uid-a", Line.DEAD, limit=10)
    assert isinstance(first, DeadEvent) and isinstance(second, DeadEvent)
    assert (first.event.request_id, second.event.request_id) == ("request-1", "request-2")
    assert (first.ending, first.target, first.why) == (ending(response=None), "arn", "it is down")


async def test_a_redrive_makes_new_events_of_dead_ones(queue: EventQueue) -> None:
    await dead_events(queue, 1, 2, 3)
    assert await queue.redrive("uid-a", limit=10, request_id="request-2") == 1
    [delivery] = await take(queue, Room({"uid-a": 5}))
    assert (delivery.event.request_id, delivery.event.attempt) == ("request-2", 1)
    assert await queue.redrive("uid-a", limit=1) == 1
    assert await queue.redrive("uid-a", limit=10) == 1
    assert await queue.redrive("uid-a", limit=10) == 0
    rest = await take(queue, Room({"uid-a": 5}), 2)
    assert {each.event.request_id for each in rest} == {"request-1", "request-3"}


async def test_a_redriven_events_age_attempts_and_chain_begin_anew(queue: EventQueue) -> None:
    old = replace(
        event(), accepted=CLOCK.now() - 86_400, attempt=3, trace_id="Root=1-2-3;Lineage=a87bd80c:16;Sampled=1"
    )
    await queue.publish(replace(old, tried=Tried(429, None, "Rate Exceeded.")))
    [delivery] = await take(queue, Room({"uid-a": 1}))
    await queue.replace(delivery, [DeadEvent(delivery.event, ending())])
    before = CLOCK.now()
    assert await queue.redrive("uid-a", limit=1) == 1
    [delivery] = await take(queue, Room({"uid-a": 1}))
    again = delivery.event
    assert before <= again.accepted <= CLOCK.now()
    assert again == replace(old, accepted=again.accepted, attempt=1, trace_id="Root=1-2-3;Sampled=1")


@pytest.mark.parametrize("payload", [b"{}", b"\xff" * 200_000])
async def test_a_redrive_of_what_succeeded_sends_its_record_and_runs_nothing(
    queue: EventQueue, payload: bytes
) -> None:
    await queue.publish(event(payload=payload))
    [delivery] = await take(queue, Room({"uid-a": 1}))
    record = OutcomeRecord(delivery.event, ending(Condition.SUCCESS), "arn", dead_letter=False, tries=9)
    await queue.replace(delivery, [record])
    [sent] = await take(queue, Room(other_outcomes=1))
    await queue.replace(sent, [DeadEvent(record.event, record.ending, record.target, "it is down")])
    assert await queue.redrive("uid-a", limit=1) == 1
    assert list(await queue.consume(Room({"uid-a": 1}), wait=0.05)) == []
    [sent] = await take(queue, Room(other_outcomes=1))
    assert sent.outcome == replace(record, tries=0)
    await queue.ack([sent])
    assert list(await queue.lanes()) == []


async def test_a_large_payload_survives_every_move(queue: EventQueue) -> None:
    payload = b"\x00" * 300_000
    await queue.publish(event(payload=payload))
    [delivery] = await take(queue, Room({"uid-a": 1}))
    await queue.replace(delivery, [replace(delivery.event, attempt=2)])
    [delivery] = await take(queue, Room({"uid-a": 1}))
    assert delivery.event.payload == payload
    await queue.replace(delivery, [DeadEvent(delivery.event, ending(response=b"x" * 100_000))])
    [dead] = await queue.peek("uid-a", Line.DEAD, limit=1)
    assert isinstance(dead, DeadEvent) and dead.event.payload == payload
    assert await queue.redrive("uid-a", limit=1) == 1
    [delivery] = await take(queue, Room({"uid-a": 1}))
    assert delivery.event.payload == payload
    await queue.replace(delivery, [outcome(delivery.event)])
    [sent] = await take(queue, Room(other_outcomes=1))
    assert sent.event.payload == payload
    await queue.ack([sent])


async def test_a_hastened_event_comes_at_once(queue: EventQueue) -> None:
    for number in (1, 2):
        await queue.publish(replace(event(number), due=CLOCK.now() + 60))
    assert await queue.hasten("uid-a", "request-2") == 1
    assert await queue.hasten("uid-a", "request-9") == 0
    [delivery] = await take(queue, Room({"uid-a": 5}))
    assert delivery.event.request_id == "request-2"


async def test_peek_shows_ready_and_delayed_events_and_takes_none(queue: EventQueue) -> None:
    due = CLOCK.now() + 60
    await queue.publish(replace(event(1), due=due))
    await queue.publish(event(2))
    await queue.publish(event(3))
    found = await queue.peek("uid-a", Line.LANE, limit=10)
    assert [each.request_id for each in found if isinstance(each, Event)] == [
        "request-2",
        "request-3",
        "request-1",
    ]
    assert isinstance(found[2], Event) and found[2].due is not None and abs(found[2].due - due) < 1
    assert len(await queue.peek("uid-a", Line.LANE, limit=2)) == 2
    assert len(await take(queue, Room({"uid-a": 5}), 2)) == 2
    assert list(await queue.peek("uid-none", Line.LANE, limit=2)) == []


async def test_a_purge_drops_what_waits_and_leaves_what_runs(queue: EventQueue) -> None:
    for number in range(3):
        await queue.publish(event(number))
    await queue.publish(replace(event(3), due=CLOCK.now() + 60))
    [running] = await take(queue, Room({"uid-a": 1}))
    assert await queue.purge("uid-a", Line.LANE) == 3
    [depth] = await queue.lanes()
    assert (depth.ready, depth.in_flight, depth.delayed) == (0, 1, 0)
    await queue.replace(running, [DeadEvent(running.event, ending())])
    assert await queue.purge("uid-a", Line.DEAD) == 1
    assert list(await queue.lanes()) == []


async def test_dead_events_beyond_what_is_kept_are_dropped_oldest_first(queue: EventQueue) -> None:
    await dead_events(queue, 1, 2, 3, 4)
    assert await queue.trim_dead("uid-a", keep=10) == 0
    assert await queue.trim_dead("uid-a", keep=1) == 3
    [left] = await queue.peek("uid-a", Line.DEAD, limit=10)
    assert isinstance(left, DeadEvent) and left.event.request_id == "request-4"


async def test_a_dropped_lane_takes_its_dead_events_with_it_and_leaves_its_outcomes(queue: EventQueue) -> None:
    await dead_events(queue, 1)
    await queue.publish(event(2))
    [delivery] = await take(queue, Room({"uid-a": 1}))
    await queue.replace(delivery, [outcome(delivery.event)])
    await queue.publish(event(3))
    assert await queue.drop_lane("uid-a") == 1
    [depth] = await queue.lanes()
    assert (depth.ready, depth.in_flight, depth.delayed, depth.outcomes, depth.dead) == (0, 0, 0, 1, 0)
    [sent] = await take(queue, Room(other_outcomes=1))
    assert sent.outcome == outcome(delivery.event)
    await queue.ack([sent])
    assert list(await queue.lanes()) == []


async def test_a_full_lane_refuses_and_others_do_not(queue: EventQueue) -> None:
    await asyncio.gather(*(queue.publish(event(i)) for i in range(MOST)))
    refused = await asyncio.gather(
        *(queue.publish(event(i, lane=lane)) for i in range(20) for lane in ("uid-a", "uid-b")),
        return_exceptions=True,
    )
    assert [type(each) for each in refused[::2]] == [EventQueueUnavailable] * 20, refused
    assert all(isinstance(each, EventQueueUnavailable) and each.full for each in refused[::2])
    assert refused[1::2] == [None] * 20
    [delivery] = await take(queue, Room({"uid-a": 1}))
    await queue.replace(delivery, [replace(delivery.event, attempt=2)])  # a retry needs no new place
    [delivery] = await take(queue, Room({"uid-a": 1}))
    await queue.ack([delivery])
    await queue.publish(event(1))


async def _until(queue: EventQueue, room: Callable[[], dict[str, int]]) -> list[object]:
    """The first events, however the cancelled consume before it ended."""
    for _ in range(50):
        try:
            found = list(await queue.consume(Room(room()), wait=1))
        except RuntimeError:
            await asyncio.sleep(0.01)
            continue
        if found:
            return list(found)
    return []


@pytest.mark.needs("durability")
async def test_what_was_accepted_is_there_for_the_next_process(broker: Broker) -> None:
    first = await broker.start()
    await first.publish(event(1))
    await first.publish(event(2))
    [taken] = await take(first, Room({"uid-a": 1}))
    await first.publish(replace(event(3), due=CLOCK.now() + 0.2))
    await dead_events(first, 4, lane="uid-b")
    await first.close()
    second = await broker.start()
    deliveries = await take(second, Room({"uid-a": 5}), 3)
    again = {each.event.request_id: each.redelivered for each in deliveries}
    assert set(again) == {"request-1", "request-2", "request-3"} and again[taken.event.request_id]
    assert len(await second.peek("uid-b", Line.DEAD, limit=5)) == 1
    await second.ack(deliveries)
    for lane in ("uid-a", "uid-b"):
        await second.drop_lane(lane)
    await second.close()


@pytest.mark.needs("several processes")
async def test_an_event_comes_to_one_of_two_processes(broker: Broker) -> None:
    one, two = await broker.start("one"), await broker.start("two")
    await asyncio.gather(*(each.publish(event(i)) for i in range(50) for each in (one, two)))
    seen: list[str] = []
    async with asyncio.timeout(30):
        while len(seen) < 100:
            for each in (one, two):
                deliveries = await each.consume(Room({"uid-a": 10}), wait=0.2)
                seen += [delivery.event.request_id for delivery in deliveries]
                await each.ack(deliveries)
    assert sorted(seen) == sorted([f"request-{i}" for i in range(50)] * 2)
    assert list(await one.consume(Room({"uid-a": 10}), wait=0.05)) == []
    await one.drop_lane("uid-a")
    for each in (one, two):
        await each.close()
