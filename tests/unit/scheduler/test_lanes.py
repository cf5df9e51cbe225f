"""lanes.py: events are run, tried again, given up or dropped; a stop loses none."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from unit.scheduler.lane_world import BAD, GOOD, FakeRun, World, configured
from unit.scheduler.samples import event, function

from lambent.kernel import metrics
from lambent.kernel.errors import EventQueueUnavailable, ServiceException
from lambent.kernel.events import Condition, Item, Room
from lambent.kernel.models import Alias, EventInvokeConfig, Function, Invocation, RecursiveLoop, Response
from lambent.kernel.ports import Delivery, Lease
from lambent.kernel.tasks import Tasks

GOOD_QUEUE, BAD_QUEUE, DEAD_QUEUE = (
    f"arn:aws:sqs:us-east-1:000000000000:{name}" for name in ("good", "bad", "dead")
)


async def test_an_event_runs_under_its_own_request_id_and_is_done(world: World) -> None:
    await world.publish(event(7))
    [invocation] = world.host.invocations
    assert invocation.request_id == "request-7"
    assert invocation.trigger == "async"
    assert invocation.invoked_arn == "arn:aws:lambda:us-east-1:000000000000:function:f"
    assert await world.depth() == 0
    assert world.dispatcher.used == 0


async def test_a_failing_event_is_tried_again_after_one_and_two_minutes_then_kept_as_dead(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.host.script = [BAD]
    before = metrics.events_dropped.labels("f")._value.get()
    await world.publish(event())
    for wait, runs in ((60, 2), (120, 3)):
        await world.clock.advance(wait - 0.5)
        assert len(world.host.invocations) == runs - 1
        await world.clock.advance(0.5)
        assert len(world.host.invocations) == runs
    assert [i.request_id for i in world.host.invocations] == ["request-1"] * 3
    assert await world.depth() == 0
    assert metrics.events_dropped.labels("f")._value.get() == before + 1
    assert [r.levelname for r in caplog.records if "given up" in r.message] == ["ERROR"]
    [dead] = await world.dead()
    assert dead.ending.condition is Condition.RETRIES_EXHAUSTED
    assert (dead.event.request_id, dead.ending.attempts, dead.target) == ("request-1", 3, None)


async def test_a_retry_that_succeeds_ends_it(world: World) -> None:
    world.host.script = [BAD, GOOD]
    await world.publish(event())
    await world.clock.advance(60.1)
    assert len(world.host.invocations) == 2
    assert await world.depth() == 0
    assert await world.dead() == []


async def test_a_platform_failure_waits_and_counts_no_attempt(world: World) -> None:
    world.host.script = [ServiceException(), ServiceException(), ServiceException(), ServiceException(), GOOD]
    await world.publish(event())
    for wait, runs in ((1, 2), (2, 3), (4, 4)):
        await world.clock.advance(wait - 0.05)
        assert len(world.host.invocations) == runs - 1
        await world.clock.advance(0.06)
        assert len(world.host.invocations) == runs
    await world.clock.advance(9)
    assert await world.depth() == 0
    assert world.dispatcher.used == 0


async def test_a_throttled_event_waits_and_others_go_on(world: World) -> None:
    world.functions = {"f": function(reserved=1), "g": function("g", uid="uid-g")}
    other = await world.dispatcher.acquire(function(reserved=1), function().to_run, holder="someone")
    await world.publish(event(1), event(2, lane="uid-g", name="g"))
    assert [i.request_id for i in world.host.invocations] == ["request-2"]
    assert await world.depth() == 1
    world.dispatcher.release(other)
    await world.clock.advance(1.01)
    assert len(world.host.invocations) == 2
    assert await world.depth() == 0


async def test_a_function_with_nothing_reserved_gives_its_events_up_at_once(world: World) -> None:
    world.functions["f"] = function(reserved=0)
    await world.publish(*(event(i) for i in range(10)))
    assert world.host.invocations == []
    assert {dead.ending.condition for dead in await world.dead()} == {Condition.ZERO_RESERVED_CONCURRENCY}
    assert (len(await world.dead()), await world.depth()) == (10, 0)
    assert (await world.dead())[0].ending.attempts == 0


async def test_an_event_that_is_too_old_is_given_up_untried(world: World) -> None:
    world.functions["f"] = configured(maximum_event_age=60)
    await world.publish(replace(event(), accepted=world.clock.now() - 60))
    assert world.host.invocations == []
    [dead] = await world.dead()
    assert dead.ending.condition is Condition.EVENT_AGE_EXCEEDED


async def test_an_event_that_waits_for_its_retry_is_given_up_when_it_gets_too_old(world: World) -> None:
    world.functions["f"] = configured(maximum_event_age=90)
    world.host.script = [Response(b'{"errorMessage": "boom"}', function_error="Unhandled")]
    await world.publish(replace(event(), accepted=world.clock.now() - 40))
    await world.clock.advance(49.9)
    assert await world.dead() == []
    await world.clock.advance(0.2)
    [dead] = await world.dead()
    assert (dead.ending.condition, dead.ending.attempts) == (Condition.EVENT_AGE_EXCEEDED, 1)
    assert len(world.host.invocations) == 1
    assert (dead.ending.status, dead.ending.function_error, dead.ending.message) == (200, "Unhandled", "boom")


async def test_a_throttled_event_is_given_up_when_it_gets_too_old(world: World) -> None:
    world.functions["f"] = configured(maximum_event_age=60)
    world.functions["f"] = replace(world.functions["f"], reserved_concurrency=1)
    await world.dispatcher.acquire(function(reserved=1), function().to_run, holder="someone")
    await world.publish(replace(event(), accepted=world.clock.now()))
    await world.clock.advance(59)
    assert await world.dead() == []
    await world.clock.advance(3)
    [dead] = await world.dead()
    assert (dead.ending.condition, dead.ending.attempts) == (Condition.EVENT_AGE_EXCEEDED, 0)
    assert (dead.ending.status, dead.ending.message) == (429, "Rate Exceeded.")


async def test_an_event_that_was_given_up_for_its_age_runs_when_it_is_redriven(world: World) -> None:
    world.functions["f"] = configured(maximum_event_age=60)
    await world.publish(replace(event(), accepted=world.clock.now() - 60))
    assert len(await world.dead()) == 1
    assert await world.queue.redrive("uid", limit=1) == 1
    await world.clock.settle(60)
    assert ([each.request_id for each in world.host.invocations], await world.dead()) == (["request-1"], [])


async def test_outcomes_go_to_their_targets_and_never_run_the_function_again(world: World) -> None:
    world.functions["f"] = configured(on_success=GOOD_QUEUE, on_failure=BAD_QUEUE, maximum_retry_attempts=0)
    latest = replace(world.functions["f"].latest, dead_letter=DEAD_QUEUE)
    world.functions["f"] = replace(world.functions["f"], latest=latest)
    await world.publish(event(1))
    [good] = world.sent
    assert (good.target, good.dead_letter, good.event.request_id) == (GOOD_QUEUE, False, "request-1")
    assert good.ending.condition is Condition.SUCCESS
    assert (good.ending.attempts, good.ending.status, good.ending.response) == (1, 200, b"1")
    world.host.script = [BAD]
    await world.publish(event(2))
    assert [(record.target, record.dead_letter) for record in world.sent[1:]] == [
        (DEAD_QUEUE, True),
        (BAD_QUEUE, False),
    ]
    assert world.sent[1].ending.function_error == "Unhandled"
    assert len(world.host.invocations) == 2
    assert await world.queue.lanes() == []


def with_versions(world: World, **aliases: Alias) -> None:
    """`f` with the versions 1 and 2, each with a dead-letter queue of its own, and aliases."""
    latest = function().latest
    world.versions = {n: replace(latest, version=str(n), dead_letter=f"{DEAD_QUEUE}{n}") for n in (1, 2)}
    world.functions["f"] = replace(function(), aliases=aliases, last_version=2)


async def test_an_event_runs_the_version_that_its_qualifier_names(world: World) -> None:
    with_versions(world, live=Alias("live", "2", "r"))
    qualifiers = (None, "$LATEST", "1", "live")
    for number, qualifier in enumerate(qualifiers):
        await world.publish(replace(event(number), qualifier=qualifier))
    ran = [(i.target.version, i.alias, i.invoked_arn.split(":")[6:]) for i in world.host.invocations]
    assert ran == [
        ("$LATEST", "", ["f"]),
        ("$LATEST", "", ["f", "$LATEST"]),
        ("1", "", ["f", "1"]),
        ("2", "live", ["f", "live"]),
    ]
    assert await world.depth() == 0


async def test_an_alias_is_asked_for_at_each_attempt(world: World) -> None:
    with_versions(world, live=Alias("live", "1", "r"))
    world.host.script = [BAD, GOOD]
    await world.publish(replace(event(), qualifier="live"))
    with_versions(world, live=Alias("live", "2", "r2"))
    await world.clock.advance(60)
    await world.clock.settle(60)
    assert [invocation.target.version for invocation in world.host.invocations] == ["1", "2"]


async def test_a_given_up_event_goes_to_the_dead_letter_queue_of_its_version(world: World) -> None:
    with_versions(world, live=Alias("live", "2", "r"))
    config = EventInvokeConfig(0.0, maximum_retry_attempts=0, on_failure=GOOD_QUEUE)
    world.functions["f"] = replace(world.functions["f"], event_invoke={"live": config})
    world.host.script = [BAD]
    await world.publish(replace(event(), qualifier="live"))
    assert [(record.target, record.ending.executed_version) for record in world.sent] == [
        (f"{DEAD_QUEUE}2", "2"),
        (GOOD_QUEUE, "2"),
    ]


@pytest.mark.parametrize("qualifier", ["gone", "3"])
async def test_an_event_whose_version_or_alias_is_gone_is_kept_as_dead(world: World, qualifier: str) -> None:
    with_versions(world)
    await world.publish(replace(event(), qualifier=qualifier), event(2))
    (dead,) = await world.dead()
    assert (dead.ending.condition, dead.ending.status, dead.ending.attempts) == (
        Condition.RETRIES_EXHAUSTED,
        404,
        0,
    )
    assert dead.ending.message.endswith(f":function:f:{qualifier}")
    assert [i.request_id for i in world.host.invocations] == ["request-2"], "the lane goes on"


async def test_an_alias_that_the_cache_does_not_know_yet_is_looked_up(world: World) -> None:
    with_versions(world, live=Alias("live", "1", "r"))
    world.stored["f"] = world.functions["f"]
    world.functions["f"] = function()
    await world.publish(replace(event(), qualifier="live"))
    assert [i.target.version for i in world.host.invocations] == ["1"]


async def test_a_success_without_a_destination_leaves_nothing(world: World) -> None:
    world.functions["f"] = configured(on_failure=BAD_QUEUE)
    await world.publish(event(1))
    assert (world.sent, await world.queue.lanes()) == ([], [])


async def test_a_function_that_calls_itself_in_a_chain_is_stopped(world: World) -> None:
    trace = "Root=1-2-3"
    for _ in range(16):
        await world.publish(replace(event(), trace_id=trace))
        trace = world.host.invocations[-1].trace_id
    assert len(world.host.invocations) == 16
    stopped = metrics.recursive_dropped.labels("f")
    before = stopped._value.get()
    await world.publish(replace(event(99), trace_id=trace))
    assert len(world.host.invocations) == 16
    [dead] = await world.dead()
    assert (dead.event.request_id, dead.ending.condition) == ("request-99", Condition.RECURSION_DETECTED)
    world.functions["f"] = function(reserved=0)  # the first reason counts
    await world.publish(replace(event(98), trace_id=trace))
    assert (await world.dead())[-1].ending.condition is Condition.ZERO_RESERVED_CONCURRENCY
    assert stopped._value.get() == before + 1
    world.functions["f"] = replace(function(), recursive_loop=RecursiveLoop.ALLOW)
    await world.publish(replace(event(), trace_id=trace))
    assert len(world.host.invocations) == 17


async def test_events_of_a_deleted_or_recreated_function_are_dropped(world: World) -> None:
    world.functions = {"f": function(uid="another-uid")}
    await world.publish(event(1), event(2, lane="uid-x", name="deleted"))
    assert world.host.invocations == []
    assert await world.depth() == 0


async def test_a_function_that_the_cache_does_not_know_yet_is_looked_up_before_a_drop(world: World) -> None:
    world.functions = {"f": function(uid="uid-before")}
    world.stored = {"f": function(), "new": function("new", uid="uid-new")}
    await world.publish(event(1), event(2, lane="uid-new", name="new"))
    assert {i.request_id for i in world.host.invocations} == {"request-1", "request-2"}
    assert await world.depth() == 0


async def test_an_event_is_kept_while_the_store_cannot_say_whether_its_function_exists(world: World) -> None:
    async def unavailable(name: str) -> Function | None:
        raise ServiceException

    world.lanes._look = unavailable
    world.functions = {}
    await world.publish(event(1))
    assert await world.depth() == 1


async def test_a_defect_in_the_host_loses_no_event(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(invocation: Invocation, lease: Lease) -> FakeRun:
        raise KeyError("a defect")

    world.host.invoke = broken  # type: ignore[method-assign]
    await world.publish(event())
    assert await world.depth() == 1
    assert world.dispatcher.used == 0
    assert "a defect" in caplog.text
    del world.host.invoke
    await world.clock.advance(1.01)
    assert await world.depth() == 0


async def test_stop_reads_no_more_and_waits_for_what_runs(world: World) -> None:
    world.host.script = [None]
    await world.publish(event(1))
    stopping = asyncio.ensure_future(world.feed.stop())
    await world.publish(event(2))
    assert not stopping.done()
    world.host.runs[0].end(GOOD)
    await asyncio.wait_for(stopping, 5)
    assert len(world.host.runs) == 1
    [depth] = await world.queue.lanes()
    assert (depth.ready, depth.in_flight) == (1, 0)


async def test_after_stop_a_drain_waits_for_no_pause(world: World) -> None:
    world.host.script = [ServiceException()]
    await world.publish(event())
    assert len(world.tasks) > 1
    await world.feed.stop()
    await world.clock.settle()
    assert len(world.tasks) == 1


@pytest.mark.parametrize("closed", [False, True])
async def test_what_was_read_while_stopping_goes_back_and_a_closed_queue_kills_no_task(closed: bool) -> None:
    died: list[str] = []
    world = World(tasks=Tasks("test", on_death=lambda name, _: died.append(name)))
    waiting = 0
    together = asyncio.Event()
    give_back = world.queue.replace

    async def slow(delivery: Delivery, items: Sequence[Item]) -> None:
        nonlocal waiting
        if closed:
            raise EventQueueUnavailable("closed")
        waiting += 1
        if waiting == 2:
            together.set()
        await together.wait()
        await give_back(delivery, items)

    world.queue.replace = slow  # type: ignore[method-assign]
    world.functions["g"] = function("g", uid="uid-g")
    consume = world.queue.consume

    async def late(room: Room, *, wait: float) -> Sequence[Delivery]:
        deliveries = await consume(room, wait=wait)
        await world.feed.stop()
        return deliveries

    world.queue.consume = late  # type: ignore[method-assign]
    await world.publish(event(1), event(2, lane="uid-g", name="g"))
    world.tasks.forever("feed", world.feed.run())
    await world.clock.settle(60)
    ready = [(depth.ready, depth.in_flight) for depth in await world.queue.lanes()]
    assert ready == ([(0, 1)] * 2 if closed else [(1, 0)] * 2)
    assert world.host.invocations == []
    assert died == []
    await world.tasks.drain(0)
