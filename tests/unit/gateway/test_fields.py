"""The field table against AWS's model, and what the checker refuses."""

import ast
from pathlib import Path
from typing import Any

import pytest

from lambent.gateway.field_rules import Emulated, Enforced, Fields, Recorded, Refused
from lambent.gateway.field_table import TABLE
from lambent.gateway.fields import BUILT, FieldChecker, kind_of, leaves, rule_for, this_architecture
from lambent.gateway.operations import OPERATIONS
from lambent.gateway.protocol.model import operations
from lambent.kernel.errors import InvalidParameterValueException, NotImplementedException

ROOT = Path(__file__).parents[3]
CHECKER = FieldChecker("x86_64")
SHOWN_BY = sorted(
    {rule.test for fields in TABLE.values() for rule in fields.values() if isinstance(rule, Enforced)}
)


def test_the_operations_with_a_handler_are_those_with_a_table() -> None:
    """Invoke has a path of its own and no handler in the table of operations."""
    assert {*OPERATIONS, "Invoke", "InvokeWithResponseStream"} == BUILT


@pytest.mark.parametrize("operation", sorted(BUILT))
def test_every_field_of_the_model_has_a_class(operation: str) -> None:
    missing = [
        path for path in leaves(operations()[operation].fields) if rule_for(TABLE[operation], path) is None
    ]
    assert missing == []


@pytest.mark.parametrize("operation", sorted(BUILT))
def test_the_table_names_only_fields_of_the_model(operation: str) -> None:
    assert set(TABLE[operation]) - set(operations()[operation].fields) == set()


@pytest.mark.parametrize("operation", sorted(BUILT))
def test_only_a_refusal_may_speak_for_a_whole_structure(operation: str) -> None:
    """Else a member that the model gets later would be accepted without a word."""
    structures = set(operations()[operation].fields) - set(leaves(operations()[operation].fields))
    wide = {
        path for path in structures & set(TABLE[operation]) if not isinstance(TABLE[operation][path], Refused)
    }
    assert wide == set()


