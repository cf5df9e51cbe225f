"""PublishVersion, ListVersionsByFunction, and what else makes, reads or deletes versions."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from handler_world import World

from lambent.gateway import collector
from lambent.gateway.handlers.lifecycle import resume
from lambent.kernel.errors import (
    CodeStorageExceededException,
    InvalidParameterValueException,
    InvalidRuntimeException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
)

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(1)
    assert made.deaths == []


async def publish(world: World, name: str = "my-fn", **members: Any) -> Mapping[str, Any]:
    return await world.call("PublishVersion", FunctionName=name, **members)


async def update(world: World, code: bytes, name: str = "my-fn", **members: Any) -> Mapping[str, Any]:
    answer = await world.call("UpdateFunctionCode", FunctionName=name, ZipFile=code, **members)
    await world.idle()
    return answer


async def three(world: World, name: str = "my-fn") -> None:
    """A function with three versions of different code."""
    await world.active(name)
    for number in range(3):
        await update(world, b"zip %d" % number, name, Publish=True)


async def test_a_version_is_a_snapshot_of_code_and_configuration(world: World) -> None:
    before = await world.active(Timeout=7, Environment={"Variables": {"A": "1"}})
    version = dict(await publish(world))
    assert (version["Version"], version["FunctionArn"]) == ("1", f"{ARN}:1")
    assert (version["State"], version["LastUpdateStatus"]) == ("Active", "Successful")
    assert version["RevisionId"] != before["RevisionId"]
    same = {"Version", "FunctionArn", "RevisionId", "LastModified"}
    assert {k: v for k, v in version.items() if k not in same} == {
        k: v for k, v in before.items() if k not in same
    }
    await update(world, b"zip two")
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Timeout=9)
    await world.idle()
    assert await world.call("GetFunctionConfiguration", FunctionName="my-fn", Qualifier="1") == version
    assert (await world.configuration())["CodeSha256"] != version["CodeSha256"]


async def test_publishing_does_not_move_latest(world: World) -> None:
    before = await world.active()
    await publish(world)
    assert await world.configuration() == before


async def test_publishing_with_nothing_changed_answers_the_last_version(world: World) -> None:
    await world.active()
    first = await publish(world, Description="first")
    assert await publish(world, Description="another") == first
    await update(world, b"zip one")  # the same code is no change
    assert await publish(world) == first


@pytest.mark.parametrize(
    "change",
    [
        {"Timeout": 9},
        {"Description": "other"},
        {"Role": "arn:aws:iam::123456789012:role/other"},
        {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:dead"}},
        {"Environment": {"Variables": {"A": "2"}}},
    ],
)
async def test_each_change_of_the_configuration_is_worth_a_version(
    world: World, change: dict[str, Any]
) -> None:
    await world.active()
    await publish(world)
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", **change)
    await world.idle()
    assert (await publish(world))["Version"] == "2"


async def test_a_version_is_described_by_the_request_or_the_function(world: World) -> None:
    await world.active(Description="the function's")
    assert (await publish(world))["Description"] == "the function's"
    await update(world, b"two")
    assert (await publish(world, Description="its own"))["Description"] == "its own"
    await update(world, b"three")
    assert (await publish(world, Description=""))["Description"] == ""


async def test_numbers_are_never_used_twice(world: World) -> None:
    await three(world)
    await world.call("DeleteFunction", FunctionName="my-fn", Qualifier="3")
    assert (await publish(world))["Version"] == "4", "also when nothing has changed since the deleted one"
    await world.call("DeleteFunction", FunctionName="my-fn:4")
    await update(world, b"zip new")
    assert (await publish(world))["Version"] == "5"


async def test_a_function_that_is_created_again_begins_anew(world: World) -> None:
    await three(world)
    await world.call("DeleteFunction", FunctionName="my-fn")
    await world.active()
    with pytest.raises(ResourceNotFoundException):
        await world.call("GetFunctionConfiguration", FunctionName="my-fn", Qualifier="2")
    assert (await publish(world))["Version"] == "1"


async def test_code_that_is_not_the_expected_one_is_not_published(world: World) -> None:
    await world.active()
    ours, other = (b64encode(hashlib.sha256(data).digest()).decode() for data in (b"zip one", b"other"))
    with pytest.raises(InvalidParameterValueException) as caught:
        await publish(world, CodeSha256=other)
    assert caught.value.message == (
        f"CodeSHA256 ({other}) is different from current CodeSHA256 in $LATEST ({ours}). Please try again with "
        "the CodeSHA256 in $LATEST."
    )
    assert (await publish(world, CodeSha256=ours))["Version"] == "1"


async def test_another_revision_is_not_published(world: World) -> None:
    revision = (await world.active())["RevisionId"]
    with pytest.raises(PreconditionFailedException, match="Call the GetFunction/GetAlias API"):
        await publish(world, RevisionId="other")
    assert (await publish(world, RevisionId=revision))["Version"] == "1"


async def test_a_function_that_is_not_ready_is_not_published(world: World) -> None:
    world.host.go.clear()
    await world.create()
    with pytest.raises(ResourceConflictException, match="in the following state: Pending"):
        await publish(world)
    world.host.go.set()
    await world.idle()
    world.host.go.clear()
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Timeout=9)
    with pytest.raises(ResourceConflictException, match=f"An update is in progress for resource: {ARN}"):
        await publish(world)
    world.host.go.set()


async def test_what_could_not_be_prepared_is_not_published(world: World) -> None:
    world.host.failure = InvalidRuntimeException("no")
    await world.active()
    with pytest.raises(ResourceConflictException, match="in the following state: Failed"):
        await publish(world)
    world.host.failure = None
    await update(world, b"good")
    world.host.failure = InvalidRuntimeException("no")
    await update(world, b"bad")
    with pytest.raises(ResourceConflictException, match=f"The last update failed for resource: {ARN}"):
        await publish(world)


@pytest.mark.parametrize("qualifier", ["1", "live"])
async def test_only_the_function_itself_can_be_published_and_changed(world: World, qualifier: str) -> None:
    await world.active()
    await publish(world)
    await world.call("CreateAlias", FunctionName="my-fn", Name="live", FunctionVersion="1")
    for call in (
        "PublishVersion",
        "UpdateFunctionConfiguration",
        "UpdateFunctionCode",
        "ListVersionsByFunction",
    ):
        with pytest.raises(InvalidParameterValueException, match=f"does not take the qualifier {qualifier}"):
            await world.call(call, FunctionName=f"my-fn:{qualifier}")


async def test_of_many_who_publish_at_once_all_get_the_same_version(world: World) -> None:
    await world.active()
    answers = await asyncio.gather(*(publish(world, Description=str(n)) for n in range(8)))
    assert {answer["Version"] for answer in answers} == {"1"}
    assert len({answer["RevisionId"] for answer in answers}) == 1


async def test_publishing_a_function_that_is_not_there(world: World) -> None:
    with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}$"):
        await publish(world)


async def test_versions_count_in_the_accounts_storage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.active()
    await publish(world)
    usage = (await world.call("GetAccountSettings"))["AccountUsage"]
    assert usage == {"TotalCodeSize": 14, "FunctionCount": 1}
    monkeypatch.setattr("lambent.gateway.handlers.archives.MAX_STORAGE", 20)
    await update(world, b"seven b")
    with pytest.raises(CodeStorageExceededException):
        await publish(world)
    with pytest.raises(CodeStorageExceededException):
        await update(world, b"7 bytes", Publish=True)
    with pytest.raises(CodeStorageExceededException):
        await world.create("more", Code={"ZipFile": b"1234"}, Publish=True)


async def test_a_function_may_be_created_with_its_first_version(world: World) -> None:
    world.host.go.clear()
    answer = await world.create(Publish=True)
    assert (answer["Version"], answer["FunctionArn"], answer["State"]) == ("1", f"{ARN}:1", "Pending")
    assert "LastUpdateStatus" not in answer
    assert (await world.configuration())["State"] == "Pending"
    world.host.go.set()
    await world.idle()
    version = await world.call("GetFunctionConfiguration", FunctionName="my-fn:1")
    latest = await world.configuration()
    for one in (version, latest):
        assert (one["State"], one["LastUpdateStatus"]) == ("Active", "Successful")
    assert version["RevisionId"] not in (answer["RevisionId"], latest["RevisionId"])
    assert (await publish(world))["Version"] == "1"


async def test_a_version_is_active_before_latest_is(world: World) -> None:
    """So that whoever waits for the function may run its version."""
    states: list[tuple[str, str]] = []

    def look(name: str) -> None:
        asyncio.get_running_loop().create_task(note(), name="world: look")

    async def note() -> None:
        version = await world.store.get_version("my-fn", 1)
        assert version is not None
        states.append((version.state, (await world.stored()).latest.state))

    world.host.go.clear()
    await world.create(Publish=True)
    world.store.on_change(look)  # type: ignore[attr-defined]
    world.host.go.set()
    await world.idle()
    assert ("Pending", "Active") not in states
    assert states[-1] == ("Active", "Active")


async def test_an_update_of_the_code_may_publish_it(world: World) -> None:
    await world.active()
    world.host.go.clear()
    answer = await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two", Publish=True)
    assert (answer["Version"], answer["FunctionArn"], answer["State"]) == ("1", f"{ARN}:1", "Pending")
    assert (await world.configuration())["LastUpdateStatus"] == "InProgress"
    world.host.go.set()
    await world.idle()
    version = await world.call("GetFunctionConfiguration", FunctionName="my-fn:1")
    assert (version["State"], version["CodeSize"]) == ("Active", len(b"zip two"))
    assert await update(world, b"zip two", Publish=True) == version, "the same code is no new version"
    assert (await update(world, b"zip three", Publish=True))["Version"] == "2"


async def test_a_dry_run_publishes_nothing(world: World) -> None:
    await world.active()
    answer = await update(world, b"zip two", Publish=True, DryRun=True)
    assert answer["Version"] == "$LATEST"
    assert (await world.stored()).last_version == 0


async def test_a_version_whose_code_cannot_be_prepared_fails_with_its_reason(world: World) -> None:
    world.host.failure = InvalidRuntimeException("python3.99 is not on this machine.")
    await world.create(Publish=True)
    await world.idle()
    version = await world.call("GetFunctionConfiguration", FunctionName="my-fn:1")
    assert (version["State"], version["StateReasonCode"]) == ("Failed", "InvalidRuntime")
    world.host.failure = None
    assert (await update(world, b"zip one", Publish=True))["Version"] == "2", "a failed one is tried again"


async def test_a_version_that_a_stopped_server_left_pending_is_taken_up_again(world: World) -> None:
    world.host.go.clear()
    await world.create(Publish=True)
    await world.host.asked()
    await world.tasks.drain(0)
    after = World(store=world.store)
    assert await resume(after.services) == 1
    await after.idle()
    version = await after.call("GetFunctionConfiguration", FunctionName="my-fn:1")
    assert version["State"] == "Active"


async def test_versions_are_listed_in_pages_with_latest_first(world: World) -> None:
    await three(world)
    await world.call("DeleteFunction", FunctionName="my-fn:2")
    answer = await world.call("ListVersionsByFunction", FunctionName="my-fn")
    assert [row["Version"] for row in answer["Versions"]] == ["$LATEST", "1", "3"]
    assert [row["FunctionArn"] for row in answer["Versions"]] == [f"{ARN}:{q}" for q in ("$LATEST", "1", "3")]
    assert "State" not in answer["Versions"][1]
    assert "NextMarker" not in answer
    seen, marker = list[str](), dict[str, str]()
    while True:
        page = await world.call("ListVersionsByFunction", FunctionName="my-fn", MaxItems=1, **marker)
        seen += [row["Version"] for row in page["Versions"]]
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
    assert seen == ["$LATEST", "1", "3"]
    with pytest.raises(InvalidParameterValueException, match="Invalid Marker"):
        await world.call("ListVersionsByFunction", FunctionName="my-fn", Marker="bXktZm4=")
    with pytest.raises(ResourceNotFoundException):
        await world.call("ListVersionsByFunction", FunctionName="gone")


async def test_a_page_of_versions_has_fifty_rows(world: World) -> None:
    await world.active()
    for number in range(51):
        await update(world, b"%d" % number, Publish=True)
    first = await world.call("ListVersionsByFunction", FunctionName="my-fn", MaxItems=10000)
    rest = await world.call("ListVersionsByFunction", FunctionName="my-fn", Marker=first["NextMarker"])
    assert [len(first["Versions"]), len(rest["Versions"])] == [50, 2]
    assert [row["Version"] for row in rest["Versions"]] == ["50", "51"], "by number, not by text"


async def test_all_versions_of_all_functions_are_listed_in_pages(world: World) -> None:
    await three(world, "b")
    await world.active("a")
    await publish(world, "a")
    await world.active("c")
    expected = ["a:$LATEST", "a:1", "b:$LATEST", "b:1", "b:2", "b:3", "c:$LATEST"]
    for size in (1, 2, 3, 7, 50):
        seen, marker = list[str](), dict[str, str]()
        while True:
            page = await world.call("ListFunctions", FunctionVersion="ALL", MaxItems=size, **marker)
            assert len(page["Functions"]) <= size
            seen += [":".join(row["FunctionArn"].split(":")[6:]) for row in page["Functions"]]
            if "NextMarker" not in page:
                break
            marker = {"Marker": page["NextMarker"]}
        assert seen == expected
    marker = {"Marker": (await world.call("ListFunctions", FunctionVersion="ALL", MaxItems=1))["NextMarker"]}
    with pytest.raises(InvalidParameterValueException, match="Invalid Marker"):
        await world.call("ListFunctions", **marker)
    plain = await world.call("ListFunctions")
    assert [row["FunctionArn"].split(":")[6:] for row in plain["Functions"]] == [["a"], ["b"], ["c"]]


async def test_reading_by_version(world: World) -> None:
    await three(world)
    answer = await world.call("GetFunction", FunctionName="my-fn", Qualifier="1")
    assert answer["Configuration"]["FunctionArn"] == f"{ARN}:1"
    digest = hashlib.sha256(b"zip 0").hexdigest()
    assert f"/_lambent/code/{digest}?" in answer["Code"]["Location"]
    for absent in ("4", "01", "0", "live"):
        with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}:{absent}$"):
            await world.call("GetFunction", FunctionName=f"{ARN}:{absent}")


async def test_deleting_a_version_stops_what_runs_of_it_and_leaves_the_rest(world: World) -> None:
    await three(world)
    await world.call("PutFunctionEventInvokeConfig", FunctionName="my-fn:2", MaximumRetryAttempts=1)
    assert await world.call("DeleteFunction", FunctionName="my-fn", Qualifier="2") == {"StatusCode": 204}
    stored = await world.stored()
    assert world.host.stopped[-1] == (stored.uid, "2", None)
    assert stored.event_invoke == {}
    with pytest.raises(ResourceNotFoundException):
        await world.call("GetFunction", FunctionName="my-fn:2")
    assert (await world.call("GetFunction", FunctionName="my-fn:3"))["Configuration"]["Version"] == "3"
    for again in ("2", "99", "02"):
        assert await world.call("DeleteFunction", FunctionName=f"my-fn:{again}") == {"StatusCode": 204}
    assert len(await world.store.versions("my-fn", limit=10)) == 2


async def test_a_version_that_aliases_name_is_not_deleted(world: World) -> None:
    await three(world)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    for name, version, more in (("live", "1", {}), ("beta", "1", {"RoutingConfig": weights})):
        await world.call("CreateAlias", FunctionName="my-fn", Name=name, FunctionVersion=version, **more)
    for version, names in (("1", "beta, live"), ("2", "beta")):
        with pytest.raises(ResourceConflictException) as caught:
            await world.call("DeleteFunction", FunctionName="my-fn", Qualifier=version)
        assert caught.value.message == (
            f"Unable to delete version because the following aliases reference it: [{names}]"
        )
    assert len(await world.store.versions("my-fn", limit=10)) == 3


async def test_environments_that_cannot_be_stopped_do_not_keep_a_version(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await three(world)
    world.host.stop_failure = ServiceException("no")
    await world.call("DeleteFunction", FunctionName="my-fn:1")
    assert caplog.messages[-1] == "A deleted version was not stopped."


async def test_an_update_of_latest_stops_no_environment_of_a_version(world: World) -> None:
    await three(world)
    assert {version for _, version, _ in world.host.stopped} == {"$LATEST"}


async def test_code_that_only_a_version_has_is_not_collected(world: World) -> None:
    layer = await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    await world.active(Layers=[layer["LayerVersionArn"]], Publish=True)
    await update(world, b"zip two")
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Layers=[])
    await world.idle()
    await world.call("DeleteLayerVersion", LayerName="libs", VersionNumber=1)
    keep = await collector.referenced(world.services)
    assert keep == {hashlib.sha256(data).hexdigest() for data in (b"zip one", b"zip two", b"layer")}
    await world.call("DeleteFunction", FunctionName="my-fn:1")
    assert await collector.referenced(world.services) == {hashlib.sha256(b"zip two").hexdigest()}


async def test_event_invoke_configurations_are_of_qualifiers_that_exist(world: World) -> None:
    await three(world)
    await world.call("CreateAlias", FunctionName="my-fn", Name="live", FunctionVersion="1")
    for qualifier in ("live", "2", "$LATEST"):
        answer = await world.call(
            "PutFunctionEventInvokeConfig", FunctionName="my-fn", Qualifier=qualifier, MaximumRetryAttempts=1
        )
        assert answer["FunctionArn"] == f"{ARN}:{qualifier}"
    for absent in ("dead", "4"):
        with pytest.raises(ResourceNotFoundException, match=f"Function not found: {ARN}:{absent}$"):
            await world.call(
                "PutFunctionEventInvokeConfig", FunctionName="my-fn", Qualifier=absent, MaximumRetryAttempts=1
            )
