"""Functions and versions that are known without asking, and never older than the last change that was told."""

import asyncio
from dataclasses import replace

import samples

from lambent.gateway.function_cache import FunctionCache
from lambent.kernel.models import Function, FunctionVersion, RecursiveLoop
from lambent.kernel.store.memory import MemoryStore


class CountingStore(MemoryStore):
    """`asked` counts reads; `go` holds reads of versions back."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()
        self.reading = asyncio.Event()

    async def get(self, name: str) -> Function | None:
        self.asked += 1
        return await super().get(name)

    async def get_version(self, name: str, number: int) -> FunctionVersion | None:
        self.asked += 1
        found = await super().get_version(name, number)
        self.reading.set()
        await self.go.wait()
        return found


async def made(*, size: int = 10) -> tuple[CountingStore, FunctionCache]:
    store = CountingStore()
    cache = FunctionCache(store, size=size)
    store.on_change(cache.changed)
    await store.create(samples.function(), publish=samples.version(revision_id="v1"))
    return store, cache


async def function(cache: FunctionCache, name: str = "f") -> Function:
    found = await cache.get(name)
    assert found is not None
    return found


async def test_what_was_read_once_is_not_asked_for_again() -> None:
    store, cache = await made()
    for _ in range(3):
        version = await cache.version(await function(cache), 1)
        assert version is not None and version.version == "1"
    assert store.asked == 2


async def test_a_change_of_the_version_is_seen() -> None:
    store, cache = await made()
    version = await cache.version(await function(cache), 1)
    assert version is not None
    await store.replace_version(replace(version, revision_id="v2"), expect_revision="v1")
    version = await cache.version(await function(cache), 1)
    assert version is not None and version.revision_id == "v2"
    await store.delete_version(await function(cache), 1)
    assert await cache.version(await function(cache), 1) is None


async def test_a_version_of_another_function_of_that_name_is_none() -> None:
    store, cache = await made()
    old = await function(cache)
    await store.delete("f")
    await store.create(samples.function(uid="other"), publish=samples.version(uid="other"))
    assert await cache.version(old, 1) is None
    await cache.version(await function(cache), 1)
    assert await cache.version(old, 1) is None, "also when the other's is known"


async def test_what_changes_while_it_is_read_is_not_kept() -> None:
    store, cache = await made()
    before = await function(cache)
    store.go.clear()
    reading = asyncio.ensure_future(cache.version(before, 1))
    await store.reading.wait()
    await store.set_recursive_loop("f", RecursiveLoop.ALLOW)
    await function(cache)
    store.go.set()
    await reading
    asked = store.asked
    await cache.version(before, 1)
    assert store.asked == asked + 1


async def test_everything_is_forgotten_when_changes_may_have_been_missed() -> None:
    store, cache = await made()
    await cache.version(await function(cache), 1)
    cache.changed("*")
    asked = store.asked
    await cache.version(await function(cache), 1)
    assert store.asked == asked + 2


async def test_versions_go_with_their_function_when_there_is_no_room() -> None:
    store, cache = await made(size=1)
    first = await function(cache)
    await cache.version(first, 1)
    await store.create(samples.function("g"))
    await function(cache, "g")
    asked = store.asked
    await cache.version(first, 1)
    assert store.asked == asked + 1


async def test_so_many_versions_of_a_function_and_no_more() -> None:
    store, cache = await made()
    for number in range(2, 70):
        one = await store.get("f")
        assert one is not None
        await store.replace(one, expect_revision="r1", publish=samples.version(revision_id=f"v{number}"))
    known = await function(cache)
    for number in range(1, 70):
        await cache.version(known, number)
    asked = store.asked
    await cache.version(known, 69)
    assert store.asked == asked
    await cache.version(known, 1)
    assert store.asked == asked + 1
