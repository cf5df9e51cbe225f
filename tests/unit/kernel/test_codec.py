"""The written form of stored values: schema 1, as `fixtures/store/schema-1` keeps it, is read for ever, and is
what this release writes; newer and damaged values are refused."""

import json
from pathlib import Path

import pytest
import samples

from lambent.kernel.errors import InvalidParameterValueException, ServiceException
from lambent.kernel.models import ProvisionedConfig
from lambent.kernel.store import codec

SCHEMA_1 = Path(__file__).parents[2] / "fixtures" / "store" / "schema-1"
KEPT: dict[str, codec.Stored] = {
    "alias.json": samples.alias(),
    "event_invoke.json": samples.event_invoke(),
    "provisioned.json": ProvisionedConfig(5, 1_769_860_800.75),
    "function_version.json": samples.full_function().latest,
    "function_version_small.json": samples.version(),
    "layer_version.json": samples.layer(),
    "trigger.json": samples.trigger(),
    "trigger_of_an_alias.json": samples.trigger(qualifier="live"),
}


def read(file: str, data: bytes) -> codec.Stored:
    if file.startswith("alias"):
        return codec.alias(data)
    if file.startswith("provisioned"):
        return codec.provisioned(data)
    if file.startswith("event_invoke"):
        return codec.event_invoke(data)
    if file.startswith("layer"):
        return codec.layer_version(data, 1)
    return codec.trigger(data) if file.startswith("trigger") else codec.function_version(data)


@pytest.mark.parametrize("file", KEPT)
def test_schema_1_is_read(file: str) -> None:
    assert read(file, (SCHEMA_1 / file).read_bytes()) == KEPT[file]


@pytest.mark.parametrize("file", KEPT)
def test_what_is_written_is_schema_1(file: str) -> None:
    """A new field, or another form of an old one, needs its decision: can schema 1's readers live with it?"""
    assert json.loads(codec.encode(KEPT[file])) == json.loads((SCHEMA_1 / file).read_bytes())


def test_a_published_version_has_the_number_that_it_is_stored_under() -> None:
    version = samples.version(description="$LATEST once")
    assert codec.published(codec.encode(version), 7) == samples.version(description="$LATEST once", version="7")


def test_every_kept_file_has_its_value() -> None:
    assert {file.name for file in SCHEMA_1.iterdir()} == set(KEPT)


@pytest.mark.parametrize("number", [2, 0, "1", None])
def test_another_schema_number_is_refused(number: object) -> None:
    document = json.loads((SCHEMA_1 / "trigger.json").read_bytes()) | {"schema": number}
    with pytest.raises(ServiceException, match="reads up to 1"):
        codec.trigger(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"schema": 1}', b"\xff"])
def test_damaged_values_are_refused(data: bytes) -> None:
    with pytest.raises(ServiceException, match="stored value"):
        codec.trigger(data)


def test_a_field_that_a_newer_release_added_is_left_alone() -> None:
    document = json.loads((SCHEMA_1 / "trigger.json").read_bytes()) | {"added_later": True}
    assert codec.trigger(json.dumps(document).encode()) == samples.trigger()


def test_half_a_surrogate_pair_is_refused_before_it_is_written() -> None:
    with pytest.raises(InvalidParameterValueException, match="not valid Unicode"):
        codec.encode(samples.trigger(prefix="\udc00"))
