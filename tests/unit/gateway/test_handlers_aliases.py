"""CreateAlias, GetAlias, ListAliases, UpdateAlias, DeleteAlias."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from handler_world import World

from lambent.gateway.protocol.api import LambdaProtocol
from lambent.kernel.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
    ValidationException,
)

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """With the versions 1, 2 and 3 of `my-fn`."""
    made = World()
    await made.active()
    for number in range(3):
        await made.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"%d" % number, Publish=True)
        await made.idle()
    yield made
    await made.tasks.drain(1)
    assert made.deaths == []


async def create(world: World, name: str = "live", version: str = "1", **members: Any) -> Mapping[str, Any]:
    return await world.call("CreateAlias", FunctionName="my-fn", Name=name, FunctionVersion=version, **members)


async def change(world: World, name: str = "live", **members: Any) -> Mapping[str, Any]:
    return await world.call("UpdateAlias", FunctionName="my-fn", Name=name, **members)


def weighted(**weights: float) -> dict[str, Any]:
    """`v2=0.1` is a tenth for version 2."""
    return {"AdditionalVersionWeights": {version[1:]: weight for version, weight in weights.items()}}


async def test_an_alias_is_created_read_and_deleted(world: World) -> None:
    made = await create(world, Description="what callers use")
    assert {k: v for k, v in made.items() if k != "RevisionId"} == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "what callers use",
    }
    assert await world.call("GetAlias", FunctionName=ARN, Name="live") == made
    assert await world.call("DeleteAlias", FunctionName="my-fn", Name="live") == {}
    with pytest.raises(ResourceNotFoundException, match=f"Cannot find alias arn: {ARN}:live$"):
        await world.call("GetAlias", FunctionName="my-fn", Name="live")
    assert await world.call("DeleteAlias", FunctionName="my-fn", Name="live") == {}


async def test_an_alias_reads_as_its_version(world: World) -> None:
    await create(world, version="2")
    read = await world.call("GetFunctionConfiguration", FunctionName="my-fn", Qualifier="live")
    assert (read["Version"], read["FunctionArn"]) == ("2", f"{ARN}:live")
    await change(world, FunctionVersion="3")
    answer = await world.call("GetFunction", FunctionName="my-fn:live")
    assert answer["Configuration"]["Version"] == "3"
    await change(world, FunctionVersion="$LATEST")
    read = await world.call("GetFunctionConfiguration", FunctionName="my-fn", Qualifier="live")
    assert (read["Version"], read["FunctionArn"]) == ("$LATEST", f"{ARN}:live")


async def test_a_name_is_given_once(world: World) -> None:
    await create(world)
    with pytest.raises(ResourceConflictException) as caught:
        await create(world, version="2")
    assert caught.value.message == f"Alias already exists: {ARN}:live"
    results = await asyncio.gather(*(create(world, "new") for _ in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in results) == ["ResourceConflictException"] * 3 + ["dict"]


@pytest.mark.parametrize("version", ["4", "01", "0"])
async def test_a_version_that_is_not_there(world: World, version: str) -> None:
    with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}:{version}$"):
        await create(world, version=version)
    with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}:{version}$"):
        await create(world, RoutingConfig=weighted(**{f"v{version}": 0.5}))
    await create(world)
    with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}:{version}$"):
        await change(world, FunctionVersion=version)


async def test_a_version_that_is_deleted_in_that_moment(world: World) -> None:
    """The store looks in the step that writes."""
    get_version = world.store.get_version

    async def deleting(name: str, number: int) -> Any:
        found = await get_version(name, number)
        await world.store.delete_version(await world.stored(), number)
        return found

    world.store.get_version = deleting  # type: ignore[method-assign]
    with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}:2$"):
        await create(world, version="2")
    assert (await world.stored()).aliases == {}


async def test_a_function_that_is_not_there(world: World) -> None:
    for call, members in (
        ("CreateAlias", {"FunctionVersion": "1"}),
        ("GetAlias", {}),
        ("UpdateAlias", {}),
        ("DeleteAlias", {}),
        ("ListAliases", {}),
    ):
        named = {} if call == "ListAliases" else {"Name": "live"}
        with pytest.raises(ResourceNotFoundException, match="Function not found: .*:gone$"):
            await world.call(call, FunctionName="gone", **named, **members)


async def test_weights_are_kept_shown_and_ended(world: World) -> None:
    made = await create(world, RoutingConfig=weighted(v2=0.1))
    assert made["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    assert (await change(world, Description="same"))["RoutingConfig"] == made["RoutingConfig"]
    assert (await change(world, RoutingConfig=weighted(v3=1.0)))["RoutingConfig"] == weighted(v3=1.0)
    nothing: tuple[dict[str, Any], ...] = ({}, {"AdditionalVersionWeights": {}})
    for empty in nothing:
        await change(world, RoutingConfig=weighted(v2=0.1))
        assert "RoutingConfig" not in await change(world, RoutingConfig=empty)


@pytest.mark.parametrize(
    ("version", "weights", "message"),
    [
        ("1", {"v2": 0.1, "v3": 0.1}, "Number of items in AdditionalVersionWeights cannot be greater than 1"),
        (
            "1",
            {"v1": 0.1},
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        ("$LATEST", {"v1": 0.1}, "$LATEST is not supported for an alias pointing to more than 1 version"),
        ("1", {"v$LATEST": 0.1}, "$LATEST is not supported for an alias pointing to more than 1 version"),
    ],
)
async def test_weights_that_cannot_be(
    world: World, version: str, weights: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        await create(world, version=version, RoutingConfig=weighted(**weights))
    assert caught.value.message == message
    await create(world)
    with pytest.raises(InvalidParameterValueException) as caught:
        await change(world, FunctionVersion=version, RoutingConfig=weighted(**weights))
    assert caught.value.message == message


async def test_an_update_to_the_version_that_has_the_weight_is_refused(world: World) -> None:
    await create(world, RoutingConfig=weighted(v2=0.1))
    with pytest.raises(InvalidParameterValueException, match="Invalid function version 2"):
        await change(world, FunctionVersion="2")
    assert "RoutingConfig" not in await change(world, FunctionVersion="2", RoutingConfig={})


@pytest.mark.parametrize(
    "configuration",
    [
        {"Role": "arn:aws:iam::123456789012:role/other"},
        {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:dead"}},
    ],
)
async def test_two_versions_of_an_alias_have_the_same_role_and_dead_letter_queue(
    world: World, configuration: dict[str, Any]
) -> None:
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", **configuration)
    await world.idle()
    await world.call("PublishVersion", FunctionName="my-fn")
    with pytest.raises(InvalidParameterValueException, match="1 and 4 have not"):
        await create(world, RoutingConfig=weighted(v4=0.5))
    assert (await create(world, version="4"))["FunctionVersion"] == "4"


async def test_an_update_changes_what_is_given(world: World) -> None:
    made = await create(world, Description="first")
    moved = await change(world, FunctionVersion="2")
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "first")
    assert moved["RevisionId"] != made["RevisionId"]
    described = await change(world, Description="")
    assert (described["FunctionVersion"], described["Description"]) == ("2", "")
    with pytest.raises(ResourceNotFoundException, match=f"Cannot find alias arn: {ARN}:gone$"):
        await change(world, "gone", FunctionVersion="2")


async def test_an_update_may_ask_for_the_revision_that_it_is_made_on(world: World) -> None:
    made = await create(world)
    with pytest.raises(PreconditionFailedException, match="Call the GetFunction/GetAlias API"):
        await change(world, FunctionVersion="2", RevisionId="other")
    await change(world, FunctionVersion="2", RevisionId=made["RevisionId"])
    with pytest.raises(PreconditionFailedException):
        await change(world, FunctionVersion="3", RevisionId=made["RevisionId"])


async def test_of_changes_at_once_none_is_lost(world: World) -> None:
    made = await create(world)
    await asyncio.gather(change(world, FunctionVersion="2"), change(world, Description="both"))
    alias = await world.call("GetAlias", FunctionName="my-fn", Name="live")
    assert (alias["FunctionVersion"], alias["Description"]) == ("2", "both")
    results = await asyncio.gather(
        *(change(world, FunctionVersion=n, RevisionId=alias["RevisionId"]) for n in ("1", "3")),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in results) == ["PreconditionFailedException", "dict"]
    assert made["RevisionId"] != alias["RevisionId"]


async def test_a_list_may_be_of_the_aliases_of_one_version(world: World) -> None:
    await create(world, "live", "1")
    await create(world, "beta", "2", RoutingConfig=weighted(v1=0.5))
    await create(world, "dev", "$LATEST")
    for version, names in (("1", ["beta", "live"]), ("2", ["beta"]), ("$LATEST", ["dev"]), ("3", [])):
        answer = await world.call("ListAliases", FunctionName="my-fn", FunctionVersion=version)
        assert [row["Name"] for row in answer["Aliases"]] == names


async def test_a_list_pages_by_name(world: World) -> None:
    assert await world.call("ListAliases", FunctionName="my-fn") == {"Aliases": []}
    for name in ("c", "a-1", "B", "long" + "x" * 124):
        await create(world, name)
    seen, marker = list[str](), dict[str, str]()
    while True:
        page = await world.call("ListAliases", FunctionName="my-fn", MaxItems=1, **marker)
        seen += [row["Name"] for row in page["Aliases"]]
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
    assert seen == ["B", "a-1", "c", "long" + "x" * 124]


async def test_what_belongs_to_an_alias_goes_with_it(world: World) -> None:
    await create(world)
    await world.call("PutFunctionEventInvokeConfig", FunctionName="my-fn:live", MaximumRetryAttempts=1)
    await world.call("DeleteAlias", FunctionName="my-fn", Name="live")
    assert (await world.stored()).event_invoke == {}
    with pytest.raises(ResourceNotFoundException):
        await world.call("GetFunctionEventInvokeConfig", FunctionName="my-fn:live")


async def test_a_deleted_function_leaves_no_alias_behind(world: World) -> None:
    await create(world)
    await world.call("DeleteFunction", FunctionName="my-fn")
    await world.active()
    assert await world.call("ListAliases", FunctionName="my-fn") == {"Aliases": []}


async def test_aliases_are_not_deleted_by_delete_function(world: World) -> None:
    await create(world)
    with pytest.raises(InvalidParameterValueException, match="Deletion of aliases is not currently supported."):
        await world.call("DeleteFunction", FunctionName="my-fn", Qualifier="live")
    assert list((await world.stored()).aliases) == ["live"]


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"Name": "12", "FunctionVersion": "1"}, "name"),
        ({"Name": "a.b", "FunctionVersion": "1"}, "name"),
        ({"Name": "x" * 129, "FunctionVersion": "1"}, "name"),
        ({"Name": "live", "FunctionVersion": "live"}, "functionVersion"),
        (
            {"Name": "live", "FunctionVersion": "1", "RoutingConfig": weighted(v2=1.5)},
            "additionalVersionWeights",
        ),
        (
            {"Name": "live", "FunctionVersion": "1", "RoutingConfig": weighted(v2=-0.1)},
            "additionalVersionWeights",
        ),
        (
            {"Name": "live", "FunctionVersion": "1", "RoutingConfig": weighted(vx=0.1)},
            "additionalVersionWeights",
        ),
    ],
)
def test_the_protocol_refuses_what_the_model_does(members: dict[str, Any], path: str) -> None:
    body = json.dumps(members).encode()
    protocol = LambdaProtocol()
    with pytest.raises(ValidationException, match=path):
        protocol.parse(protocol.match("POST", "/2015-03-31/functions/my-fn/aliases"), [], body)
