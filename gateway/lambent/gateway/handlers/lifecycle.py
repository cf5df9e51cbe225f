"""The state machine of a function: from Pending to Active and from InProgress to Successful, because a function
is ready only when its code is unpacked, and that happens after the answer has gone out.

Every step is a compare-and-set on the revision that it started from. So a background task never overwrites a
later change and never brings a deleted function back; and whatever was under way when the server died is
taken up again by `resume`. AWS: "Lambda function states".
"""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from lambent.gateway.handlers.lookup import arn_of, missing
from lambent.gateway.services import Services
from lambent.kernel.arn import LATEST
from lambent.kernel.errors import (
    ImageAccessDenied,
    ImageDeleted,
    InvalidImage,
    InvalidRuntimeException,
    InvalidZipFileException,
    LambdaError,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
    SnapStartException,
    SnapStartTimeoutException,
)
from lambent.kernel.log import Log
from lambent.kernel.models import Function, FunctionVersion, State, UpdateStatus

CREATING_REASON = "The function is being created."
CREATING_CODE = "Creating"

# AWS's StateReasonCode by what went wrong in preparing; everything else is InternalError.
_REASON_CODES: tuple[tuple[type[LambdaError], str], ...] = (
    (InvalidZipFileException, "InvalidZipFileException"),
    (InvalidRuntimeException, "InvalidRuntime"),
    (ImageDeleted, "ImageDeleted"),
    (ImageAccessDenied, "ImageAccessDenied"),
    (InvalidImage, "InvalidImage"),
    (SnapStartTimeoutException, "FunctionError.InitTimeout"),
    (SnapStartException, "FunctionError.RuntimeInitError"),
)
_STORE_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_PAGE = 100
_T = TypeVar("_T")
_log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a function could not be prepared, in AWS's two members."""

    reason: str
    code: str


def new_revision() -> str:
    """A RevisionId."""
    return str(uuid.uuid4())


def unsettled(version: FunctionVersion) -> bool:
    """Whether a background task still has to finish this version."""
    return version.state is State.PENDING or version.last_update_status is UpdateStatus.IN_PROGRESS


def check_changeable(services: Services, latest: FunctionVersion, revision: str | None) -> None:
    """Raises ResourceConflictException while the function is created or updated, then
    PreconditionFailedException if the caller's own RevisionId (`revision`) is not the stored one."""
    if latest.state is State.PENDING:
        raise ResourceConflictException(
            "The operation cannot be performed at this time. The function is currently in the following state: "
            "Pending"
        )
    if latest.last_update_status is UpdateStatus.IN_PROGRESS:
        raise _busy(services, latest.name)
    if revision is not None and revision != latest.revision_id:
        raise PreconditionFailedException()


def _busy(services: Services, name: str) -> ResourceConflictException:
    return ResourceConflictException(
        "The operation cannot be performed at this time. An update is in progress for resource: "
        f"{arn_of(services, name)}"
    )


async def create(services: Services, function: Function, *, publish: bool = False) -> FunctionVersion:
    """Stores a Pending function, with `publish` and its version 1, and starts what makes them Active; what was
    made. Raises ResourceConflictException."""
    version = snapshot(services, function, ready=False) if publish else None
    try:
        await _commit(services, function, services.store.create(function, publish=version))
    except ResourceConflictException:
        raise already_exists(function.name) from None
    return version or function.latest


def already_exists(name: str) -> ResourceConflictException:
    """AWS's text for a name that is taken."""
    return ResourceConflictException(f"Function already exist: {name}")


async def update(
    services: Services, function: Function, changed: FunctionVersion, *, publish: bool = False
) -> FunctionVersion:
    """Stores `changed` as the version in progress, while what ran before goes on serving; what was stored. With
    `publish` and a new version in the same step, and it is answered.

    Raises ResourceConflictException when another update came first: of two at once exactly one wins.
    """
    before = function.latest
    latest = replace(
        changed,
        generation=before.generation + (_what_runs(changed) != _what_runs(before)),
        revision_id=new_revision(),
        last_modified=services.clock.now(),
        last_update_status=UpdateStatus.IN_PROGRESS,
        last_update_status_reason=CREATING_REASON,
        last_update_status_reason_code=CREATING_CODE,
    )
    updated = replace(function, latest=latest, serving=function.to_run)
    version = snapshot(services, updated, ready=False) if publish else None
    try:
        await _commit(
            services,
            updated,
            services.store.replace(updated, expect_revision=before.revision_id, publish=version),
        )
    except PreconditionFailedException:
        # The caller's own RevisionId was right when it was checked: it lost to another update, not to itself.
        raise _busy(services, function.name) from None
    except ResourceNotFoundException:
        raise missing(services, function.name) from None
    return version or latest


