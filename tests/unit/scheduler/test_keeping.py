"""Provisioned environments over executors: who keeps how many, through losses, moves and takeovers."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from samples import alias, function, version

from lambent.kernel.clock import TestClock
from lambent.kernel.leases import Beat, Keep, KeptState, shard_of
from lambent.kernel.models import Function, ProvisionedConfig, VersionKey
from lambent.kernel.store.memory import MemoryStore
from lambent.scheduler.counts import Counts
from lambent.scheduler.keeping import Keeping, spread
from lambent.scheduler.nodes import Nodes
from lambent.scheduler.owner import ShardOwner

SHARDS = 4
UID = "uid-f"
KEY = VersionKey(UID, "1", 1)


class World:
    """Executors that do what they are told at their next beat."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.nodes = Nodes()
        self.store = MemoryStore()
        self.owned: dict[int, ShardOwner] = {}
        self.own(shard_of(UID, SHARDS))
        self.kept: dict[str, dict[tuple[VersionKey, str], int]] = {}
        self.sent: list[tuple[str, Keep]] = []
        self.keeping = self.made()

    def made(self) -> Keeping:
        return Keeping(
            nodes=self.nodes,
            store=self.store,
            owned=lambda: self.owned,
            send=self._send,
            shards=SHARDS,
            clock=self.clock,
        )

    def own(self, shard: int, epoch: int = 7) -> None:
        self.owned[shard] = ShardOwner(
            shard,
            epoch,
            nodes=self.nodes,
            counts=Counts(100, carves=False),
            must_hear=(),
            send=lambda executor, make: 1,
            grow=lambda slots: None,
            valid_until=lambda: 1e9,
            now=0.0,
        )

    def _send(self, executor: str, make: Callable[[int], Keep]) -> int:
        keep = make(len(self.sent) + 1)
        self.sent.append((executor, keep))
        self.kept[executor][keep.key, keep.bucket] = keep.wanted
        return keep.request

    def beat(self, *executors: str, draining: bool = False, memory_mb: int = 4096) -> None:
        for executor in executors:
            doing = self.kept.setdefault(executor, {})
            states = tuple(
                KeptState(key, bucket, wanted, wanted, "", wanted)
                for (key, bucket), wanted in doing.items()
                if wanted
            )
            beat = Beat(executor, 1, 0, {}, (), memory_mb, 0, {}, kept=states, draining=draining)
            self.nodes.heard(beat, self.clock.monotonic())

    async def create(self, count: int) -> Function:
        made = function("f", uid=UID)
        await self.store.create(made, publish=version("f", uid=UID))
        assert not await self.store.put_alias(
            made, alias("live", function_version="1", weights={}), expect_revision=None
        )
        return await self.allocate(count)

    async def allocate(self, count: int) -> Function:
        await self.store.set_provisioned("f", "live", ProvisionedConfig(count, 1.0) if count else None)
        found = await self.store.get("f")
        assert found is not None
        await self.keeping.configure(found)
        return found

    def by_executor(self) -> Mapping[str, int]:
        return {id: doing.get((KEY, "live"), 0) for id, doing in self.kept.items()}


async def test_environments_are_spread_by_free_memory_and_told_once() -> None:
    world = World()
    world.beat("a", "b")
    await world.create(4)
    world.keeping.step(0.0)
    assert world.by_executor() == {"a": 2, "b": 2}
    assert {keep.epoch for _, keep in world.sent} == {7}
    world.beat("a", "b")
    world.keeping.step(0.0)
    assert len(world.sent) == 2
    assert (await world.keeping.far("f", UID))["live"].status == "READY"


async def test_what_an_executor_kept_that_is_gone_or_drains_is_kept_elsewhere() -> None:
    world = World()
    world.beat("a", "b")
    await world.create(4)
    world.keeping.step(0.0)
    world.beat("a", draining=True)
    world.beat("b")
    world.keeping.step(0.0)
    assert world.by_executor()["b"] == 4
    await world.clock.advance(5)  # b is silent
    world.beat("c")
    world.keeping.step(5.0)
    assert world.by_executor()["c"] == 4


