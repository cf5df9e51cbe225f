"""A function's code: replace it. AWS: UpdateFunctionCode."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.gateway.handlers import lifecycle
from lambent.gateway.handlers.archives import check_unzipped, inspected, keep, read_source
from lambent.gateway.handlers.lookup import existing, unqualified
from lambent.gateway.handlers.render import configuration
from lambent.gateway.handlers.versions import published_already
from lambent.gateway.services import Call, Services
from lambent.kernel.errors import InvalidParameterValueException


async def update_function_code(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answers with LastUpdateStatus InProgress. With DryRun: every check, and the configuration as it would
    be, with nothing stored. An identical zip is an update too (a new RevisionId and LastModified). With
    Publish: answers the new version, or the last one if it is the same."""
    name = unqualified(services, members)
    if members.get("ImageUri") is not None:
        raise InvalidParameterValueException(
            "Please don't provide ImageUri when updating a function with packageType Zip."
        )
    function = await existing(services, name)
    lifecycle.check_changeable(services, function.latest, members.get("RevisionId"))
    data = await read_source(services, members, what="function")
    archive = await inspected(services, data)
    check_unzipped(archive, function.latest.layers)
    changed = replace(
        function.latest,
        archive=archive,
        architectures=tuple(members.get("Architectures") or function.latest.architectures),
    )
    if members.get("DryRun"):
        return configuration(services.settings, changed)
    wanted = bool(members.get("Publish"))
    same = await published_already(services, replace(function, latest=changed)) if wanted else None
    publish = wanted and same is None
    await keep(services, data, archive, replaces=function.latest.archive.size, published=publish)
    made = await lifecycle.update(services, function, changed, publish=publish)
    version = same or made
    return configuration(services.settings, version, qualifier=version.version if wanted else None)