def snapshot(
    services: Services, function: Function, *, ready: bool, description: str | None = None
) -> FunctionVersion:
    """$LATEST as the next published version. `ready`: its code is prepared; else it becomes Active together
    with $LATEST."""
    latest = function.latest
    version = replace(
        latest,
        version=str(function.last_version + 1),
        revision_id=new_revision(),
        last_modified=services.clock.now(),
        description=latest.description if description is None else description,
        last_update_status=UpdateStatus.SUCCESSFUL if ready else None,
        last_update_status_reason=None,
        last_update_status_reason_code=None,
    )
    if ready:
        return replace(version, state=State.ACTIVE, state_reason=None, state_reason_code=None)
    return replace(version, state=State.PENDING, state_reason=CREATING_REASON, state_reason_code=CREATING_CODE)


def differs(one: FunctionVersion, other: FunctionVersion) -> bool:
    """Whether code or configuration differ, leaving their descriptions aside."""
    beside = one.dead_letter, one.tracing
    return _what_runs(one) != _what_runs(other) or beside != (other.dead_letter, other.tracing)


def _what_runs(version: FunctionVersion) -> tuple[object, ...]:
    """All that an environment is started from; a change of it needs new environments."""
    return (
        version.archive.digest,
        version.runtime,
        version.handler,
        version.role,
        version.timeout,
        version.memory_size,
        version.ephemeral_storage,
        version.file_systems,
        version.architectures,
        dict(version.environment or {}),
        version.layers,
        version.logging,
        version.snap_start,
        version.image,
    )


async def _commit(services: Services, function: Function, write: Awaitable[object]) -> None:
    """Writes, and starts the task that settles what was written."""
    try:
        await write
    except (ResourceConflictException, PreconditionFailedException, ResourceNotFoundException):
        raise  # certainly not written
    except BaseException:
        # The answer got lost (a broken connection, a caller gone), the write perhaps not: without a task the
        # function would stay Pending until the next start. The task looks and ends if nothing was written.
        settle(services, function)
        raise
    settle(services, function)


def settle(services: Services, function: Function) -> asyncio.Task[None]:
    """Starts the task that prepares a function's latest version and then says so in its state."""
    latest = function.latest
    return services.tasks.once(
        f"prepare {function.name} {latest.generation}",
        _settle(services, function.name, latest.revision_id),
    )


def settle_published(services: Services, version: FunctionVersion) -> asyncio.Task[None]:
    """Starts the task that has the snapshot of a published version made, and then says so in its state."""
    return services.tasks.once(
        f"prepare {version.name} {version.version}", _settle_published(services, version.name, version)
    )


async def resume(services: Services, *, older_than: float = 0.0) -> int:
    """Takes up every creation and update that the last stop of the server cut off; how many. At start; while
    others serve, only what is `older_than` so many seconds, for it may be under way."""
    before = services.clock.now() - older_than
    resumed, after = 0, None
    while rows := await services.store.page(after=after, limit=_PAGE):
        for function in rows:
            if unsettled(function.latest) and function.latest.last_modified <= before:
                settle(services, function)
                resumed += 1
            for version in await _unsettled_published(services, function):
                if version.last_modified <= before:
                    settle_published(services, version)
                    resumed += 1
        after = rows[-1].name
    return resumed


async def _settle(services: Services, name: str, revision: str) -> None:
    found = await _patiently(services, name, lambda: services.store.get(name))
    if found is None or found.latest.revision_id != revision:
        return  # never written, deleted, or created again under this name: another task's work
    function = found
    update = function.serving is not None
    failure = await _prepare(services, function.latest)
    if function.last_version:
        # First, so that whoever waits for $LATEST may run the version.
        await _patiently(services, name, lambda: _settle_version(services, function, failure))
    if failure is None and function.serving is not None:
        stored = function
        function = await _patiently(services, name, lambda: _switch(services, stored, revision))
    done = new_revision()
    written = await _patiently(
        services, name, lambda: _write_outcome(services, name, revision, settled(function, failure, done))
    )
    if written and failure is None and update:
        await _stop_old(services, function)


async def _prepare(services: Services, target: FunctionVersion) -> Failure | None:
    """What went wrong, if anything."""
    try:
        await services.host.prepare(target)
    except LambdaError as error:
        _log.warning(
            "A function could not be prepared.",
            function=target.name,
            version=target.version,
            error=error.code,
            why=error.message,
        )
        return Failure(error.message, _reason_code(error))
    except Exception as error:
        _log.error("Preparing a function failed unexpectedly.", exc_info=error, function=target.name)
        return Failure(
            "The code could not be prepared. Look in the server's log, then update the code.", "InternalError"
        )
    return None


