"""A function's configuration: read it, change what is given. AWS: GetFunctionConfiguration,
UpdateFunctionConfiguration."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.handlers import images, lifecycle
from lambent.gateway.handlers.archives import check_unzipped, resolve_layers
from lambent.gateway.handlers.lookup import existing, existing_version, reference, unqualified
from lambent.gateway.handlers.render import configuration
from lambent.gateway.handlers.runtimes import accept_runtime
from lambent.gateway.handlers.validation import (
    check_handler,
    check_snap_start,
    dead_letter_target,
    environment_variables,
    file_systems,
    logging_config,
    snap_start,
    tracing_mode,
)
from lambent.gateway.services import Call, Services
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.models import FunctionVersion

# Members that are stored as they come: (AWS's name, ours).
_PLAIN = (
    ("Role", "role"),
    ("Handler", "handler"),
    ("Description", "description"),
    ("Timeout", "timeout"),
    ("MemorySize", "memory_size"),
    ("Runtime", "runtime"),
)


async def get_function_configuration(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The configuration of $LATEST, also while it is updated, of a version, or of an alias's version."""
    named = reference(services, members)
    _, version = await existing_version(services, named.name, named.qualifier)
    return configuration(services.settings, version, qualifier=named.qualifier)


async def update_function_configuration(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Answers with LastUpdateStatus InProgress; what ran before serves until it is Successful."""
    name = unqualified(services, members)
    function = await existing(services, name)
    lifecycle.check_changeable(services, function.latest, members.get("RevisionId"))
    _check_kind(function.latest, members)
    if members.get("Runtime") is not None:
        accept_runtime(services, call, members["Runtime"])
    check_handler(members.get("Handler") or "")
    changed = await _changed(services, function.latest, members)
    latest = await lifecycle.update(services, function, changed)
    return configuration(services.settings, latest)


def _check_kind(latest: FunctionVersion, members: Mapping[str, Any]) -> None:
    """Raises InvalidParameterValueException for members of the other kind of package."""
    if latest.image is None and members.get("ImageConfig"):
        raise InvalidParameterValueException(
            "Please don't provide ImageConfig when updating a function with packageType Zip."
        )
    if latest.image is not None and any(members.get(each) for each in ("Runtime", "Handler", "Layers")):
        raise InvalidParameterValueException(images.NOT_OF_AN_IMAGE)


async def _changed(services: Services, latest: FunctionVersion, members: Mapping[str, Any]) -> FunctionVersion:
    """`latest` with the members that are present; empty Variables and Layers clear."""
    changes: dict[str, Any] = {
        ours: members[theirs] for theirs, ours in _PLAIN if members.get(theirs) is not None
    }
    if members.get("EphemeralStorage") is not None:
        changes["ephemeral_storage"] = members["EphemeralStorage"]["Size"]
    if members.get("Environment") is not None:
        changes["environment"] = environment_variables(members["Environment"])
    if members.get("LoggingConfig") is not None:
        changes["logging"] = logging_config(members["LoggingConfig"], latest.logging)
    if members.get("DeadLetterConfig") is not None:
        changes["dead_letter"] = dead_letter_target(services, members["DeadLetterConfig"])
    if members.get("TracingConfig") is not None:
        changes["tracing"] = tracing_mode(members["TracingConfig"])
    if members.get("FileSystemConfigs") is not None:
        changes["file_systems"] = file_systems(services, members["FileSystemConfigs"])
    if members.get("ImageConfig") is not None and latest.image is not None:
        changes["image"] = images.configured(latest.image, members["ImageConfig"])
    if members.get("SnapStart") is not None:
        changes["snap_start"] = snap_start(members["SnapStart"])
    if members.get("Layers") is not None:
        layers = await resolve_layers(services, members["Layers"], known=latest.layers)
        check_unzipped(latest.archive, layers)
        changes["layers"] = layers
    changed = replace(latest, **changes)
    check_snap_start(changed)
    return changed
