"""CreateFunction, GetFunction, ListFunctions, DeleteFunction."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
from handler_world import NOT_A_ZIP, World

from lambent.gateway.fields import this_architecture
from lambent.kernel import metrics
from lambent.kernel.errors import (
    AccessDeniedException,
    CodeStorageExceededException,
    EventQueueUnavailable,
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
    ValidationException,
)

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn"
LAYER = "arn:aws:lambda:us-east-1:123456789012:layer:"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(1)
    assert made.deaths == []


async def refused(world: World, **changes: object) -> str:
    """The message of the InvalidParameterValueException that a creation ends with, having left nothing."""
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.create(**changes)  # type: ignore[arg-type]
    assert await world.store.page(after=None, limit=10) == []
    return caught.value.message


async def test_a_creation_answers_with_aws_defaults_and_state_pending(world: World) -> None:
    digest = hashlib.sha256(b"zip one").digest()
    answer = dict(await world.create())
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.pop("RevisionId"))
    assert answer == {
        "FunctionName": "my-fn",
        "FunctionArn": ARN,
        "Runtime": "python3.11",
        "Role": "arn:aws:iam::123456789012:role/r",
        "Handler": "app.handler",
        "CodeSize": 7,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "LastModified": "2026-01-31T12:00:00.000+0000",
        "CodeSha256": base64.b64encode(digest).decode(),
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "PackageType": "Zip",
        "Architectures": [this_architecture()],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": {
            "RuntimeVersionArn": "arn:aws:lambda:us-east-1::runtime:"
            + hashlib.sha256(b"python3.11").hexdigest()
        },
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/my-fn"},
    }


async def test_a_created_function_becomes_active_when_it_is_prepared(world: World) -> None:
    world.host.go.clear()
    created = await world.create()
    await world.host.asked()
    assert (await world.configuration())["State"] == "Pending"
    world.host.go.set()
    await world.idle()
    active = await world.configuration()
    assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
    assert not {"StateReason", "StateReasonCode", "LastUpdateStatusReason"} & active.keys()
    assert active["RevisionId"] != created["RevisionId"]
    assert active["LastModified"] == created["LastModified"]


async def test_what_was_given_comes_back(world: World) -> None:
    layer = await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    answer = await world.create(
        Description="d",
        Timeout=900,
        MemorySize=10240,
        EphemeralStorage={"Size": 10240},
        Environment={"Variables": {"KEY": "value"}},
        Layers=[layer["LayerVersionArn"]],
        LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN", "LogGroup": "/mine"},
    )
    assert answer["Description"] == "d"
    assert (answer["Timeout"], answer["MemorySize"]) == (900, 10240)
    assert answer["EphemeralStorage"] == {"Size": 10240}
    assert answer["Environment"] == {"Variables": {"KEY": "value"}}
    assert answer["Layers"] == [{"Arn": f"{LAYER}libs:1", "CodeSize": 5}]
    assert answer["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "WARN",
        "LogGroup": "/mine",
    }


async def test_the_archive_is_in_the_blob_store_before_the_function_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(data: bytes) -> str:
        raise ServiceException("The disk is full.")

    monkeypatch.setattr(world.blobs, "put", broken)
    with pytest.raises(ServiceException):
        await world.create()
    assert await world.store.get("my-fn") is None


@pytest.mark.parametrize(
    "name", ["my-fn", "function:my-fn", "123456789012:function:my-fn", ARN, f"{ARN}:$LATEST"]
)
async def test_a_function_may_be_named_in_every_form(world: World, name: str) -> None:
    assert (await world.create(name))["FunctionName"] == "my-fn"
    assert (await world.call("GetFunctionConfiguration", FunctionName=name))["FunctionName"] == "my-fn"


async def test_a_name_over_64_characters_is_refused_also_in_an_arn(world: World) -> None:
    with pytest.raises(ValidationException, match="at 'functionName'.*less than or equal to 64"):
        await world.create("123456789012:function:" + "x" * 65)
    assert (await world.create("x" * 64))["FunctionName"] == "x" * 64


async def test_a_version_or_alias_cannot_be_created(world: World) -> None:
    assert "does not take the qualifier 1" in await refused(world, name=f"{ARN}:1")


async def test_a_taken_name_is_refused_with_the_first_function_unharmed(world: World) -> None:
    before = await world.active()
    with pytest.raises(ResourceConflictException) as caught:
        await world.create(Code={"ZipFile": b"other"})
    assert caught.value.message == "Function already exist: my-fn"
    assert await world.configuration() == before


async def test_of_two_creations_at_once_exactly_one_wins(world: World) -> None:
    both_are_here = asyncio.Barrier(2)

    async def meet() -> None:
        await both_are_here.wait()

    world.code.before_inspect = meet  # past the first look at the name, before the store decides
    results = await asyncio.gather(
        world.create(Code={"ZipFile": b"a"}), world.create(Code={"ZipFile": b"b"}), return_exceptions=True
    )
    lost = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in lost] == [ResourceConflictException]
    assert str(lost[0]) == "Function already exist: my-fn"
    await world.idle()
    assert (await world.configuration())["State"] == "Active"
    assert len(world.host.prepared) == 1


@pytest.mark.parametrize("missing", ["Runtime", "Handler"])
async def test_runtime_and_handler_are_needed(world: World, missing: str) -> None:
    assert await refused(world, **{missing: None}) == (
        "Runtime and Handler are mandatory parameters for functions created with deployment packages."
    )


async def test_a_retired_runtime_has_its_own_text(world: World) -> None:
    assert (await refused(world, Runtime="python2.7")).startswith(
        "The runtime parameter of python2.7 is no longer supported for creating or updating"
    )


async def test_a_runtime_that_is_not_on_the_machine_is_refused(world: World) -> None:
    world.code.problems["nodejs22.x"] = "nodejs22.x is not on this machine: install Node.js 22."
    assert await refused(world, Runtime="nodejs22.x") == world.code.problems["nodejs22.x"]


async def test_a_runtime_that_runs_as_another_adds_a_warning(world: World) -> None:
    world.code.warnings["python3.12"] = "python3.12 runs on Python 3.11.2"
    await world.create(Runtime="python3.12")
    assert world.warnings == ["python3.12 runs on Python 3.11.2"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({}, "Please provide a source for function code."),
        ({"S3Bucket": "b"}, "Please provide a source for function code."),
        (
            {"ZipFile": b"z", "S3Bucket": "b", "S3Key": "k"},
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        (
            {"ZipFile": NOT_A_ZIP},
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
    ],
)
async def test_code_that_cannot_be_used_is_refused(world: World, code: dict[str, object], message: str) -> None:
    assert await refused(world, Code=code) == message


async def test_code_comes_from_s3_by_version(world: World) -> None:
    world.s3["bucket", "code.zip", "v1"] = b"from s3"
    answer = await world.create(Code={"S3Bucket": "bucket", "S3Key": "code.zip", "S3ObjectVersion": "v1"})
    assert answer["CodeSize"] == 7
    assert await world.blobs.exists(hashlib.sha256(b"from s3").hexdigest())


async def test_a_direct_upload_over_50_mb_is_refused_and_one_from_s3_is_not(world: World) -> None:
    large = bytes(52_428_801)
    assert "must be smaller than 52428800 bytes" in await refused(world, Code={"ZipFile": large})
    world.s3["b", "k", None] = large
    assert (await world.create(Code={"S3Bucket": "b", "S3Key": "k"}))["CodeSize"] == 52_428_801
    assert (await world.create("most", Code={"ZipFile": large[:-1]}))["CodeSize"] == 52_428_800


async def test_more_than_250_mb_unzipped_is_refused(world: World) -> None:
    world.code.unzipped = {b"huge": 262_144_001, b"most": 262_144_000, b"layer": 1, b"big": 200_000_000}
    assert (
        await refused(world, Code={"ZipFile": b"huge"}) == "Unzipped size must be smaller than 262144000 bytes"
    )
    small = await world.call("PublishLayerVersion", LayerName="small", Content={"ZipFile": b"layer"})
    assert "Unzipped size must be smaller than 262144000 bytes" == await refused(
        world, Code={"ZipFile": b"most"}, Layers=[small["LayerVersionArn"]]
    )
    arns = [
        (await world.call("PublishLayerVersion", LayerName=name, Content={"ZipFile": b"big"}))[
            "LayerVersionArn"
        ]
        for name in ("one", "two")
    ]
    assert await refused(world, Layers=arns) == (
        "Layers consume more than the available size of 262144000 bytes"
    )


async def test_a_layer_must_exist_be_of_this_region_and_account_and_named_once(world: World) -> None:
    for _ in range(2):
        await world.call("PublishLayerVersion", LayerName="libs", Content={"ZipFile": b"layer"})
    assert await refused(world, Layers=[f"{LAYER}none:1"]) == f"Layer version {LAYER}none:1 does not exist."
    assert await refused(world, Layers=[f"{LAYER}libs:1", f"{LAYER}libs:2"]) == (
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        f"{LAYER}libs:1 and {LAYER}libs:2 are versions of the same layer."
    )
    assert await refused(world, Layers=[f"{LAYER}libs{n}:1" for n in range(6)]) == (
        "Cannot reference more than 5 layers."
    )
    elsewhere = LAYER.replace("us-east-1", "eu-west-1") + "libs:1"
    assert await refused(world, Layers=[elsewhere]) == (
        "Layers are not in the same region as the function. Layers are expected to be in region us-east-1."
    )
    with pytest.raises(AccessDeniedException, match="lambda:GetLayerVersion on resource: arn:.*:999999999999:"):
        await world.create(Layers=[LAYER.replace("123456789012", "999999999999") + "libs:1"])


async def test_layers_keep_their_order(world: World) -> None:
    for name in ("b", "a", "c"):
        await world.call("PublishLayerVersion", LayerName=name, Content={"ZipFile": name.encode()})
    arns = [f"{LAYER}{name}:1" for name in ("b", "a", "c")]
    answer = await world.create(Layers=arns)
    assert [row["Arn"] for row in answer["Layers"]] == arns
    assert [use.arn for use in (await world.stored()).latest.layers] == arns


async def test_reserved_environment_variables_are_refused_by_name(world: World) -> None:
    variables = {"FINE": "1", "AWS_REGION": "x", "_HANDLER": "y", "LAMBDA_TASK_ROOT": "z"}
    assert (await refused(world, Environment={"Variables": variables})).endswith(
        "Reserved keys used in this request: AWS_REGION, _HANDLER, LAMBDA_TASK_ROOT"
    )
    await world.create(Environment={"Variables": {"TZ": ":UTC", "PATH": "/opt/bin", "PYTHONPATH": "x"}})


async def test_environment_variables_have_4_kb_as_json(world: World) -> None:
    fits = {"KEY": "x" * (4096 - len('{"KEY":""}'))}
    over = {"KEY": fits["KEY"][:-1] + "é"}  # as many characters, a byte more
    message = await refused(world, Environment={"Variables": over})
    assert "exceeded the 4KB limit. String measured: " in message
    assert json.loads(message.partition("String measured: ")[2]) == over
    await world.create(Environment={"Variables": fits})
    await world.create("umlauts", Environment={"Variables": {"KEY": "é" * 2000}})  # 4 KB of UTF-8, not escaped


async def test_empty_environment_variables_are_none(world: World) -> None:
    assert "Environment" not in await world.create(Environment={"Variables": {}})


async def test_log_levels_need_the_json_format(world: World) -> None:
    assert await refused(world, LoggingConfig={"ApplicationLogLevel": "DEBUG"}) == (
        'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request '
        'or change the LogFormat to "Json" and try again.'
    )


async def test_tags_are_at_most_50_and_not_of_aws(world: World) -> None:
    assert "aws:mine" in await refused(world, Tags={"aws:mine": "1"})
    assert "at most 50" in await refused(world, Tags={f"k{n}": "" for n in range(51)})
    await world.create(Tags={f"k{n}": "" for n in range(50)})


async def test_code_storage_ends_at_75_gb(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def usage() -> tuple[int, int]:
        return 80_530_636_800 - 6, 1

    monkeypatch.setattr(world.store, "usage", usage)
    with pytest.raises(CodeStorageExceededException, match=r"^Code storage limit exceeded\.$"):
        await world.create(Code={"ZipFile": b"7 bytes"})
    assert not await world.blobs.exists(hashlib.sha256(b"7 bytes").hexdigest())
    await world.create(Code={"ZipFile": b"6bytes"})


async def test_get_function_gives_a_download_url_and_leaves_out_what_is_not_set(world: World) -> None:
    await world.active()
    answer = await world.call("GetFunction", FunctionName="my-fn")
    assert answer.keys() == {"Configuration", "Code"}
    assert answer["Code"]["RepositoryType"] == "S3"
    url = urlsplit(answer["Code"]["Location"])
    digest = url.path.rpartition("/")[2]
    signed = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}" == "http://127.0.0.1:9000"
    assert world.urls.valid(digest, signed["expires"], signed["signature"])
    assert await world.blobs.get(digest) == b"zip one"


async def test_get_function_has_tags_and_reserved_concurrency_when_set(world: World) -> None:
    await world.active(Tags={"team": "a"})
    await world.store.set_reserved_concurrency("my-fn", 0)
    answer = await world.call("GetFunction", FunctionName="my-fn")
    assert answer["Tags"] == {"team": "a"}
    assert answer["Concurrency"] == {"ReservedConcurrentExecutions": 0}


async def test_the_arn_ends_in_the_qualifier_that_was_asked_for(world: World) -> None:
    await world.active()
    for answer in (
        await world.call("GetFunctionConfiguration", FunctionName="my-fn", Qualifier="$LATEST"),
        (await world.call("GetFunction", FunctionName="my-fn:$LATEST"))["Configuration"],
    ):
        assert answer["FunctionArn"] == f"{ARN}:$LATEST"
    assert (await world.configuration())["FunctionArn"] == ARN


@pytest.mark.parametrize("operation", ["GetFunction", "GetFunctionConfiguration"])
async def test_what_is_not_there_is_not_found_by_its_arn(world: World, operation: str) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call(operation, FunctionName="my-fn")
    assert caught.value.message == f"Function not found: {ARN}"
    await world.active()
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call(operation, FunctionName="my-fn:7")
    assert caught.value.message == f"Function not found: {ARN}:7"


async def test_a_list_pages_by_name_and_leaves_states_out(world: World) -> None:
    for name in ("c", "a", "b"):
        await world.active(name)
    first = await world.call("ListFunctions", MaxItems=2)
    assert [row["FunctionName"] for row in first["Functions"]] == ["a", "b"]
    for row in first["Functions"]:
        assert row["CodeSize"] == 7
        assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig", "StateReason"} & row.keys()
    last = await world.call("ListFunctions", MaxItems=2, Marker=first["NextMarker"])
    assert [row["FunctionName"] for row in last["Functions"]] == ["c"]
    assert "NextMarker" not in last


async def test_a_page_that_ends_with_the_last_row_has_no_marker(world: World) -> None:
    await world.active("a")
    assert "NextMarker" not in await world.call("ListFunctions", MaxItems=1)


async def test_a_list_has_at_most_50_rows(world: World) -> None:
    for number in range(51):
        await world.create(f"f{number:02}")
    for members in ({}, {"MaxItems": 10_000}):
        answer = await world.call("ListFunctions", **members)
        assert len(answer["Functions"]) == 50
    rest = await world.call("ListFunctions", Marker=answer["NextMarker"])
    assert [row["FunctionName"] for row in rest["Functions"]] == ["f50"]


async def test_a_list_of_all_versions_has_qualified_arns(world: World) -> None:
    await world.active()
    answer = await world.call("ListFunctions", FunctionVersion="ALL")
    assert [row["FunctionArn"] for row in answer["Functions"]] == [f"{ARN}:$LATEST"]


@pytest.mark.parametrize("marker", ["!", "a", "äöü", base64.b64encode(b"no name!").decode(), "4pyT4pyT"])
async def test_a_marker_that_is_not_ours_is_refused(world: World, marker: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="Invalid Marker"):
        await world.call("ListFunctions", Marker=marker)


async def test_a_deletion_stops_environments_and_drops_waiting_events(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.active()
    world.queue.waiting = 3
    counter = metrics.events_dropped.labels(metrics.function_label("my-fn"))
    before = counter._value.get()
    uid = (await world.stored()).uid
    assert await world.call("DeleteFunction", FunctionName="my-fn") == {"StatusCode": 204}
    assert await world.store.get("my-fn") is None
    assert world.host.stopped[-1] == (uid, None, None)
    assert world.queue.dropped == [uid]
    assert counter._value.get() == before + 3
    assert "A deleted function's events were dropped." in caplog.text


async def test_a_deletion_of_nothing_is_not_found(world: World) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        await world.call("DeleteFunction", FunctionName="my-fn")
    assert caught.value.message == f"Function not found: {ARN}"


async def test_a_deletion_stands_although_cleaning_up_fails(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.active()
    world.host.stop_failure = ServiceException("no")
    world.queue.failure = EventQueueUnavailable()
    assert await world.call("DeleteFunction", FunctionName="my-fn") == {"StatusCode": 204}
    assert await world.store.get("my-fn") is None
    assert [record.getMessage() for record in caplog.records] == [
        "A deleted function was not stopped.",
        "A deleted function's events were not dropped.",
    ]


async def test_deleting_latest_an_alias_or_a_version_alone(world: World) -> None:
    with pytest.raises(ResourceNotFoundException):
        await world.call("DeleteFunction", FunctionName="my-fn:1")
    await world.active()
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.call("DeleteFunction", FunctionName="my-fn", Qualifier="$LATEST")
    assert caught.value.message == "$LATEST version cannot be deleted without deleting the function."
    with pytest.raises(InvalidParameterValueException, match="Deletion of aliases is not currently supported"):
        await world.call("DeleteFunction", FunctionName="my-fn:live")
    assert await world.call("DeleteFunction", FunctionName="my-fn:1") == {"StatusCode": 204}
    assert await world.store.get("my-fn") is not None
