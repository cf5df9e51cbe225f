"""Aliases: names for versions, which callers use while what they stand for changes. AWS: CreateAlias, GetAlias,
ListAliases, UpdateAlias, DeleteAlias.

Every change is a compare-and-set on the alias's own RevisionId, and the store looks in the same step whether
the versions exist: an alias never names one that is gone.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.handlers import paging
from lambent.gateway.handlers.lifecycle import new_revision
from lambent.gateway.handlers.lookup import arn_of, existing, missing, unqualified
from lambent.gateway.handlers.provisioned import check_alias as check_provisioned
from lambent.gateway.handlers.provisioned import moved
from lambent.gateway.handlers.render import present
from lambent.gateway.services import Call, Services
from lambent.kernel.arn import LATEST, version_number
from lambent.kernel.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.models import Alias, Function


async def create_alias(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises ResourceConflictException for a name that is taken."""
    function = await existing(services, unqualified(services, members))
    alias = Alias(
        name=members["Name"],
        function_version=members["FunctionVersion"],
        revision_id=new_revision(),
        description=members.get("Description") or "",
        weights=_weights(members) or {},
    )
    await _check(services, function, alias)
    try:
        if alias.name in function.aliases:
            raise PreconditionFailedException()
        await _put(services, function, alias, expect=None)
    except PreconditionFailedException:
        raise ResourceConflictException(
            f"Alias already exists: {arn_of(services, function.name, alias.name)}"
        ) from None
    return _shown(services, function.name, alias)


async def get_alias(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    function, alias = await _existing(services, members)
    return _shown(services, function.name, alias)


async def list_aliases(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """By name, at most 50 a page; with FunctionVersion only those that may run it."""
    function = await existing(services, unqualified(services, members))
    version, size, after = members.get("FunctionVersion"), paging.page_size(members), paging.after(members)
    rest = [
        alias
        for name, alias in sorted(function.aliases.items())
        if (after is None or name > after) and (version is None or version in alias.versions)
    ]
    rows, marker = paging.cut(rest, size, [alias.name for alias in rest])
    answer: dict[str, Any] = {"Aliases": [_shown(services, function.name, row) for row in rows]}
    return answer if marker is None else {**answer, "NextMarker": marker}


async def update_alias(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Changes what is given; an empty RoutingConfig ends the weights."""
    while True:
        function, before = await _existing(services, members)
        if members.get("RevisionId") not in (None, before.revision_id):
            raise PreconditionFailedException()
        changes = {
            ours: members[theirs]
            for theirs, ours in (("FunctionVersion", "function_version"), ("Description", "description"))
            if members.get(theirs) is not None
        }
        weights = _weights(members)
        if weights is not None:
            changes["weights"] = weights
        alias = replace(before, revision_id=new_revision(), **changes)
        await _check(services, function, alias)
        check_provisioned(function, alias)
        try:
            await _put(services, function, alias, expect=before.revision_id)
        except PreconditionFailedException:
            continue  # another change came first: this one is made on top of it, if its RevisionId lets it
        if alias.name in function.provisioned:
            await moved(services, function.name)
        return _shown(services, function.name, alias)


async def delete_alias(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    """Deleting what is not there is fine."""
    function = await existing(services, unqualified(services, members))
    await services.store.delete_alias(function.name, members["Name"])
    if members["Name"] in function.provisioned:
        await moved(services, function.name)


async def _existing(services: Services, members: Mapping[str, Any]) -> tuple[Function, Alias]:
    function = await existing(services, unqualified(services, members))
    alias = function.aliases.get(members["Name"])
    if alias is None:
        raise ResourceNotFoundException(
            f"Cannot find alias arn: {arn_of(services, function.name, members['Name'])}"
        )
    return function, alias


def _weights(members: Mapping[str, Any]) -> Mapping[str, float] | None:
    """None: nothing is said of them."""
    routing = members.get("RoutingConfig")
    if routing is None:
        return None
    weights: Mapping[str, float] = routing.get("AdditionalVersionWeights") or {}
    if len(weights) > 1:
        raise InvalidParameterValueException(
            "Number of items in AdditionalVersionWeights cannot be greater than 1"
        )
    return dict(weights)


async def _check(services: Services, function: Function, alias: Alias) -> None:
    """Raises InvalidParameterValueException for two versions that cannot share an alias, and
    ResourceNotFoundException for one that is not there."""
    additional = next(iter(alias.weights), None)
    if additional is not None:
        if LATEST in alias.versions:
            raise InvalidParameterValueException(
                "$LATEST is not supported for an alias pointing to more than 1 version"
            )
        if additional == alias.function_version:
            raise InvalidParameterValueException(
                f"Invalid function version {additional}. Function version {additional} is already included in "
                "routing configuration."
            )
    found = []
    for version in alias.versions:
        if version == LATEST:
            continue
        number = version_number(version)
        stored = await services.store.get_version(function.name, number) if number is not None else None
        if stored is None or stored.uid != function.uid:
            raise missing(services, function.name, version)
        found.append(stored)
    if len({(version.role, version.dead_letter) for version in found}) > 1:
        raise InvalidParameterValueException(
            "The versions of an alias must have the same execution role and the same dead-letter queue "
            f"configuration: {' and '.join(alias.versions)} have not."
        )


async def _put(services: Services, function: Function, alias: Alias, *, expect: str | None) -> None:
    try:
        gone = await services.store.put_alias(function, alias, expect_revision=expect)
    except ResourceNotFoundException:
        raise missing(services, function.name) from None
    if gone:
        raise missing(services, function.name, gone)


def _shown(services: Services, name: str, alias: Alias) -> dict[str, Any]:
    """AWS: AliasConfiguration."""
    return present(
        {
            "AliasArn": arn_of(services, name, alias.name),
            "Name": alias.name,
            "FunctionVersion": alias.function_version,
            "Description": alias.description,
            "RoutingConfig": {"AdditionalVersionWeights": dict(alias.weights)} if alias.weights else None,
            "RevisionId": alias.revision_id,
        }
    )
