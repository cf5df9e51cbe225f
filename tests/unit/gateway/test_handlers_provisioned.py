"""Put-, Get-, List- and DeleteProvisionedConcurrencyConfig: every rule and message; that environments are kept
is shown end to end."""

from typing import Any

import pytest
from handler_world import World

from lambent.kernel.errors import (
    InvalidParameterValueException,
    LambdaError,
    ProvisionedConcurrencyConfigNotFoundException,
    ResourceConflictException,
    ResourceNotFoundException,
)

NAME = {"FunctionName": "my-fn"}


@pytest.fixture
async def world() -> World:
    """A function with versions 1 and 2; the alias live is 1, weighted is both, latest is $LATEST."""
    made = World()
    await made.active()
    await made.call("PublishVersion", **NAME)
    await made.call("UpdateFunctionConfiguration", **NAME, Timeout=9)
    await made.idle()
    await made.call("PublishVersion", **NAME)
    await made.call("CreateAlias", **NAME, Name="live", FunctionVersion="1")
    await made.call("CreateAlias", **NAME, Name="latest", FunctionVersion="$LATEST")
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    await made.call("CreateAlias", **NAME, Name="weighted", FunctionVersion="1", RoutingConfig=weights)
    return made


async def put(world: World, qualifier: str, count: int = 1) -> Any:
    return await world.call(
        "PutProvisionedConcurrencyConfig", **NAME, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
    )


async def test_a_configuration_is_put_read_and_removed(world: World) -> None:
    answer = await put(world, "live", 5)
    assert answer == {
        "RequestedProvisionedConcurrentExecutions": 5,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "AvailableProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": "2026-01-31T12:00:00+0000",
    }
    assert await world.call("GetProvisionedConcurrencyConfig", **NAME, Qualifier="live") == answer
    for _ in range(2):
        assert await world.call("DeleteProvisionedConcurrencyConfig", **NAME, Qualifier="live") == {}
    with pytest.raises(ProvisionedConcurrencyConfigNotFoundException) as none:
        await world.call("GetProvisionedConcurrencyConfig", **NAME, Qualifier="live")
    assert none.value.message == "No Provisioned Concurrency Config found for this function"


_UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
_WEIGHTED = "Alias with weights can not be used with Provisioned Concurrency"


@pytest.mark.parametrize(
    ("qualifier", "count", "error", "message"),
    [
        ("$LATEST", 1, InvalidParameterValueException, _UNPUBLISHED),
        ("latest", 1, InvalidParameterValueException, _UNPUBLISHED),
        ("weighted", 1, InvalidParameterValueException, _WEIGHTED),
        ("nobody", 1, ResourceNotFoundException, "Cannot find alias arn: arn:aws:lambda"),
        ("7", 1, ResourceNotFoundException, "Function not found: arn:aws:lambda"),
        ("1", 1001, InvalidParameterValueException, "greater than account's unreserved concurrency [1000]."),
        ("1", 901, InvalidParameterValueException, "below its minimum value of [100]."),
    ],
)
async def test_what_cannot_be_provisioned_is_refused(
    world: World, qualifier: str, count: int, error: type[LambdaError], message: str
) -> None:
    with pytest.raises(error) as refused:
        await put(world, qualifier, count)
    assert message in refused.value.message


async def test_a_version_and_an_alias_of_it_cannot_both_have_one(world: World) -> None:
    await put(world, "live")
    with pytest.raises(
        ResourceConflictException, match="Version is pointed to by a Provisioned Concurrency alias"
    ):
        await put(world, "1")
    await put(world, "2")
    await world.call("CreateAlias", **NAME, Name="second", FunctionVersion="2")
    with pytest.raises(ResourceConflictException, match="on an already Provisioned version"):
        await put(world, "second")


async def test_an_alias_with_one_cannot_move_where_none_could_be_put(world: World) -> None:
    await put(world, "live")
    await put(world, "2")
    with pytest.raises(ResourceConflictException, match="on an already Provisioned version"):
        await world.call("UpdateAlias", **NAME, Name="live", FunctionVersion="2")
    with pytest.raises(InvalidParameterValueException, match="unpublished"):
        await world.call("UpdateAlias", **NAME, Name="live", FunctionVersion="$LATEST")
    with pytest.raises(InvalidParameterValueException, match="Alias with weights"):
        weights = {"AdditionalVersionWeights": {"2": 0.5}}
        await world.call("UpdateAlias", **NAME, Name="live", RoutingConfig=weights)


async def test_allocations_are_at_most_what_is_reserved_and_reserved_at_least_what_is_allocated(
    world: World,
) -> None:
    await world.call("PutFunctionConcurrency", **NAME, ReservedConcurrentExecutions=5)
    await put(world, "live", 3)
    with pytest.raises(InvalidParameterValueException, match="greater than the reservedConcurrentExecution"):
        await put(world, "2", 3)
    with pytest.raises(InvalidParameterValueException) as lower:
        await world.call("PutFunctionConcurrency", **NAME, ReservedConcurrentExecutions=2)
    assert lower.value.message == (
        "ReservedConcurrentExecutions 2 should not be lower than function's total provisioned concurrency [3]."
    )


async def test_an_allocation_counts_in_the_accounts_unreserved_concurrency(world: World) -> None:
    await put(world, "live", 300)
    settings = await world.call("GetAccountSettings")
    assert settings["AccountLimit"]["UnreservedConcurrentExecutions"] == 700
    await world.active("other")
    with pytest.raises(InvalidParameterValueException, match="minimum value"):
        await world.call("PutFunctionConcurrency", FunctionName="other", ReservedConcurrentExecutions=601)


async def test_a_list_pages_by_qualifier(world: World) -> None:
    await put(world, "live")
    await put(world, "2", 4)
    first = await world.call("ListProvisionedConcurrencyConfigs", **NAME, MaxItems=1)
    rest = await world.call("ListProvisionedConcurrencyConfigs", **NAME, MaxItems=1, Marker=first["NextMarker"])
    rows = first["ProvisionedConcurrencyConfigs"] + rest["ProvisionedConcurrencyConfigs"]
    assert [row["FunctionArn"].rsplit(":", 1)[1] for row in rows] == ["2", "live"]
    assert "NextMarker" not in rest
    with pytest.raises(InvalidParameterValueException, match="does not take the qualifier"):
        await world.call("ListProvisionedConcurrencyConfigs", FunctionName="my-fn:live")


async def test_what_an_alias_or_a_version_had_goes_with_it(world: World) -> None:
    await put(world, "live")
    await put(world, "2")
    await world.call("DeleteAlias", **NAME, Name="live")
    await world.call("UpdateAlias", **NAME, Name="weighted", RoutingConfig={"AdditionalVersionWeights": {}})
    await world.call("DeleteFunction", **NAME, Qualifier="2")
    assert (await world.stored()).provisioned == {}
    await world.call("CreateAlias", **NAME, Name="live", FunctionVersion="1")
    assert (await world.stored()).provisioned == {}


async def test_no_qualifier_is_refused(world: World) -> None:
    with pytest.raises(InvalidParameterValueException, match="Qualifier is required"):
        await world.call("GetProvisionedConcurrencyConfig", **NAME)
