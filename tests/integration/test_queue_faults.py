"""The queue over a real server that is killed, paused, full or shared: what was accepted is there; no hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from support import RedisServer

from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Condition, Ending, Line, OutcomeRecord, Room
from lambent.kernel.models import Event
from lambent.kernel.ports import Delivery
from lambent.scheduler.queue import KombuEventQueue
from lambent.scheduler.transport.streams import Channel

Make = Callable[..., Awaitable[KombuEventQueue]]


@pytest.fixture
async def make_queue() -> AsyncIterator[Make]:
    queues: list[KombuEventQueue] = []

    async def make(
        server: RedisServer, name: str = "one", *, claim_idle: float = 30.0, url: str = ""
    ) -> KombuEventQueue:
        queue = KombuEventQueue(
            url or server.url,
            consumer_name=name,
            blobs=MemoryBlobs(),
            shards=4,
            claim_idle=claim_idle,
            timeout=1.0,
        )
        queues.append(queue)
        await queue.start()
        return queue

    yield make
    for queue in queues:
        await queue.close()


def event(number: int = 1, *, payload: bytes = b"{}") -> Event:
    return Event(f"request-{number}", "uid", "function", payload, time.time())


async def take(queue: KombuEventQueue, count: int) -> list[Delivery]:
    """`count` deliveries, or a failure after 20 s."""
    found: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await queue.consume(Room({"uid": 100}), wait=5)
    return found


async def test_accepted_events_survive_a_kill_of_the_server(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis)
    await asyncio.gather(*(queue.publish(event(i)) for i in range(50)))
    await asyncio.to_thread(own_redis.restart)
    deliveries = await take(queue, 50)
    assert sorted(d.event.request_id for d in deliveries) == sorted(f"request-{i}" for i in range(50))


async def test_a_waiting_consumer_goes_on_after_a_restart(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis)
    await queue.publish(event(1))
    await queue.ack(await take(queue, 1))
    waiting = asyncio.ensure_future(take(queue, 1))
    await asyncio.to_thread(own_redis.restart)
    async with asyncio.timeout(20):
        while True:
            try:
                await queue.publish(event(2))
                break
            except EventQueueUnavailable:
                continue
    [delivery] = await waiting
    assert delivery.event.request_id == "request-2"


async def test_a_publish_to_a_dead_server_is_refused_soon(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis)
    await queue.publish(event(1))
    own_redis.kill()
    began = time.monotonic()
    with pytest.raises(EventQueueUnavailable):
        await queue.publish(event(2))
    assert time.monotonic() - began < 5


async def test_a_publish_to_a_hanging_server_is_refused_in_time(
    own_redis: RedisServer, make_queue: Make
) -> None:
    queue = await make_queue(own_redis)
    await queue.publish(event(1))
    own_redis.pause()
    began = time.monotonic()
    results = await asyncio.gather(*(queue.publish(event(i)) for i in range(5)), return_exceptions=True)
    assert all(isinstance(result, EventQueueUnavailable) for result in results)
    assert time.monotonic() - began < 8
    own_redis.resume()


async def test_killing_the_server_under_load_loses_no_accepted_event(
    own_redis: RedisServer, make_queue: Make
) -> None:
    queue = await make_queue(own_redis)
    accepted: set[str] = set()
    over = asyncio.Event()

    async def publisher(first: int) -> None:
        number = first
        while not over.is_set():
            number += 1000
            try:
                await queue.publish(event(number))
            except EventQueueUnavailable:
                await asyncio.sleep(0.01)
            else:
                accepted.add(f"request-{number}")

    publishers = [asyncio.ensure_future(publisher(i)) for i in range(8)]
    seen: set[str] = set()
    for _ in range(3):
        before = len(accepted)
        while len(accepted) < before + 100:
            for delivery in await queue.consume(Room({"uid": 20}), wait=0.05):
                seen.add(delivery.event.request_id)
                await queue.ack([delivery])
        await asyncio.to_thread(own_redis.restart)
    over.set()
    await asyncio.gather(*publishers)
    async with asyncio.timeout(30):
        while not accepted <= seen:
            deliveries = await queue.consume(Room({"uid": 100}), wait=1)
            seen |= {delivery.event.request_id for delivery in deliveries}
            await queue.ack(deliveries)


async def test_an_ack_during_an_outage_gets_through_after_it(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis)
    await queue.publish(event())
    deliveries = await take(queue, 1)
    own_redis.kill()
    acking = asyncio.ensure_future(queue.ack(deliveries))
    done, _ = await asyncio.wait({acking}, timeout=0.2)
    assert not done
    await asyncio.to_thread(own_redis.start)
    await asyncio.wait_for(acking, 20)
    assert list(await queue.lanes()) == []


async def test_a_dead_consumers_events_go_to_another_one(own_redis: RedisServer, make_queue: Make) -> None:
    first = await make_queue(own_redis, "first", claim_idle=0.6)
    await first.publish(event())
    await take(first, 1)
    await first.close()
    second = await make_queue(own_redis, "second", claim_idle=0.6)
    [delivery] = await take(second, 1)
    assert delivery.event.request_id == "request-1"
    assert delivery.redelivered


async def test_a_living_consumer_keeps_what_it_runs(own_redis: RedisServer, make_queue: Make) -> None:
    first = await make_queue(own_redis, "first", claim_idle=0.6)
    second = await make_queue(own_redis, "second", claim_idle=0.6)
    await first.publish(event())
    deliveries = await take(first, 1)
    assert list(await second.consume(Room({"uid": 10}), wait=2.0)) == []
    await first.ack(deliveries)


async def test_a_restarted_consumer_gets_its_own_events_back_at_once(
    own_redis: RedisServer, make_queue: Make
) -> None:
    first = await make_queue(own_redis, "same")
    await asyncio.gather(*(first.publish(event(i)) for i in range(3)))
    await take(first, 3)
    await first.close()
    again = await make_queue(own_redis, "same")
    began = time.monotonic()
    deliveries = await take(again, 3)
    assert time.monotonic() - began < 10
    assert all(delivery.redelivered for delivery in deliveries)


async def test_a_full_server_refuses_and_what_it_has_can_still_be_consumed(
    make_redis: Callable[..., RedisServer], make_queue: Make
) -> None:
    server = make_redis("--maxmemory", "24mb", "--maxmemory-policy", "noeviction")
    queue = await make_queue(server)
    accepted = 0
    with pytest.raises(EventQueueUnavailable, match="memory"):
        for number in range(1000):
            await queue.publish(event(number, payload=b"x" * 60_000))
            accepted += 1
    assert accepted > 50
    [first, *rest] = await take(queue, accepted)
    await queue.replace(first, [replace(first.event, attempt=2)])  # it takes the place that it had
    await queue.ack(rest)
    await queue.publish(event(1000))
    assert {d.event.attempt for d in await take(queue, 2)} == {1, 2}


async def test_a_server_far_beyond_its_memory_can_be_looked_at_and_emptied(
    make_redis: Callable[..., RedisServer], make_queue: Make
) -> None:
    server = make_redis("--maxmemory-policy", "noeviction")
    queue = await make_queue(server)
    for number in range(20):
        await queue.publish(event(number, payload=b"x" * 1000))
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
    with pytest.raises(EventQueueUnavailable, match="memory"):
        await queue.publish(event(20))
    [row] = await queue.lanes()
    assert row.ready == 20
    assert len(await queue.peek(row.lane, Line.LANE, limit=5)) == 5
    assert await queue.purge(row.lane, Line.LANE) == 20
    assert await queue.lanes() == []


async def test_the_unix_socket_works(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis, url=f"redis+streams+socket://{own_redis.socket}")
    await queue.publish(event())
    assert len(await take(queue, 1)) == 1
    assert "appendfsync always" in queue.durability()


async def test_without_fsync_each_batch_waits_for_the_disk(
    make_redis: Callable[..., RedisServer], make_queue: Make
) -> None:
    queue = await make_queue(make_redis("--appendfsync", "everysec"))
    await queue.publish(event())
    assert "WAITAOF" in queue.durability()


async def test_a_server_without_a_file_is_called_at_risk(
    make_redis: Callable[..., RedisServer], make_queue: Make
) -> None:
    queue = await make_queue(make_redis("--appendonly", "no"))
    await queue.publish(event())
    assert queue.durability().startswith("at risk")


async def test_the_shard_count_of_the_first_start_stays(own_redis: RedisServer, make_queue: Make) -> None:
    await (await make_queue(own_redis)).publish(event())
    other = KombuEventQueue(own_redis.url, consumer_name="other", blobs=MemoryBlobs(), shards=7)
    await other.start()
    try:
        assert len(await take(other, 1)) == 1
    finally:
        await other.close()


async def test_bytes_that_are_no_event_are_set_aside_and_kept(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis)
    with own_redis.client() as client:
        await queue.publish(event(1))
        [key] = [key for key in client.keys("*:s:lane.{uid}")]
        client.xadd(key, {"b": b"\x7fnonsense", "m": b"[null,null,0,0,0,0]", "t": "1"})
        await queue.publish(event(2))
        deliveries = await take(queue, 2)
        await queue.ack(deliveries)
        assert list(await queue.lanes()) == []
        [aside] = [key for key in client.keys("*:s:unreadable")]
        assert client.xlen(aside) == 1


async def test_an_entry_that_is_no_message_is_set_aside_and_holds_up_no_event(
    own_redis: RedisServer, make_queue: Make
) -> None:
    queue = await make_queue(own_redis)
    with own_redis.client() as client:
        await queue.publish(event(1))
        [key] = [key for key in client.keys("*:s:lane.{uid}")]
        client.xadd(key, {"strange": b"bytes"})
        await queue.publish(event(2))
        deliveries = await take(queue, 2)
        assert {delivery.event.request_id for delivery in deliveries} == {"request-1", "request-2"}
        await queue.ack(deliveries)
        assert list(await queue.lanes()) == []
        [aside] = [key for key in client.keys("*:s:unreadable")]
        [(_, fields)] = client.xrange(aside)
        assert b"strange" in fields[b"b"]


async def test_an_idle_queue_uses_no_cpu(own_redis: RedisServer, make_queue: Make) -> None:
    queue = await make_queue(own_redis)
    await queue.publish(event())
    await queue.ack(await take(queue, 1))
    waiting = asyncio.ensure_future(queue.consume(Room({"uid": 1}), wait=2))
    before = time.process_time()
    assert list(await waiting) == []
    assert time.process_time() - before < 0.05


async def test_a_replacement_whose_answer_was_lost_keeps_its_payload(
    own_redis: RedisServer, make_queue: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await make_queue(own_redis)
    await queue.publish(event())
    [delivery] = await take(queue, 1)
    original, lost = Channel.replace_many, list[bool]()

    def losing(self: Channel, replacements: Any) -> list[bool]:
        done = original(self, replacements)
        if not lost:
            lost.extend(done)
            raise redis.ConnectionError("the answer is lost")
        return done

    monkeypatch.setattr(Channel, "replace_many", losing)
    ending = Ending(Condition.SUCCESS, at=1.5, attempts=1)
    ending = ending._replace(response=b'"' + b"x" * 100_000 + b'"')
    records = [OutcomeRecord(delivery.event, ending, f"arn:{number}", dead_letter=False) for number in range(2)]
    await queue.replace(delivery, records)
    assert lost == [True]
    async with asyncio.timeout(20):
        found: list[Delivery] = []
        while len(found) < 2:
            found += await queue.consume(Room(other_outcomes=10), wait=5)
    assert [each.outcome and each.outcome.ending.response for each in found] == [ending.response] * 2
