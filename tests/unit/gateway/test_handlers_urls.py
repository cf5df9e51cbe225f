"""Create-, Get-, Update-, Delete- and ListFunctionUrlConfig: every rule and message."""

import re
from typing import Any

import pytest
from handler_world import World

from lambent.kernel.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)

NAME = {"FunctionName": "my-fn"}
CORS = {
    "AllowCredentials": True,
    "AllowHeaders": ["x-one"],
    "AllowMethods": ["GET"],
    "AllowOrigins": ["https://a.example"],
    "ExposeHeaders": ["x-two"],
    "MaxAge": 60,
}


@pytest.fixture
async def world() -> World:
    made = World()
    await made.active()
    return made


async def create(world: World, **members: Any) -> Any:
    return await world.call("CreateFunctionUrlConfig", **NAME, AuthType="NONE", **members)


async def test_a_url_is_created_read_changed_and_removed(world: World) -> None:
    made = await create(world, Cors=CORS)
    assert re.fullmatch(
        r"http://[a-z0-9]{32}\.lambda-url\.us-east-1\.localhost(:\d+)?/", made["FunctionUrl"]
    ), made
    assert made["FunctionArn"].endswith(":function:my-fn")
    assert (made["AuthType"], made["InvokeMode"], made["Cors"]) == ("NONE", "BUFFERED", CORS)
    assert made["CreationTime"] == "2026-01-31T12:00:00.000000Z"
    assert "LastModifiedTime" not in made
    read = await world.call("GetFunctionUrlConfig", **NAME)
    assert read == {**made, "LastModifiedTime": made["CreationTime"]}
    changed = await world.call("UpdateFunctionUrlConfig", **NAME, InvokeMode="RESPONSE_STREAM")
    assert (changed["FunctionUrl"], changed["Cors"]) == (made["FunctionUrl"], CORS), "what is not given stays"
    assert changed["InvokeMode"] == "RESPONSE_STREAM"
    changed = await world.call("UpdateFunctionUrlConfig", **NAME, Cors={"MaxAge": 1})
    assert changed["Cors"] == {"MaxAge": 1}
    assert "Cors" not in await world.call("UpdateFunctionUrlConfig", **NAME, Cors={})
    await world.call("DeleteFunctionUrlConfig", **NAME)
    for operation in ("GetFunctionUrlConfig", "UpdateFunctionUrlConfig", "DeleteFunctionUrlConfig"):
        with pytest.raises(ResourceNotFoundException, match="The resource you requested does not exist"):
            await world.call(operation, **NAME)


@pytest.mark.parametrize(
    "cors, told",
    [
        ({"AllowOrigins": ["https://a.example", "a.example"]}, "AllowOrigins entry: a.example"),
        ({"AllowOrigins": ["https://a.example/path"]}, "without a path"),
        ({"AllowOrigins": ["https://*.example"]}, "without wildcards"),
        ({"AllowMethods": ["OPTION"]}, "AllowMethods entry: OPTION"),
        ({"AllowHeaders": ["x one"]}, "header name in Cors: 'x one'"),
        ({"ExposeHeaders": ["x\r\ny"]}, "header name in Cors"),
    ],
)
async def test_cors_that_could_never_match_is_refused(world: World, cors: Any, told: str) -> None:
    with pytest.raises(InvalidParameterValueException, match=re.escape(told)):
        await create(world, Cors=cors)
    await create(world)
    with pytest.raises(InvalidParameterValueException, match=re.escape(told)):
        await world.call("UpdateFunctionUrlConfig", **NAME, Cors=cors)


async def test_cors_of_every_kind_of_origin_is_taken(world: World) -> None:
    origins = ["*", "http://localhost:60905", "https://[::1]:8443", "capacitor://localhost"]
    assert (await create(world, Cors={"AllowOrigins": origins}))["Cors"] == {"AllowOrigins": origins}


async def test_a_second_one_is_a_conflict(world: World) -> None:
    await create(world)
    with pytest.raises(ResourceConflictException, match="FunctionUrlConfig exists for this Lambda function"):
        await create(world)


@pytest.mark.parametrize("late", ["Create", "Update"])
async def test_a_request_that_another_one_overtakes_is_a_conflict(
    world: World, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    if late == "Update":
        await create(world)
    first, set_url = "Create" if late == "Create" else "Delete", world.store.set_url

    async def overtaken(*arguments: Any, **more: Any) -> bool:
        monkeypatch.undo()
        await world.call(f"{first}FunctionUrlConfig", **NAME, **auth[first])
        return await set_url(*arguments, **more)

    auth: dict[str, dict[str, str]] = {"Create": {"AuthType": "NONE"}, "Delete": {}, "Update": {}}
    monkeypatch.setattr(world.store, "set_url", overtaken)
    with pytest.raises(ResourceConflictException):
        await world.call(f"{late}FunctionUrlConfig", **NAME, **auth[late])


async def test_a_function_or_an_alias_that_is_not_there(world: World) -> None:
    with pytest.raises(ResourceNotFoundException, match="function:nobody$"):
        await world.call("CreateFunctionUrlConfig", FunctionName="nobody", AuthType="NONE")
    with pytest.raises(ResourceNotFoundException, match="function:my-fn:live$"):
        await create(world, Qualifier="live")


async def test_one_for_an_alias_that_is_deleted_meanwhile_is_not_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.call("CreateAlias", **NAME, Name="live", FunctionVersion="$LATEST")
    set_url = world.store.set_url

    async def overtaken(*arguments: Any, **more: Any) -> bool:
        await world.call("DeleteAlias", **NAME, Name="live")
        return await set_url(*arguments, **more)

    monkeypatch.setattr(world.store, "set_url", overtaken)
    with pytest.raises(ResourceNotFoundException, match="function:my-fn:live$"):
        await create(world, Qualifier="live")
    assert (await world.call("ListFunctionUrlConfigs", **NAME))["FunctionUrlConfigs"] == []


async def test_a_list_pages_by_alias(world: World) -> None:
    await create(world)
    for name in ("b", "a", "c"):
        await world.call("CreateAlias", **NAME, Name=name, FunctionVersion="$LATEST")
        await create(world, Qualifier=name)
    found: list[str] = []
    marker: dict[str, str] = {}
    while True:
        page = await world.call("ListFunctionUrlConfigs", **NAME, MaxItems=3, **marker)
        found += [row["FunctionArn"].partition(":function:")[2] for row in page["FunctionUrlConfigs"]]
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
    assert found == ["my-fn", "my-fn:a", "my-fn:b", "my-fn:c"]


async def test_a_url_goes_with_its_alias_and_with_its_function(world: World) -> None:
    await world.call("CreateAlias", **NAME, Name="live", FunctionVersion="$LATEST")
    await create(world, Qualifier="live")
    await create(world)
    await world.call("DeleteAlias", **NAME, Name="live")
    await world.call("CreateAlias", **NAME, Name="live", FunctionVersion="$LATEST")
    (left,) = (await world.call("ListFunctionUrlConfigs", **NAME))["FunctionUrlConfigs"]
    url_id = left["FunctionUrl"].removeprefix("http://").partition(".")[0]
    assert await world.store.url(url_id) == ("my-fn", "$LATEST")
    await world.call("DeleteFunction", **NAME)
    assert await world.store.url(url_id) is None
