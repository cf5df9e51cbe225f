"""What every Members, ShardLocks and AccountBlocks must do: in memory, and over real servers."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import InvalidParameterValueException, ServiceException
from lambent.kernel.models import Block, Member, ShardOwner
from lambent.kernel.ports import AccountBlocks, Members, ShardLocks
from lambent.kernel.store import cluster_values
from lambent.kernel.store.blocks import RedisAccountBlocks
from lambent.kernel.store.connection import Connection
from lambent.kernel.store.members import RedisMembers
from lambent.kernel.store.memory_cluster import MemoryAccountBlocks, MemoryMembers, MemoryShardLocks
from lambent.kernel.store.shard_locks import RedisShardLocks

TTL = 30.0
_T = TypeVar("_T")
ONE = Member("one", "scheduler", {"grpc": "127.0.0.1:1"}, {"version": "0.1 \u00e9"})


class World:
    """The three over one server, and a way to let its time pass."""

    members: Members
    locks: ShardLocks
    blocks: AccountBlocks

    async def passes(self, seconds: float) -> None:
        raise NotImplementedError


class MemoryWorld(World):
    def __init__(self) -> None:
        self._clock = TestClock()
        locks = MemoryShardLocks(self._clock)
        self.members, self.locks = MemoryMembers(self._clock), locks
        self.blocks = MemoryAccountBlocks(locks, self._clock)

    async def passes(self, seconds: float) -> None:
        await self._clock.advance(seconds)


class RedisWorld(World):
    def __init__(self, url: str) -> None:
        self.url = url
        self.parts = RedisMembers(url), RedisShardLocks(url), RedisAccountBlocks(url)
        self.members, self.locks, self.blocks = self.parts

    async def close(self) -> None:
        for part in self.parts:
            await part.close()

    async def passes(self, seconds: float) -> None:
        """Everything that has a time becomes older."""
        ms = round(seconds * 1000)
        with redis.Redis.from_url(self.url) as client:
            dated = [*(f"lambent:{{s0}}:seen:{role}" for role in cluster_values.ROLES), "lambent:{s0}:wants"]
            for key in dated:
                for name, _ in client.zrange(key, 0, -1, withscores=True):
                    client.zincrby(key, -ms, name)
            for field in client.hkeys("lambent:{s0}:owners"):
                if field.startswith(b"u:"):
                    client.hincrby("lambent:{s0}:owners", field.decode(), -ms)


@pytest.fixture(params=["memory", "redis_url", "redis_cluster_url"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    made = RedisWorld(request.getfixturevalue(request.param))
    yield made
    await made.close()


async def claimed(world: World, shard: int, owner: str = "one") -> int:
    epoch = await world.locks.claim(shard, owner, f"{owner}:1", TTL)
    assert epoch is not None
    return epoch


# Members


async def test_a_member_is_listed_as_it_said_with_its_age(world: World) -> None:
    await world.members.register(ONE, 5)
    [found] = await world.members.list()
    assert (found.id, found.role, found.addresses, found.facts) == (
        "one",
        "scheduler",
        ONE.addresses,
        ONE.facts,
    )
    assert 0 <= found.age < 5 and found.live
    await world.passes(10)
    [found] = await world.members.list("scheduler")
    assert 10 <= found.age < 15 and not found.live


async def test_registering_again_renews_what_is_said(world: World) -> None:
    await world.members.register(ONE, 5)
    await world.passes(30)
    await world.members.register(Member("one", "scheduler", facts={"now": "else"}), 5)
    [found] = await world.members.list()
    assert found.live and found.age < 5
    assert (found.addresses, found.facts) == ({}, {"now": "else"})


async def test_roles_are_listed_apart_and_by_id(world: World) -> None:
    for id, role in (("c", "executor"), ("b", "gateway"), ("a", "executor")):
        await world.members.register(Member(id, role), 5)
    assert [member.id for member in await world.members.list("executor")] == ["a", "c"]
    assert [member.id for member in await world.members.list()] == ["a", "b", "c"]
    assert await world.members.list("scheduler") == []


async def test_a_silent_member_is_kept_for_a_minute(world: World) -> None:
    await world.members.register(ONE, 5)
    await world.passes(55)
    assert [member.live for member in await world.members.list()] == [False]
    await world.passes(10)
    assert await world.members.list() == []
    await world.members.register(ONE, 5)
    assert [member.live for member in await world.members.list()] == [True]


async def test_a_removed_member_is_gone_at_once(world: World) -> None:
    await world.members.register(ONE, 5)
    await world.members.remove("one")
    await world.members.remove("never seen")
    assert await world.members.list() == []


@pytest.mark.parametrize(
    ("member", "ttl"),
    [
        (Member("one", "cook"), 5),
        (Member("", "gateway"), 5),
        (Member("x" * 129, "gateway"), 5),
        (Member("one", "gateway", facts={"f": "x" * 9000}), 5),
        (ONE, 0),
        (ONE, 61),
    ],
)
async def test_what_is_out_of_bounds_is_refused(world: World, member: Member, ttl: float) -> None:
    with pytest.raises(InvalidParameterValueException):
        await world.members.register(member, ttl)
    assert await world.members.list() == []


async def test_more_members_than_there_is_room_for_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_values, "MOST_MEMBERS", 1)
    await world.members.register(ONE, 5)
    await world.members.register(ONE, 5)
    await world.members.register(Member("g", "gateway"), 5)
    with pytest.raises(ServiceException, match="1 members of the role scheduler"):
        await world.members.register(Member("two", "scheduler"), 5)


# Shard locks


async def test_a_shard_has_one_owner(world: World) -> None:
    epoch = await claimed(world, 3)
    assert await world.locks.claim(3, "two", "two:1", TTL) is None
    assert await world.locks.claim(3, "one", "one:1", TTL) is None
    assert await world.locks.owners() == {3: ShardOwner("one", "one:1", epoch)}


async def test_of_many_claims_at_once_one_succeeds(world: World) -> None:
    epochs = await asyncio.gather(*(world.locks.claim(0, f"o{i}", "", TTL) for i in range(20)))
    assert len([epoch for epoch in epochs if epoch is not None]) == 1


async def test_epochs_only_grow_beyond_release_and_expiry(world: World) -> None:
    epochs = [await claimed(world, 0)]
    for _ in range(3):
        await world.locks.release(0, "one", epochs[-1])
        epochs.append(await claimed(world, 0))
        await world.passes(TTL + 1)
        assert await world.locks.owners() == {}
        epochs.append(await claimed(world, 0))
    assert epochs == sorted(set(epochs))


async def test_a_renewed_lock_stands_for_longer(world: World) -> None:
    held = {shard: await claimed(world, shard) for shard in (0, 1)}
    await world.passes(TTL - 5)
    assert await world.locks.renew("one", {0: held[0]}, TTL) == {0}
    await world.passes(10)
    assert list(await world.locks.owners()) == [0]
    assert await world.locks.renew("one", held, TTL) == {0}
    assert await world.locks.renew("one", {}, TTL) == frozenset()


async def test_only_its_owner_renews_and_releases_at_its_epoch(world: World) -> None:
    epoch = await claimed(world, 0)
    assert await world.locks.renew("two", {0: epoch}, TTL) == frozenset()
    assert await world.locks.renew("one", {0: epoch - 1}, TTL) == frozenset()
    await world.locks.release(0, "two", epoch)
    await world.locks.release(0, "one", epoch - 1)
    await world.locks.release(1, "one", epoch)
    assert list(await world.locks.owners()) == [0]
    await world.passes(TTL + 1)
    later = await claimed(world, 0, "two")
    await world.locks.release(0, "one", epoch)
    assert await world.locks.renew("one", {0: epoch}, TTL) == frozenset()
    assert await world.locks.owners() == {0: ShardOwner("two", "two:1", later)}


# The account's slots


async def sized(world: World, limit: int, *shards: int) -> list[int]:
    await world.blocks.set_limit(limit)
    return [await claimed(world, shard) for shard in shards]


async def test_a_block_grows_by_what_the_pool_has(world: World) -> None:
    zero, one = await sized(world, 100, 0, 1)
    assert await world.blocks.grow(0, zero, 60) == Block(60, 60, 40)
    assert await world.blocks.grow(1, one, 60) == Block(40, 40, 0)
    assert await world.blocks.grow(0, zero, 1) == Block(60, 0, 0, wanted=True)
    assert await world.blocks.give_back(0, zero, 10) == Block(10, 0, 50, wanted=True)
    assert await world.blocks.give_back(0, zero, 90) == Block(10, 0, 50, wanted=True)
    assert await world.blocks.grow(0, zero, 0) == Block(10, 0, 50, wanted=True)


async def test_nothing_grows_before_a_limit_is_set(world: World) -> None:
    epoch = await claimed(world, 0)
    assert await world.blocks.grow(0, epoch, 1) == Block(0, 0, 0)


async def test_a_fenced_owner_changes_nothing(world: World) -> None:
    [epoch] = await sized(world, 10, 0)
    await world.blocks.grow(0, epoch, 4)
    await world.passes(TTL + 1)
    successor = await claimed(world, 0, "two")
    refused = Block(4, 0, 6, fenced=True)
    assert await world.blocks.grow(0, epoch, 20) == refused
    assert await world.blocks.give_back(0, epoch, 0) == refused
    assert await world.blocks.grow(5, epoch, 1) == Block(0, 0, 6, fenced=True)
    assert await world.blocks.grow(0, successor, 0) == Block(4, 0, 6), "it has its predecessor's block"


async def test_a_want_is_told_to_the_others_for_three_seconds(world: World) -> None:
    zero, one = await sized(world, 10, 0, 1)
    await world.blocks.grow(0, zero, 8)
    assert not (await world.blocks.grow(1, one, 5)).wanted
    assert (await world.blocks.grow(0, zero, 0)).wanted
    await world.passes(4)
    assert not (await world.blocks.give_back(0, zero, 8)).wanted
    await world.blocks.grow(1, one, 5)
    assert (await world.blocks.give_back(0, zero, 1)).wanted
    assert (await world.blocks.grow(1, one, 5)).granted == 5
    assert not (await world.blocks.grow(0, zero, 0)).wanted, "it has got all that it asked for"


async def test_a_reservation_takes_from_the_pool_and_blocks_come_back(world: World) -> None:
    zero, one = await sized(world, 100, 0, 1)
    await world.blocks.grow(0, zero, 50)
    await world.blocks.grow(1, one, 40)
    await world.blocks.reserve("f", 30)
    assert await world.blocks.grow(0, zero, 1) == Block(50, 0, -20)
    assert (await world.blocks.give_back(1, one, 25)).pool_free == -5
    assert (await world.blocks.grow(0, zero, 1)).granted == 0
    assert (await world.blocks.give_back(1, one, 19)).pool_free == 1
    assert (await world.blocks.grow(0, zero, 5)).granted == 1


async def test_reservations_are_replaced_and_removed(world: World) -> None:
    [epoch] = await sized(world, 100, 0)
    for slots in (30, 10, 10):
        await world.blocks.reserve("f", slots)
    await world.blocks.reserve("g", 0)
    await world.blocks.reserve("never", None)
    assert await world.blocks.reserved() == {"f": 10, "g": 0}
    assert (await world.blocks.grow(0, epoch, 0)).pool_free == 90
    await world.blocks.reserve("f", None)
    await world.blocks.reserve("f", None)
    assert await world.blocks.reserved() == {"g": 0}
    assert (await world.blocks.grow(0, epoch, 0)).pool_free == 100


async def test_a_lower_limit_stops_growth(world: World) -> None:
    [epoch] = await sized(world, 100, 0)
    await world.blocks.grow(0, epoch, 50)
    await world.blocks.set_limit(40)
    assert await world.blocks.grow(0, epoch, 1) == Block(50, 0, -10)


async def test_growing_at_once_stays_within_the_limit(world: World) -> None:
    epochs = await sized(world, 50, *range(8))
    grown = await asyncio.gather(*(world.blocks.grow(i % 8, epochs[i % 8], 3) for i in range(40)))
    assert sum(block.granted for block in grown) == 50
    assert min(block.pool_free for block in grown) == 0


async def test_whatever_is_asked_blocks_grow_only_within_the_limit(world: World) -> None:
    """Random steps, with the same answers as the twin in memory gives."""
    chance, model = random.Random(7), MemoryWorld()
    epochs = await sized(world, 40, 0, 1, 2)
    models = await sized(model, 40, 0, 1, 2)
    sizes = [0, 0, 0]
    reserved: dict[str, int] = {}
    limit = 40
    for _ in range(300):
        shard, count, uid = chance.randrange(3), chance.randrange(20), chance.choice("fgh")
        step = chance.choice(("grow", "grow", "give", "reserve", "free", "limit"))
        if step in ("grow", "give"):
            answers = []
            for each, epoch in ((world, epochs[shard]), (model, models[shard])):
                call = each.blocks.grow if step == "grow" else each.blocks.give_back
                answers.append(await call(shard, epoch, count))
            assert answers[0] == answers[1]
            grew, sizes[shard] = answers[0].size - sizes[shard], answers[0].size
            assert answers[0].pool_free == limit - sum(reserved.values()) - sum(sizes)
            assert grew == answers[0].granted if step == "grow" else grew <= 0
            assert grew <= 0 or answers[0].pool_free >= 0
            continue
        for each in (world, model):
            if step == "limit":
                await each.blocks.set_limit(20 + count)
            else:
                await each.blocks.reserve(uid, count if step == "reserve" else None)
        if step == "limit":
            limit = 20 + count
        elif step == "reserve":
            reserved[uid] = count
        else:
            reserved.pop(uid, None)
        assert await world.blocks.reserved() == reserved


@pytest.mark.parametrize("what", ["grow", "give_back", "reserve", "limit"])
async def test_negative_numbers_are_refused(world: World, what: str) -> None:
    calls: dict[str, Any] = {
        "grow": lambda: world.blocks.grow(0, 1, -1),
        "give_back": lambda: world.blocks.give_back(0, 1, -1),
        "reserve": lambda: world.blocks.reserve("f", -1),
        "limit": lambda: world.blocks.set_limit(-1),
    }
    with pytest.raises(InvalidParameterValueException, match="negative"):
        await calls[what]()


# What only a server can do


class Repeated(Connection):
    """The first answer of each step is lost, so that it is done again."""

    async def call(self, step: Callable[[Any], Awaitable[_T]], *, seconds: float | None = None) -> _T:
        await super().call(step, seconds=seconds)
        return await super().call(step, seconds=seconds)


async def test_a_step_that_is_done_again_answers_the_same(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("blocks", "members", "shard_locks"):
        monkeypatch.setattr(f"lambent.kernel.store.{module}.Connection", Repeated)
    world = RedisWorld(redis_url)
    zero, one = await sized(world, 10, 0, 1)
    assert await world.blocks.grow(0, zero, 3) == Block(3, 3, 7)
    assert await world.blocks.grow(0, zero, 3) == Block(6, 3, 4)
    assert await world.blocks.give_back(0, zero, 4) == Block(4, 0, 6)
    assert await world.blocks.grow(1, one, 8) == Block(6, 6, 0)
    await world.blocks.reserve("f", 4)
    assert await world.blocks.grow(0, zero, 0) == Block(4, 0, -4, wanted=True)
    await world.locks.release(0, "one", zero)
    assert await claimed(world, 0) > zero
    await world.members.register(ONE, 5)
    assert len(await world.members.list()) == 1
    await world.close()


async def test_epochs_grow_even_when_the_server_has_lost_all(redis_url: str) -> None:
    world = RedisWorld(redis_url)
    before = await claimed(world, 0)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert await world.locks.renew("one", {0: before}, TTL) == frozenset()
    assert await claimed(world, 0) > before
    await world.close()


async def test_what_a_newer_release_wrote_is_refused(redis_url: str) -> None:
    world = RedisWorld(redis_url)
    [epoch] = await sized(world, 10, 0)
    await world.blocks.reserve("f", 1)
    await world.members.register(ONE, 5)
    with redis.Redis.from_url(redis_url) as client:
        for key in ("owners", "blocks"):
            client.hset(f"lambent:{{s0}}:{key}", "v", "99")
        client.hset("lambent:{s0}:members:scheduler", "one", '{"schema": 99}')
    for call in (
        world.members.list(),
        world.locks.owners(),
        world.blocks.grow(0, epoch, 1),
        world.blocks.reserve("f", 2),
    ):
        with pytest.raises(ServiceException, match="newer Lambent"):
            await call
    assert await world.blocks.reserved() == {"f": 1}
    await world.close()


async def test_a_damaged_member_is_told_of(redis_url: str) -> None:
    world = RedisWorld(redis_url)
    await world.members.register(ONE, 5)
    with redis.Redis.from_url(redis_url) as client:
        client.hset("lambent:{s0}:members:scheduler", "one", "nonsense")
    with pytest.raises(ServiceException, match="damaged"):
        await world.members.list()
    await world.close()
