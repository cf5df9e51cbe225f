"""Fetching an image: its manifest for this machine, its layers, unpacked into one folder, and what its
configuration says of how it is started."""

import errno
import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambent.kernel.images.layout import Layout
from lambent.kernel.images.reference import DIGEST, Reference
from lambent.kernel.images.registry import Registry
from lambent.kernel.images.room import Room
from lambent.kernel.images.source import ImageError, NoSpace, Source, member
from lambent.kernel.images.unpack import MAX_BYTES, Unpacking

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_LAYERS = 127


@dataclass(frozen=True, slots=True)
class Image:
    """What was unpacked. `digest`: of its manifest."""

    digest: str
    entrypoint: Sequence[str]
    command: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str


def source_of(reference: Reference, *, until: float | None = None) -> Source:
    if reference.is_layout:
        return Layout(Path(reference.name))
    return Registry(reference.registry, reference.name, until=until)


def by_digest(reference: Reference, digest: str) -> Reference:
    """That image, wherever its tag has moved."""
    return Reference(reference.registry, reference.name, digest)


def resolve(reference: Reference, *, until: float | None = None) -> str:
    """The digest of the image for this machine. `until`: when a registry must have answered (monotonic).
    Raises ImageError."""
    return _for_this_machine(source_of(reference, until=until), reference.wanted)[1]


def pull(
    reference: Reference,
    root: Path,
    work: Path,
    on_line: Callable[[str], None] | None = None,
    *,
    room: Room | None = None,
) -> Image:
    """Unpacks into `root`, an empty folder; `work`: one for what is fetched, on the same disk. Raises
    ImageError."""
    room = room or Room(root)
    try:
        return _pulled(reference, root, work, on_line or (lambda _: None), room)
    except OSError as failure:  # of what is written
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"there is no room for it: {failure.strerror}") from failure
        raise ImageError(f"it cannot be written: {failure.strerror or failure}") from failure


def _pulled(reference: Reference, root: Path, work: Path, on_line: Callable[[str], None], room: Room) -> Image:
    source = source_of(reference)
    data, digest = _for_this_machine(source, reference.wanted)
    manifest = json.loads(data)
    config = _config(source, member(manifest, "config"), work, room)
    layers = member(manifest, "layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= _MAX_LAYERS:
        raise ImageError("the image has no layers, or too many")
    unpacking = Unpacking(root, room)
    for number, layer in enumerate(layers, 1):
        kind = str(member(layer, "mediaType"))
        if "zstd" in kind or "nondistributable" in kind or "foreign" in kind:
            raise ImageError(f"layers of the type {kind} are not read; build the image with gzip")
        path = work / "layer"
        on_line(f"layer {number} of {len(layers)}")
        _fetch(source, layer, path, room)
        unpacking.layer(path)
        path.unlink()
    return Image(
        digest,
        _strings(member(config, "config", "Entrypoint")),
        _strings(member(config, "config", "Cmd")),
        dict(entry.split("=", 1) for entry in _strings(member(config, "config", "Env")) if "=" in entry),
        str(member(config, "config", "WorkingDir") or "/"),
    )


def _for_this_machine(source: Source, wanted: str) -> tuple[bytes, str]:
    data = source.manifest(wanted)
    wanted_architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    for _ in range(3):  # an index may name another
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise ImageError("the image's manifest is not JSON") from None
        entries = member(document, "manifests")
        if not isinstance(entries, list):
            return data, f"sha256:{hashlib.sha256(data).hexdigest()}"
        fits = [
            entry
            for entry in entries
            if member(entry, "platform", "architecture") in (wanted_architecture, None)
            and member(entry, "platform", "os") in ("linux", None)
        ]
        if not fits:
            there = sorted({str(member(entry, "platform", "architecture")) for entry in entries})
            raise ImageError(f"the image is for {', '.join(there)}, and this machine is {wanted_architecture}")
        data = source.manifest(_described(fits[0])[0])
    raise ImageError("the image's index leads to no image")


def _fetch(source: Source, descriptor: Any, path: Path, room: Room) -> None:
    digest, size = _described(descriptor)
    room.need(size)  # rather now than after gigabytes
    source.blob(digest, size, path, room)


def _config(source: Source, descriptor: Any, work: Path, room: Room) -> Any:
    path = work / "config"
    _fetch(source, descriptor, path, room)
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ImageError("the image's configuration is not JSON") from None
    architecture, system = member(config, "architecture"), member(config, "os")
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if architecture != wanted or system != "linux":
        raise ImageError(f"the image is for {system}/{architecture}, and this machine is linux/{wanted}")
    return config


def _described(descriptor: Any) -> tuple[str, int]:
    """(digest, size) of a descriptor."""
    digest, size = member(descriptor, "digest"), member(descriptor, "size")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ImageError("a part of the image has no digest of sha256")
    if not isinstance(size, int) or not 0 <= size <= MAX_BYTES:
        raise ImageError(f"a part of the image has no size that can be ({size})")
    return digest, size


def _strings(given: Any) -> Sequence[str]:
    return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []
