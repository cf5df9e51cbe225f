"""Keepers of shards over a real server, on the real clock, whose server crashes or hangs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from support import RedisServer

from lambent.kernel.clock import SystemClock
from lambent.kernel.models import Member
from lambent.kernel.store.members import RedisMembers
from lambent.kernel.store.shard_locks import RedisShardLocks
from lambent.scheduler.shards import ShardKeeper

SHARDS = 4
BOUND = 30.0


class Scheduler:
    def __init__(self, id: str, url: str) -> None:
        self.id, self.losses = id, 0
        self.changed = asyncio.Event()
        self.locks, self.members = RedisShardLocks(url), RedisMembers(url)
        self.keeper = ShardKeeper(
            *(id, f"{id}:1"),
            shards=SHARDS,
            locks=self.locks,
            members=self.members,
            clock=SystemClock(),
            on_claimed=lambda shard, epoch: self.changed.set(),
            on_lost=self._lost,
            on_release=self._release,
        )

    def _lost(self, shard: int) -> None:
        self.losses += 1
        self.changed.set()

    async def _release(self, shard: int) -> None:
        self.changed.set()

    async def join(self) -> None:
        await self.members.register(Member(self.id, "scheduler"), 60)
        self.keeper.start()

    async def owns(self, count: int) -> dict[int, int]:
        """Waits until it owns so many."""
        async with asyncio.timeout(BOUND):
            while len(held := dict(self.keeper.held())) != count:
                self.changed.clear()
                await self.changed.wait()
        return held

    async def lost(self, count: int) -> None:
        async with asyncio.timeout(BOUND):
            while self.losses < count:
                self.changed.clear()
                await self.changed.wait()
        assert self.losses == count

    async def close(self) -> None:
        await self.keeper.close()
        await self.locks.close()
        await self.members.close()


@pytest.fixture
async def make() -> AsyncIterator[Callable[[str, str], Awaitable[Scheduler]]]:
    made: list[Scheduler] = []

    async def start(id: str, url: str) -> Scheduler:
        made.append(Scheduler(id, url))
        await made[-1].join()
        return made[-1]

    yield start
    for each in made:
        await each.close()


@pytest.mark.parametrize(("ends", "begins"), [("kill", "start"), ("pause", "resume")])
async def test_a_server_that_is_away_loses_all_and_its_return_brings_all_back(
    make: Callable[[str, str], Awaitable[Scheduler]], own_redis: RedisServer, ends: str, begins: str
) -> None:
    one = await make("one", own_redis.url)
    before = await one.owns(SHARDS)
    getattr(own_redis, ends)()
    await one.lost(SHARDS)
    assert not one.keeper.held()
    getattr(own_redis, begins)()
    after = await one.owns(SHARDS)
    assert all(after[shard] > before[shard] for shard in range(SHARDS))


async def test_one_that_closes_leaves_all_to_the_other_at_once(
    make: Callable[[str, str], Awaitable[Scheduler]], redis_url: str
) -> None:
    one = await make("one", redis_url)
    await one.owns(SHARDS)
    two = await make("two", redis_url)
    await one.owns(SHARDS // 2)
    await two.owns(SHARDS // 2)
    await one.members.remove("one")
    await one.keeper.close()
    await two.owns(SHARDS)
    assert one.losses == two.losses == 0
    assert {owner.owner for owner in (await two.locks.owners()).values()} == {"two"}
