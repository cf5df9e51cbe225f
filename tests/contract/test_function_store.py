"""Every function store: what is stored comes back equal, changes are compare-and-set, nothing is lost or mixed.

The server runs once as it is and once as a cluster of one node, which refuses steps whose keys are not in one
slot."""

import asyncio
import dataclasses
from collections.abc import Callable

import pytest
import redis.asyncio
import samples
from stores import AnyStore

from lambent.kernel.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.models import EventInvokeConfig, Function, RecursiveLoop
from lambent.kernel.store.redis import RedisStore


async def test_a_function_comes_back_equal_to_the_last_field(store: AnyStore) -> None:
    await store.create(samples.full_function())
    assert await store.get("full") == samples.full_function()


async def test_a_small_function_comes_back_equal(store: AnyStore) -> None:
    await store.create(samples.function())
    assert await store.get("f") == samples.function()


async def test_an_unknown_name_is_none(store: AnyStore) -> None:
    assert await store.get("nobody") is None
    assert await store.delete("nobody") is None


async def test_a_name_is_created_once(store: AnyStore) -> None:
    await store.create(samples.function())
    other = samples.function(uid="another", revision_id="r9")
    with pytest.raises(ResourceConflictException, match="Function already exist: f"):
        await store.create(other)
    assert await store.get("f") == samples.function()


async def test_of_two_creates_at_once_one_wins(store: AnyStore) -> None:
    candidates = [samples.function(uid=f"u{n}", revision_id=f"r{n}") for n in range(8)]
    results = await asyncio.gather(*(store.create(f) for f in candidates), return_exceptions=True)
    assert (
        sorted(type(result).__name__ for result in results) == ["NoneType"] + ["ResourceConflictException"] * 7
    )
    assert await store.get("f") == candidates[results.index(None)]
    assert await store.usage() == (1000, 1)


async def test_replace_writes_when_the_revision_is_the_expected_one(store: AnyStore) -> None:
    await store.create(samples.full_function())
    latest = samples.version("full", revision_id="r2", generation=8)
    changed = dataclasses.replace(samples.full_function(), latest=latest, serving=None)
    beside = dataclasses.replace(changed, tags={}, reserved_concurrency=None, event_invoke={})
    await store.replace(beside, expect_revision=samples.full_function().latest.revision_id)
    assert await store.get("full") == changed, "what has a setter of its own stays"


async def test_replace_after_another_change_changes_nothing(store: AnyStore) -> None:
    await store.create(samples.function(revision_id="r2"))
    with pytest.raises(PreconditionFailedException):
        await store.replace(samples.function(revision_id="r3"), expect_revision="r1")
    assert await store.get("f") == samples.function(revision_id="r2")


async def test_of_two_replaces_at_once_one_wins(store: AnyStore) -> None:
    await store.create(samples.function())
    changes = [samples.function(revision_id=f"n{n}") for n in range(8)]
    results = await asyncio.gather(
        *(store.replace(f, expect_revision="r1") for f in changes), return_exceptions=True
    )
    assert results.count(0) == 1
    assert await store.get("f") == changes[results.index(0)]


async def test_replace_of_a_deleted_function_does_not_bring_it_back(store: AnyStore) -> None:
    with pytest.raises(ResourceNotFoundException):
        await store.replace(samples.function(), expect_revision="r1")
    assert await store.get("f") is None


async def test_replace_does_not_hit_another_function_of_the_same_name(store: AnyStore) -> None:
    await store.create(samples.function(uid="new"))
    with pytest.raises(ResourceNotFoundException):
        await store.replace(samples.function(uid="old", revision_id="r2"), expect_revision="r1")
    assert await store.get("f") == samples.function(uid="new")


async def test_replace_leaves_tags_that_were_set_meanwhile(store: AnyStore) -> None:
    await store.create(samples.function())
    await store.set_tags("f", add={"k": "v"}, remove=())
    await store.replace(samples.function(revision_id="r2"), expect_revision="r1")
    assert await store.get("f") == dataclasses.replace(samples.function(revision_id="r2"), tags={"k": "v"})


async def test_delete_answers_what_was_there_and_frees_the_name(store: AnyStore) -> None:
    await store.create(samples.full_function())
    assert await store.delete("full") == samples.full_function()
    assert await store.get("full") is None
    assert await store.usage() == (0, 0)
    again = Function("full", "uid-2", samples.version("full", uid="uid-2"))
    await store.create(again)
    assert await store.get("full") == again


async def test_pages_go_by_name_over_all_shards(store: AnyStore) -> None:
    names = sorted(f"f-{n:02}" for n in range(30)) + ["Z", "_", "a"]
    for name in names:
        await store.create(samples.function(name))
    seen: list[str] = []
    while page := await store.page(after=seen[-1] if seen else None, limit=7):
        assert len(page) <= 7
        seen += [function.name for function in page]
    assert seen == sorted(names)


