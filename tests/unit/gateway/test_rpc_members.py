"""members.py: messages and AWS's members, and that the messages name what AWS's model has."""

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from handler_world import World

from lambent.gateway.field_rules import Refused
from lambent.gateway.field_table import TABLE
from lambent.gateway.fields import rule_for
from lambent.gateway.protocol.model import members_under, service_model
from lambent.gateway.rpc.functions import SERVICE
from lambent.gateway.rpc.members import aws_name, fill, members_of, number, word
from lambent.v1 import functions_pb2, invocations_pb2
from lambent.v1.functions_pb2 import (
    CreateFunctionRequest,
    Environment,
    FunctionCode,
    FunctionConfiguration,
    LayerList,
    UpdateFunctionConfigurationRequest,
)

# What AWS's FunctionConfiguration has and ours leaves out: always the same here.
LEFT_OUT = {"TracingConfig", "PackageType", "SnapStart", "RuntimeVersionConfig"}


def test_what_is_set_becomes_members_and_nothing_else() -> None:
    request = CreateFunctionRequest(
        function_name="f",
        code=FunctionCode(zip_file=b"z"),
        timeout=0,
        environment=Environment(variables={"A": "1"}),
        layers=LayerList(arns=["a", "b"]),
        architectures=[functions_pb2.ARCHITECTURE_X86_64],
        tags={"team": "x"},
    )
    assert members_of(request) == {
        "FunctionName": "f",
        "Code": {"ZipFile": b"z"},
        "Timeout": 0,
        "Environment": {"Variables": {"A": "1"}},
        "Layers": ["a", "b"],
        "Architectures": ["x86_64"],
        "Tags": {"team": "x"},
    }


def test_what_is_empty_on_purpose_clears() -> None:
    request = UpdateFunctionConfigurationRequest(description="", environment=Environment(), layers=LayerList())
    assert members_of(request) == {"Description": "", "Environment": {}, "Layers": []}


def test_a_value_that_an_enum_does_not_have_is_left_to_the_constraints() -> None:
    request = CreateFunctionRequest()
    request.architectures.append(77)  # type: ignore[arg-type]  # a newer client's
    assert members_of(request) == {"Architectures": ["77"]}


@pytest.mark.parametrize(
    "enum", [functions_pb2.State, functions_pb2.Architecture, invocations_pb2.InvocationType]
)
def test_every_word_of_an_enum_comes_back(enum: Any) -> None:
    descriptor = enum.DESCRIPTOR
    numbers = [value.number for value in descriptor.values]
    assert [number(descriptor, word(descriptor, each)) for each in numbers] == numbers
    assert number(descriptor, "nothing of ours") == 0


async def test_a_configuration_is_told_whole() -> None:
    world = World()
    await world.active(Environment={"Variables": {"A": "1"}}, MemorySize=256)
    told = await world.call("GetFunctionConfiguration", FunctionName="my-fn")
    made = fill(FunctionConfiguration(), told)
    names = {aws_name(field.name) for field in FunctionConfiguration.DESCRIPTOR.fields}
    assert set(told) - names == LEFT_OUT & set(told)
    assert (made.memory_size, dict(made.environment.variables)) == (256, {"A": "1"})
    assert (made.state, made.last_update_status) == (
        functions_pb2.STATE_ACTIVE,
        functions_pb2.LAST_UPDATE_STATUS_SUCCESSFUL,
    )
    assert made.last_modified.ToJsonString().startswith("2026-01-31T12:00:00")


@pytest.mark.parametrize("method", list(SERVICE.methods), ids=lambda method: str(method.name))
def test_requests_and_responses_have_members_of_aws_model(method: Any) -> None:
    operation = service_model().operation_model(method.name)
    accepted = set(_paths(method.input_type)) - {"Code"}
    if method.name == "UpdateFunctionCode":
        accepted = {path.removeprefix("Code.") for path in accepted}
    known = set(_model_paths(operation.input_shape))
    assert accepted <= known
    if method.name in TABLE:  # no field that is refused whatever it has
        rules = {path: rule_for(TABLE[method.name], path) for path in accepted}
        assert [path for path, rule in rules.items() if isinstance(rule, Refused) and not rule.unless] == []
    output = operation.output_shape
    given = {path.removeprefix("Alias.") for path in _paths(method.output_type)} - {"Alias", "Configuration"}
    if method.name != "GetFunction":
        given = {path.removeprefix("Configuration.") for path in given}
    assert given <= (set(_model_paths(output)) if output is not None else set())


def _paths(message: Descriptor, prefix: str = "") -> list[str]:
    found = []
    for field in message.fields:
        path = prefix + aws_name(field.name)
        found.append(path)
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or inner.full_name == "lambent.v1.LayerList":
            continue
        if inner.file.package == "lambent.v1":
            found += _paths(inner, f"{path}.")
    return found


def _model_paths(shape: Any, prefix: str = "") -> list[str]:
    found = []
    for name, inner in members_under(shape).items():
        found.append(prefix + name)
        found += _model_paths(inner, f"{prefix}{name}.")
    return found
