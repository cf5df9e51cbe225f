"""The function store over sentinels: the master is found, and found again after a failover."""

from collections.abc import Iterator

import pytest
import samples
from redis_groups import RedisSet
from support import redis_program

from lambent.kernel.store.redis import RedisStore


@pytest.fixture
def redis_set() -> Iterator[RedisSet]:
    made = RedisSet(redis_program())
    try:
        made.start()
        yield made
    finally:
        made.close()


async def test_functions_are_kept_over_a_failover(redis_set: RedisSet) -> None:
    url = redis_set.url.replace("redis+streams+", "redis+")
    store = RedisStore(url, shards=4)
    await store.open()
    try:
        await store.create(samples.function("before"))
        redis_set.fail_over()
        await store.create(samples.function("after"))
        assert await store.get("before") == samples.function("before")
        assert await store.get("after") == samples.function("after")
    finally:
        await store.close()
