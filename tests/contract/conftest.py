"""Every function store, for the contract tests of each part of it."""

from collections.abc import AsyncIterator

import pytest
from stores import AnyStore

from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.redis import RedisStore


@pytest.fixture(params=["memory", "redis_url", "redis_cluster_url"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnyStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = RedisStore(request.getfixturevalue(request.param), shards=4)
    await opened.open()
    yield opened
    await opened.close()
