"""A function's code: replace it. AWS: UpdateFunctionCode."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.handlers import images, lifecycle
from lambent.gateway.handlers.archives import check_unzipped, inspected, keep, read_source
from lambent.gateway.handlers.lookup import existing, unqualified
from lambent.gateway.handlers.render import configuration
from lambent.gateway.handlers.versions import published_already
from lambent.gateway.services import Call, Services
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.models import FunctionVersion


async def update_function_code(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answers with LastUpdateStatus InProgress. With DryRun: every check, and the configuration as it would
    be, with nothing stored. An identical zip is an update too (a new RevisionId and LastModified). With
    Publish: answers the new version, or the last one if it is the same."""
    name = unqualified(services, members)
    function = await existing(services, name)
    if members.get("ImageUri") is not None and function.latest.image is None:
        raise InvalidParameterValueException(
            "Please don't provide ImageUri when updating a function with packageType Zip."
        )
    lifecycle.check_changeable(services, function.latest, members.get("RevisionId"))
    data: bytes | None = None
    if function.latest.image is not None:
        changed = await _of_image(services, function.latest, members)
    else:
        data = await read_source(services, members, what="function")
        archive = await inspected(services, data)
        check_unzipped(archive, function.latest.layers)
        changed = replace(function.latest, archive=archive)
    architectures = members.get("Architectures")
    changed = replace(changed, architectures=tuple(architectures or function.latest.architectures))
    if members.get("DryRun"):
        return configuration(services.settings, changed)
    wanted = bool(members.get("Publish"))
    same = await published_already(services, replace(function, latest=changed)) if wanted else None
    publish = wanted and same is None
    if data is not None:
        await keep(services, data, archive, replaces=function.latest.archive.size, published=publish)
    made = await lifecycle.update(services, function, changed, publish=publish)
    version = same or made
    return configuration(services.settings, version, qualifier=version.version if wanted else None)


async def _of_image(services: Services, latest: FunctionVersion, members: Mapping[str, Any]) -> FunctionVersion:
    if not members.get("ImageUri") or members.get("ZipFile") or members.get("S3Bucket"):
        raise InvalidParameterValueException(
            "Please provide ImageUri when updating a function with packageType Image."
        )
    image, archive = await images.resolved(services, members["ImageUri"], latest.image)
    return replace(latest, image=image, archive=archive)
