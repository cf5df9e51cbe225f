"""Put-, Get- and DeleteFunctionConcurrency; Get- and PutFunctionRecursionConfig."""

import asyncio
from typing import Any

import pytest
from handler_world import World

from lambent.gateway.handlers import concurrency
from lambent.kernel.errors import (
    InvalidParameterValueException,
    ResourceNotFoundException,
    TooManyRequestsException,
)

EVERY: list[tuple[str, dict[str, Any]]] = [
    ("PutFunctionConcurrency", {"ReservedConcurrentExecutions": 1}),
    ("GetFunctionConcurrency", {}),
    ("DeleteFunctionConcurrency", {}),
    ("GetFunctionRecursionConfig", {}),
    ("PutFunctionRecursionConfig", {"RecursiveLoop": "Allow"}),
]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.active()
    return made


async def test_a_reservation_is_set_read_and_removed(world: World) -> None:
    assert await world.call("GetFunctionConcurrency", FunctionName="my-fn") == {}
    for slots in (5, 0):
        put = await world.call(
            "PutFunctionConcurrency", FunctionName="my-fn", ReservedConcurrentExecutions=slots
        )
        assert put == {"ReservedConcurrentExecutions": slots}
        assert await world.call("GetFunctionConcurrency", FunctionName="my-fn") == put
    for _ in range(2):
        removed = await world.call("DeleteFunctionConcurrency", FunctionName="my-fn")
        assert removed == {}
    assert await world.call("GetFunctionConcurrency", FunctionName="my-fn") == {}


async def test_a_reservation_acts_at_once(world: World) -> None:
    await world.call("PutFunctionConcurrency", FunctionName="my-fn", ReservedConcurrentExecutions=0)
    function = await world.stored()
    with pytest.raises(TooManyRequestsException) as caught:
        await world.dispatcher.acquire(function, function.to_run, holder="test")
    assert caught.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"


async def test_100_of_the_accounts_limit_stay_unreserved(world: World) -> None:
    await world.active("other")
    await world.call("PutFunctionConcurrency", FunctionName="other", ReservedConcurrentExecutions=400)
    await world.call("PutFunctionConcurrency", FunctionName="my-fn", ReservedConcurrentExecutions=500)
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.call("PutFunctionConcurrency", FunctionName="my-fn", ReservedConcurrentExecutions=501)
    assert caught.value.message == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
        "below its minimum value of [100]."
    )
    assert (await world.stored()).reserved_concurrency == 500


async def test_of_two_reservations_that_fit_alone_but_not_together_one_is_refused(world: World) -> None:
    await world.active("other")
    results = await asyncio.gather(
        *(
            world.call("PutFunctionConcurrency", FunctionName=name, ReservedConcurrentExecutions=600)
            for name in ("my-fn", "other")
        ),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, Exception) for result in results) == [False, True]


async def test_reservations_are_restored_at_a_start(world: World) -> None:
    await world.store.set_reserved_concurrency("my-fn", 998)
    await concurrency.restore(world.services)
    await world.active("other")
    other = await world.stored("other")
    await world.dispatcher.acquire(other, other.to_run, holder="test", slots=2)
    with pytest.raises(TooManyRequestsException):
        await world.dispatcher.acquire(other, other.to_run, holder="test")


async def test_a_deleted_functions_reservation_ends(world: World) -> None:
    await world.call("PutFunctionConcurrency", FunctionName="my-fn", ReservedConcurrentExecutions=900)
    await world.call("DeleteFunction", FunctionName="my-fn")
    await world.active("other")
    other = await world.stored("other")
    await world.dispatcher.acquire(other, other.to_run, holder="test", slots=1000)


async def test_recursion_is_terminated_unless_allowed(world: World) -> None:
    for loop in ("Allow", "Terminate"):
        put = await world.call("PutFunctionRecursionConfig", FunctionName="my-fn", RecursiveLoop=loop)
        assert put == {"RecursiveLoop": loop}
        assert await world.call("GetFunctionRecursionConfig", FunctionName="my-fn") == put


async def test_recursion_is_terminated_by_default(world: World) -> None:
    answer = await world.call("GetFunctionRecursionConfig", FunctionName="my-fn")
    assert answer == {"RecursiveLoop": "Terminate"}


@pytest.mark.parametrize(("operation", "members"), EVERY)
async def test_a_function_that_is_not_there_is_not_found(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    with pytest.raises(ResourceNotFoundException, match="Function not found: arn:aws:lambda:.*:gone"):
        await world.call(operation, FunctionName="gone", **members)


@pytest.mark.parametrize(("operation", "members"), EVERY)
async def test_a_qualifier_is_refused(world: World, operation: str, members: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterValueException, match="does not take the qualifier live"):
        await world.call(operation, FunctionName="my-fn:live", **members)


@pytest.mark.parametrize(("operation", "members"), EVERY)
async def test_neither_revision_nor_last_modified_moves(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    before = await world.configuration()
    await world.clock.advance(60)
    await world.call(operation, FunctionName="my-fn", **members)
    assert await world.configuration() == before
