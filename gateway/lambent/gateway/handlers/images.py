"""Functions that are container images: which image is meant, once and for all. AWS: CreateFunction with
PackageType Image.

A tag is looked up when the function is created or its code updated, and the digest is kept: a tag that moves
changes nothing until UpdateFunctionCode. What a caller names is fetched by this server, so only registries and
folders that the operator has named are asked.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambent.gateway.services import Services
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.images import pull
from lambent.kernel.images.reference import Reference, parse
from lambent.kernel.images.source import ImageError
from lambent.kernel.models import Archive, FunctionVersion, ImageUse

IMAGE = "Image"
NOT_OF_AN_IMAGE = (
    "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
)
_NOT_OF_A_ZIP = "Please don't provide {} when the intended function PackageType is Zip."


def check(members: Mapping[str, Any]) -> bool:
    """Whether a CreateFunction is of an image. Raises InvalidParameterValueException for members of the other
    kind."""
    code = members["Code"]
    if members.get("PackageType") != IMAGE:
        for member, given in (("ImageUri", code.get("ImageUri")), ("ImageConfig", members.get("ImageConfig"))):
            if given:
                raise InvalidParameterValueException(_NOT_OF_A_ZIP.format(member))
        return False
    if members.get("Runtime") or members.get("Handler") or members.get("Layers"):
        raise InvalidParameterValueException(NOT_OF_AN_IMAGE)
    if not code.get("ImageUri") or set(code) != {"ImageUri"}:
        raise InvalidParameterValueException("Please provide ImageUri, and nothing else as Code, for an Image.")
    if members.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions":
        raise InvalidParameterValueException("SnapStart does not support functions of container images.")
    return True


async def resolved(services: Services, uri: str, before: ImageUse | None = None) -> tuple[ImageUse, Archive]:
    """The image that a name stands for now, with the settings of `before`; and what stands for its code. Raises
    InvalidParameterValueException."""
    try:
        reference = parse(uri)
    except ValueError as problem:
        raise _invalid(uri, str(problem)) from None

    def look(until: float) -> str:
        _check_allowed(services, uri, reference)
        return pull.resolve(reference, until=until)

    try:
        digest = await services.image_lookups.find(look)
    except ImageError as failure:
        raise _invalid(uri, str(failure)) from None
    image = replace(before or ImageUse(uri, digest), uri=uri, digest=digest)
    return image, Archive(digest.removeprefix("sha256:"), 0, 0)


def _check_allowed(services: Services, uri: str, reference: Reference) -> None:
    settings = services.settings
    if not reference.is_layout:
        if reference.registry not in settings.image_registries:
            raise _invalid(
                uri,
                f"this server asks no registry {reference.registry}: name it in LAMBENT_IMAGE_REGISTRIES, and "
                "start again",
            )
        return
    allowed = settings.image_layouts
    try:
        inside = allowed is not None and Path(reference.name).resolve().is_relative_to(allowed.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        raise _invalid(
            uri,
            "this server reads layouts below LAMBENT_IMAGE_LAYOUTS only: name a folder there, and start again",
        )


def _invalid(uri: str, why: str) -> InvalidParameterValueException:
    return InvalidParameterValueException(
        f"Source image {uri} is not valid. Provide a valid source image. ({why})"
    )


def configured(image: ImageUse, given: Mapping[str, Any]) -> ImageUse:
    """With an ImageConfig, which replaces the one before whole."""
    return replace(
        image,
        entry_point=_words(given.get("EntryPoint")),
        command=_words(given.get("Command")),
        working_directory=given.get("WorkingDirectory") or None,
    )


def _words(given: Any) -> tuple[str, ...] | None:
    return tuple(given) if given else None


def config_response(image: ImageUse) -> dict[str, Any] | None:
    """AWS: ImageConfigResponse."""
    config = {
        "EntryPoint": list(image.entry_point) if image.entry_point else None,
        "Command": list(image.command) if image.command else None,
        "WorkingDirectory": image.working_directory,
    }
    told = {name: value for name, value in config.items() if value is not None}
    return {"ImageConfig": told} if told else None


def code(version: FunctionVersion) -> dict[str, Any]:
    """AWS: FunctionCodeLocation."""
    image = version.image
    assert image is not None
    reference = parse(image.uri)
    base = f"oci-layout:{reference.name}:" if reference.is_layout else f"{reference.registry}/{reference.name}@"
    return {"RepositoryType": "ECR", "ImageUri": image.uri, "ResolvedImageUri": f"{base}{image.digest}"}
