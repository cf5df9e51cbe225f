"""Adding and removing S3 triggers: AWS's rules, and no trigger that could never fire."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from samples import alias, function

from lambent.gateway import triggers
from lambent.gateway.services import Services
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.s3_trigger import mark_key
from lambent.kernel.settings import Settings
from lambent.kernel.store.memory import MemoryStore

ASKED = {"bucket": "photos", "function": "f"}


@pytest.fixture
async def services() -> Services:
    store = MemoryStore()
    await store.create(function("f"))

    async def has_bucket(bucket: str) -> bool | None:
        return {"photos": True, "nowhere": False}.get(bucket)

    return cast(
        Services,
        SimpleNamespace(
            store=store,
            clock=TestClock(1000.9),
            settings=Settings(),
            no_triggers=None,
            has_bucket=has_bucket,
        ),
    )


async def test_a_trigger_is_stored_listed_and_removed(services: Services) -> None:
    made = await triggers.add_trigger(services, ASKED | {"prefix": "in/", "suffix": ".jpg"})

    assert made == {
        "id": made["id"],
        "bucket": "photos",
        "function": "f",
        "events": ["s3:ObjectCreated:*"],
        "prefix": "in/",
        "suffix": ".jpg",
    }
    assert await triggers.list_triggers(services) == [made]
    assert await triggers.remove_trigger(services, made["id"]) == {"id": made["id"]}
    assert await triggers.list_triggers(services) == []


@pytest.mark.parametrize(("bucket", "warned"), [("photos", False), ("nowhere", True), ("unknown", False)])
async def test_a_bucket_that_is_not_there_is_warned_of(services: Services, bucket: str, warned: bool) -> None:
    made = await triggers.add_trigger(services, ASKED | {"bucket": bucket})

    assert ("There is no bucket nowhere yet" in " ".join(made.get("warnings", ()))) == warned
    assert [each["id"] for each in await triggers.list_triggers(services)] == [made["id"]]


async def test_a_trigger_notes_when_it_was_made(services: Services) -> None:
    made = await triggers.add_trigger(services, ASKED)

    noted = await services.store.mark_get(mark_key(made["id"]))
    assert noted is not None
    assert json.loads(noted)["since"] == 1000


async def test_a_function_may_be_named_by_its_arn(services: Services) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST"

    assert (await triggers.add_trigger(services, ASKED | {"function": arn}))["function"] == "f:$LATEST"


async def test_a_trigger_may_be_of_a_version_or_an_alias_that_is_there(services: Services) -> None:
    f = function("f")
    await services.store.replace(f, expect_revision="r1", publish=f.latest)
    await services.store.put_alias(f, alias(function_version="1", weights={}), expect_revision=None)
    for named in ("f:1", "f:live"):
        made = await triggers.add_trigger(services, ASKED | {"function": named})
        assert made["function"] == named
        assert [row["function"] for row in await triggers.list_triggers(services)] == [named]
        (stored,) = await services.store.triggers()
        assert (stored.function, stored.qualifier) == tuple(named.split(":"))
        await triggers.remove_trigger(services, made["id"])
    for absent in ("2", "dead"):
        with pytest.raises(ResourceNotFoundException, match=f"function:f:{absent}$"):
            await triggers.add_trigger(services, ASKED | {"function": f"f:{absent}"})


async def test_an_unknown_function_is_refused(services: Services) -> None:
    with pytest.raises(ResourceNotFoundException, match="function:nope"):
        await triggers.add_trigger(services, ASKED | {"function": "nope"})
    assert await triggers.list_triggers(services) == []


async def test_without_a_server_that_tells_of_objects_a_trigger_is_refused(services: Services) -> None:
    services.no_triggers = "there is no S3 server. Install one."  # type: ignore[misc]
    with pytest.raises(InvalidParameterValueException, match="never fire: there is no S3 server. Install one."):
        await triggers.add_trigger(services, ASKED)
    assert await triggers.list_triggers(services) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bucket": "A"}, "bucket is not valid"),
        ({"bucket": ""}, "'bucket'"),
        ({"bucket": None}, "'bucket'"),
        ({"bucket": ".system"}, "bucket is not valid"),
        ({"function": "no spaces"}, "not a valid function name"),
        ({"events": "s3:ObjectCreated:*"}, "must be a list"),
        ({"events": []}, "must be a list"),
        ({"events": ["s3:Nonsense"]}, "not supported"),
        ({"events": [7]}, "not supported"),
        ({"events": ["s3:ObjectCreated:Copy"]}, "never fire"),
        ({"events": ["s3:ObjectTagging:Put"]}, "never fire"),
        ({"events": ["s3:ObjectCreated:*", "s3:ObjectCreated:Put"]}, "overlap"),
        ({"prefix": 1}, "'prefix'"),
        ({"prefix": "x" * 1025}, "longer than 1024"),
        ({"suffix": "\ud800"}, "Unicode"),
        ({"colour": "red"}, "Unknown members: colour"),
    ],
)
async def test_a_wrong_member_is_named(services: Services, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameterValueException, match=said):
        await triggers.add_trigger(services, ASKED | changes)
    assert await triggers.list_triggers(services) == []


@pytest.mark.parametrize("asked", [None, [], "x", 7])
async def test_what_is_no_object_is_refused(services: Services, asked: object) -> None:
    with pytest.raises(InvalidParameterValueException, match="JSON object"):
        await triggers.add_trigger(services, asked)


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        ({}, True),
        ({"bucket": "other"}, False),
        ({"prefix": "in/"}, True),
        ({"prefix": "out/"}, False),
        ({"prefix": "in/deep/", "suffix": "g"}, True),
        ({"suffix": ".png"}, False),
        ({"events": ["s3:ObjectCreated:Put"]}, True),
        ({"events": ["s3:ObjectRemoved:*"]}, False),
    ],
)
async def test_triggers_of_a_bucket_must_not_overlap(
    services: Services, other: dict[str, Any], overlaps: bool
) -> None:
    made = await triggers.add_trigger(services, ASKED | {"prefix": "in/", "suffix": ".jpg"})

    if overlaps:
        with pytest.raises(ResourceConflictException, match=made["id"]):
            await triggers.add_trigger(services, ASKED | other)
    else:
        await triggers.add_trigger(services, ASKED | other)


@pytest.mark.parametrize("trigger_id", ["", "nope"])
async def test_removing_what_is_not_there_says_so(services: Services, trigger_id: str) -> None:
    with pytest.raises(ResourceNotFoundException, match="lambent trigger list"):
        await triggers.remove_trigger(services, trigger_id)