async def test_fewer_and_none_are_told_too() -> None:
    world = World()
    world.beat("a", "b")
    await world.create(4)
    await world.keeping._look_at_all(0.0)
    world.keeping.step(0.0)
    world.beat("a", "b")
    await world.allocate(1)
    world.keeping.step(0.0)
    assert sorted(world.by_executor().values()) == [0, 1]
    world.beat("a", "b")
    await world.allocate(0)
    world.keeping.step(0.0)
    assert sorted(world.by_executor().values()) == [0, 0]


async def test_a_new_owner_goes_on_with_what_is_kept_and_ends_nothing_before_it_knows() -> None:
    world = World()
    world.beat("a", "b")
    made = await world.create(3)
    world.keeping.step(0.0)
    world.beat("a", "b")
    before, told = world.by_executor(), len(world.sent)
    world.keeping = world.made()
    world.keeping.look_soon()
    world.keeping.step(0.0)
    assert len(world.sent) == told
    await world.keeping.configure(made)
    world.keeping.step(0.0)
    assert (world.by_executor(), len(world.sent)) == (before, told)


async def test_only_the_owner_of_the_shard_says_anything() -> None:
    world = World()
    world.beat("a")
    await world.create(3)
    world.owned.clear()
    world.keeping.step(0.0)
    assert world.sent == []
    world.own(shard_of(UID, SHARDS), epoch=8)
    await world.keeping._look_at_all(0.0)
    world.keeping.step(0.0)
    assert [keep.epoch for _, keep in world.sent] == [8]


async def test_shards_that_are_claimed_while_it_looks_are_looked_at_again() -> None:
    world = World()
    await world.create(1)
    page = world.store.page

    async def claimed_meanwhile(*, after: str | None, limit: int) -> object:
        world.keeping.look_soon()
        return await page(after=after, limit=limit)

    world.store.page = claimed_meanwhile  # type: ignore[method-assign, assignment]
    await world.keeping._look_at_all(1.0)
    assert world.keeping._looked == float("-inf")


async def test_a_deleted_function_is_kept_nowhere() -> None:
    world = World()
    world.beat("a")
    await world.create(2)
    await world.keeping._look_at_all(0.0)
    world.keeping.step(0.0)
    world.beat("a")
    world.keeping.forget(UID)
    world.keeping.step(0.0)
    assert world.by_executor() == {"a": 0}


async def test_idle_environments_are_told_for_the_rate_of_growth() -> None:
    world = World()
    counts = world.owned[shard_of(UID, SHARDS)].counts
    counts.take(UID, "on-demand", 10)
    counts.give(UID, "on-demand", 9)
    latest = replace(KEY, version="$LATEST")
    world.nodes.heard(Beat("a", 1, 0, {}, (), 4096, 0, {latest: 3}), 0.0)
    world.keeping.step(0.0)
    assert counts.of(UID).environments == 4


@pytest.mark.parametrize(
    ("count", "before", "free", "plan"),
    [
        (3, {}, {"a": 1000, "b": 500}, {"a": 3}),
        (4, {}, {"a": 1000, "b": 1000}, {"a": 2, "b": 2}),
        (4, {"a": 1, "gone": 3}, {"a": 0, "b": 900}, {"a": 1, "b": 3}),
        (1, {"a": 2, "b": 2}, {"a": 0, "b": 0}, {"a": 1}),
        (2, {}, {}, {}),
        (2, {}, {"a": -100}, {"a": 2}),  # wherever: the executor has the last word
    ],
)
def test_a_plan(count: int, before: dict[str, int], free: dict[str, int], plan: dict[str, int]) -> None:
    assert spread(count, before, free, 128) == plan
