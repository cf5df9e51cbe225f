"""Layers: publish, get by name and by ARN, list, delete."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from handler_world import NOT_A_ZIP, World

from lambent.kernel.errors import (
    CodeStorageExceededException,
    InvalidParameterValueException,
    ResourceNotFoundException,
)

ARN = "arn:aws:lambda:us-east-1:123456789012:layer:libs"


@pytest.fixture
async def world() -> World:
    return World()


async def publish(
    world: World, name: str = "libs", data: bytes = b"layer", **members: Any
) -> Mapping[str, Any]:
    return await world.call("PublishLayerVersion", LayerName=name, Content={"ZipFile": data}, **members)


async def test_a_published_layer_version_is_shown_whole(world: World) -> None:
    answer = dict(
        await publish(
            world,
            Description="d",
            CompatibleRuntimes=["python3.11", "python3.12"],
            CompatibleArchitectures=["x86_64"],
            LicenseInfo="MIT",
        )
    )
    content = answer.pop("Content")
    assert answer == {
        "LayerArn": ARN,
        "LayerVersionArn": f"{ARN}:1",
        "Description": "d",
        "CreatedDate": "2026-01-31T12:00:00.000+0000",
        "Version": 1,
        "CompatibleRuntimes": ["python3.11", "python3.12"],
        "CompatibleArchitectures": ["x86_64"],
        "LicenseInfo": "MIT",
    }
    digest = hashlib.sha256(b"layer")
    assert content["CodeSha256"] == base64.b64encode(digest.digest()).decode()
    assert content["CodeSize"] == 5
    assert urlsplit(content["Location"]).path.endswith(digest.hexdigest())
    assert await world.blobs.get(digest.hexdigest()) == b"layer"


async def test_what_was_not_given_is_left_out(world: World) -> None:
    answer = await publish(world)
    assert answer["Description"] == ""
    assert not {"CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"} & answer.keys()


async def test_content_comes_from_s3(world: World) -> None:
    world.s3["b", "k", "v"] = b"from s3"
    content = {"S3Bucket": "b", "S3Key": "k", "S3ObjectVersion": "v"}
    answer = await world.call("PublishLayerVersion", LayerName="libs", Content=content)
    assert answer["Content"]["CodeSize"] == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "Please provide a source for layer code."),
        (
            {"ZipFile": NOT_A_ZIP},
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        ({"ZipFile": b"huge"}, "Unzipped size must be smaller than 262144000 bytes"),
    ],
)
async def test_content_that_cannot_be_used_is_refused(
    world: World, content: dict[str, Any], message: str
) -> None:
    world.code.unzipped[b"huge"] = 262_144_001
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.call("PublishLayerVersion", LayerName="libs", Content=content)
    assert caught.value.message == message
    assert await world.store.layers() == []


async def test_layers_count_to_the_code_storage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def usage() -> tuple[int, int]:
        return 80_530_636_800, 0

    monkeypatch.setattr(world.store, "usage", usage)
    with pytest.raises(CodeStorageExceededException):
        await publish(world)


async def test_numbers_grow_and_are_not_used_again(world: World) -> None:
    assert [(await publish(world))["Version"] for _ in range(3)] == [1, 2, 3]
    await world.call("DeleteLayerVersion", LayerName="libs", VersionNumber=3)
    assert (await publish(world))["Version"] == 4


async def test_a_version_is_found_by_name_by_layer_arn_and_by_its_own_arn(world: World) -> None:
    published = await publish(world)
    for name in ("libs", ARN):
        assert await world.call("GetLayerVersion", LayerName=name, VersionNumber=1) == published
    assert await world.call("GetLayerVersionByArn", Arn=f"{ARN}:1") == published
    assert (await publish(world, name=ARN))["LayerVersionArn"] == f"{ARN}:2"


async def test_what_is_not_there_is_not_found(world: World) -> None:
    await publish(world)
    elsewhere = [ARN.replace("us-east-1", "eu-west-1"), ARN.replace("123456789012", "999999999999")]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("GetLayerVersion", {"LayerName": "libs", "VersionNumber": 2}),
        ("GetLayerVersion", {"LayerName": "other", "VersionNumber": 1}),
        ("GetLayerVersion", {"LayerName": elsewhere[0], "VersionNumber": 1}),
        ("GetLayerVersionByArn", {"Arn": f"{ARN}:2"}),
        ("GetLayerVersionByArn", {"Arn": f"{elsewhere[0]}:1"}),
        ("GetLayerVersionByArn", {"Arn": f"{elsewhere[1]}:1"}),
        ("GetLayerVersionByArn", {"Arn": "arn:aws:lambda:::awslayer:libs"}),
    ]
    for operation, members in asked:
        with pytest.raises(ResourceNotFoundException) as caught:
            await world.call(operation, **members)
        assert caught.value.message == "The resource you requested does not exist."


@pytest.mark.parametrize("operation", ["GetLayerVersion", "DeleteLayerVersion"])
async def test_versions_begin_at_one(world: World, operation: str) -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.call(operation, LayerName="libs", VersionNumber=0)
    assert caught.value.message == "Layer Version Cannot be less than 1."


async def test_a_deletion_is_repeatable_and_has_no_answer(world: World) -> None:
    await publish(world)
    for _ in range(2):
        assert await world.call("DeleteLayerVersion", LayerName="libs", VersionNumber=1) == {}
    with pytest.raises(ResourceNotFoundException):
        await world.call("GetLayerVersion", LayerName="libs", VersionNumber=1)


async def test_a_functions_layer_stays_readable_to_it_after_deletion(world: World) -> None:
    published = await publish(world)
    await world.active(Layers=[published["LayerVersionArn"]])
    await world.call("DeleteLayerVersion", LayerName="libs", VersionNumber=1)
    use = (await world.stored()).latest.layers[0]
    assert await world.blobs.get(use.archive.digest) == b"layer"


async def test_layers_are_listed_by_name_with_their_latest_matching_version(world: World) -> None:
    await publish(world, "b", CompatibleRuntimes=["python3.11"])
    await publish(world, "b", CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["arm64"])
    await publish(world, "a", CompatibleRuntimes=["python3.11"])
    await publish(world, "gone")
    await world.call("DeleteLayerVersion", LayerName="gone", VersionNumber=1)

    async def listed(**members: Any) -> list[tuple[str, int]]:
        rows = (await world.call("ListLayers", **members))["Layers"]
        return [(row["LayerName"], row["LatestMatchingVersion"]["Version"]) for row in rows]

    assert await listed() == [("a", 1), ("b", 2)]
    assert await listed(CompatibleRuntime="python3.11") == [("a", 1), ("b", 1)]
    assert await listed(CompatibleArchitecture="arm64") == [("b", 2)]
    assert await listed(CompatibleArchitecture="arm64", CompatibleRuntime="python3.11") == []
    row = (await world.call("ListLayers"))["Layers"][0]
    assert row["LayerArn"] == ARN.replace("libs", "a")
    assert row["LatestMatchingVersion"].keys() == {
        "LayerVersionArn", "Version", "Description", "CreatedDate", "CompatibleRuntimes",
    }  # fmt: skip


async def test_lists_of_layers_page(world: World) -> None:
    for name in ("a", "b", "c"):
        await publish(world, name)
    first = await world.call("ListLayers", MaxItems=2)
    assert [row["LayerName"] for row in first["Layers"]] == ["a", "b"]
    last = await world.call("ListLayers", MaxItems=2, Marker=first["NextMarker"])
    assert [row["LayerName"] for row in last["Layers"]] == ["c"]
    assert "NextMarker" not in last


async def test_versions_are_listed_newest_first_in_pages(world: World) -> None:
    for number in range(12):
        await publish(world, CompatibleRuntimes=["python3.11"] if number % 2 else ["python3.12"])
    first = await world.call("ListLayerVersions", LayerName="libs", MaxItems=5)
    assert [row["Version"] for row in first["LayerVersions"]] == [12, 11, 10, 9, 8]
    second = await world.call("ListLayerVersions", LayerName=ARN, MaxItems=50, Marker=first["NextMarker"])
    assert [row["Version"] for row in second["LayerVersions"]] == [7, 6, 5, 4, 3, 2, 1]
    assert "NextMarker" not in second
    odd = await world.call("ListLayerVersions", LayerName="libs", CompatibleRuntime="python3.12")
    assert [row["Version"] for row in odd["LayerVersions"]] == [11, 9, 7, 5, 3, 1]


async def test_an_unknown_layer_has_no_versions(world: World) -> None:
    assert await world.call("ListLayerVersions", LayerName="none") == {"LayerVersions": []}


async def test_a_marker_of_another_list_is_refused(world: World) -> None:
    marker = base64.b64encode(b"libs").decode()
    with pytest.raises(InvalidParameterValueException, match="Invalid Marker"):
        await world.call("ListLayerVersions", LayerName="libs", Marker=marker)
