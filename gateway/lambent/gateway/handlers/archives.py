"""From a code source in a request (ZipFile, or an S3 object) to an archive in the blob store, the same for
functions and layers; and the layers that a function names.

Order: read, inspect, check the sizes and the account's storage, and only then write. Metadata that names the
archive is written by the caller, after the bytes are on disk.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lambent.gateway.services import Services
from lambent.kernel.arn import layer_arn, parse_layer_version
from lambent.kernel.errors import (
    AccessDeniedException,
    CodeStorageExceededException,
    InvalidParameterValueException,
    ServiceException,
)
from lambent.kernel.models import Archive, LayerUse

MAX_DIRECT = 52_428_800  # zipped, in the request itself
MAX_UNZIPPED = 262_144_000  # code and layers together
MAX_STORAGE = 80_530_636_800  # all archives of the account: 75 GB
MAX_LAYERS = 5
_S3_MEMBERS = ("S3Bucket", "S3Key", "S3ObjectVersion")


async def read_source(services: Services, code: Mapping[str, Any], *, what: str) -> bytes:
    """The zip's bytes. `what` names it in errors: "function" or "layer"."""
    given = [member for member in _S3_MEMBERS if code.get(member) is not None]
    zipped: bytes | None = code.get("ZipFile")
    if zipped is not None:
        if given:
            raise InvalidParameterValueException(
                "Please do not provide other FunctionCode parameters when providing a ZipFile."
            )
        if len(zipped) > MAX_DIRECT:
            raise InvalidParameterValueException(
                f"Zipped size must be smaller than {MAX_DIRECT} bytes. Upload a larger package to S3 and give "
                "S3Bucket and S3Key."
            )
        return zipped
    if code.get("S3Bucket") is None or code.get("S3Key") is None:
        raise InvalidParameterValueException(f"Please provide a source for {what} code.")
    return await services.fetch_s3(code["S3Bucket"], code["S3Key"], code.get("S3ObjectVersion"))


async def inspected(services: Services, data: bytes, *, layer: bool = False) -> Archive:
    """The archive that `data` is, not yet stored. Raises InvalidParameterValueException with AWS's text."""
    archive = await services.code.inspect(data, layer=layer)
    if archive.unzipped > MAX_UNZIPPED:
        raise InvalidParameterValueException(f"Unzipped size must be smaller than {MAX_UNZIPPED} bytes")
    return archive


async def keep(
    services: Services, data: bytes, archive: Archive, *, replaces: int = 0, published: bool = False
) -> None:
    """Writes an inspected archive. `replaces`: bytes of the archive that this one takes the place of;
    `published`: it is a version's as well, which counts by itself.

    Raises CodeStorageExceededException beyond the account's 75 GB.
    """
    await check_storage(services, archive.size * (1 + published) - replaces)
    digest = await services.blobs.put(data)
    if digest != archive.digest:
        raise ServiceException("The code archive changed while it was stored. Send the request again.")


async def check_storage(services: Services, more: int) -> None:
    """Raises CodeStorageExceededException if so many more bytes are too much for the account's 75 GB."""
    used, _ = await services.store.usage()
    if used + more > MAX_STORAGE:
        raise CodeStorageExceededException()


def check_unzipped(archive: Archive, layers: Sequence[LayerUse]) -> None:
    """Raises InvalidParameterValueException if code and layers together are over 250 MB unzipped."""
    in_layers = sum(use.archive.unzipped for use in layers)
    if in_layers > MAX_UNZIPPED:
        raise InvalidParameterValueException(
            f"Layers consume more than the available size of {MAX_UNZIPPED} bytes"
        )
    if archive.unzipped + in_layers > MAX_UNZIPPED:
        raise InvalidParameterValueException(f"Unzipped size must be smaller than {MAX_UNZIPPED} bytes")


async def resolve_layers(
    services: Services, arns: Sequence[str], *, known: Sequence[LayerUse] = ()
) -> tuple[LayerUse, ...]:
    """The layer versions that a function names, in its order. `known` are those it uses already: they stay
    although the layer version was deleted since (AWS: it "continues to work", only can't be added anew)."""
    if len(arns) > MAX_LAYERS:
        raise InvalidParameterValueException(f"Cannot reference more than {MAX_LAYERS} layers.")
    _no_layer_twice(arns)
    in_use = {use.arn: use for use in known}
    return tuple([in_use.get(arn) or await _layer_use(services, arn) for arn in arns])


def _no_layer_twice(arns: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for arn in arns:
        layer, _, _ = arn.rpartition(":")
        if layer in seen:
            raise InvalidParameterValueException(
                "Two different versions of the same layer are not allowed to be referenced in the same "
                f"function. {seen[layer]} and {arn} are versions of the same layer."
            )
        seen[layer] = arn


async def _layer_use(services: Services, arn: str) -> LayerUse:
    region, account = services.settings.region, services.settings.account_id
    named = parse_layer_version(arn)
    if named is not None and named.region != region:
        raise InvalidParameterValueException(
            f"Layers are not in the same region as the function. Layers are expected to be in region {region}."
        )
    if named is not None and named.account != account:
        raise AccessDeniedException(
            f"User: arn:aws:iam::{account}:root is not authorized to perform: lambda:GetLayerVersion on "
            f"resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action"
        )
    found = await services.store.get_layer_version(named.name, named.version) if named is not None else None
    if found is None:
        raise InvalidParameterValueException(f"Layer version {arn} does not exist.")
    # The ARN as we write it, so that "arn:...:layer:x:01" can't be stored as a second spelling of version 1.
    return LayerUse(
        layer_arn(region=region, account=account, name=found.name, version=found.version), found.archive
    )
