"""How a function's asynchronous events are tried again, and where their outcomes go. AWS:
PutFunctionEventInvokeConfig, UpdateFunctionEventInvokeConfig, GetFunctionEventInvokeConfig,
ListFunctionEventInvokeConfigs, DeleteFunctionEventInvokeConfig.

A destination that this server could not reach is refused when it is named, not when an event is lost to it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.handlers import paging
from lambent.gateway.handlers.lookup import arn_of, existing, missing, reference
from lambent.gateway.services import Call, Services
from lambent.kernel.arn import LATEST
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException
from lambent.kernel.models import EventInvokeConfig
from lambent.kernel.targets import TargetKind, parse_target

_SETTINGS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


async def put_function_event_invoke_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Replaces the whole configuration; what is not given has AWS's default."""
    return await _change(services, members, lambda before: EventInvokeConfig(last_modified=0.0))


async def update_function_event_invoke_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Changes what is given. Raises ResourceNotFoundException where there is no configuration yet."""
    name, qualifier = await _function(services, members)

    def stored(before: EventInvokeConfig | None) -> EventInvokeConfig:
        if before is None:
            raise _none(services, name, qualifier)
        return before

    return await _change(services, members, stored)


async def get_function_event_invoke_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    name, qualifier = await _function(services, members)
    config = (await existing(services, name)).event_invoke.get(qualifier)
    if config is None:
        raise _none(services, name, qualifier)
    return _shown(services, name, qualifier, config)


async def list_function_event_invoke_configs(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """By qualifier, at most 50 a page."""
    name, _ = await _function(services, members)
    size, after = paging.page_size(members), paging.after(members)
    configs = (await existing(services, name)).event_invoke
    keys = {qualifier: qualifier.replace(LATEST, "0") for qualifier in configs}  # a marker has no "$"
    rest = sorted((each for each in configs if after is None or keys[each] > after), key=keys.__getitem__)
    rows, marker = paging.cut(rest, size, [keys[qualifier] for qualifier in rest])
    answer: dict[str, Any] = {
        "FunctionEventInvokeConfigs": [_shown(services, name, row, configs[row]) for row in rows]
    }
    return answer if marker is None else {**answer, "NextMarker": marker}


async def delete_function_event_invoke_config(
    services: Services, call: Call, members: Mapping[str, Any]
) -> None:
    name, qualifier = await _function(services, members)

    def removed(before: EventInvokeConfig | None) -> None:
        if before is None:
            raise _none(services, name, qualifier)

    await _set(services, name, qualifier, removed)


async def _function(services: Services, members: Mapping[str, Any]) -> tuple[str, str]:
    """(name, qualifier) of a function that exists; the configuration of no qualifier is that of $LATEST."""
    named = reference(services, members)
    await existing(services, named.name, named.qualifier)
    return named.name, named.qualifier or LATEST


async def _change(services: Services, members: Mapping[str, Any], base: Any) -> Mapping[str, Any]:
    name, qualifier = await _function(services, members)
    if all(members.get(setting) is None for setting in _SETTINGS):
        raise InvalidParameterValueException(
            "You must specify at least one of error handling or destination setting."
        )
    changes = _changes(services, name, members)

    def changed(before: EventInvokeConfig | None) -> EventInvokeConfig:
        config: EventInvokeConfig = base(before)
        return replace(config, last_modified=services.clock.now(), **changes)

    made = await _set(services, name, qualifier, changed)
    assert made is not None
    return _shown(services, name, qualifier, made)


async def _set(services: Services, name: str, qualifier: str, change: Any) -> EventInvokeConfig | None:
    try:
        return await services.store.set_event_invoke(name, qualifier, change)
    except ResourceNotFoundException as failure:
        # Deleted in this moment; the other one says that there is no configuration.
        raise failure if "EventInvokeConfig" in failure.message else missing(services, name) from None


def _changes(services: Services, name: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of EventInvokeConfig for the members that are given. An empty Destination clears one."""
    changes: dict[str, Any] = {}
    for theirs, ours in (
        ("MaximumRetryAttempts", "maximum_retry_attempts"),
        ("MaximumEventAgeInSeconds", "maximum_event_age"),
    ):
        if members.get(theirs) is not None:
            changes[ours] = members[theirs]
    destinations = members.get("DestinationConfig") or {}
    for theirs, ours in (("OnSuccess", "on_success"), ("OnFailure", "on_failure")):
        if destinations.get(theirs) is not None:
            arn = destinations[theirs].get("Destination") or None
            if arn is not None:
                check_destination(services, name, arn, on_success=theirs == "OnSuccess")
            changes[ours] = arn
    return changes


def check_destination(services: Services, name: str, arn: str, *, on_success: bool) -> None:
    """Raises InvalidParameterValueException for what can't be a destination, or not be reached from here."""
    target = parse_target(arn)
    if target is None or target.fifo or (on_success and target.kind is TargetKind.S3):
        raise InvalidParameterValueException(f"The destination ARN {arn} is invalid.")
    if target.kind is TargetKind.LAMBDA and target.name == name:
        raise InvalidParameterValueException("You can't specify the function as a destination for itself.")
    problem = services.target_problem(target)
    if problem is not None:
        raise InvalidParameterValueException(f"The destination {arn} can't be reached from here: {problem}")


def _none(services: Services, name: str, qualifier: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(
        f"The function {arn_of(services, name, qualifier)} doesn't have an EventInvokeConfig"
    )


def _shown(services: Services, name: str, qualifier: str, config: EventInvokeConfig) -> dict[str, Any]:
    """AWS: FunctionEventInvokeConfig; numbers that are not set are left out, destinations are empty."""
    shape: dict[str, Any] = {
        "LastModified": config.last_modified,
        "FunctionArn": arn_of(services, name, qualifier),
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success} if config.on_success else {},
            "OnFailure": {"Destination": config.on_failure} if config.on_failure else {},
        },
    }
    if config.maximum_retry_attempts is not None:
        shape["MaximumRetryAttempts"] = config.maximum_retry_attempts
    if config.maximum_event_age is not None:
        shape["MaximumEventAgeInSeconds"] = config.maximum_event_age
    return shape
