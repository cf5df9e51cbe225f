"""What contract tests of function stores share."""

import samples

from lambent.kernel.models import Function
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.redis import RedisStore

AnyStore = MemoryStore | RedisStore


async def published(store: AnyStore, count: int = 2, name: str = "f") -> Function:
    """A function with so many versions of archives of 100 bytes."""
    await store.create(samples.function(name, archive=samples.archive(100)))
    for number in range(count):
        function = await store.get(name)
        assert function is not None
        version = samples.version(name, archive=samples.archive(100), revision_id=f"v{number + 1}")
        await store.replace(function, expect_revision="r1", publish=version)
    return await found(store, name)


async def found(store: AnyStore, name: str = "f") -> Function:
    function = await store.get(name)
    assert function is not None
    return function