async def test_a_page_starts_after_a_name_that_is_gone(store: AnyStore) -> None:
    await store.create(samples.function("a"))
    await store.create(samples.function("c"))
    assert [function.name for function in await store.page(after="b", limit=10)] == ["c"]
    assert await store.page(after="c", limit=10) == []


async def test_tags_are_added_changed_and_removed(store: AnyStore) -> None:
    await store.create(samples.function())
    assert await store.set_tags("f", add={"b": "1", "a": "ü"}, remove=()) == {"a": "ü", "b": "1"}
    assert await store.set_tags("f", add={"b": "2"}, remove=["a", "absent"]) == {"b": "2"}
    stored = await store.get("f")
    assert stored is not None
    assert stored.tags == {"b": "2"}
    assert stored.latest.revision_id == "r1"


async def test_no_more_than_fifty_tags(store: AnyStore) -> None:
    await store.create(samples.function())
    fifty = {f"k{n}": "v" for n in range(50)}
    await store.set_tags("f", add=fifty, remove=())
    await store.set_tags("f", add={"k1": "changed"}, remove=())
    with pytest.raises(InvalidParameterValueException, match="at most 50 tags"):
        await store.set_tags("f", add={"one": "more", "k2": "changed"}, remove=())
    stored = await store.get("f")
    assert stored is not None
    assert stored.tags == fifty | {"k1": "changed"}
    assert "k0" not in await store.set_tags("f", add={"one": "more"}, remove=["k0"])


async def test_tags_of_an_unknown_function(store: AnyStore) -> None:
    with pytest.raises(ResourceNotFoundException):
        await store.set_tags("nobody", add={"a": "b"}, remove=())


async def test_usage_counts_functions_and_layer_versions_once(store: AnyStore) -> None:
    await store.create(samples.function("a", archive=samples.archive(100)))
    await store.create(samples.function("b", archive=samples.archive(100)))
    await store.replace(
        samples.function("b", archive=samples.archive(30), revision_id="r2"), expect_revision="r1"
    )
    await store.add_layer_version(samples.layer(archive=samples.archive(7)))
    await store.add_layer_version(samples.layer(archive=samples.archive(8)))
    assert await store.usage() == (145, 2)
    await store.delete_layer_version("pillow", 1)
    await store.delete_layer_version("pillow", 1)
    await store.delete("a")
    assert await store.usage() == (38, 1)


async def test_layer_versions_are_numbered_and_come_back_equal(store: AnyStore) -> None:
    first = await store.add_layer_version(samples.layer(version=99))
    second = await store.add_layer_version(samples.layer(description=""))
    assert first == samples.layer(version=1)
    assert second == samples.layer(version=2, description="")
    assert await store.get_layer_version("pillow", 1) == first
    assert await store.layer_versions("pillow") == [second, first]


async def test_a_layers_numbers_are_never_used_again(store: AnyStore) -> None:
    for _ in range(2):
        await store.add_layer_version(samples.layer())
    assert await store.delete_layer_version("pillow", 2) == samples.layer(version=2)
    assert await store.delete_layer_version("pillow", 1) == samples.layer(version=1)
    assert await store.delete_layer_version("pillow", 1) is None
    assert await store.layers() == []
    assert (await store.add_layer_version(samples.layer())).version == 3
    assert await store.layers() == ["pillow"]


async def test_layers_are_listed_by_name(store: AnyStore) -> None:
    for name in ("b", "a", "c"):
        await store.add_layer_version(samples.layer(name))
    assert await store.layers() == ["a", "b", "c"]
    assert await store.layer_versions("nobody") == []
    assert await store.get_layer_version("a", 2) is None


async def test_layer_versions_published_at_once_get_numbers_of_their_own(store: AnyStore) -> None:
    added = await asyncio.gather(*(store.add_layer_version(samples.layer()) for _ in range(10)))
    assert sorted(layer.version for layer in added) == list(range(1, 11))


async def test_triggers(store: AnyStore) -> None:
    second, first = samples.trigger("t2", prefix="", events=("s3:ObjectRemoved:*",)), samples.trigger("t1")
    await store.put_trigger(second)
    await store.put_trigger(first)
    assert await store.triggers() == [first, second]
    assert await store.delete_trigger("t1")
    assert not await store.delete_trigger("t1")
    assert await store.triggers() == [second]


async def test_marks(store: AnyStore) -> None:
    assert await store.mark_get("sweep") is None
    await store.mark_set("sweep", "photos/ü.jpg")
    await store.mark_set("other", "x")
    assert await store.mark_get("sweep") == "photos/ü.jpg"


