"""UpdateFunctionCode and UpdateFunctionConfiguration: what changes, and who may change it when."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from handler_world import NOT_A_ZIP, World

from lambent.kernel.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn"
LAYER = "arn:aws:lambda:us-east-1:123456789012:layer:"
UPDATING = f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}"
PENDING = (
    "The operation cannot be performed at this time. The function is currently in the following state: Pending"
)
UPDATES: list[tuple[str, dict[str, Any]]] = [
    ("UpdateFunctionCode", {"FunctionName": "my-fn", "ZipFile": b"zip two"}),
    ("UpdateFunctionConfiguration", {"FunctionName": "my-fn", "Timeout": 10}),
]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(1)
    assert made.deaths == []


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


async def configure(world: World, **members: Any) -> Mapping[str, Any]:
    """UpdateFunctionConfiguration to its end; the configuration then."""
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", **members)
    await world.idle()
    return await world.configuration()


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_an_update_is_in_progress_until_prepared_and_the_old_one_serves_until_then(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    before = await world.active()
    old = (await world.stored()).to_run
    world.host.go.clear()
    await world.clock.advance(60)
    answer = await world.call(operation, **members)
    assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "InProgress")
    assert answer["LastUpdateStatusReason"] == "The function is being created."
    assert answer["LastUpdateStatusReasonCode"] == "Creating"
    assert answer["RevisionId"] != before["RevisionId"]
    assert answer["LastModified"] == "2026-01-31T12:01:00.000+0000"
    await world.host.asked(2)
    assert await world.configuration() == answer
    during = await world.stored()
    assert during.to_run == old
    assert during.latest.generation == old.generation + 1

    world.host.go.set()
    await world.idle()
    after = await world.configuration()
    assert after["LastUpdateStatus"] == "Successful"
    assert not {"LastUpdateStatusReason", "LastUpdateStatusReasonCode"} & after.keys()
    assert after["RevisionId"] not in (answer["RevisionId"], before["RevisionId"])
    stored = await world.stored()
    assert stored.serving is None
    assert world.host.stopped[-1] == (stored.uid, "$LATEST", stored.latest.key)


async def test_new_code_is_stored_and_shown(world: World) -> None:
    await world.active()
    answer = await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip number two")
    assert (answer["CodeSize"], answer["CodeSha256"]) == (14, sha256(b"zip number two"))
    assert await world.blobs.exists(hashlib.sha256(b"zip number two").hexdigest())


async def test_new_code_comes_from_s3(world: World) -> None:
    await world.active()
    world.s3["b", "k", None] = b"from s3"
    answer = await world.call("UpdateFunctionCode", FunctionName="my-fn", S3Bucket="b", S3Key="k")
    assert answer["CodeSha256"] == sha256(b"from s3")


async def test_the_same_code_again_is_an_update_that_restarts_nothing(world: World) -> None:
    before = await world.active()
    key = (await world.stored()).latest.key
    await world.clock.advance(1)
    await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip one")
    await world.idle()
    after = await world.configuration()
    assert after["RevisionId"] != before["RevisionId"]
    assert after["LastModified"] != before["LastModified"]
    assert (await world.stored()).latest.key == key


async def test_a_dry_run_checks_everything_and_stores_nothing(world: World) -> None:
    before = await world.active()
    answer = await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two", DryRun=True)
    assert answer == {**before, "CodeSha256": sha256(b"zip two")}
    assert await world.configuration() == before
    assert not await world.blobs.exists(hashlib.sha256(b"zip two").hexdigest())
    with pytest.raises(InvalidParameterValueException, match="Could not unzip"):
        await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=NOT_A_ZIP, DryRun=True)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "Please provide a source for function code."),
        (
            {"ImageUri": "1.dkr.ecr.us-east-1.amazonaws.com/x"},
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ),
        (
            {"ZipFile": NOT_A_ZIP},
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
    ],
)
async def test_code_that_cannot_be_used_changes_nothing(
    world: World, members: dict[str, Any], message: str
) -> None:
    before = await world.active()
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.call("UpdateFunctionCode", FunctionName="my-fn", **members)
    assert caught.value.message == message
    assert await world.configuration() == before


async def test_new_code_counts_together_with_the_layers_in_use(world: World) -> None:
    world.code.unzipped = {b"layer": 200_000_000, b"big": 62_144_001, b"fits": 62_144_000}
    await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    await world.active(Layers=[f"{LAYER}libs:1"])
    with pytest.raises(InvalidParameterValueException, match="Unzipped size must be smaller than 262144000"):
        await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"big")
    await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"fits")


async def test_replaced_code_makes_room_for_the_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.active()

    async def usage() -> tuple[int, int]:
        return 80_530_636_800, 1

    monkeypatch.setattr(world.store, "usage", usage)
    await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two")


async def test_only_what_is_given_changes(world: World) -> None:
    before = await world.active(
        Description="old",
        Environment={"Variables": {"KEY": "1"}},
        MemorySize=256,
        EphemeralStorage={"Size": 600},
    )
    after = await configure(world, Timeout=30)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"Timeout", "RevisionId"}
    after = await configure(
        world,
        Handler="other.main",
        Role="arn:aws:iam::123456789012:role/other",
        Runtime="python3.12",
        MemorySize=512,
        EphemeralStorage={"Size": 1024},
        Environment={"Variables": {"OTHER": "2"}},
    )
    assert (after["Handler"], after["Runtime"], after["MemorySize"]) == ("other.main", "python3.12", 512)
    assert after["Role"].endswith("/other")
    assert after["EphemeralStorage"] == {"Size": 1024}
    assert after["Environment"] == {"Variables": {"OTHER": "2"}}
    assert (after["Timeout"], after["Description"]) == (30, "old")


async def test_empty_values_clear(world: World) -> None:
    await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    await world.active(Description="d", Environment={"Variables": {"KEY": "1"}}, Layers=[f"{LAYER}libs:1"])
    after = await configure(world, Description="", Environment={"Variables": {}}, Layers=[])
    assert after["Description"] == ""
    assert not {"Environment", "Layers"} & after.keys()


async def test_logging_is_merged(world: World) -> None:
    await world.active(LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"})
    merged = await configure(world, LoggingConfig={"LogGroup": "/mine", "ApplicationLogLevel": "DEBUG"})
    assert merged["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "DEBUG",
        "SystemLogLevel": "WARN",
        "LogGroup": "/mine",
    }
    text = await configure(world, LoggingConfig={"LogFormat": "Text"})
    assert text["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/mine"}


async def test_a_deleted_layer_stays_in_use_and_cannot_be_added_anew(world: World) -> None:
    await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    await world.active(Layers=[f"{LAYER}libs:1"])
    await world.call("DeleteLayerVersion", LayerName="libs", VersionNumber=1)
    assert (await configure(world, Layers=[f"{LAYER}libs:1"]))["Layers"]
    await configure(world, Layers=[])
    with pytest.raises(InvalidParameterValueException, match="libs:1 does not exist"):
        await configure(world, Layers=[f"{LAYER}libs:1"])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "reserved keys"),
        ({"LoggingConfig": {"SystemLogLevel": "INFO"}}, "LogLevel is not supported"),
        ({"Layers": [f"{LAYER}none:1"]}, "does not exist"),
        ({"Runtime": "python2.7"}, "no longer supported"),
    ],
)
async def test_a_configuration_that_cannot_be_used_changes_nothing(
    world: World, members: dict[str, Any], message: str
) -> None:
    before = await world.active()
    with pytest.raises(InvalidParameterValueException, match=message):
        await configure(world, **members)
    assert await world.configuration() == before


async def test_a_new_description_restarts_no_environment(world: World) -> None:
    await world.active()
    key = (await world.stored()).latest.key
    await configure(world, Description="new")
    assert (await world.stored()).latest.key == key


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_an_update_while_the_function_is_created_is_refused(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    world.host.go.clear()
    await world.create()
    with pytest.raises(ResourceConflictException) as caught:
        await world.call(operation, **members)
    assert caught.value.message == PENDING
    world.host.go.set()
    await world.idle()
    assert (await world.configuration())["State"] == "Active"


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_an_update_during_an_update_is_refused(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    await world.active()
    world.host.go.clear()
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", MemorySize=999)
    with pytest.raises(ResourceConflictException) as caught:
        await world.call(operation, **members)
    assert caught.value.message == UPDATING
    world.host.go.set()
    await world.idle()
    after = await world.configuration()
    assert (after["MemorySize"], after["Timeout"], after["CodeSha256"]) == (999, 3, sha256(b"zip one"))


@pytest.mark.parametrize("with_revision", [False, True])
async def test_of_two_updates_at_once_one_wins_and_the_other_conflicts(
    world: World, with_revision: bool
) -> None:
    before = await world.active()
    given = {"RevisionId": before["RevisionId"]} if with_revision else {}
    both_are_here = asyncio.Barrier(2)

    async def meet() -> None:
        await both_are_here.wait()

    world.code.before_inspect = meet  # both have seen the same revision by then
    results = await asyncio.gather(
        world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"a", **given),
        world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"b", **given),
        return_exceptions=True,
    )
    won = [result for result in results if not isinstance(result, BaseException)]
    lost = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in lost] == [ResourceConflictException]
    assert str(lost[0]) == UPDATING
    await world.idle()
    assert (await world.configuration())["CodeSha256"] == won[0]["CodeSha256"]


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_only_the_callers_own_stale_revision_fails_the_precondition(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    before = await world.active()
    with pytest.raises(PreconditionFailedException) as caught:
        await world.call(operation, **members, RevisionId="00000000-0000-4000-8000-000000000000")
    assert caught.value.message == (
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
        "retrieve the latest Revision Id"
    )
    assert await world.configuration() == before
    await world.call(operation, **members, RevisionId=before["RevisionId"])


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_an_update_of_nothing_is_not_found(world: World, operation: str, members: dict[str, Any]) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call(operation, **members)
    assert caught.value.message == f"Function not found: {ARN}"


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_a_version_cannot_be_updated(world: World, operation: str, members: dict[str, Any]) -> None:
    await world.active()
    with pytest.raises(InvalidParameterValueException, match="does not take the qualifier 1"):
        await world.call(operation, **{**members, "FunctionName": f"{ARN}:1"})


async def test_a_function_deleted_while_its_update_is_checked_is_not_found(world: World) -> None:
    await world.active()

    async def delete() -> None:
        await world.call("DeleteFunction", FunctionName="my-fn")

    world.code.before_inspect = delete
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two")
    assert caught.value.message == f"Function not found: {ARN}"
    await world.idle()
    assert await world.store.get("my-fn") is None


async def test_a_function_created_again_while_the_old_ones_update_is_checked_is_left_alone(
    world: World,
) -> None:
    await world.active()

    async def recreate() -> None:
        world.code.before_inspect = None
        await world.call("DeleteFunction", FunctionName="my-fn")
        await world.active(Code={"ZipFile": b"new life"})

    world.code.before_inspect = recreate
    with pytest.raises((ResourceNotFoundException, ResourceConflictException)):
        await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two")
    assert (await world.configuration())["CodeSha256"] == sha256(b"new life")
