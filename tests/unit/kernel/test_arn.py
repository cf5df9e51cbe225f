"""Names and ARNs as AWS takes them: a name, a partial or a full ARN, each with or without a qualifier."""

import re

import pytest

from lambent.kernel import arn
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException

REGION, ACCOUNT = "eu-west-1", "123456789012"


def parse(text: str, qualifier: str | None = None) -> arn.FunctionReference:
    return arn.parse_function(text, region=REGION, account=ACCOUNT, qualifier=qualifier)


@pytest.mark.parametrize(
    "prefix",
    ["", "function:", "123456789012:function:", "arn:aws:lambda:eu-west-1:123456789012:function:"],
)
@pytest.mark.parametrize("qualifier", [None, "prod", "3", "$LATEST", "my-alias_1"])
def test_every_form_names_the_same_function(prefix: str, qualifier: str | None) -> None:
    text = prefix + "my-fn_1" + (f":{qualifier}" if qualifier else "")
    assert parse(text) == arn.FunctionReference("my-fn_1", qualifier)


def test_the_qualifier_may_be_given_apart() -> None:
    assert parse("f", "prod") == arn.FunctionReference("f", "prod")
    assert parse("f:prod", "prod") == arn.FunctionReference("f", "prod")


def test_two_qualifiers_that_differ_are_refused() -> None:
    with pytest.raises(
        InvalidParameterValueException, match="The derived qualifier from the function name does not match"
    ):
        parse("f:prod", "test")


def test_a_function_of_another_region_is_not_found() -> None:
    with pytest.raises(
        ResourceNotFoundException,
        match=r"Functions from 'us-west-2' are not reachable in this region \('eu-west-1'\)",
    ):
        parse("arn:aws:lambda:us-west-2:123456789012:function:f")


def test_a_function_of_another_account_is_not_found() -> None:
    with pytest.raises(ResourceNotFoundException, match="999999999999:function:f"):
        parse("arn:aws:lambda:eu-west-1:999999999999:function:f")


@pytest.mark.parametrize(
    "text", ["", "a b", "f:", ":f", "f:a:b:c", "ü", "f\n", "arn:aws:s3:::bucket", "f/../g"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="not a valid function name or ARN"):
        parse(text)


def test_made_arns_are_read_again() -> None:
    made = arn.function_arn(region=REGION, account=ACCOUNT, name="f", qualifier="7")
    assert made == "arn:aws:lambda:eu-west-1:123456789012:function:f:7"
    assert parse(made) == arn.FunctionReference("f", "7")
    layer = arn.layer_arn(region=REGION, account=ACCOUNT, name="l", version=3)
    assert layer == "arn:aws:lambda:eu-west-1:123456789012:layer:l:3"
    assert arn.parse_layer_version(layer) == arn.LayerVersionReference(REGION, ACCOUNT, "l", 3)


@pytest.mark.parametrize(
    "text", ["l", "arn:aws:lambda:eu-west-1:123456789012:layer:l", "arn:aws:lambda:eu-west-1:1:layer:l:1"]
)
def test_what_is_no_layer_version_is_none(text: str) -> None:
    assert arn.parse_layer_version(text) is None


def test_a_layers_name_is_its_arns_last_part() -> None:
    assert arn.layer_name("l") == "l"
    assert arn.layer_name(arn.layer_arn(region=REGION, account=ACCOUNT, name="l")) == "l"


def test_versions_are_numbers_and_latest() -> None:
    assert [arn.is_version(q) for q in ("$LATEST", "1", "42", "prod", "v1")] == [True, True, True, False, False]


def test_a_runtimes_version_arn_is_its_own_and_stays() -> None:
    def of(runtime: str) -> str:
        return arn.runtime_version_arn(region=REGION, runtime=runtime)

    assert of("python3.11") == of("python3.11") != of("python3.12")
    assert re.fullmatch(rf"arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}", of("python3.11"))
