"""queue_upkeep.py: the queue's numbers as metrics, and the bound on events that were given up."""

import pytest
from unit.scheduler.samples import event, function

from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Condition, DeadEvent, Ending, LaneDepth, Line, OutcomeRecord, Room
from lambent.kernel.store.memory import MemoryStore
from lambent.scheduler.queue_memory import MemoryEventQueue
from lambent.scheduler.queue_upkeep import QueueUpkeep

ENDING = Ending(Condition.RETRIES_EXHAUSTED, at=0.0, attempts=3)


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def queue(clock: TestClock) -> MemoryEventQueue:
    return MemoryEventQueue(clock)


@pytest.fixture
async def upkeep(queue: MemoryEventQueue, clock: TestClock) -> QueueUpkeep:
    store = MemoryStore()
    await store.create(function("upkeep"))
    return QueueUpkeep(queue, store=store, clock=clock, keep_dead=2)


def shown() -> dict[str, float]:
    gauges = {
        "depth": metrics.queue_depth,
        "in_flight": metrics.queue_in_flight,
        "delayed": metrics.queue_delayed,
        "age": metrics.queue_age,
        "outcomes": metrics.queue_outcomes,
        "dead": metrics.queue_dead,
    }
    return {what: gauge.labels("upkeep")._value.get() for what, gauge in gauges.items()}


async def end(queue: MemoryEventQueue, number: int, *, dead: bool) -> None:
    await queue.publish(event(number))
    [delivery] = await queue.consume(Room({"uid": 1}), wait=0)
    item = DeadEvent(delivery.event, ENDING) if dead else OutcomeRecord(delivery.event, ENDING, "arn", False)
    await queue.replace(delivery, [item])


async def test_gauges_follow_the_queue_down_to_nothing(
    queue: MemoryEventQueue, upkeep: QueueUpkeep, clock: TestClock
) -> None:
    await end(queue, 1, dead=True)
    await end(queue, 2, dead=False)
    for number in (3, 4):
        await queue.publish(event(number))
    await clock.advance(7)
    await upkeep.look()
    assert shown() == {"depth": 2, "in_flight": 0, "delayed": 0, "age": 7, "outcomes": 1, "dead": 1}
    await queue.drop_lane("uid")
    await queue.purge("uid", Line.OUTCOMES)
    await upkeep.look()
    assert shown() == {"depth": 0, "in_flight": 0, "delayed": 0, "age": 0, "outcomes": 0, "dead": 0}


async def test_dead_events_beyond_what_is_kept_are_discarded_loudly(
    queue: MemoryEventQueue, upkeep: QueueUpkeep, caplog: pytest.LogCaptureFixture
) -> None:
    before = metrics.dead_discarded.labels("upkeep")._value.get()
    for number in range(5):
        await end(queue, number, dead=True)
    await upkeep.look()
    left = await queue.peek("uid", Line.DEAD, limit=9)
    assert [item.event.request_id for item in left if isinstance(item, DeadEvent)] == ["request-3", "request-4"]
    assert metrics.dead_discarded.labels("upkeep")._value.get() == before + 3
    assert "discarded" in caplog.text


async def test_dead_events_of_a_deleted_function_go_once_nothing_of_it_is_under_way(
    queue: MemoryEventQueue, upkeep: QueueUpkeep
) -> None:
    for number in (1, 2):
        await queue.publish(event(number, lane="uid-gone", name="gone"))
        [delivery] = await queue.consume(Room({"uid-gone": 1}), wait=0)
        await queue.replace(delivery, [DeadEvent(delivery.event, ENDING)])
    await end(queue, 3, dead=True)
    await queue.publish(event(4, lane="uid-gone", name="gone"))
    await upkeep.look()
    assert {depth.lane: depth.dead for depth in await queue.lanes()} == {"uid": 1, "uid-gone": 2}
    await queue.ack(await queue.consume(Room({"uid-gone": 1}), wait=0))
    await upkeep.look()
    assert {depth.lane: depth.dead for depth in await queue.lanes()} == {"uid": 1}


async def test_an_outage_leaves_the_numbers_as_they_are(
    queue: MemoryEventQueue, upkeep: QueueUpkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.publish(event(1))
    await upkeep.look()

    async def down() -> list[LaneDepth]:
        raise EventQueueUnavailable()

    monkeypatch.setattr(queue, "lanes", down)
    await upkeep.look()
    assert shown()["depth"] == 1


async def test_a_lane_of_a_deleted_function_is_no_series(queue: MemoryEventQueue, upkeep: QueueUpkeep) -> None:
    await queue.publish(event(1, lane="uid-gone", name="upkeep-gone"))
    await upkeep.look()
    assert b'function="upkeep-gone"' not in metrics.exposition()


async def test_a_function_whose_series_have_ended_is_not_shown_again(
    queue: MemoryEventQueue, upkeep: QueueUpkeep
) -> None:
    await queue.publish(event(1))
    await upkeep.look()
    await queue.drop_lane("uid")
    metrics.forget("upkeep")
    await upkeep.look()
    assert b'function="upkeep"' not in metrics.exposition()


async def test_numbers_that_another_process_shows_now_are_shown_as_nothing_here(
    queue: MemoryEventQueue, upkeep: QueueUpkeep
) -> None:
    await queue.publish(event(1))
    await upkeep.look()
    assert shown()["depth"] == 1
    upkeep.hide()
    assert shown()["depth"] == 0
    await upkeep.look()
    assert shown()["depth"] == 1
