"""Payloads beside the queue, when their disk is full or cannot be read for a while: nothing is lost, nothing is
stuck, nothing runs again for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from kombu.transport.virtual import Message

from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.errors import EventQueueUnavailable, ServiceException
from lambent.kernel.events import Condition, DeadEvent, Ending, OutcomeRecord, Room
from lambent.kernel.models import Event
from lambent.kernel.ports import Delivery
from lambent.scheduler import queue_operations as operations
from lambent.scheduler.queue import KombuEventQueue
from lambent.scheduler.transport.streams import close_channel, open_channel

LARGE = b"x" * 100_000
ENDING = Ending(Condition.SUCCESS, time.time(), 1, status=200, response=LARGE)


class FaultyBlobs(MemoryBlobs):
    """Refuses what `refused` names; `asked` is set each time it did."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = ""
        self.asked = asyncio.Event()

    def _check(self, what: str) -> None:
        if what == self.refused:
            self.asked.set()
            raise ServiceException(f"The disk refuses to {what}.")

    async def put_named(self, name: str, data: bytes) -> None:
        self._check("write")
        await super().put_named(name, data)

    async def get_named(self, name: str) -> bytes:
        self._check("read")
        return await super().get_named(name)

    async def touch_named(self, name: str) -> None:
        self._check("touch")
        await super().touch_named(name)


@pytest.fixture
def blobs() -> FaultyBlobs:
    return FaultyBlobs()


@pytest.fixture
async def queue(redis_url: str, blobs: FaultyBlobs) -> AsyncIterator[KombuEventQueue]:
    made = KombuEventQueue(redis_url, consumer_name="one", blobs=blobs, shards=4)
    await made.start()
    yield made
    await made.close()


async def take(queue: KombuEventQueue) -> Delivery:
    async with asyncio.timeout(30):
        while True:
            for delivery in await queue.consume(Room({"uid": 1}, {"uid": 1}), wait=5):
                return delivery


async def delivered(queue: KombuEventQueue) -> Delivery:
    await queue.publish(Event("request", "uid", "function", LARGE, time.time()))
    return await take(queue)


@pytest.mark.parametrize("refused", ["write", "touch"])
async def test_what_follows_an_event_waits_for_a_disk_that_refuses(
    queue: KombuEventQueue, blobs: FaultyBlobs, refused: str
) -> None:
    delivery = await delivered(queue)
    blobs.refused = refused
    item = (
        replace(delivery.event, attempt=2)
        if refused == "touch"
        else OutcomeRecord(delivery.event, ENDING, "arn", dead_letter=False)
    )
    replacing = asyncio.ensure_future(queue.replace(delivery, [item]))
    await blobs.asked.wait()
    assert not replacing.done()
    blobs.refused = ""
    await replacing
    after = await take(queue)
    assert (after.outcome or after.event) == item
    await queue.ack([after])
    assert list(await queue.lanes()) == []
    assert list(await blobs.named(untouched_seconds=0)) == []


async def test_an_outcome_that_waits_for_its_target_is_not_written_anew(
    queue: KombuEventQueue, blobs: FaultyBlobs
) -> None:
    delivery = await delivered(queue)
    await queue.replace(delivery, [OutcomeRecord(delivery.event, ENDING, "arn", dead_letter=False)])
    sent = await take(queue)
    before = await blobs.named(untouched_seconds=0)
    blobs.refused = "write"
    assert sent.outcome is not None
    await asyncio.wait_for(queue.replace(sent, [replace(sent.outcome, tries=1)]), 20)
    blobs.refused = ""
    sent = await take(queue)
    assert sent.outcome is not None
    assert (sent.outcome.tries, sent.outcome.event.payload, sent.outcome.ending) == (1, LARGE, ENDING)
    assert await blobs.named(untouched_seconds=0) == before
    await queue.replace(sent, [DeadEvent(sent.event, sent.outcome.ending, "arn", "no")])
    assert await queue.redrive("uid", limit=1) == 1
    sent = await take(queue)
    assert sent.outcome is not None
    assert (sent.outcome.event.payload, sent.outcome.ending) == (LARGE, ENDING)
    await queue.ack([sent])
    assert list(await blobs.named(untouched_seconds=0)) == []


async def test_a_closing_queue_waits_for_no_disk(queue: KombuEventQueue, blobs: FaultyBlobs) -> None:
    delivery = await delivered(queue)
    blobs.refused = "write"
    record = OutcomeRecord(delivery.event, ENDING, "arn", dead_letter=False)
    replacing = asyncio.ensure_future(queue.replace(delivery, [record]))
    await blobs.asked.wait()
    await queue.close()
    with pytest.raises(EventQueueUnavailable):
        await replacing


async def test_an_event_whose_payload_cannot_be_read_now_comes_later(
    queue: KombuEventQueue, blobs: FaultyBlobs
) -> None:
    await queue.publish(Event("request", "uid", "function", LARGE, time.time()))
    blobs.refused = "read"
    taking = asyncio.ensure_future(take(queue))
    await blobs.asked.wait()
    blobs.refused = ""
    delivery = await taking
    assert delivery.event.payload == LARGE
    await queue.ack([delivery])
    assert list(await queue.lanes()) == []


async def test_a_redrive_during_a_trim_keeps_its_payload(
    redis_url: str, queue: KombuEventQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = await delivered(queue)
    await queue.replace(delivery, [DeadEvent(delivery.event, ENDING)])
    channel = open_channel(redis_url, prefix="lambent:q", shards=4)
    look = channel.peek

    def peek(name: str, limit: int, *, after: str = "-") -> list[Message]:
        """What `trim` has seen is redriven before it drops it."""
        seen = look(name, limit, after=after)
        monkeypatch.undo()
        found = operations.dead(channel, "uid", 10, None)
        assert operations.redrive(channel, "uid", found, time.time()) == len(seen) == 1
        return seen

    monkeypatch.setattr(channel, "peek", peek)
    try:
        assert await asyncio.to_thread(operations.trim, channel, "uid", 0) == (0, [])
    finally:
        close_channel(channel)
    again = await take(queue)
    assert again.event.payload == LARGE
    await queue.ack([again])
