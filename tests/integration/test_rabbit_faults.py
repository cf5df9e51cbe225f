"""The queue over a RabbitMQ that is killed, paused, blocked, full or shared: what was accepted is there; no
hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest
from rabbit import RabbitServer

from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Line, Room
from lambent.kernel.models import Event
from lambent.kernel.ports import Delivery
from lambent.scheduler.amqp.link import Message
from lambent.scheduler.amqp.names import Place
from lambent.scheduler.amqp.queue import AmqpEventQueue
from lambent.scheduler.amqp.rabbit import RabbitLink

Make = Callable[..., Awaitable[AmqpEventQueue]]
UNTIL_SETTLED = 4.5


@pytest.fixture
async def make_queue() -> AsyncIterator[Make]:
    queues: list[AmqpEventQueue] = []

    async def make(
        server: RabbitServer, *, space: str = "one", settle: float = 0, max_events: int = 0
    ) -> AmqpEventQueue:
        queue = AmqpEventQueue(
            server.url,
            blobs=MemoryBlobs(),
            space=AsyncMock(return_value=space),
            settle=settle,
            timeout=1.0,
            max_events=max_events,
        )
        queues.append(queue)
        await queue.start()
        return queue

    yield make
    for queue in queues:
        await queue.close()


def event(number: int = 1, *, lane: str = "uid", payload: bytes = b"{}") -> Event:
    return Event(f"request-{number}", lane, "function", payload, time.time())


async def take(queue: AmqpEventQueue, count: int, room: Room | None = None) -> list[Delivery]:
    """`count` deliveries, or a failure after 40 s."""
    found: list[Delivery] = []
    async with asyncio.timeout(40):
        while len(found) < count:
            found += await queue.consume(room or Room({"uid": 100}), wait=5)
    return found


async def accepted(queue: AmqpEventQueue, number: int) -> None:
    """Publishes one until it is accepted."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await queue.publish(event(number))
            except EventQueueUnavailable:
                await asyncio.sleep(0.05)


async def test_the_first_events_of_a_function_survive_a_kill(
    own_rabbit: RabbitServer, make_queue: Make
) -> None:
    queue = await make_queue(own_rabbit, settle=4.0)
    for number in range(20):
        await accepted(queue, number)
    await asyncio.to_thread(own_rabbit.restart)  # within the time in which it forgets a new queue
    found = {delivery.event.request_id for delivery in await take(queue, 20)}
    assert found == {f"request-{number}" for number in range(20)}
    await accepted(queue, 99)
    assert [delivery.event.request_id for delivery in await take(queue, 1)] == ["request-99"]


async def test_what_runs_while_the_broker_is_killed_is_not_run_again(
    own_rabbit: RabbitServer, make_queue: Make
) -> None:
    queue = await make_queue(own_rabbit)
    for number in range(3):
        await queue.publish(event(number))
    first, second, third = await take(queue, 3)
    await asyncio.sleep(UNTIL_SETTLED)  # RabbitMQ's own timer
    waiting = asyncio.ensure_future(queue.consume(Room({"uid": 100}), wait=60))
    own_rabbit.kill()
    await queue.ack([first])
    await asyncio.to_thread(own_rabbit.start)
    await queue.replace(second, [replace(second.event, attempt=2)])
    await asyncio.wait_for(waiting, 30)
    deliveries = list(waiting.result()) or await take(queue, 1)
    assert [(each.event.request_id, each.event.attempt) for each in deliveries] == [("request-1", 2)]
    await queue.ack([*deliveries, third])
    await nothing_left(queue)


async def nothing_left(queue: AmqpEventQueue) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if not list(await queue.lanes()):
                    return
            except EventQueueUnavailable:
                pass
            await asyncio.sleep(0.05)


async def test_what_a_dead_process_had_comes_to_the_next_one(
    rabbit_server: RabbitServer, make_queue: Make
) -> None:
    one = await make_queue(rabbit_server, space="restart")
    await one.publish(event(1, lane="known to nobody"))
    await one.publish(event(2, lane="known to nobody"))
    [taken] = await take(one, 1, Room(other_lanes=1))
    await one.close()
    two = await make_queue(rabbit_server, space="restart")
    deliveries = await take(two, 2, Room(other_lanes=5))
    assert {each.event.request_id: each.redelivered for each in deliveries}[taken.event.request_id] is True
    await two.drop_lane("known to nobody")


async def test_two_installations_share_a_broker_and_no_events(
    rabbit_server: RabbitServer, make_queue: Make
) -> None:
    one, two = await make_queue(rabbit_server, space="a"), await make_queue(rabbit_server, space="b")
    await one.publish(event(1))
    assert list(await two.consume(Room({"uid": 1}, other_lanes=1), wait=0.2)) == []
    assert list(await two.lanes()) == []
    await one.ack(await take(one, 1))
    await one.drop_lane("uid")