@pytest.mark.parametrize("test", SHOWN_BY)
def test_what_is_enforced_names_a_test_that_exists(test: str) -> None:
    file, _, function = test.partition("::")
    path = ROOT / file
    assert path.is_file(), f"{file} does not exist"
    functions = {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert function in functions


@pytest.mark.parametrize("operation", sorted(BUILT))
def test_rules_say_something(operation: str) -> None:
    for path, rule in TABLE[operation].items():
        match rule:
            case Enforced(test):
                assert test.startswith("tests/"), path
            case Emulated(text) | Recorded(text) | Refused(text):
                assert text.endswith("."), path


CREATE: dict[str, Any] = {"FunctionName": "f", "Role": "r", "Code": {"ZipFile": b"z"}}


@pytest.mark.parametrize(
    ("operation", "params", "path"),
    [
        ("CreateFunction", {"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "VpcConfig.SubnetIds"),
        (
            "CreateFunction",
            {"VpcConfig": {"Ipv6AllowedForDualStack": True}},
            "VpcConfig.Ipv6AllowedForDualStack",
        ),
        (
            "CreateFunction",
            {"FileSystemConfigs": [{"S3FilesConfig": {"a": 1}}]},
            "FileSystemConfigs.S3FilesConfig",
        ),
        ("CreateFunction", {"KMSKeyArn": "arn:aws:kms:::k"}, "KMSKeyArn"),
        ("CreateFunction", {"Code": {"SourceKMSKeyArn": "k"}}, "Code.SourceKMSKeyArn"),
        ("CreateFunction", {"Code": {"S3ObjectStorageMode": "REFERENCE"}}, "Code.S3ObjectStorageMode"),
        ("CreateFunction", {"CodeSigningConfigArn": "a"}, "CodeSigningConfigArn"),
        ("CreateFunction", {"DurableConfig": {}}, "DurableConfig"),
        ("CreateFunction", {"CapacityProviderConfig": {}}, "CapacityProviderConfig"),
        ("CreateFunction", {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, "TenancyConfig"),
        ("CreateFunction", {"RuntimeConfig": {"RuntimeAlias": "a"}}, "RuntimeConfig"),
        ("CreateFunction", {"AcceleratorConfig": {"AcceleratorMemorySize": 1}}, "AcceleratorConfig"),
        ("CreateFunction", {"PublishTo": "LATEST_PUBLISHED"}, "PublishTo"),
        ("CreateFunction", {"Architectures": ["arm64"]}, "Architectures"),
        ("PublishVersion", {"PublishTo": "LATEST_PUBLISHED"}, "PublishTo"),
        ("ListFunctions", {"MasterRegion": "us-east-1"}, "MasterRegion"),
        ("Invoke", {"TenantId": "t"}, "TenantId"),
        ("Invoke", {"DurableExecutionName": "n"}, "DurableExecutionName"),
    ],
)
def test_what_is_not_built_is_refused_by_name(operation: str, params: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        CHECKER.check(operation, params)
    assert caught.value.message.startswith(f"{path} is not supported by Lambent: ")
    assert "{" not in caught.value.message


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("CreateFunction", CREATE),
        ("CreateFunction", {"VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}}),
        ("CreateFunction", {"VpcConfig": {}}),
        ("CreateFunction", {"DeadLetterConfig": {"TargetArn": ""}}),
        ("CreateFunction", {"SnapStart": {"ApplyOn": "None"}}),
        ("CreateFunction", {"SnapStart": {"ApplyOn": "PublishedVersions"}}),
        (
            "CreateFunction",
            {"PackageType": "Image", "Code": {"ImageUri": "i"}, "ImageConfig": {"Command": ["c"]}},
        ),
        ("CreateFunction", {"TracingConfig": {"Mode": "PassThrough"}}),
        ("CreateFunction", {"KMSKeyArn": "", "FileSystemConfigs": [], "ImageConfig": {}}),
        ("CreateFunction", {"Architectures": ["x86_64"], "PackageType": "Zip", "Publish": False}),
        ("CreateFunction", {"LoggingConfig": {"LogFormat": "Text", "LogGroup": "/g"}}),
        ("GetFunction", {"FunctionName": "f", "Qualifier": "1"}),
        ("ListFunctions", {"FunctionVersion": "ALL", "MasterRegion": "ALL"}),
        ("Invoke", {"FunctionName": "f", "InvocationType": "Event", "Payload": b"{}"}),
        ("GetAccountSettings", {}),
    ],
)
def test_what_means_nothing_or_acts_is_accepted(operation: str, params: dict[str, Any]) -> None:
    CHECKER.check(operation, params)


def test_the_host_decides_which_architecture_is_refused() -> None:
    arm = FieldChecker("arm64")
    arm.check("UpdateFunctionCode", {"Architectures": ["arm64"]})
    with pytest.raises(InvalidParameterValueException, match=r"send \[arm64\]"):
        arm.check("UpdateFunctionCode", {"Architectures": ["x86_64"]})


def test_a_field_that_is_newer_than_the_table_is_refused() -> None:
    table: dict[str, Fields] = {
        "Op": {"Code.ZipFile": Enforced("tests/x.py::test_x"), "Rows.A": Recorded("No matter.")}
    }
    checker = FieldChecker("x86_64", table)
    checker.check("Op", {"Code": {"ZipFile": b""}, "Rows": [{"A": 1}, {"A": 2}]})
    with pytest.raises(InvalidParameterValueException, match="^Code.Color is newer than this Lambent"):
        checker.check("Op", {"Code": {"Color": 1}})
    with pytest.raises(InvalidParameterValueException, match="^Rows.B is newer than this Lambent"):
        checker.check("Op", {"Rows": [{"A": 1}, {"B": 2}]})


def test_an_operation_without_a_table_is_not_built() -> None:
    with pytest.raises(NotImplementedException, match="AddPermission"):
        CHECKER.check("AddPermission", {})


def test_without_a_word_the_host_is_this_machine() -> None:
    checker = FieldChecker()
    checker.check("CreateFunction", {"Architectures": [this_architecture()]})
    with pytest.raises(InvalidParameterValueException):
        checker.check("CreateFunction", {"Architectures": ["pdp11"]})


def test_classes_are_named_as_in_the_design() -> None:
    rules = (Enforced(""), Emulated(""), Recorded(""), Refused(""))
    assert [kind_of(rule) for rule in rules] == ["enforced", "emulated", "recorded", "refused"]
