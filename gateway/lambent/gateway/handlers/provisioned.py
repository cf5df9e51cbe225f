"""Environments that are initialised before they are asked for. AWS: PutProvisionedConcurrencyConfig,
GetProvisionedConcurrencyConfig, ListProvisionedConcurrencyConfigs, DeleteProvisionedConcurrencyConfig.

What is stored is only how many are wanted; who keeps them, and how far that is, is the dispatcher's.
"""

import time
from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers import paging
from lambent.gateway.handlers.account import carved_in_all
from lambent.gateway.handlers.concurrency import MIN_UNRESERVED
from lambent.gateway.handlers.lookup import arn_of, existing, missing, reference
from lambent.gateway.handlers.render import present
from lambent.gateway.services import Call, Services
from lambent.kernel.arn import LATEST, version_number
from lambent.kernel.errors import (
    InvalidParameterValueException,
    ProvisionedConcurrencyConfigNotFoundException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.models import Alias, Function, Provisioned, ProvisionedConfig

_UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
_WEIGHTED = "Alias with weights can not be used with Provisioned Concurrency"


async def put_provisioned_concurrency_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Starts to keep so many environments; 202 while they are started."""
    function, qualifier = await _named(services, members)
    requested: int = members["ProvisionedConcurrentExecutions"]
    await _check_qualifier(services, function, qualifier)
    await _check_snap_start(services, function, qualifier)
    # One at a time: two at once could each see room that both together have not.
    async with services.reserving:
        await _check_room(services, function, qualifier, requested)
        config = ProvisionedConfig(requested, services.clock.now())
        await _store(services, function, qualifier, config)
    return _shown(config, Provisioned(requested, 0, 0, "IN_PROGRESS"))


async def get_provisioned_concurrency_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Raises ProvisionedConcurrencyConfigNotFoundException."""
    function, qualifier = await _named(services, members)
    config = function.provisioned.get(qualifier)
    if config is None:
        raise ProvisionedConcurrencyConfigNotFoundException()
    return _shown(config, (await services.dispatcher.provisioned(function)).get(qualifier))


async def list_provisioned_concurrency_configs(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """By qualifier, at most 50 a page."""
    named = reference(services, members)
    if named.qualifier is not None:
        raise InvalidParameterValueException(
            f"This operation lists all of a function and does not take the qualifier {named.qualifier}. "
            f"Use the function name {named.name}."
        )
    function = await existing(services, named.name)
    size, after = paging.page_size(members), paging.after(members)
    rest = sorted(each for each in function.provisioned if after is None or each > after)
    rows, marker = paging.cut(rest, size, rest)
    far = await services.dispatcher.provisioned(function) if rows else {}
    shown = [
        {
            "FunctionArn": arn_of(services, function.name, row),
            **_shown(function.provisioned[row], far.get(row)),
        }
        for row in rows
    ]
    answer: dict[str, Any] = {"ProvisionedConcurrencyConfigs": shown}
    return answer if marker is None else {**answer, "NextMarker": marker}


async def delete_provisioned_concurrency_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> None:
    """Deleting what is not there is fine."""
    function, qualifier = await _named(services, members)
    if qualifier in function.provisioned:
        await _store(services, function, qualifier, None)


def check_alias(function: Function, alias: Alias) -> None:
    """What an alias with an allocation may become. Raises InvalidParameterValueException,
    ResourceConflictException."""
    if alias.name not in function.provisioned:
        return
    if alias.weights:
        raise InvalidParameterValueException(_WEIGHTED)
    if alias.function_version == LATEST:
        raise InvalidParameterValueException(_UNPUBLISHED)
    if alias.function_version in function.provisioned:
        raise ResourceConflictException(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
        )


async def moved(services: Services, name: str) -> None:
    """An alias or a version of a function has changed or gone: what is kept may be another version's now."""
    function = await services.store.get(name)
    if function is not None:
        await services.dispatcher.configure(function)


async def _named(services: Services, members: Mapping[str, Any]) -> tuple[Function, str]:
    named = reference(services, members)
    if named.qualifier is None:
        raise InvalidParameterValueException("Name the version or the alias: Qualifier is required.")
    function = await existing(services, named.name)
    qualifier = named.qualifier
    if qualifier != LATEST and qualifier not in function.aliases:
        if version_number(qualifier) is None:
            raise ResourceNotFoundException(
                f"Cannot find alias arn: {arn_of(services, function.name, qualifier)}"
            )
        await existing(services, named.name, qualifier)
    return function, qualifier


async def _check_qualifier(services: Services, function: Function, qualifier: str) -> None:
    alias = function.aliases.get(qualifier)
    if qualifier == LATEST or (alias is not None and LATEST in alias.versions):
        raise InvalidParameterValueException(_UNPUBLISHED)
    if alias is None:
        covering = [function.aliases[each] for each in function.provisioned if each in function.aliases]
        if any(qualifier in each.versions for each in covering):
            raise ResourceConflictException("Version is pointed to by a Provisioned Concurrency alias")
        return
    if alias.weights:
        raise InvalidParameterValueException(_WEIGHTED)
    if alias.function_version in function.provisioned:
        raise ResourceConflictException(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
        )


async def _check_snap_start(services: Services, function: Function, qualifier: str) -> None:
    alias = function.aliases.get(qualifier)
    number = qualifier if alias is None else alias.function_version
    version = await services.store.get_version(function.name, int(number))
    if version is not None and version.restores:
        raise InvalidParameterValueException(
            "SnapStart and Provisioned Concurrency cannot be used together: version "
            f"{number} of {function.name} has SnapStart."
        )


async def _check_room(services: Services, function: Function, qualifier: str, requested: int) -> None:
    others = sum(slots for each, slots in function.allocations.items() if each != qualifier)
    if function.reserved_concurrency is not None:
        if others + requested > function.reserved_concurrency:
            raise InvalidParameterValueException(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution "
                "for function"
            )
        return
    free = services.settings.concurrent_executions - await carved_in_all(services, but=function.name) - others
    if requested > free:
        raise InvalidParameterValueException(
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency "
            f"[{max(0, free)}]."
        )
    if free - requested < MIN_UNRESERVED:
        raise InvalidParameterValueException(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{MIN_UNRESERVED}]."
        )


async def _store(
    services: Services, function: Function, qualifier: str, config: ProvisionedConfig | None
) -> None:
    try:
        await services.store.set_provisioned(function.name, qualifier, config)
    except ResourceNotFoundException:
        raise missing(services, function.name) from None
    await moved(services, function.name)


def _shown(config: ProvisionedConfig, far: Provisioned | None) -> dict[str, Any]:
    """AWS: GetProvisionedConcurrencyConfigResponse. Its time is a text, in whole seconds."""
    far = far or Provisioned(config.requested, 0, 0, "IN_PROGRESS")
    at = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(config.last_modified))
    return present(
        {
            "RequestedProvisionedConcurrentExecutions": config.requested,
            "AllocatedProvisionedConcurrentExecutions": far.allocated,
            "AvailableProvisionedConcurrentExecutions": far.available,
            "Status": far.status,
            "StatusReason": far.reason,
            "LastModified": at,
        }
    )