async def test_of_first_marks_one_stands(store: AnyStore) -> None:
    answers = await asyncio.gather(*(store.mark_first("probe", f"ü{n}") for n in range(8)))
    assert set(answers) == {await store.mark_get("probe")}
    assert await store.mark_first("probe", "late") == answers[0]


async def test_changes_made_here_are_told_at_once(store: AnyStore) -> None:
    told: list[str] = []
    store.on_change(told.append)
    # Which may come again, when the server tells of them.
    for change in (
        store.create(samples.function()),
        store.set_tags("f", add={"a": "b"}, remove=()),
        store.replace(samples.function(revision_id="r2"), expect_revision="r1"),
        store.delete("f"),
    ):
        told.clear()
        await change
        assert set(told) == {"f"}


async def test_a_change_that_was_refused_is_not_told(store: AnyStore) -> None:
    told: list[str] = []
    store.on_change(told.append)
    with pytest.raises(ResourceNotFoundException):
        await store.replace(samples.function(revision_id="r2"), expect_revision="r1")
    with pytest.raises(ResourceNotFoundException):
        await store.set_tags("f", add={"a": "b"}, remove=())
    assert told == []


async def test_ping(store: AnyStore) -> None:
    await store.ping()


async def test_text_that_could_never_be_read_again_is_refused(redis_url: str) -> None:
    store = RedisStore(redis_url, shards=4)
    try:
        with pytest.raises(InvalidParameterValueException, match="not valid Unicode"):
            await store.create(samples.function(description="half \ud83d"))
        assert await store.get("f") is None
    finally:
        await store.close()


async def test_a_client_that_is_given_stays_its_owners(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        store = RedisStore(client, shards=4)
        await store.open()
        await store.create(samples.function())
        await store.close()
        assert await client.dbsize() > 0


async def test_reserved_concurrency_is_set_and_removed_without_a_new_revision(store: AnyStore) -> None:
    await store.create(samples.function())
    for slots in (0, 7, None):
        await store.set_reserved_concurrency("f", slots)
        assert await store.get("f") == dataclasses.replace(samples.function(), reserved_concurrency=slots)


async def test_recursive_loop_is_set(store: AnyStore) -> None:
    await store.create(samples.function())
    for loop in (RecursiveLoop.ALLOW, RecursiveLoop.TERMINATE):
        await store.set_recursive_loop("f", loop)
        assert await store.get("f") == dataclasses.replace(samples.function(), recursive_loop=loop)


async def test_event_invoke_configurations_are_kept_by_qualifier(store: AnyStore) -> None:
    await store.create(samples.function())
    one, two = samples.event_invoke(), samples.event_invoke(on_failure=None, maximum_event_age=None)
    assert await store.set_event_invoke("f", "$LATEST", lambda before: one) == one
    assert await store.set_event_invoke("f", "live", lambda before: two) == two
    stored = await store.get("f")
    assert stored is not None and stored.event_invoke == {"$LATEST": one, "live": two}
    assert await store.set_event_invoke("f", "$LATEST", lambda before: None) is None
    stored = await store.get("f")
    assert stored is not None and stored.event_invoke == {"live": two}


async def test_changes_of_one_configuration_at_once_lose_none(store: AnyStore) -> None:
    await store.create(samples.function())

    empty = EventInvokeConfig(last_modified=1.0)
    members = {"maximum_retry_attempts": 1, "maximum_event_age": 61, "on_success": "a", "on_failure": "b"}

    def setting(member: str) -> Callable[[EventInvokeConfig | None], EventInvokeConfig]:
        return lambda before: dataclasses.replace(before or empty, **{member: members[member]})  # type: ignore[arg-type]

    await asyncio.gather(*(store.set_event_invoke("f", "$LATEST", setting(member)) for member in members))
    stored = await store.get("f")
    assert stored is not None
    assert stored.event_invoke["$LATEST"] == EventInvokeConfig(1.0, 1, 61, "a", "b")


async def test_what_is_set_on_a_function_that_is_gone_is_not_found(store: AnyStore) -> None:
    with pytest.raises(ResourceNotFoundException):
        await store.set_reserved_concurrency("gone", 1)
    with pytest.raises(ResourceNotFoundException):
        await store.set_recursive_loop("gone", RecursiveLoop.ALLOW)
    with pytest.raises(ResourceNotFoundException):
        await store.set_event_invoke("gone", "$LATEST", lambda before: samples.event_invoke())


async def test_setters_tell_of_their_changes(store: AnyStore) -> None:
    await store.create(samples.function())
    heard: list[str] = []
    store.on_change(heard.append)
    await store.set_reserved_concurrency("f", 1)
    await store.set_recursive_loop("f", RecursiveLoop.ALLOW)
    await store.set_event_invoke("f", "$LATEST", lambda before: samples.event_invoke())
    assert heard.count("f") >= 3
