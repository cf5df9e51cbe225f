"""From what a caller named to what is stored, because every operation on a function takes a name, a partial or
a full ARN, and answers alike when there is no such function.
"""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.services import Services
from lambent.kernel.arn import LATEST, FunctionReference, function_arn, parse_function, version_number
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException
from lambent.kernel.models import Function, FunctionVersion


def reference(services: Services, members: Mapping[str, Any]) -> FunctionReference:
    """The function (and qualifier) that FunctionName and Qualifier name."""
    return parse_function(
        members["FunctionName"],
        region=services.settings.region,
        account=services.settings.account_id,
        qualifier=members.get("Qualifier"),
    )


def unqualified(services: Services, members: Mapping[str, Any]) -> str:
    """The name, for operations on the whole function or on $LATEST.

    Raises InvalidParameterValueException for a version or an alias, which these operations can't change.
    """
    named = reference(services, members)
    if named.qualifier not in (None, LATEST):
        raise InvalidParameterValueException(
            f"This operation works on $LATEST only and does not take the qualifier {named.qualifier}. "
            f"Use the function name {named.name}."
        )
    return named.name


def arn_of(services: Services, name: str, qualifier: str | None = None) -> str:
    """The ARN of a function of this account and region."""
    return function_arn(
        region=services.settings.region,
        account=services.settings.account_id,
        name=name,
        qualifier=qualifier,
    )


def missing(services: Services, name: str, qualifier: str | None = None) -> ResourceNotFoundException:
    """AWS's error for a function, or a version or alias of it, that is not there."""
    return ResourceNotFoundException(f"Function not found: {arn_of(services, name, qualifier)}")


async def existing(services: Services, name: str, qualifier: str | None = None) -> Function:
    """The stored function. Raises ResourceNotFoundException, also where a qualifier names no version or alias
    of it."""
    function, _ = await existing_version(services, name, qualifier)
    return function


async def existing_version(
    services: Services, name: str, qualifier: str | None
) -> tuple[Function, FunctionVersion]:
    """The stored function and the version that the qualifier names; an alias: its first one."""
    function = await services.store.get(name)
    if function is None:
        raise missing(services, name, qualifier)
    alias = function.aliases.get(qualifier or "")
    named = alias.function_version if alias is not None else qualifier or LATEST
    if named == LATEST:
        return function, function.latest
    number = version_number(named)
    version = await services.store.get_version(name, number) if number is not None else None
    if version is None or version.uid != function.uid:
        raise missing(services, name, qualifier)
    return function, version
