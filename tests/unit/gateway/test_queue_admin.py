"""queue_admin.py and its routes' bodies: what an operator sees of the queue, and brings back."""

from dataclasses import replace
from typing import Any

import pytest
from handler_world import World

from lambent.gateway import queue_admin
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException
from lambent.kernel.events import Condition, DeadEvent, Ending, FailingTarget, Line, OutcomeRecord, Room
from lambent.kernel.models import Event
from lambent.scheduler.queue_memory import MemoryEventQueue

ENDING = Ending(
    Condition.RETRIES_EXHAUSTED, at=5.0, attempts=3, status=200, response=b'{"errorMessage": "boom"}'
)
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"


class QueueWorld(World):
    """With a real queue in memory, and one function."""

    def __init__(self) -> None:
        super().__init__()
        self.events = MemoryEventQueue(self.clock)
        self.services = replace(self.services, queue=self.events)

    async def publish(self, number: int, *, due: float | None = None) -> None:
        uid = (await self.stored()).uid
        now = self.clock.now()
        await self.events.publish(Event(f"r{number}", uid, "my-fn", b'{"n": 1}', now, due=due))

    async def end(self, number: int, *, dead: bool = True) -> None:
        await self.publish(number)
        [delivery] = await self.events.consume(Room(other_lanes=1), wait=0)
        item = (
            DeadEvent(delivery.event, ENDING) if dead else OutcomeRecord(delivery.event, ENDING, QUEUE, True, 4)
        )
        await self.events.replace(delivery, [item])


@pytest.fixture
async def world() -> QueueWorld:
    made = QueueWorld()
    await made.active()
    return made


async def test_depths_are_by_function_and_name_what_fails(world: QueueWorld) -> None:
    await world.end(1)
    await world.end(2, dead=False)
    await world.publish(3)
    await world.publish(4, due=world.clock.now() + 60)
    await world.clock.advance(5)
    await world.events.publish(Event("r9", "gone", "gone", b"{}", world.clock.now()))
    world.failing.append(FailingTarget(QUEUE, 7.0, 3, "down"))
    uid = (await world.stored()).uid
    found = await queue_admin.depths(world.services)
    assert {row["lane"]: row for row in found["functions"]}[uid] == {
        "function": "my-fn",
        "lane": uid,
        "ready": 1,
        "in_flight": 0,
        "delayed": 1,
        "oldest_age_seconds": 5.0,
        "outcomes": 1,
        "dead": 1,
    }
    assert {row["lane"]: row["function"] for row in found["functions"]}["gone"] is None
    assert found["targets"] == [{"arn": QUEUE, "since": 7.0, "failures": 3, "error": "down"}]


async def test_peek_shows_each_line(world: QueueWorld) -> None:
    await world.end(1)
    await world.end(2, dead=False)
    due = world.clock.now() + 60
    await world.publish(3, due=due)
    [event] = (await queue_admin.peek(world.services, "my-fn", "lane", 10))["items"]
    assert event == {
        "request_id": "r3",
        "source": "async",
        "accepted": world.clock.now(),
        "age_seconds": 0.0,
        "attempt": 1,
        "size": 8,
        "payload": '{"n": 1}',
        "due": due,
    }
    [dead] = (await queue_admin.peek(world.services, "my-fn", "dead", 10))["items"]
    assert (dead["request_id"], dead["condition"], dead["attempts"]) == ("r1", "RetriesExhausted", 3)
    assert dead["error"] == '{"errorMessage": "boom"}'
    [outcome] = (await queue_admin.peek(world.services, "my-fn", "outcomes", 10))["items"]
    assert (outcome["target"], outcome["dead_letter"], outcome["tries"]) == (QUEUE, True, 4)


async def test_a_redrive_takes_what_is_kept_here_or_the_dead_letter_queues(world: QueueWorld) -> None:
    await world.end(1)
    assert await queue_admin.redrive(world.services, "my-fn", 10, from_queue=False) == {"moved": 1}
    assert await queue_admin.redrive(world.services, "my-fn", 10, from_queue=True) == {"moved": 3}
    assert world.dead_letters == [("my-fn", 10)]


async def test_a_purge_names_its_line(world: QueueWorld) -> None:
    await world.end(1)
    await world.publish(2)
    assert await queue_admin.purge(world.services, "my-fn", "dead") == {"dropped": 1}
    assert len(await world.events.peek((await world.stored()).uid, Line.LANE, limit=9)) == 1


async def test_a_replay_finds_what_waits_and_what_was_given_up(world: QueueWorld) -> None:
    await world.end(1)
    await world.publish(2, due=world.clock.now() + 60)
    for request_id in ("r1", "r2"):
        assert await queue_admin.replay(world.services, request_id) == {"replayed": 1}
    deliveries = await world.events.consume(Room(other_lanes=9), wait=0)
    assert {delivery.event.request_id for delivery in deliveries} == {"r1", "r2"}
    with pytest.raises(ResourceNotFoundException, match="not kept"):
        await queue_admin.replay(world.services, "r3")


@pytest.mark.parametrize(("line", "limit"), [("nonsense", 10), ("lane", 0), ("lane", 101)])
async def test_what_makes_no_sense_is_refused(world: QueueWorld, line: str, limit: int) -> None:
    with pytest.raises(InvalidParameterValueException):
        await queue_admin.peek(world.services, "my-fn", line, limit)


async def test_an_unknown_function_is_not_found(world: QueueWorld) -> None:
    for call in (
        queue_admin.peek(world.services, "gone", "lane", 1),
        queue_admin.redrive(world.services, "gone", 1, from_queue=False),
        queue_admin.purge(world.services, "gone", "lane"),
    ):
        with pytest.raises(ResourceNotFoundException, match="Function not found"):
            await call


@pytest.mark.parametrize("asked", [[], "x", {"limit": "3"}, {"limit": True}, {"other": 1}])
def test_a_body_with_other_members_is_refused(asked: Any) -> None:
    with pytest.raises(InvalidParameterValueException):
        queue_admin.members(asked, {"limit": int})
