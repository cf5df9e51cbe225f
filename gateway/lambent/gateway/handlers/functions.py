"""Functions as a whole: create, read, list, delete.

AWS: CreateFunction, GetFunction, ListFunctions, DeleteFunction.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.fields import this_architecture
from lambent.gateway.handlers import images, lifecycle, paging
from lambent.gateway.handlers.archives import (
    check_unzipped,
    inspected,
    keep,
    read_source,
    resolve_layers,
)
from lambent.gateway.handlers.lookup import existing, existing_version, missing, reference, unqualified
from lambent.gateway.handlers.render import configuration, listed
from lambent.gateway.handlers.runtimes import accept_runtime
from lambent.gateway.handlers.validation import (
    check_handler,
    check_name,
    check_snap_start,
    checked_tags,
    dead_letter_target,
    environment_variables,
    file_systems,
    logging_config,
    snap_start,
    tracing_mode,
)
from lambent.gateway.handlers.versions import delete_version, list_all
from lambent.gateway.services import Call, Services
from lambent.kernel import metrics
from lambent.kernel.arn import LATEST
from lambent.kernel.errors import InvalidParameterValueException, LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Archive, Function, FunctionVersion, LayerUse, LoggingConfig, State

_log = Log(__name__)


async def create_function(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answers with State Pending; a background task makes it Active. With Publish the answer is version 1.
    AWS: CreateFunction."""
    name = unqualified(services, members)
    check_name(name)
    of_image = images.check(members)
    if not of_image:
        _check_runtime(services, call, members)
    variables = environment_variables(members.get("Environment") or {})
    tags = checked_tags(members.get("Tags") or {})
    logs = logging_config(members.get("LoggingConfig") or {}, LoggingConfig(log_group=f"/aws/lambda/{name}"))
    # Before any upload is read; that the name is still free at the end, only the store can say.
    if await services.store.get(name) is not None:
        raise lifecycle.already_exists(name)
    layers = await resolve_layers(services, members.get("Layers") or ())
    publish, image = bool(members.get("Publish")), None
    if of_image:
        image, archive = await images.resolved(services, members["Code"]["ImageUri"])
        image = images.configured(image, members.get("ImageConfig") or {})
    else:
        data = await read_source(services, members["Code"], what="function")
        archive = await inspected(services, data)
        check_unzipped(archive, layers)
        await keep(services, data, archive, published=publish)
    latest = replace(_first_version(services, name, members, archive, layers, variables, logs), image=image)
    check_snap_start(latest)
    function = Function(name=name, uid=latest.uid, latest=latest, tags=tags)
    made = await lifecycle.create(services, function, publish=publish)
    return configuration(services.settings, made, qualifier=made.version if publish else None)


def _check_runtime(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    if not members.get("Runtime") or not members.get("Handler"):
        raise InvalidParameterValueException(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    check_handler(members["Handler"])
    accept_runtime(services, call, members["Runtime"])


def _first_version(
    services: Services,
    name: str,
    members: Mapping[str, Any],
    archive: Archive,
    layers: tuple[LayerUse, ...],
    variables: Mapping[str, str] | None,
    logs: LoggingConfig,
) -> FunctionVersion:
    """$LATEST as it is stored first, with AWS's defaults."""
    return FunctionVersion(
        name=name,
        uid=uuid.uuid4().hex,
        version=LATEST,
        generation=1,
        revision_id=lifecycle.new_revision(),
        runtime=members.get("Runtime") or "",
        handler=members.get("Handler") or "",
        role=members["Role"],
        archive=archive,
        last_modified=services.clock.now(),
        description=members.get("Description") or "",
        timeout=members.get("Timeout") or 3,
        memory_size=members.get("MemorySize") or 128,
        ephemeral_storage=(members.get("EphemeralStorage") or {}).get("Size") or 512,
        architectures=tuple(members.get("Architectures") or (this_architecture(),)),
        environment=variables,
        layers=layers,
        logging=logs,
        dead_letter=dead_letter_target(services, members.get("DeadLetterConfig") or {}),
        tracing=tracing_mode(members.get("TracingConfig") or {}),
        file_systems=file_systems(services, members.get("FileSystemConfigs") or ()),
        snap_start=snap_start(members.get("SnapStart") or {}),
        state=State.PENDING,
        state_reason=lifecycle.CREATING_REASON,
        state_reason_code=lifecycle.CREATING_CODE,
    )


async def get_function(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configuration, a download URL, tags and reserved concurrency where there are any. AWS: GetFunction."""
    named = reference(services, members)
    function, version = await existing_version(services, named.name, named.qualifier)
    answer: dict[str, Any] = {
        "Configuration": configuration(services.settings, version, qualifier=named.qualifier),
        "Code": images.code(version)
        if version.image is not None
        else {
            "RepositoryType": "S3",
            "Location": services.code_urls.sign(call.base_url, version.archive.digest),
        },
    }
    if function.tags:
        answer["Tags"] = dict(function.tags)
    if function.reserved_concurrency is not None:
        answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
    return answer


async def list_functions(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """By name, at most 50 a page; with FunctionVersion=ALL every version, and all ARNs are qualified.
    AWS: ListFunctions."""
    if members.get("FunctionVersion") == "ALL":
        return await list_all(services, members)
    size, after = paging.page_size(members), paging.after(members)
    if after is not None and ":" in after:  # a list of all versions ended so
        raise paging.invalid_marker(members["Marker"])
    found = await services.store.page(after=after, limit=size + 1)
    rows, marker = paging.cut(found, size, [function.name for function in found])
    answer: dict[str, Any] = {"Functions": [listed(services.settings, row.latest) for row in rows]}
    if marker is not None:
        answer["NextMarker"] = marker
    return answer


async def delete_function(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Removes the function at once and then what runs and waits for it; its log stays. AWS: DeleteFunction."""
    named = reference(services, members)
    if named.qualifier == LATEST:
        raise InvalidParameterValueException("$LATEST version cannot be deleted without deleting the function.")
    if named.qualifier is not None:
        await delete_version(services, await existing(services, named.name), named.qualifier)
        return {"StatusCode": 204}
    function = await services.store.delete(named.name)
    if function is None:
        raise missing(services, named.name)
    await _clear(services, function)
    return {"StatusCode": 204}


async def _clear(services: Services, function: Function) -> None:
    """Stops environments and drops waiting events of a function that is gone.

    The function is deleted already, so a failure here is not the caller's: environments end when idle, and
    events of an unknown uid are never run.
    """
    try:
        await services.host.stop_function(function.uid)
    except LambdaError as error:
        _log.warning("A deleted function was not stopped.", function=function.name, why=error.message)
    try:
        await services.dispatcher.forget(function)
        dropped = await services.queue.drop_lane(function.uid)
        if dropped:
            metrics.events_dropped.labels(metrics.function_label(function.name)).inc(dropped)
            _log.warning("A deleted function's events were dropped.", function=function.name, events=dropped)
    except LambdaError as error:
        _log.warning("A deleted function's events were not dropped.", function=function.name, why=error.message)
