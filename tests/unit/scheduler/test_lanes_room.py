"""lanes.py: a lane is read only while there is room, and rests after a setback."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from unit.scheduler.lane_world import GOOD, REPORT, World
from unit.scheduler.samples import event, function

from lambent.kernel.errors import LambdaError, ServiceException, TooManyRequestsException
from lambent.kernel.events import Room
from lambent.kernel.ports import Delivery


async def test_freed_slots_end_a_lanes_pause(world: World) -> None:
    world.functions["f"] = function(reserved=1)
    other = await world.dispatcher.acquire(function(reserved=1), function().to_run, holder="someone")
    await world.publish(event(1), event(2))
    assert world.host.invocations == []
    world.dispatcher.release(other)
    await world.clock.settle(60)
    assert [i.request_id for i in world.host.invocations] == ["request-2"]


async def test_slots_that_another_function_frees_end_a_pause_too() -> None:
    world = World(limit=1)
    feeding = asyncio.ensure_future(world.feed.run())
    other = function("g", uid="uid-g")
    lease = await world.dispatcher.acquire(other, other.to_run, holder="someone")
    await world.publish(event(1))
    await world.clock.advance(130)  # its next try would be at 255 s
    await world.publish(event(2))
    assert world.host.invocations == []
    world.dispatcher.release(lease)
    await world.clock.settle(60)
    assert [each.request_id for each in world.host.invocations] == ["request-2"]
    await world.clock.advance(130)
    assert [each.request_id for each in world.host.invocations] == ["request-2", "request-1"]
    feeding.cancel()
    await world.tasks.drain(0)


async def test_tries_in_between_make_no_pause_longer() -> None:
    world = World(limit=1)
    feeding = asyncio.ensure_future(world.feed.run())
    other = function("g", uid="uid-g")
    lease = await world.dispatcher.acquire(other, other.to_run, holder="someone")
    for number in range(20):
        await world.publish(event(number))
        world.dispatcher.release(lease)  # and taken again before the lane has its turn
        lease = await world.dispatcher.acquire(other, other.to_run, holder="someone")
        await world.clock.advance(1)
    assert world.host.invocations == []
    world.dispatcher.release(lease)
    await world.clock.advance(10)
    assert len(world.host.invocations) == 20
    feeding.cancel()
    await world.tasks.drain(0)


async def test_a_lane_runs_no_more_at_once_than_it_may_and_the_rest_stays_in_the_queue(world: World) -> None:
    world.host.script = [None]
    await world.publish(*(event(i) for i in range(10)))
    assert len(world.host.runs) == 4
    [depth] = await world.queue.lanes()
    assert (depth.ready, depth.in_flight) == (6, 4)
    world.host.runs[0].end(GOOD)
    await world.clock.settle(60)
    assert len(world.host.runs) == 5


async def test_a_full_lane_delays_no_other(world: World) -> None:
    world.host.script = [None]
    world.functions["g"] = function("g", uid="uid-g")
    await world.publish(*(event(i) for i in range(10)), event(99, lane="uid-g", name="g"))
    assert "request-99" in {i.request_id for i in world.host.invocations}


async def test_quiet_lanes_are_forgotten_and_run_again_when_they_have_events(world: World) -> None:
    names = [f"f{number}" for number in range(12)]
    world.functions = {name: function(name, uid=f"uid-{name}") for name in names}
    for round_ in range(2):
        for name in names:
            await world.publish(replace(event(round_), function=name, lane=f"uid-{name}"))
        assert len(world.host.invocations) == 12 * (round_ + 1)
        assert len(world.lanes.room()[0]) <= 5
    assert await world.depth() == 0


async def test_a_reserved_function_is_read_one_by_one(world: World) -> None:
    world.host.script = [None]
    world.functions["f"] = function(reserved=1)
    await world.publish(*(event(i) for i in range(5)))
    for number in range(5):
        assert len(world.host.runs) == number + 1
        [depth] = await world.queue.lanes()
        assert depth.in_flight == 1
        assert depth.delayed == 0
        world.host.runs[number].end(GOOD)
        await world.clock.settle(60)
    assert await world.depth() == 0


async def test_a_lane_that_was_throttled_goes_on_as_places_come_back(world: World) -> None:
    other = await world.dispatcher.acquire(function(), function().to_run, holder="someone", slots=10)
    world.host.script = [None]
    await world.publish(event(1), event(2))
    await world.clock.advance(1.1)  # throttled twice more: one place is left
    world.dispatcher.release(other, slots=10)
    await world.publish(*(event(i) for i in range(3, 9)))
    ended = 0
    while ended < len(world.host.runs):
        world.host.runs[ended].end(GOOD)
        ended += 1
        await world.clock.settle(60)
    await world.clock.advance(4.1)  # the two that were delayed
    for run in world.host.runs[ended:]:
        run.end(GOOD)
        await world.clock.settle(60)
    assert {i.request_id for i in world.host.invocations} == {f"request-{i}" for i in range(1, 9)}


@pytest.mark.parametrize("failure", [ServiceException(), TooManyRequestsException("ConcurrentInvocationLimit")])
async def test_runs_that_fail_together_are_one_setback(world: World, failure: LambdaError) -> None:
    world.host.script = [None]
    await world.publish(*(event(i) for i in range(4)))
    world.host.script = [GOOD]
    for run in list(world.host.runs):
        run.end(failure)
        await world.clock.settle(60)
    assert len(world.host.runs) == 4  # each waits, and none is let go by another's slot coming back
    await world.clock.advance(1.1)
    assert len(world.host.runs) == 8
    assert await world.depth() == 0


async def test_what_was_read_already_when_a_pause_began_adds_no_setback(world: World) -> None:
    world.host.script = [None]
    await world.publish(event(1))
    world.host.script = [ServiceException()]
    consume = world.queue.consume

    async def overtaken(room: Room, *, wait: float) -> Sequence[Delivery]:
        deliveries = await consume(room, wait=wait)
        if deliveries and not world.host.runs[0].report.done():
            world.host.runs[0].end(ServiceException())
            await world.clock.settle(60)
        return deliveries

    world.queue.consume = overtaken  # type: ignore[method-assign]
    world.queue.wake()
    await world.clock.settle()
    await world.publish(event(2))
    await world.clock.settle(60)
    assert len(world.host.runs) == 2
    world.host.script = [GOOD]
    await world.clock.advance(1.1)
    assert await world.depth() == 0


async def test_a_failure_after_the_pause_is_another_setback(world: World) -> None:
    world.host.script = [ServiceException()]
    await world.publish(*(event(i) for i in range(4)))
    await world.clock.advance(1.1)
    before = len(world.host.runs)
    await world.clock.advance(1.0)
    assert len(world.host.runs) == before  # the second pause takes 2 s
    await world.clock.advance(1.1)
    assert len(world.host.runs) > before


async def test_the_slot_is_held_until_the_report(world: World) -> None:
    world.host.script = [None]
    await world.publish(event())
    [run] = world.host.runs
    run.response.set_result(GOOD)
    await world.clock.settle()
    assert world.dispatcher.used == 1
    run.report.set_result(REPORT)
    await world.clock.settle()
    assert world.dispatcher.used == 0
