"""Where an image comes from: a registry or a layout. Every byte that is taken is checked against its digest."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

MAX_MANIFEST = 4 << 20
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class ImageError(Exception):
    """An image cannot be had; the text says why and what to do."""


class ImageMissing(ImageError):
    """It, or a part of it, is not where it is said to be."""


class ImageDenied(ImageError):
    """It may not be had, or not without a password."""


class NoSpace(ImageError):
    """The disk has no room for it."""


class Takes(Protocol):
    """See `room.Room`."""

    def take(self, size: int) -> None: ...


class Source(Protocol):
    """Raises ImageError."""

    def manifest(self, wanted: str) -> bytes:
        """By tag or digest; checked if by digest."""

    def blob(self, digest: str, size: int, into: Path, room: Takes) -> None:
        """Writes it to a file, checked. An OSError is of that file."""


def check(data: bytes, digest: str) -> bytes:
    """Raises ImageError."""
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ImageError(f"what came for {digest} is something else: the image is damaged")
    return data


def copy_checked(read: Callable[[int], bytes], into: IO[bytes], digest: str, size: int, room: Takes) -> None:
    """Raises ImageError for what is not exactly what was promised."""
    found, left = hashlib.sha256(), size
    while part := read(min(1 << 20, left + 1)):
        left -= len(part)
        if left < 0:
            break
        found.update(part)
        room.take(len(part))
        into.write(part)
    if left or f"sha256:{found.hexdigest()}" != digest:
        raise ImageError(f"what came for {digest} is something else: the image is damaged")


def member(document: Any, *path: str) -> Any:
    """Of a JSON document; None where there is no such thing."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document
