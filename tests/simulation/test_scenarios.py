"""Leases: each rule against the fault that it is for, in minutes of virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

from lambent.kernel.leases import FREED_SECONDS, SILENT_SECONDS
from simulation.cluster import Cluster, Shape
from simulation.parts import Gateway
from simulation.run import in_virtual_time

FULL = "ReservedFunctionConcurrentInvocationLimitExceeded"
Work = Callable[[Cluster], Awaitable[None]]


def scenario(work: Work, seed: int = 1, **shape: object) -> Cluster:
    """A cluster that has found itself, then `work`, then the rules that always hold."""
    made = Shape(**{"gateways": 2, "schedulers": 2, "executors": 2, "functions": 1} | shape)  # type: ignore[arg-type]

    async def run() -> Cluster:
        cluster = Cluster(seed, made)
        await cluster.start()
        await asyncio.sleep(5.0)
        await work(cluster)
        assert cluster.truth.violations == []
        return cluster

    return in_virtual_time(run)


def gateways(cluster: Cluster) -> list[Gateway]:
    return list(cluster.gateways.values())


async def hammer(
    cluster: Cluster, name: str, seconds: float, *, every: float = 0.02, run: float = 0.05
) -> None:
    """Invokes through all gateways in turn."""
    for turn in range(int(seconds / every)):
        here = gateways(cluster)
        cluster.invoke(here[turn % len(here)], name, run)
        await asyncio.sleep(every)


async def first_ok(cluster: Cluster, gateway: Gateway, name: str = "f0") -> float:
    """Seconds until an invocation is taken."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while await cluster.invoke(gateway, name, 0.0) != "ok":
        await asyncio.sleep(0.1)
    return loop.time() - began


def test_a_frame_that_arrives_after_its_slot_went_to_another_holder_runs_nothing() -> None:
    async def work(cluster: Cluster) -> None:
        (one, other), (executor,) = gateways(cluster), cluster.executors.values()
        assert await cluster.invoke(one, "f0", 0.1) == "ok"
        cluster.network.part(one.node, executor.node)
        one.notices = 0.0
        late = cluster.invoke(one, "f0", 0.1)
        await asyncio.sleep(0.01)
        running = cluster.invoke(other, "f0", 5.0)
        await asyncio.sleep(1.0)
        assert cluster.truth.running["uid-f0"] == 1, "the idle slot was not taken back"
        cluster.network.heal(one.node, executor.node)
        assert await late == FULL
        assert await running == "ok"
        assert (cluster.truth.begun, cluster.truth.peaks["uid-f0"]) == (2, 1)

    scenario(work, executors=1, reserved={0: 1})


def test_a_run_outlives_a_pause_of_its_executor_shorter_than_F() -> None:
    async def work(cluster: Cluster) -> None:
        (executor,) = cluster.executors.values()
        long = cluster.invoke(gateways(cluster)[0], "f0", 30.0)
        await asyncio.sleep(2.0)
        executor.pause()
        await asyncio.sleep(SILENT_SECONDS - 3.0)
        executor.node.resume()
        assert await long == "ok"

    scenario(work, executors=1, reserved={0: 1})


def test_an_executor_that_is_paused_for_longer_is_ended_before_its_slots_are_given_to_another() -> None:
    async def work(cluster: Cluster) -> None:
        one, other = gateways(cluster)
        long = cluster.invoke(one, "f0", 300.0)
        await asyncio.sleep(2.0)
        (executor,) = [each for each in cluster.executors.values() if each.joining.gate.running]
        executor.pause()
        waited = await first_ok(cluster, other)
        assert SILENT_SECONDS < waited < FREED_SECONDS + 2.0
        assert await long == "The executor died."
        assert cluster.truth.peaks["uid-f0"] == 1

    scenario(work, reserved={0: 1})


