"""A function's reserved concurrency, and what becomes of its loops. AWS: PutFunctionConcurrency,
GetFunctionConcurrency, DeleteFunctionConcurrency, GetFunctionRecursionConfig, PutFunctionRecursionConfig."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.handlers.account import carved_in_all
from lambent.gateway.handlers.lookup import existing, missing, reference
from lambent.gateway.services import Call, Services
from lambent.kernel import metrics
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException
from lambent.kernel.models import Function, RecursiveLoop

MIN_UNRESERVED = 100
_PAGE = 100


async def put_function_concurrency(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Acts at once; 0 throttles everything. AWS leaves at least 100 of the account's limit unreserved."""
    function = await _whole(services, members)
    slots: int = members["ReservedConcurrentExecutions"]
    provisioned = sum(function.allocations.values())
    if slots < provisioned:
        raise InvalidParameterValueException(
            f"ReservedConcurrentExecutions {slots} should not be lower than function's total provisioned "
            f"concurrency [{provisioned}]."
        )
    # One at a time: two at once could each see room that both together have not.
    async with services.reserving:
        others = await carved_in_all(services, but=function.name)
        if slots and services.settings.concurrent_executions - others - slots < MIN_UNRESERVED:
            raise InvalidParameterValueException(
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{MIN_UNRESERVED}]."
            )
        await _reserve(services, function, slots)
    return {"ReservedConcurrentExecutions": slots}


async def get_function_concurrency(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Nothing where nothing is reserved."""
    slots = (await _whole(services, members)).reserved_concurrency
    return {} if slots is None else {"ReservedConcurrentExecutions": slots}


async def delete_function_concurrency(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    """Deleting what is not there is fine."""
    await _reserve(services, await _whole(services, members), None)


async def get_function_recursion_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    return {"RecursiveLoop": (await _whole(services, members)).recursive_loop.value}


async def put_function_recursion_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    function = await _whole(services, members)
    loop = RecursiveLoop(members["RecursiveLoop"])
    try:
        await services.store.set_recursive_loop(function.name, loop)
    except ResourceNotFoundException:
        raise missing(services, function.name) from None
    return {"RecursiveLoop": loop.value}


async def restore(services: Services) -> None:
    """Tells the dispatcher of every reservation and allocation: the shared pool is smaller by them whether or
    not the functions run. At start."""
    after: str | None = None
    while rows := await services.store.page(after=after, limit=_PAGE):
        for function in rows:
            if function.carved is not None:
                await services.dispatcher.configure(function)
        after = rows[-1].name


async def _whole(services: Services, members: Mapping[str, Any]) -> Function:
    """The function; these settings are the whole function's and take no qualifier."""
    named = reference(services, members)
    if named.qualifier is not None:
        raise InvalidParameterValueException(
            f"This operation is on the whole function and does not take the qualifier {named.qualifier}. "
            f"Use the function name {named.name}."
        )
    return await existing(services, named.name)


async def _reserve(services: Services, function: Function, slots: int | None) -> None:
    try:
        await services.store.set_reserved_concurrency(function.name, slots)
    except ResourceNotFoundException:
        raise missing(services, function.name) from None
    await services.dispatcher.configure(replace(function, reserved_concurrency=slots))
    metrics.show_reserved(function.name, slots)
