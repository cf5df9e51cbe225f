"""Published versions: snapshots of $LATEST's code and configuration that never change. AWS: PublishVersion,
ListVersionsByFunction, ListFunctions with FunctionVersion ALL, DeleteFunction with a version.
"""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers import lifecycle, paging
from lambent.gateway.handlers.archives import check_storage
from lambent.gateway.handlers.lookup import arn_of, existing, missing, unqualified
from lambent.gateway.handlers.provisioned import moved
from lambent.gateway.handlers.render import configuration, listed
from lambent.gateway.services import Call, Services
from lambent.kernel.arn import LATEST, version_number
from lambent.kernel.errors import (
    InvalidParameterValueException,
    LambdaError,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambent.kernel.log import Log
from lambent.kernel.models import Function, FunctionVersion, State, UpdateStatus

_log = Log(__name__)


async def publish_version(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """The new version, or the last one if nothing has changed since; it is Active at once, for $LATEST's
    code is prepared, but for SnapStart: then it is Pending until its snapshot is there."""
    name = unqualified(services, members)
    while True:
        function = await existing(services, name)
        _check(services, function, members)
        version = await published_already(services, function) or await _publish(services, function, members)
        if version is not None:
            return configuration(services.settings, version, qualifier=version.version)
        # Another change came first: look again at what there is now.


async def _publish(
    services: Services, function: Function, members: Mapping[str, Any]
) -> FunctionVersion | None:
    await check_storage(services, function.latest.archive.size)
    snap_start, description = function.latest.snap_start is not None, members.get("Description")
    version = lifecycle.snapshot(services, function, ready=not snap_start, description=description)
    try:
        await services.store.replace(function, expect_revision=function.latest.revision_id, publish=version)
    except PreconditionFailedException:
        return None
    except ResourceNotFoundException:
        raise missing(services, function.name) from None
    if version.restores:
        lifecycle.settle_published(services, version)
    return version


def _check(services: Services, function: Function, members: Mapping[str, Any]) -> None:
    latest, code = function.latest, members.get("CodeSha256")
    lifecycle.check_changeable(services, latest, members.get("RevisionId"))
    if code and code != latest.archive.sha256:
        raise InvalidParameterValueException(
            f"CodeSHA256 ({code}) is different from current CodeSHA256 in $LATEST ({latest.archive.sha256}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )
    if latest.state is not State.ACTIVE:
        raise ResourceConflictException(
            "The operation cannot be performed at this time. The function is currently in the following state: "
            f"{latest.state}"
        )
    if latest.last_update_status is UpdateStatus.FAILED:
        raise ResourceConflictException(
            "The operation cannot be performed at this time. The last update failed for resource: "
            f"{arn_of(services, function.name)}. Update its code or configuration again."
        )


async def published_already(services: Services, function: Function) -> FunctionVersion | None:
    """The last published version, if $LATEST's code and configuration are still its own."""
    if not function.last_version or function.latest.description != function.last_description:
        return None
    last = await services.store.get_version(function.name, function.last_version)
    if last is None or last.uid != function.uid or lifecycle.differs(last, function.latest):
        return None
    # One that could not be prepared is no reason not to try again.
    return None if last.state is State.FAILED else last


async def list_versions_by_function(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """$LATEST, then by number, at most 50 a page."""
    function = await existing(services, unqualified(services, members))
    size, after = paging.page_size(members), paging.after(members)
    if after is not None and not after.isdigit():
        raise paging.invalid_marker(members["Marker"])
    rows = await _rows(services, function, None if after is None else int(after), size + 1)
    page, marker = paging.cut(rows, size, [_number(row) for row in rows])
    answer: dict[str, Any] = {
        "Versions": [listed(services.settings, row, qualifier=row.version) for row in page]
    }
    return answer if marker is None else {**answer, "NextMarker": marker}


async def list_all(services: Services, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every version of every function: by name, $LATEST first, then by number."""
    size, after = paging.page_size(members), paging.after(members)
    rows: list[FunctionVersion] = []
    name: str | None = None
    if after is not None:
        name, _, number = after.partition(":")
        function = await services.store.get(name)
        if function is not None and number:
            rows += await _rows(services, function, int(number), size + 1)
    while len(rows) <= size and (functions := await services.store.page(after=name, limit=size)):
        for function in functions:
            if len(rows) <= size:
                rows += await _rows(services, function, None, size + 1 - len(rows))
        name = functions[-1].name
    page, marker = paging.cut(rows, size, [f"{row.name}:{_number(row)}" for row in rows])
    answer: dict[str, Any] = {
        "Functions": [listed(services.settings, row, qualifier=row.version) for row in page]
    }
    return answer if marker is None else {**answer, "NextMarker": marker}


async def _rows(services: Services, function: Function, after: int | None, limit: int) -> list[FunctionVersion]:
    """At most `limit` versions after a number, from $LATEST (0) on."""
    first = [function.latest] if after is None else []
    if not function.last_version or limit <= len(first):
        return first
    return first + list(
        await services.store.versions(function.name, after=after or 0, limit=limit - len(first))
    )


def _number(version: FunctionVersion) -> str:
    """In a marker, which has no "$"."""
    return "0" if version.version == LATEST else version.version


async def delete_version(services: Services, function: Function, qualifier: str) -> None:
    """A version that is not there: deleting it again is fine. What runs of it ends first."""
    if qualifier in function.aliases or not qualifier.isdigit():
        raise InvalidParameterValueException("Deletion of aliases is not currently supported.")
    number = version_number(qualifier)
    if number is None:
        return
    aliases = await services.store.delete_version(function, number)
    if aliases:
        raise ResourceConflictException(
            f"Unable to delete version because the following aliases reference it: [{', '.join(aliases)}]"
        )
    if qualifier in function.provisioned:
        await moved(services, function.name)
    try:
        await services.host.stop_function(function.uid, version=qualifier)
    except LambdaError as error:
        # They get no new invocations and end when idle.
        _log.warning("A deleted version was not stopped.", function=function.name, why=error.message)
