"""Tags of functions. AWS: TagResource, UntagResource, ListTags.

Tagging moves neither RevisionId nor LastModified. Other resources that AWS tags (event source mappings, code
signing configurations, ...) do not exist here, so their ARNs are not found.
"""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers.lookup import existing, missing
from lambent.gateway.handlers.validation import checked_tags
from lambent.gateway.services import Call, Services
from lambent.kernel.arn import parse_function
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException


async def tag_resource(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    """Adds or overwrites tags."""
    name = _function_name(services, members["Resource"])
    tags = checked_tags(members["Tags"])
    if not tags:
        raise InvalidParameterValueException("Tags must have at least one key.")
    await _set(services, name, add=tags, remove=())


async def untag_resource(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    """Removes tags; keys that are not there are ignored."""
    name = _function_name(services, members["Resource"])
    keys = tuple(members["TagKeys"])
    if not keys:
        raise InvalidParameterValueException("TagKeys must have at least one key.")
    await _set(services, name, add={}, remove=keys)


async def list_tags(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """All tags, an empty map if there are none."""
    function = await existing(services, _function_name(services, members["Resource"]))
    return {"Tags": dict(function.tags)}


async def _set(services: Services, name: str, *, add: Mapping[str, str], remove: tuple[str, ...]) -> None:
    try:
        await services.store.set_tags(name, add=add, remove=remove)
    except ResourceNotFoundException:
        raise missing(services, name) from None


def _function_name(services: Services, arn: str) -> str:
    """The name in an unqualified function ARN; all else is refused or not found."""
    parts = arn.split(":")
    if len(parts) < 7 or parts[0] != "arn" or parts[2] != "lambda":
        raise InvalidParameterValueException(f"{arn} is not the ARN of a resource that can have tags.")
    if parts[5] != "function":
        raise ResourceNotFoundException("The resource you requested does not exist.")
    named = parse_function(arn, region=services.settings.region, account=services.settings.account_id)
    if named.qualifier is not None:
        raise InvalidParameterValueException(
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
    return named.name