def test_an_executor_cut_off_and_then_paused_is_ended_by_its_supervisor_in_time() -> None:
    """The executor's own check cannot run: its supervisor has been told the time."""

    async def work(cluster: Cluster) -> None:
        one, other = gateways(cluster)
        long = cluster.invoke(one, "f0", 300.0)
        await asyncio.sleep(2.0)
        (executor,) = [each for each in cluster.executors.values() if each.joining.gate.running]
        for scheduler in cluster.schedulers.values():
            cluster.network.part(scheduler.node, executor.node)
        await asyncio.sleep(SILENT_SECONDS - 2.0)
        executor.pause()
        await first_ok(cluster, other)
        assert await long == "The executor died."
        assert cluster.truth.peaks["uid-f0"] == 1

    scenario(work, reserved={0: 1})


def test_an_owner_that_wakes_after_its_shards_have_moved_changes_nothing() -> None:
    async def work(cluster: Cluster) -> None:
        owner = cluster.owner_of("uid-f0")
        owner.node.pause()
        await hammer(cluster, "f0", 10.0)
        assert len(cluster.owners_of("uid-f0")) == 2, "it did not lose its shard while it slept"
        owner.node.resume()
        await hammer(cluster, "f0", 10.0)
        await cluster.settle()
        assert cluster.left_over() == []
        assert set(cluster.results) <= {"ok", FULL}
        assert cluster.truth.peaks["uid-f0"] == 3

    scenario(work, gateways=4, reserved={0: 3})


def test_a_beat_that_an_owner_answers_after_its_time_prolongs_nothing() -> None:
    """It wakes with beats that came while it slept; its successor, which cannot hear the executor, counts on
    the end of what runs there."""

    async def work(cluster: Cluster) -> None:
        one, other = gateways(cluster)
        long = cluster.invoke(one, "f0", 300.0)
        await asyncio.sleep(2.0)
        owner = cluster.owner_of("uid-f0")
        (executor,) = [each for each in cluster.executors.values() if each.joining.gate.running]
        for scheduler in cluster.schedulers.values():
            if scheduler is not owner:
                cluster.network.part(scheduler.node, executor.node)
        owner.node.pause()
        await asyncio.sleep(12.0)
        owner.node.resume(messages_first=True)
        await first_ok(cluster, other)
        assert await long == "Ended: the owner of the shard is silent."
        assert cluster.truth.peaks["uid-f0"] == 1

    scenario(work, reserved={0: 1})


def test_slots_of_a_holder_that_died_are_counted_until_their_runs_have_ended() -> None:
    async def work(cluster: Cluster) -> None:
        one, other = gateways(cluster)
        for _ in range(2):
            cluster.invoke(one, "f0", 20.0)
        await asyncio.sleep(1.0)
        one.kill()
        del cluster.gateways[one.node.name]
        waited = await first_ok(cluster, other)
        assert 18.0 < waited < 20.0
        assert cluster.truth.peaks["uid-f0"] == 2

    scenario(work, reserved={0: 2})


def test_a_takeover_under_load_fails_nothing_and_nobody_waits_for_longer_than_six_seconds() -> None:
    async def work(cluster: Cluster) -> None:
        await hammer(cluster, "f0", 5.0)
        cluster.kill_scheduler_now(cluster.owner_of("uid-f0"))
        await hammer(cluster, "f0", 20.0)
        await asyncio.sleep(10.0)
        assert set(cluster.results) == {"ok"}
        assert cluster.longest < 6.0

    scenario(work, gateways=4, reserved={})


def test_a_takeover_of_functions_that_nobody_holds_slots_of_is_waited_for() -> None:
    async def work(cluster: Cluster) -> None:
        cluster.kill_scheduler_now(cluster.owner_of("uid-f0"))
        results = await asyncio.gather(*(cluster.invoke(each, "f0", 0.1) for each in gateways(cluster)))
        assert set(results) == {"ok"}
        assert cluster.longest < 6.0

    scenario(work)


