"""sqs.py: messages of a dead-letter queue become events again, whoever wrote them."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from unit.scheduler.samples import function

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Line
from lambent.kernel.models import Event, Function
from lambent.kernel.targets import Target
from lambent.scheduler.destinations.sqs import DeadLetterReader
from lambent.scheduler.queue_memory import MemoryEventQueue


class FakeSqs:
    """One queue, of which a message is seen once; also `Clients`, that calls it."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.there = {str(number): message for number, message in enumerate(messages)}
        self.seen: set[str] = set()

    async def call(self, target: Target, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        return {"QueueUrl": "url"}

    def receive_message(self, *, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:
        found = [key for key in self.there if key not in self.seen][:MaxNumberOfMessages]
        self.seen |= set(found)
        return {"Messages": [{**self.there[key], "ReceiptHandle": key} for key in found]} if found else {}

    def delete_message(self, *, ReceiptHandle: str, **_: Any) -> None:
        del self.there[ReceiptHandle]


def written(request_id: str | None) -> dict[str, Any]:
    attributes = {} if request_id is None else {"RequestID": {"StringValue": request_id}}
    return {"Body": '{"n": 1}', "MessageAttributes": attributes}


def with_dead_letters() -> Function:
    made = function()
    latest = replace(made.to_run, dead_letter="arn:aws:sqs:us-east-1:000000000000:dead")
    return replace(made, latest=latest)


def reader(sqs: FakeSqs, queue: MemoryEventQueue, clock: TestClock) -> DeadLetterReader:
    return DeadLetterReader(sqs, queue, clock)  # type: ignore[arg-type]


async def events(queue: MemoryEventQueue) -> list[Event]:
    found = await queue.peek("uid", Line.LANE, limit=100)
    return [each for each in found if isinstance(each, Event)]


async def test_a_message_becomes_a_new_event_under_its_old_id() -> None:
    clock, old = TestClock(), str(uuid.uuid4())
    queue, sqs = MemoryEventQueue(clock), FakeSqs(written(old))
    assert await reader(sqs, queue, clock).take(with_dead_letters(), 10) == 1
    [event] = await events(queue)
    assert (event.request_id, event.payload, event.accepted) == (old, b'{"n": 1}', clock.now())
    assert sqs.there == {}


@pytest.mark.parametrize("request_id", [None, "", "../../etc/passwd", "a\r\nLambda-Header: x", "x" * 300])
async def test_an_id_that_is_none_is_not_passed_on(request_id: str | None) -> None:
    clock = TestClock()
    queue = MemoryEventQueue(clock)
    await reader(FakeSqs(written(request_id)), queue, clock).take(with_dead_letters(), 10)
    [event] = await events(queue)
    assert str(uuid.UUID(event.request_id)) == event.request_id


async def test_a_message_whose_event_is_refused_stays() -> None:
    clock = TestClock()
    queue, sqs = MemoryEventQueue(clock, max_events=1), FakeSqs(written(None), written(None))
    with pytest.raises(EventQueueUnavailable):
        await reader(sqs, queue, clock).take(with_dead_letters(), 10)
    assert list(sqs.there) == ["1"]
