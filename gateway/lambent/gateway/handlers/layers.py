"""Layers: numbered, immutable archives that functions mount at /opt.

AWS: PublishLayerVersion, GetLayerVersion, GetLayerVersionByArn, ListLayers, ListLayerVersions,
DeleteLayerVersion. Layers of other accounts and regions can't be reached: there is only this one.
"""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.handlers import paging
from lambent.gateway.handlers.archives import inspected, keep, read_source
from lambent.gateway.handlers.render import layer_row, layer_version
from lambent.gateway.services import Call, Services
from lambent.kernel.arn import layer_arn, layer_name, parse_layer_version
from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException
from lambent.kernel.models import LayerVersion

_NO_SUCH = "The resource you requested does not exist."


async def publish_layer_version(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Stores the archive under the layer's next number."""
    name = _name(services, members)
    data = await read_source(services, members["Content"], what="layer")
    archive = await inspected(services, data, layer=True)
    await keep(services, data, archive)
    layer = await services.store.add_layer_version(
        LayerVersion(
            name=name,
            version=0,  # the store gives the number
            archive=archive,
            created=services.clock.now(),
            description=members.get("Description") or "",
            license_info=members.get("LicenseInfo"),
            compatible_runtimes=tuple(members.get("CompatibleRuntimes") or ()),
            compatible_architectures=tuple(members.get("CompatibleArchitectures") or ()),
        )
    )
    return _shown(services, call, layer)


async def get_layer_version(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """One version with its download URL."""
    number = _number(members)
    return await _found(services, call, _name(services, members), number)


async def get_layer_version_by_arn(
    services: Services, call: Call, members: Mapping[str, Any]
) -> Mapping[str, Any]:
    """As GetLayerVersion, by the ARN of the version."""
    named = parse_layer_version(members["Arn"])
    if named is None or (named.region, named.account) != _home(services):
        raise ResourceNotFoundException(_NO_SUCH)
    return await _found(services, call, named.name, named.version)


async def _found(services: Services, call: Call, name: str, number: int) -> Mapping[str, Any]:
    layer = await services.store.get_layer_version(name, number)
    if layer is None:
        raise ResourceNotFoundException(_NO_SUCH)
    return _shown(services, call, layer)


def _shown(services: Services, call: Call, layer: LayerVersion) -> Mapping[str, Any]:
    location = services.code_urls.sign(call.base_url, layer.archive.digest)
    return layer_version(services.settings, layer, location=location)


async def list_layers(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """The latest matching version of each layer, by name."""
    size, start = paging.page_size(members), paging.after(members)
    found: list[LayerVersion] = []
    for name in await services.store.layers():
        if start is not None and name <= start:
            continue
        versions = await services.store.layer_versions(name)
        latest = next((version for version in versions if _matches(version, members)), None)
        if latest is not None:
            found.append(latest)
        if len(found) > size:
            break
    rows, marker = paging.cut(found, size, [version.name for version in found])
    region, account = _home(services)
    answer: dict[str, Any] = {
        "Layers": [
            {
                "LayerName": row.name,
                "LayerArn": layer_arn(region=region, account=account, name=row.name),
                "LatestMatchingVersion": layer_row(services.settings, row),
            }
            for row in rows
        ]
    }
    return answer if marker is None else {**answer, "NextMarker": marker}


async def list_layer_versions(services: Services, call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """A layer's matching versions, newest first; an unknown layer has none."""
    size, start = paging.page_size(members), paging.after(members)
    if start is not None and not start.isdigit():
        raise paging.invalid_marker(members["Marker"])
    found = [
        version
        for version in await services.store.layer_versions(_name(services, members))
        if _matches(version, members) and (start is None or version.version < int(start))
    ]
    rows, marker = paging.cut(found, size, [str(version.version) for version in found])
    answer: dict[str, Any] = {"LayerVersions": [layer_row(services.settings, row) for row in rows]}
    return answer if marker is None else {**answer, "NextMarker": marker}


async def delete_layer_version(services: Services, call: Call, members: Mapping[str, Any]) -> None:
    """Removes a version; functions that use it keep it, and its number is not used again. Repeatable."""
    number = _number(members)
    await services.store.delete_layer_version(_name(services, members), number)


def _matches(layer: LayerVersion, members: Mapping[str, Any]) -> bool:
    runtime, architecture = members.get("CompatibleRuntime"), members.get("CompatibleArchitecture")
    return (runtime is None or runtime in layer.compatible_runtimes) and (
        architecture is None or architecture in layer.compatible_architectures
    )


def _number(members: Mapping[str, Any]) -> int:
    number = int(members["VersionNumber"])
    if number < 1:
        raise InvalidParameterValueException("Layer Version Cannot be less than 1.")
    return number


def _name(services: Services, members: Mapping[str, Any]) -> str:
    """The bare name. Raises ResourceNotFoundException for an ARN of another account or region."""
    text: str = members["LayerName"]
    name = layer_name(text)
    region, account = _home(services)
    if text.startswith("arn:") and text.split(":")[3:5] != [region, account]:
        raise ResourceNotFoundException(_NO_SUCH)
    return name


def _home(services: Services) -> tuple[str, str]:
    return services.settings.region, services.settings.account_id