def test_nothing_of_the_old_code_begins_after_an_update() -> None:
    async def work(cluster: Cluster) -> None:
        cluster.tasks.once("load", hammer(cluster, "f0", 20.0))
        for _ in range(10):
            await asyncio.sleep(1.0)
            await cluster.update()
        await asyncio.sleep(12.0)
        assert cluster.truth.settled["uid-f0"] == 11
        assert set(cluster.results) == {"ok"}

    scenario(work, gateways=4, reserved={})


def test_an_update_waits_for_what_is_cut_off_until_that_has_ended() -> None:
    async def work(cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        await hammer(cluster, "f0", 2.0)
        executors = [each for each in cluster.executors.values() if each.joining.gate.granted_mb]
        for executor in executors:
            for scheduler in cluster.schedulers.values():
                cluster.network.part(scheduler.node, executor.node)
        cluster.tasks.once("load", hammer(cluster, "f0", 20.0))
        began = loop.time()
        await cluster.update()
        assert FREED_SECONDS - 2.0 < loop.time() - began < FREED_SECONDS + 2.0

    scenario(work, gateways=4, reserved={})


def test_an_executor_and_its_owner_that_die_at_once_are_waited_for_and_no_longer_than_rule_5_says() -> None:
    async def work(cluster: Cluster) -> None:
        one, other = gateways(cluster)
        cluster.invoke(one, "f0", 100.0)
        await asyncio.sleep(2.0)
        (executor,) = [each for each in cluster.executors.values() if each.joining.gate.running]
        cluster.kill_scheduler_now(cluster.owner_of("uid-f0"))
        cluster.kill_executor_now(executor)
        waited = await first_ok(cluster, other)
        assert SILENT_SECONDS < waited < 5.0 + FREED_SECONDS + 1.0
        assert cluster.truth.peaks["uid-f0"] == 1

    scenario(work, reserved={0: 1})


def test_a_drain_fails_no_request() -> None:
    async def work(cluster: Cluster) -> None:
        cluster.tasks.once("load", hammer(cluster, "f0", 30.0, run=0.5))
        for _ in range(3):
            await asyncio.sleep(5.0)
            await cluster.add_and_drain()
        await asyncio.sleep(20.0)
        assert set(cluster.results) == {"ok"}
        assert cluster.longest < 1.0

    scenario(work, gateways=4, reserved={})


def test_a_new_executor_is_used_within_a_heartbeat() -> None:
    async def work(cluster: Cluster) -> None:
        for _ in range(8):
            cluster.invoke(gateways(cluster)[0], "f0", 60.0)
        await asyncio.sleep(5.0)
        new = cluster.add_executor()
        await asyncio.sleep(1.5)
        for _ in range(8):
            cluster.invoke(gateways(cluster)[1], "f0", 60.0)
        await asyncio.sleep(0.5)
        assert new.joining.gate.running == 8

    scenario(work, executors=1, reserved={}, memory_mb=1024)


def test_the_accounts_limit_is_reached_and_never_passed_over_all_shards() -> None:
    async def work(cluster: Cluster) -> None:
        for turn in range(30 * 20):
            gateway = gateways(cluster)[turn % 4]
            cluster.invoke(gateway, f"f{turn % 30}", 4.0)
            await asyncio.sleep(0.05)
            if turn == 200:  # by now each slot is where it is needed, though 16 shards share them
                assert cluster.truth.pool_peak == 50
        assert cluster.truth.pool_peak == 50
        await asyncio.sleep(60.0)
        assert sum(cluster.redis.blocks._blocks.values()) == 0, "blocks that nobody uses were not given back"

    scenario(work, gateways=4, functions=30, reserved={}, limit=50)


def test_idle_slots_of_the_pool_go_where_they_are_needed() -> None:
    async def work(cluster: Cluster) -> None:
        one, other = gateways(cluster)
        for _ in range(40):
            cluster.invoke(one, "f0", 1.0)
        await asyncio.sleep(1.1)
        results = await asyncio.gather(*(cluster.invoke(other, "f1", 1.0) for _ in range(30)))
        assert set(results) == {"ok"}
        assert cluster.longest < 2.0

    scenario(work, functions=2, reserved={}, limit=40)


def test_a_reservation_is_used_up_and_never_passed_through_failovers() -> None:
    async def work(cluster: Cluster) -> None:
        cluster.tasks.once("load", hammer(cluster, "f0", 90.0, every=0.005))
        for _ in range(4):
            await asyncio.sleep(15.0)
            cluster.kill_scheduler_now(cluster.owner_of("uid-f0"))
            cluster.add_scheduler()
        await asyncio.sleep(40.0)
        assert cluster.truth.peaks["uid-f0"] == 5
        assert set(cluster.results) == {"ok", FULL}
        assert cluster.truth.early == 0

    scenario(work, gateways=4, reserved={0: 5})


def test_a_slot_goes_from_gateway_to_gateway_without_early_refusals() -> None:
    async def work(cluster: Cluster) -> None:
        for turn in range(400):
            assert await cluster.invoke(gateways(cluster)[turn % 8], "f0", 0.01) == "ok"
            await asyncio.sleep(cluster.draw.random())

    scenario(work, gateways=8, reserved={0: 1})


def test_an_outage_of_redis_shorter_than_the_locks_is_not_noticed() -> None:
    async def work(cluster: Cluster) -> None:
        await hammer(cluster, "f0", 3.0)
        epochs = dict(cluster.redis.locks.epochs)
        cluster.redis.down = True
        await hammer(cluster, "f0", 2.0)
        cluster.redis.down = False
        await hammer(cluster, "f0", 5.0)
        assert cluster.redis.locks.epochs == epochs
        assert set(cluster.results) == {"ok"}
        assert cluster.longest < 0.5

    scenario(work, gateways=4, reserved={})


def test_an_outage_of_redis_longer_than_the_locks_ends_no_run_and_holds_up_requests_at_most() -> None:
    async def work(cluster: Cluster) -> None:
        await hammer(cluster, "f0", 3.0)
        long = cluster.invoke(gateways(cluster)[0], "f0", 40.0)
        cluster.redis.down = True
        await hammer(cluster, "f0", 12.0)
        cluster.redis.down = False
        await hammer(cluster, "f0", 20.0)
        assert await long == "ok"
        assert set(cluster.results) == {"ok"}
        assert cluster.longest < 5.0

    scenario(work, gateways=4, reserved={})


def test_a_gateway_that_cannot_reach_an_executor_uses_another() -> None:
    async def work(cluster: Cluster) -> None:
        (gateway,) = gateways(cluster)
        gateway.notices = 1.0
        assert await cluster.invoke(gateway, "f0", 0.1) == "ok"
        (executor,) = [each for each in cluster.executors.values() if each.joining.gate.granted_mb]
        cluster.network.part(gateway.node, executor.node)
        sent = cluster.network.sent
        for _ in range(20):
            assert await cluster.invoke(gateway, "f0", 0.1) == "ok"
        assert cluster.longest < 1.0
        assert cluster.network.sent - sent < 300

    scenario(work, gateways=1, reserved={0: 1})


def test_a_gateway_that_can_reach_no_executor_neither_spins_nor_waits_for_ever() -> None:
    async def work(cluster: Cluster) -> None:
        (gateway,), (executor,) = gateways(cluster), cluster.executors.values()
        gateway.notices = 1.0
        cluster.network.part(gateway.node, executor.node)
        sent = cluster.network.sent
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = await cluster.invoke(gateway, "f0", 0.1)
        assert result == "No executor can be reached."
        assert loop.time() - began < 60.0
        assert cluster.network.sent - sent < 1000
        cluster.network.heal(gateway.node, executor.node)
        await asyncio.sleep(5.0)
        assert await cluster.invoke(gateway, "f0", 0.1) == "ok"

    scenario(work, gateways=1, executors=1, reserved={0: 1})
