"""Every function store: versions and aliases, and what is kept by them, come back equal, change by their
revision and go together."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import samples
from stores import AnyStore, found, published

from lambent.kernel.errors import PreconditionFailedException, ResourceNotFoundException
from lambent.kernel.models import Cors, FunctionUrl, ProvisionedConfig
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.redis import RedisStore


async def test_provisioned_allocations_are_kept_by_qualifier_and_go_with_it(store: AnyStore) -> None:
    function = await published(store)
    one, two = ProvisionedConfig(3, 1.5), ProvisionedConfig(4, 2.5)
    await store.set_provisioned("f", "live", one)
    await store.set_provisioned("f", "1", two)
    assert (await found(store)).provisioned == {"1": two, "live": one}
    await store.set_provisioned("f", "live", two)
    await store.set_provisioned("f", "other", None)
    assert (await found(store)).provisioned == {"1": two, "live": two}
    await store.delete_alias("f", "live")
    await store.delete_version(function, 1)
    assert (await found(store)).provisioned == {}
    with pytest.raises(ResourceNotFoundException):
        await store.set_provisioned("gone", "live", one)


async def test_urls_are_kept_by_qualifier_found_by_id_and_go_with_it(store: AnyStore) -> None:
    function = await published(store, 3)
    await store.put_alias(function, samples.alias(), expect_revision=None)
    one = FunctionUrl("a" * 32, 1.5, 2.5, "RESPONSE_STREAM", Cors(allow_origins=("*",), max_age=5))
    two = FunctionUrl("b" * 32, 1.5, 1.5)
    await store.set_url("f", "$LATEST", one)
    await store.set_url("f", "live", two)
    assert (await found(store)).urls == {"$LATEST": one, "live": two}
    assert await store.url(one.id) == ("f", "$LATEST")
    assert await store.url(two.id) == ("f", "live")
    assert await store.url("c" * 32) is None
    changed = dataclasses.replace(one, modified=9.0, cors=None)
    assert not await store.set_url("f", "$LATEST", dataclasses.replace(two, id="d" * 32)), "one stands"
    assert await store.url("d" * 32) is None
    assert await store.set_url("f", "$LATEST", changed, before=one)
    assert not await store.set_url("f", "$LATEST", None, before=one), "it is another one by now"
    assert (await found(store)).urls["$LATEST"] == changed
    await store.delete_alias("f", "live")
    assert (await found(store)).urls == {"$LATEST": changed}
    assert await store.url(two.id) is None
    assert await store.set_url("f", "$LATEST", None, before=changed)
    assert not await store.set_url("f", "$LATEST", changed, before=changed), "what is deleted stays so"
    assert (await found(store)).urls == {}
    assert await store.url(one.id) is None
    await store.set_url("f", "$LATEST", one)
    await store.delete("f")
    assert await store.url(one.id) is None
    with pytest.raises(ResourceNotFoundException):
        await store.set_url("f", "$LATEST", one)
    assert await store.url(one.id) is None


async def test_a_url_is_made_only_for_an_alias_that_is_there(store: AnyStore) -> None:
    """As one is deleted after its function was read."""
    function = await published(store, 3)
    await store.put_alias(function, samples.alias(), expect_revision=None)
    one, two = FunctionUrl("a" * 32, 1.5, 1.5), FunctionUrl("b" * 32, 1.5, 1.5)
    assert await store.set_url("f", "live", one)
    await store.delete_alias("f", "live")
    assert not await store.set_url("f", "live", dataclasses.replace(one, modified=9.0), before=one)
    with pytest.raises(ResourceNotFoundException):
        await store.set_url("f", "live", two)
    assert (await found(store)).urls == {}
    assert [await store.url(url.id) for url in (one, two)] == [None, None]
    assert await store.set_url("f", "live", None), "there is nothing to delete"


@pytest.mark.parametrize("store", ["redis_url", "redis_cluster_url"], indirect=True)
async def test_a_url_that_is_made_while_its_alias_is_deleted_goes_with_it(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = await published(store, 3)
    await store.put_alias(function, samples.alias(), expect_revision=None)
    url, call = FunctionUrl("a" * 32, 1.5, 1.5), store._connection.call

    async def overtaken(step: Callable[..., Awaitable[Any]]) -> Any:
        monkeypatch.undo()
        read = await call(step)
        assert await store.set_url("f", "live", url)
        return read

    monkeypatch.setattr(store._connection, "call", overtaken)
    await store.delete_alias("f", "live")
    assert (await found(store)).urls == {}
    assert await store.url(url.id) is None


async def test_a_version_comes_back_equal_under_its_number(store: AnyStore) -> None:
    whole = samples.full_function()
    await store.create(whole)
    version = dataclasses.replace(whole.latest, revision_id="v1", description="first")
    assert await store.replace(whole, expect_revision=whole.latest.revision_id, publish=version) == 1
    expected = dataclasses.replace(version, version="1")
    assert await store.get_version("full", 1) == expected
    assert await store.versions("full", limit=10) == [expected]
    assert await store.get("full") == dataclasses.replace(
        whole, last_version=1, last_description=whole.latest.description
    )


async def test_a_function_may_be_created_with_a_version(store: AnyStore) -> None:
    await store.create(samples.function(description="d"), publish=samples.version(revision_id="v1"))
    assert await store.get_version("f", 1) == samples.version(version="1", revision_id="v1")
    assert await found(store) == dataclasses.replace(
        samples.function(description="d"), last_version=1, last_description="d"
    )
    assert await store.usage() == (2000, 1)


async def test_versions_are_read_in_order_and_in_parts(store: AnyStore) -> None:
    await published(store, 12)
    assert [v.version for v in await store.versions("f", limit=100)] == [str(n) for n in range(1, 13)]
    assert [v.version for v in await store.versions("f", after=8, limit=3)] == ["9", "10", "11"]
    assert await store.versions("f", after=12, limit=3) == []
    assert await store.versions("nobody", limit=3) == []
    assert await store.get_version("f", 13) is None
    assert await store.get_version("nobody", 1) is None


async def test_a_version_is_published_of_what_was_read_or_not_at_all(store: AnyStore) -> None:
    function = await published(store, 1)
    with pytest.raises(PreconditionFailedException):
        await store.replace(function, expect_revision="r0", publish=samples.version(revision_id="v2"))
    before = dataclasses.replace(function, last_version=0)
    with pytest.raises(PreconditionFailedException):
        await store.replace(before, expect_revision="r1", publish=samples.version(revision_id="v2"))
    other = dataclasses.replace(function, uid="other")
    with pytest.raises(ResourceNotFoundException):
        await store.replace(other, expect_revision="r1", publish=samples.version(revision_id="v2"))
    assert [v.version for v in await store.versions("f", limit=9)] == ["1"]
    assert await found(store) == function


async def test_of_many_who_publish_at_once_one_wins(store: AnyStore) -> None:
    function = await published(store, 0)
    versions = [samples.version(revision_id=f"v{n}") for n in range(8)]
    results = await asyncio.gather(
        *(store.replace(function, expect_revision="r1", publish=version) for version in versions),
        return_exceptions=True,
    )
    assert results.count(1) == 1
    winner = dataclasses.replace(versions[results.index(1)], version="1")
    assert await store.versions("f", limit=9) == [winner]


async def test_an_update_and_its_version_are_one_step(store: AnyStore) -> None:
    function = await published(store, 1)
    latest = samples.version(revision_id="r2", archive=samples.archive(30), description="new")
    changed = dataclasses.replace(function, latest=latest, serving=function.latest)
    version = samples.version(revision_id="v2", archive=samples.archive(30))
    assert await store.replace(changed, expect_revision="r1", publish=version) == 2
    assert await found(store) == dataclasses.replace(changed, last_version=2, last_description="new")
    assert await store.usage() == (30 + 100 + 30, 1)


async def test_versions_count_each_and_go_with_their_function(store: AnyStore) -> None:
    function = await published(store, 3)
    assert await store.usage() == (400, 1)
    await store.delete_version(function, 2)
    await store.delete_version(function, 2)
    await store.delete_version(function, 9)
    assert await store.usage() == (300, 1)
    assert await store.delete("f") is not None
    assert await store.usage() == (0, 0)
    again = await published(store, 0)
    assert await store.versions("f", limit=9) == []
    assert (again.last_version, again.aliases) == (0, {})


async def test_a_versions_number_is_never_used_again(store: AnyStore) -> None:
    function = await published(store, 2)
    assert await store.delete_version(function, 2) == []
    assert await store.get_version("f", 2) is None
    function = await found(store)
    assert function.last_version == 2
    assert await store.replace(function, expect_revision="r1", publish=samples.version(revision_id="v3")) == 3


async def test_a_versions_state_is_changed_by_its_revision(store: AnyStore) -> None:
    await published(store, 1)
    settled = samples.version(version="1", revision_id="s1", description="settled")
    assert not await store.replace_version(settled, expect_revision="other")
    assert await store.replace_version(settled, expect_revision="v1")
    assert await store.get_version("f", 1) == settled
    assert not await store.replace_version(samples.version(version="2"), expect_revision="v1")
    assert await store.get_version("f", 2) is None


async def test_an_alias_comes_back_equal(store: AnyStore) -> None:
    function = await published(store, 3)
    assert await store.put_alias(function, samples.alias(), expect_revision=None) == ""
    small = samples.alias("dev", function_version="$LATEST", description="", weights={})
    assert await store.put_alias(function, small, expect_revision=None) == ""
    assert await found(store) == dataclasses.replace(function, aliases={"dev": small, "live": samples.alias()})
    await store.replace(function, expect_revision="r1")
    assert set((await found(store)).aliases) == {"dev", "live"}, "an update leaves them"


async def test_an_alias_is_changed_by_its_revision(store: AnyStore) -> None:
    function = await published(store, 3)
    first = samples.alias(revision_id="a1")
    with pytest.raises(PreconditionFailedException):
        await store.put_alias(function, first, expect_revision="a0")
    await store.put_alias(function, first, expect_revision=None)
    second = samples.alias(revision_id="a2", function_version="1")
    for wrong in (None, "a0"):
        with pytest.raises(PreconditionFailedException):
            await store.put_alias(function, second, expect_revision=wrong)
    await store.put_alias(function, second, expect_revision="a1")
    assert (await found(store)).aliases == {"live": second}


async def test_of_many_changes_of_an_alias_at_once_one_wins(store: AnyStore) -> None:
    function = await published(store, 3)
    await store.put_alias(function, samples.alias(revision_id="a"), expect_revision=None)
    aliases = [samples.alias(revision_id=f"a{n}") for n in range(8)]
    results = await asyncio.gather(
        *(store.put_alias(function, alias, expect_revision="a") for alias in aliases), return_exceptions=True
    )
    assert results.count("") == 1
    assert (await found(store)).aliases == {"live": aliases[results.index("")]}


async def test_an_alias_names_only_versions_that_are_there(store: AnyStore) -> None:
    function = await published(store, 2)
    for alias, absent in (
        (samples.alias(), "3"),
        (samples.alias(function_version="1", weights={"7": 0.5}), "7"),
    ):
        assert await store.put_alias(function, alias, expect_revision=None) == absent
    assert (await found(store)).aliases == {}
    with pytest.raises(ResourceNotFoundException):
        await store.put_alias(dataclasses.replace(function, uid="other"), samples.alias(), expect_revision=None)


async def test_a_version_that_aliases_name_stays(store: AnyStore) -> None:
    function = await published(store, 3)
    await store.put_alias(function, samples.alias("b"), expect_revision=None)
    await store.put_alias(function, samples.alias("a", weights={}), expect_revision=None)
    assert await store.delete_version(function, 3) == ["a", "b"]
    assert await store.delete_version(function, 2) == ["b"]
    assert await store.delete_version(function, 1) == []
    assert [v.version for v in await store.versions("f", limit=9)] == ["2", "3"]
    assert await store.delete_version(dataclasses.replace(function, uid="other"), 2) == []
    assert await store.get_version("f", 2) is not None, "it is another function's"


async def test_event_invoke_configurations_go_with_their_version_or_alias(store: AnyStore) -> None:
    function = await published(store, 1)
    alias = samples.alias(function_version="$LATEST", weights={})
    await store.put_alias(function, alias, expect_revision=None)
    for qualifier in ("1", "live", "$LATEST"):
        await store.set_event_invoke("f", qualifier, lambda before: samples.event_invoke())
    await store.delete_alias("f", "live")
    await store.delete_version(function, 1)
    assert set((await found(store)).event_invoke) == {"$LATEST"}
    assert (await found(store)).aliases == {}
    await store.delete_alias("f", "live")
    await store.delete_alias("nobody", "live")
    # What was set in the moment of the deletion is not the next alias's.
    await store.set_event_invoke("f", "live", lambda before: samples.event_invoke())
    await store.put_alias(function, alias, expect_revision=None)
    assert set((await found(store)).event_invoke) == {"$LATEST"}


@pytest.mark.parametrize("kind", ["memory", "redis_url"])
async def test_versions_and_aliases_tell_of_their_changes_at_once(
    request: pytest.FixtureRequest, kind: str
) -> None:
    # One that is not opened hears nothing from the server.
    url = request.getfixturevalue(kind) if kind != "memory" else ""
    store: AnyStore = RedisStore(url, shards=4) if url else MemoryStore()
    function = await published(store, 1)
    heard: list[str] = []
    store.on_change(heard.append)
    alias = samples.alias(function_version="1", weights={})
    steps: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: store.replace(function, expect_revision="r1", publish=samples.version(revision_id="v2")),
        lambda: store.replace_version(samples.version(version="1"), expect_revision="v1"),
        lambda: store.put_alias(function, alias, expect_revision=None),
        lambda: store.delete_alias("f", "live"),
        lambda: store.delete_version(function, 1),
    )
    for step in steps:
        heard.clear()
        await step()
        assert set(heard) == {"f"}
    await store.close()