async def _unsettled_published(services: Services, function: Function) -> list[FunctionVersion]:
    """Versions whose snapshot is to be made yet."""
    found: list[FunctionVersion] = []
    if unsettled(function.latest) or not function.last_version:
        return found  # what was published with $LATEST is settled with it
    # Only while SnapStart is on can there be more than the last one.
    after = 0 if function.latest.snap_start is not None else function.last_version - 1
    while rows := await services.store.versions(function.name, after=after, limit=_PAGE):
        found += [row for row in rows if row.restores and row.state is State.PENDING]
        after = int(rows[-1].version)
    return found


async def _settle_published(services: Services, name: str, version: FunctionVersion) -> None:
    number = int(version.version)
    found = await _patiently(services, name, lambda: services.store.get_version(name, number))
    if found is None or found.revision_id != version.revision_id:
        return  # deleted, or settled by another task
    outcome = _settled(found, await _prepare(services, found), new_revision())
    await _patiently(
        services,
        name,
        lambda: services.store.replace_version(outcome, expect_revision=version.revision_id),
    )


async def _switch(services: Services, function: Function, revision: str) -> Function:
    """What was prepared runs from now on, and what ran before starts nowhere any more: only then may the update
    be called successful. Raises ServiceException: that is not certain yet."""
    switched = replace(function, serving=None)
    try:
        await services.store.replace(switched, expect_revision=revision)
    except (PreconditionFailedException, ResourceNotFoundException):
        return function  # deleted in this moment, which the next step finds
    await services.dispatcher.supersede(switched)
    return switched


async def _settle_version(services: Services, function: Function, failure: Failure | None) -> None:
    """Ends the Pending of the version that was published together with what was prepared. While $LATEST is
    prepared nothing else can be published, so it is the last one."""
    version = await services.store.get_version(function.name, function.last_version)
    if version is not None and version.uid == function.uid and version.state is State.PENDING:
        if version.restores and failure is None:
            settle_published(services, version)  # it takes as long as an init, and $LATEST need not wait
            return
        settled_version = _settled(version, failure, new_revision())
        await services.store.replace_version(settled_version, expect_revision=version.revision_id)


def _reason_code(error: LambdaError) -> str:
    return next((code for kind, code in _REASON_CODES if isinstance(error, kind)), "InternalError")


async def _patiently(services: Services, name: str, step: Callable[[], Awaitable[_T]]) -> _T:
    """Repeats `step` while the store does not answer: giving up would leave the function Pending for good."""
    for pause in itertools.chain(_STORE_RETRY_SECONDS, itertools.repeat(_STORE_RETRY_SECONDS[-1])):
        try:
            return await step()
        except ServiceException as error:
            _log.warning(
                "The function store does not answer; trying again.",
                function=name,
                seconds=pause,
                why=error.message,
            )
            await services.clock.sleep(pause)
    raise AssertionError("itertools.repeat ended")


async def _write_outcome(services: Services, name: str, revision: str, outcome: Function) -> bool:
    """Writes the outcome if the function is still the one that was prepared; whether it stands there now."""
    # When the answer to an earlier attempt got lost, the outcome may be there already.
    stored = await services.store.get(name)
    if stored is None:
        return False
    if stored.latest.revision_id != revision:
        return stored.latest.revision_id == outcome.latest.revision_id
    try:
        await services.store.replace(outcome, expect_revision=revision)
    except (PreconditionFailedException, ResourceNotFoundException):
        return False  # deleted in this moment
    return True


def settled(function: Function, failure: Failure | None, revision: str) -> Function:
    """The function once its latest version is prepared, or could not be; `revision` is its new RevisionId.

    A failed creation is State Failed; after a failed update what ran before stays and keeps serving.
    """
    latest = _settled(function.latest, failure, revision)
    return replace(function, latest=latest, serving=None if failure is None else function.serving)


def _settled(version: FunctionVersion, failure: Failure | None, revision: str) -> FunctionVersion:
    done = replace(
        version,
        revision_id=revision,
        last_update_status=UpdateStatus.FAILED if failure else UpdateStatus.SUCCESSFUL,
        last_update_status_reason=failure.reason if failure else None,
        last_update_status_reason_code=failure.code if failure else None,
    )
    if failure is None:
        return replace(done, state=State.ACTIVE, state_reason=None, state_reason_code=None)
    if done.state is not State.PENDING:
        return done
    return replace(done, state=State.FAILED, state_reason=failure.reason, state_reason_code=failure.code)


async def _stop_old(services: Services, function: Function) -> None:
    """Ends the environments of what ran before an update."""
    try:
        await services.host.stop_function(function.uid, version=LATEST, keep=function.latest.key)
    except LambdaError as error:
        # They get no new invocations, since nothing leads to their key any more, and end when idle.
        _log.warning("Old environments were not stopped.", function=function.name, why=error.message)
