"""TagResource, UntagResource, ListTags."""

from typing import Any

import pytest
from handler_world import World

from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn"
TAGGING: list[tuple[str, dict[str, Any]]] = [
    ("TagResource", {"Tags": {"a": "1"}}),
    ("UntagResource", {"TagKeys": ["a"]}),
    ("ListTags", {}),
]


@pytest.fixture
async def world() -> World:
    return World()


async def test_tags_are_added_overwritten_and_removed(world: World) -> None:
    await world.active(Tags={"a": "1", "b": "2"})
    assert await world.call("TagResource", Resource=ARN, Tags={"b": "3", "c": "4"}) == {}
    assert await world.call("ListTags", Resource=ARN) == {"Tags": {"a": "1", "b": "3", "c": "4"}}
    assert await world.call("UntagResource", Resource=ARN, TagKeys=["a", "never there"]) == {}
    assert await world.call("ListTags", Resource=ARN) == {"Tags": {"b": "3", "c": "4"}}


async def test_tagging_moves_neither_revision_nor_last_modified(world: World) -> None:
    before = await world.active()
    await world.clock.advance(60)
    await world.call("TagResource", Resource=ARN, Tags={"a": "1"})
    await world.call("UntagResource", Resource=ARN, TagKeys=["a"])
    assert await world.configuration() == before


async def test_no_tags_are_an_empty_map(world: World) -> None:
    await world.active()
    assert await world.call("ListTags", Resource=ARN) == {"Tags": {}}


@pytest.mark.parametrize(("operation", "members"), TAGGING)
async def test_a_function_that_is_not_there_is_not_found(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call(operation, Resource=ARN, **members)
    assert caught.value.message == f"Function not found: {ARN}"


@pytest.mark.parametrize("qualifier", ["$LATEST", "1", "live"])
@pytest.mark.parametrize(("operation", "members"), TAGGING)
async def test_versions_and_aliases_have_no_tags(
    world: World, operation: str, members: dict[str, Any], qualifier: str
) -> None:
    await world.active()
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.call(operation, Resource=f"{ARN}:{qualifier}", **members)
    assert caught.value.message == (
        "Tags on function aliases and versions are not supported. Please specify a function ARN."
    )


@pytest.mark.parametrize(
    "resource",
    [
        "event-source-mapping:a1b2c3d4-5678-4abc-8def-111111111111",
        "code-signing-config:csc-0123456789abcdefg",
        "capacity-provider:mine",
    ],
)
async def test_other_resources_are_not_found(world: World, resource: str) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call("ListTags", Resource=f"arn:aws:lambda:us-east-1:123456789012:{resource}")
    assert caught.value.message == "The resource you requested does not exist."


async def test_another_regions_function_is_not_reachable(world: World) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call("ListTags", Resource=ARN.replace("us-east-1", "us-west-2"))
    assert caught.value.message == ("Functions from 'us-west-2' are not reachable in this region ('us-east-1')")


async def test_a_name_is_no_arn(world: World) -> None:
    with pytest.raises(InvalidParameterValueException, match="is not the ARN of a resource"):
        await world.call("ListTags", Resource="my-fn")


async def test_a_function_has_at_most_50_tags(world: World) -> None:
    await world.active(Tags={f"k{n}": "" for n in range(49)})
    await world.call("TagResource", Resource=ARN, Tags={"k49": "", "k0": "again"})
    with pytest.raises(InvalidParameterValueException, match="50"):
        await world.call("TagResource", Resource=ARN, Tags={"one more": ""})
    assert len((await world.stored()).tags) == 50


@pytest.mark.parametrize("key", ["aws:mine", "AWS:mine"])
async def test_keys_of_aws_are_refused(world: World, key: str) -> None:
    await world.active()
    with pytest.raises(InvalidParameterValueException, match=key):
        await world.call("TagResource", Resource=ARN, Tags={key: "1"})


async def test_nothing_to_do_is_refused(world: World) -> None:
    await world.active()
    empty: list[tuple[str, dict[str, Any]]] = [
        ("TagResource", {"Tags": {}}),
        ("UntagResource", {"TagKeys": []}),
    ]
    for operation, members in empty:
        with pytest.raises(InvalidParameterValueException, match="at least one key"):
            await world.call(operation, Resource=ARN, **members)