async def test_another_process_hears_of_a_new_lane(rabbit_server: RabbitServer, make_queue: Make) -> None:
    one, two = await make_queue(rabbit_server, space="c"), await make_queue(rabbit_server, space="c")
    await two.lanes()  # it has read the register
    waiting = asyncio.ensure_future(two.consume(Room(other_lanes=1), wait=20))
    await one.publish(event(1, lane="new"))
    [delivery] = await waiting
    await two.ack([delivery])
    await one.drop_lane("new")
    assert list(await two.lanes()) == []


async def test_a_publish_to_a_dead_or_hanging_broker_is_refused_in_time(
    own_rabbit: RabbitServer, make_queue: Make
) -> None:
    queue = await make_queue(own_rabbit)
    await queue.publish(event(1))
    own_rabbit.pause()
    async with asyncio.timeout(8):
        results = await asyncio.gather(*(queue.publish(event(i)) for i in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [EventQueueUnavailable] * 5
    assert not all(isinstance(result, EventQueueUnavailable) and result.certain for result in results)
    own_rabbit.resume()
    await accepted(queue, 9)
    own_rabbit.kill()
    async with asyncio.timeout(8):
        with pytest.raises(EventQueueUnavailable):
            await queue.publish(event(2))


async def test_an_alarm_refuses_events_until_it_is_over(own_rabbit: RabbitServer, make_queue: Make) -> None:
    queue = await make_queue(own_rabbit)
    await queue.publish(event(1))
    await asyncio.to_thread(own_rabbit.control, "rabbit_alarm:set_alarm({{resource_limit, disk, node()}, []}).")
    async with asyncio.timeout(10):
        with pytest.raises(EventQueueUnavailable):
            await queue.publish(event(2))
        with pytest.raises(EventQueueUnavailable, match="out of memory or disk") as refused:
            await queue.publish(event(3))
    assert refused.value.certain
    await asyncio.to_thread(own_rabbit.control, "rabbit_alarm:clear_alarm({resource_limit, disk, node()}).")
    await accepted(queue, 4)
    found = {delivery.event.request_id for delivery in await take(queue, 2)}
    assert {"request-1", "request-4"} <= found | {"request-2"} and "request-3" not in found


async def test_the_brokers_own_bound_refuses_what_slips_past_ours(
    rabbit_server: RabbitServer, make_queue: Make
) -> None:
    queue = await make_queue(rabbit_server, space="full", max_events=10)
    await queue.publish(event(0))
    name = Place(Line.LANE, "uid").queue
    link = RabbitLink(rabbit_server.url, space="full", timeout=5)
    stored = 0
    for _ in range(40):  # as another publisher that looked at the same time
        answers = link.publish([Message(name, b"x", f"{stored + i}") for i in range(10)])
        stored += sum(answer is None for answer in answers)
    assert 260 < stored < 300  # 10, a tenth, and a batch; soft by what is under way
    link.close()
    with pytest.raises(EventQueueUnavailable, match="full") as refused:
        for number in range(12):
            await queue.publish(event(number))
    assert refused.value.certain
    await queue.drop_lane("uid")


async def test_nothing_is_held_for_a_lane_without_room(rabbit_server: RabbitServer, make_queue: Make) -> None:
    queue = await make_queue(rabbit_server, space="room")
    for number in range(10):
        await queue.publish(event(number))
    [running] = await take(queue, 1, Room({"uid": 1}))
    await queue.ack([running])  # the broker sends the next one, for there was room for one
    assert list(await queue.consume(Room({"uid": 0}), wait=0.3)) == []
    link = RabbitLink(rabbit_server.url, space="room", timeout=5)
    async with asyncio.timeout(10):
        while link.count(Place(Line.LANE, "uid").queue) != 9:
            await asyncio.sleep(0.02)
    link.close()
    assert len(await take(queue, 9)) == 9
    await queue.drop_lane("uid")


async def test_a_delay_is_a_sum_of_steps_and_never_early(rabbit_server: RabbitServer, make_queue: Make) -> None:
    queue = await make_queue(rabbit_server, space="due")
    due = time.time() + 0.8  # 0.5 + 0.25 + 0.125
    await queue.publish(replace(event(1), due=due))
    [delivery] = await take(queue, 1)
    assert time.time() >= due
    await queue.ack([delivery])
    await nothing_left(queue)
    await queue.drop_lane("uid")


async def test_what_cannot_be_read_is_set_aside(rabbit_server: RabbitServer, make_queue: Make) -> None:
    queue = await make_queue(rabbit_server, space="bad")
    await queue.publish(event(1))
    link = RabbitLink(rabbit_server.url, space="bad", timeout=5)
    link.publish([Message(Place(Line.LANE, "uid").queue, b"rubbish", "x")])
    await queue.ack(await take(queue, 1))
    await queue.publish(event(2))
    await queue.ack(await take(queue, 1))
    async with asyncio.timeout(10):
        while link.count("lambent.unreadable") != 1:
            await asyncio.sleep(0.02)
    link.delete("lambent.unreadable")
    link.close()
    await queue.drop_lane("uid")
