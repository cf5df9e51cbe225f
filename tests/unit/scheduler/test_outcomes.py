"""outcomes.py: what a target does not take waits, is counted, and is never lost; nobody waits for another's
target."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from unit.scheduler.samples import event

from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.events import Condition, DeadEvent, Ending, Line, OutcomeRecord, Room
from lambent.kernel.targets import Target, TargetKind
from lambent.kernel.tasks import Tasks
from lambent.scheduler.destinations.base import DeliveryFailed
from lambent.scheduler.outcomes import Outcomes
from lambent.scheduler.queue_memory import MemoryEventQueue

QUEUE, OTHER = (f"arn:aws:sqs:us-east-1:000000000000:{name}" for name in ("queue", "other"))


@dataclass
class World:
    """A queue, its outcomes, and a target that fails as `failure` says."""

    clock: TestClock = field(default_factory=TestClock)
    tasks: Tasks = field(default_factory=lambda: Tasks("test"))
    sent: list[OutcomeRecord] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    held: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.queue = MemoryEventQueue(self.clock)
        self.outcomes = Outcomes(
            queue=self.queue,
            senders={TargetKind.SQS: self.send},
            clock=self.clock,
            tasks=self.tasks,
            total=6,
            per_lane=2,
            per_target=4,
            max_age=3600,
        )

    async def send(self, record: OutcomeRecord, target: Target) -> None:
        self.tries.append(record.event.request_id)
        if self.held is not None:
            await self.held.wait()
        if target.arn in self.failures:
            raise self.failures[target.arn]
        self.sent.append(record)

    async def put(
        self, number: int, target: str = QUEUE, *, lane: str = "uid", dead_letter: bool = False
    ) -> None:
        """An outcome on its line."""
        await self.queue.publish(event(number, lane=lane))
        [delivery] = await self.queue.consume(Room({lane: 1}), wait=0)
        ending = Ending(Condition.RETRIES_EXHAUSTED, at=self.clock.now(), attempts=3)
        await self.queue.replace(delivery, [OutcomeRecord(delivery.event, ending, target, dead_letter)])

    async def run(self) -> None:
        """What a feed does, until nothing more is there."""
        while True:
            lanes, others = self.outcomes.room()
            deliveries = await self.queue.consume(Room(outcomes=lanes, other_outcomes=others), wait=0)
            for delivery in deliveries:
                assert delivery.outcome is not None
                self.outcomes.take(delivery, delivery.outcome)
            await self.clock.settle(60)
            if not deliveries:
                return

    async def waiting(self) -> int:
        return sum(depth.outcomes for depth in await self.queue.lanes())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(0)


async def test_an_outcome_is_sent_once_and_is_done(world: World) -> None:
    await world.put(1)
    await world.run()
    assert [record.event.request_id for record in world.sent] == ["request-1"]
    assert await world.queue.lanes() == []
    assert world.outcomes.failing() == []


async def test_a_target_that_is_down_is_tried_again_with_growing_waits(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    before = metrics.destination_failures.labels("f")._value.get()
    await world.put(1)
    await world.run()
    for number, wait in enumerate((1, 2, 4), 2):
        await world.clock.advance(wait - 0.5)
        await world.run()
        assert len(world.tries) == number - 1
        await world.clock.advance(0.5)
        await world.run()
        assert len(world.tries) == number
    assert metrics.destination_failures.labels("f")._value.get() == before + 4
    [target] = world.outcomes.failing()
    assert (target.arn, target.failures, target.error) == (QUEUE, 4, "down")
    world.failures.clear()
    await world.clock.advance(8)
    await world.run()
    assert len(world.sent) == 1
    assert world.outcomes.failing() == []
    assert await world.queue.lanes() == []


async def test_a_target_that_nothing_is_on_its_way_to_any_more_fails_no_more(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    await world.put(1)
    await world.run()
    await world.clock.advance(1)
    await world.run()
    assert await world.queue.purge("uid", Line.OUTCOMES) == 1
    await world.clock.advance(61)
    assert len(world.outcomes.failing()) == 1
    await world.clock.advance(2)
    assert world.outcomes.failing() == []


async def test_what_is_on_its_way_to_a_failing_target_waits_untried(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    await world.put(1)
    await world.run()
    for number in range(2, 8):
        await world.put(number)
    await world.run()
    assert world.tries == ["request-1"]
    assert await world.waiting() == 7
    world.failures.clear()
    await world.clock.advance(1)
    await world.run()
    await world.clock.advance(1)  # others were not tried together with the first
    await world.run()
    assert len(world.sent) == 7


async def test_a_target_that_has_failed_is_tried_by_one_at_a_time(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    await world.put(1)
    await world.run()
    for number in range(2, 6):
        await world.put(number, lane=f"lane-{number}")
    await world.run()
    world.held = asyncio.Event()
    await world.clock.advance(1)
    await world.run()
    assert len(world.tries) == 2
    world.held.set()
    await world.clock.settle(60)
    assert len(world.tries) == 2
    [target] = world.outcomes.failing()
    assert target.failures == 2


async def test_a_target_that_hangs_leaves_places_for_others(world: World) -> None:
    world.held = asyncio.Event()
    for number in range(10):
        await world.put(number, lane=f"lane-{number}")
    await world.run()
    assert len(world.tries) == 4
    await world.put(10, OTHER)
    await world.run()
    assert world.tries[4:] == ["request-10"]
    world.held.set()
    await world.clock.settle(60)
    await world.clock.advance(1)
    await world.run()
    await world.clock.advance(1)
    await world.run()
    assert len(world.sent) == 11


async def test_another_target_is_not_held_up(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    await world.put(1)
    await world.put(2, OTHER)
    await world.run()
    assert [record.event.request_id for record in world.sent] == ["request-2"]


async def test_a_slow_target_takes_no_other_functions_turn(world: World) -> None:
    world.held = asyncio.Event()
    for number in range(5):
        await world.put(number)
    await world.put(9, OTHER, lane="uid-other")
    await world.run()
    assert sorted(world.tries) == ["request-0", "request-1", "request-9"]
    world.held.set()
    await world.clock.settle(60)
    await world.run()
    assert len(world.sent) == 6


async def test_what_a_target_will_never_take_becomes_a_dead_event(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.failures[QUEUE] = DeliveryFailed("too large", final=True)
    await world.put(1)
    await world.run()
    [dead] = await world.queue.peek("uid", Line.DEAD, limit=9)
    assert isinstance(dead, DeadEvent)
    assert (dead.event.request_id, dead.target, dead.why) == ("request-1", QUEUE, "too large")
    assert world.outcomes.failing() == []
    assert "given up" in caplog.text


async def test_what_no_target_takes_for_too_long_becomes_a_dead_event(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    await world.put(1)
    for _ in range(20):
        await world.run()
        await world.clock.advance(300)
    await world.run()
    [dead] = await world.queue.peek("uid", Line.DEAD, limit=9)
    assert isinstance(dead, DeadEvent) and dead.why == "down"
    assert await world.waiting() == 0


async def test_failures_of_a_dead_letter_queue_are_counted_as_such(world: World) -> None:
    world.failures[QUEUE] = DeliveryFailed("down")
    before = metrics.dead_letter_errors.labels("f")._value.get()
    await world.put(1, dead_letter=True)
    await world.run()
    assert metrics.dead_letter_errors.labels("f")._value.get() == before + 1


async def test_a_defect_of_ours_loses_no_outcome(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.failures[QUEUE] = KeyError("a defect")
    await world.put(1)
    await world.run()
    assert await world.waiting() == 1
    assert "a defect" in caplog.text


async def test_a_target_of_an_unknown_kind_is_given_up(world: World) -> None:
    await world.put(1, "arn:aws:kinesis:us-east-1:000000000000:stream/s")
    await world.run()
    assert len(await world.queue.peek("uid", Line.DEAD, limit=9)) == 1


async def test_stop_takes_no_more_and_waits_for_what_is_sent(world: World) -> None:
    world.held = asyncio.Event()
    await world.put(1)
    await world.run()
    stopping = asyncio.ensure_future(world.outcomes.stop())
    await world.clock.settle()
    assert world.outcomes.room() == ({"uid": 0}, 0)
    assert not stopping.done()
    world.held.set()
    await asyncio.wait_for(stopping, 5)
    assert len(world.sent) == 1
