"""Handlers over the real function store: what the twin in memory can't show, as writes that wait for each other
and states that come back from text."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from handler_world import World
from support import RedisServer

from lambent.gateway.handlers.lifecycle import resume
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ResourceConflictException, ServiceException
from lambent.kernel.store.redis import RedisStore


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    opened = RedisStore(redis_url, shards=4)
    await opened.open()
    yield opened
    await opened.close()


async def test_of_many_creations_and_many_updates_at_once_one_each_wins(store: RedisStore) -> None:
    world = World(store=store)
    created = await asyncio.gather(
        *(world.create(Code={"ZipFile": b"%d" % n}) for n in range(8)), return_exceptions=True
    )
    won = [answer for answer in created if not isinstance(answer, BaseException)]
    lost = {str(error) for error in created if isinstance(error, ResourceConflictException)}
    assert (len(won), lost) == (1, {"Function already exist: my-fn"})
    await world.idle()
    assert (await world.configuration())["CodeSha256"] == won[0]["CodeSha256"]

    world.host.go.clear()
    updated = await asyncio.gather(
        *(world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Timeout=n) for n in range(10, 18)),
        return_exceptions=True,
    )
    accepted = [answer for answer in updated if not isinstance(answer, BaseException)]
    refused = [error for error in updated if isinstance(error, ResourceConflictException)]
    assert (len(accepted), len(refused)) == (1, 7)
    world.host.go.set()
    await world.idle()
    assert (await world.configuration())["Timeout"] == accepted[0]["Timeout"]
    assert world.deaths == []


async def test_states_survive_a_restart_and_are_finished(store: RedisStore, redis_url: str) -> None:
    before = World(store=store)
    await before.active("updating", Environment={"Variables": {"KEY": "1"}})
    before.host.go.clear()
    await before.create("creating")
    answer = await before.call("UpdateFunctionConfiguration", FunctionName="updating", Environment={})
    await before.host.asked(3)
    await before.tasks.drain(0)

    again = RedisStore(redis_url, shards=4)
    await again.open()
    try:
        after = World(store=again)
        assert await after.configuration("updating") == answer
        old = (await after.stored("updating")).to_run
        assert old.environment == {"KEY": "1"}
        assert await resume(after.services) == 2
        await after.idle()
        for name in ("creating", "updating"):
            settled = await after.configuration(name)
            assert (settled["State"], settled["LastUpdateStatus"]) == ("Active", "Successful")
        assert (await after.stored("updating")).to_run.environment is None
    finally:
        await again.close()


async def test_a_creation_is_finished_when_the_killed_server_is_back(own_redis: RedisServer) -> None:
    store = RedisStore(own_redis.url, shards=4)
    await store.open()
    try:
        world = World(store=store, clock=SystemClock())
        world.host.go.clear()
        await world.create()
        await world.host.asked()
        await asyncio.to_thread(own_redis.kill)
        world.host.go.set()
        with pytest.raises(ServiceException):
            await world.configuration()
        await asyncio.to_thread(own_redis.start)
        await world.idle()
        assert (await world.configuration())["State"] == "Active"
        assert world.deaths == []
    finally:
        await store.close()
