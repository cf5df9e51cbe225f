"""lease_service.py: shards that come and go, executors that are silent, blocks whose answers get lost."""

import asyncio
from typing import Any

from samples import function

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.leases import FREED_SECONDS, Answer, Ask, Beat, Claim, Open, ToExecutor, shard_of
from lambent.kernel.models import Member, State
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.memory_cluster import MemoryAccountBlocks, MemoryMembers, MemoryShardLocks
from lambent.kernel.tasks import Tasks
from lambent.scheduler.lease_service import Joined, LeaseService, LeaseServiceConfig

F = function("f", state=State.ACTIVE)
SHARD = shard_of(F.uid, 16)


class Blocks(MemoryAccountBlocks):
    """`lose`: changes are made, and their answers are lost."""

    lose = False

    async def give_back(self, shard: int, epoch: int, to: int) -> Any:
        block = await super().give_back(shard, epoch, to)
        if self.lose:
            raise ServiceException("No answer.")
        return block


class Members(MemoryMembers):
    """`gate`: a listing waits for it."""

    gate: asyncio.Event | None = None

    async def list(self, role: str | None = None) -> Any:
        if self.gate is not None:
            await self.gate.wait()
        return await super().list(role)


class World:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.tasks = Tasks("test")
        self.members = Members(self.clock)
        self.locks = MemoryShardLocks(self.clock)
        self.blocks = Blocks(self.locks, self.clock)
        self.store = MemoryStore()
        self.until = 1e9
        self.sent: list[ToExecutor] = []
        self.service = LeaseService(
            LeaseServiceConfig("me", 16, 100, lambda shard: self.until),
            store=self.store,
            members=self.members,
            blocks=self.blocks,
            clock=self.clock,
            tasks=self.tasks,
        )

    async def claim(self) -> int:
        epoch = await self.locks.claim(SHARD, "me", "at", 1e9)
        assert epoch is not None
        await self.service.claimed(SHARD, epoch)
        return epoch

    def join(self, executor: str = "x") -> Joined:
        return self.service.join(executor, self.sent.append)

    def beat(self, joined: Joined, epoch: int | None = None, seen: int = 99) -> None:
        epochs = {} if epoch is None else {SHARD: epoch}
        joined.receive(Beat(joined.executor, 1, seen, epochs, (), 4096, 0, {}))


async def test_an_executor_that_joins_is_told_whose_its_shards_are() -> None:
    world = World()
    epoch = await world.claim()
    joined = world.join()
    assert world.sent == [Claim(1, SHARD, epoch)]
    world.beat(joined, epoch)
    assert world.sent[-1] == Answer(1, {SHARD: epoch}, {})


async def test_a_beat_is_not_answered_for_a_shard_whose_lock_may_have_lapsed() -> None:
    world = World()
    epoch = await world.claim()
    joined = world.join()
    world.until = 0.0
    world.beat(joined, epoch)
    assert world.sent[-1] == Answer(1, {}, {})


async def test_a_shard_that_is_lost_while_its_takeover_begins_is_not_owned() -> None:
    world = World()
    world.members.gate = asyncio.Event()
    claiming = asyncio.ensure_future(world.service.claimed(SHARD, 1))
    await asyncio.sleep(0)
    world.service.lost(SHARD)
    again = asyncio.ensure_future(world.service.claimed(SHARD, 2))
    await asyncio.sleep(0)
    world.members.gate.set()
    await asyncio.gather(claiming, again)
    assert world.service.owned[SHARD].epoch == 2
    world.service.lost(SHARD)
    assert not world.service.owned


async def test_a_takeover_waits_for_executors_that_redis_has_not_heard_for_long() -> None:
    """One may be cut off from Redis alone, and run functions."""
    world = World()
    await world.members.register(Member("x", "executor"), 5.0)
    await world.clock.advance(FREED_SECONDS + 5.0)
    epoch = await world.claim()
    assert not world.service.owned[SHARD].ready
    world.beat(world.join(), epoch)
    assert world.service.owned[SHARD].ready


async def test_executors_that_nobody_hears_are_forgotten() -> None:
    world = World()
    await world.members.register(Member("x", "executor"), 5.0)
    work = asyncio.ensure_future(world.service.run())
    await world.clock.settle()
    world.beat(world.join())
    await world.clock.advance(2 * FREED_SECONDS + 10.0)
    assert world.service.nodes.get("x") is None
    assert list(await world.members.list("executor")) == []
    work.cancel()


async def test_slots_are_asked_of_the_pool_opened_and_given_back_when_nobody_uses_them() -> None:
    world = World()
    await world.blocks.set_limit(100)
    await world.store.create(F)
    epoch = await world.claim()
    joined = world.join()
    world.beat(joined, epoch)
    ask = Ask("h", "f", F.to_run.key, "on-demand", 128, "d", 3)
    asking = asyncio.ensure_future(world.service.ask(SHARD, ask))
    await world.clock.settle()
    (opened,) = [each for each in world.sent if isinstance(each, Open)]
    assert opened.slots == 3
    assert world.service.owned[SHARD].counts.limit == 3 + 8
    world.service.owned[SHARD].gone("x", world.clock.monotonic())
    asking.cancel()
    work = asyncio.ensure_future(world.service.run())
    await world.clock.settle()
    await world.clock.advance(5.0)
    assert world.service.owned[SHARD].counts.limit == 0
    assert (await world.blocks.grow(SHARD, epoch, 0)).size == 0
    work.cancel()


async def test_a_block_that_was_lowered_counts_as_lowered_when_the_answer_is_lost() -> None:
    world = World()
    await world.blocks.set_limit(100)
    epoch = await world.claim()
    await world.clock.settle()
    await world.blocks.grow(SHARD, epoch, 50)
    counts = world.service.owned[SHARD].counts
    counts.limit = 50
    world.blocks.lose = True
    work = asyncio.ensure_future(world.service.run())
    await world.clock.settle()
    await world.clock.advance(1.1)
    assert counts.limit == 0
    work.cancel()
