"""Images in a folder, or in a tar archive of one: an OCI image layout.

https://github.com/opencontainers/image-spec: image-layout. An archive is read where it lies, never unpacked.
"""

import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from lambent.kernel.images import tars
from lambent.kernel.images.reference import DIGEST
from lambent.kernel.images.source import (
    MAX_MANIFEST,
    ImageDenied,
    ImageError,
    ImageMissing,
    Takes,
    check,
    copy_checked,
    member,
)

_KINDS: Mapping[type[Exception], type[ImageError]] = {
    FileNotFoundError: ImageMissing,
    NotADirectoryError: ImageMissing,
    PermissionError: ImageDenied,
}
_NAMED = "org.opencontainers.image.ref.name"


class Layout:
    """See `source.Source`. The tag may be left out where there is one image only."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._members: Mapping[str, tuple[int, int]] | None = None  # of an archive

    def manifest(self, wanted: str) -> bytes:
        if DIGEST.fullmatch(wanted):
            return check(self._read(f"blobs/sha256/{wanted.removeprefix('sha256:')}"), wanted)
        try:
            index = json.loads(self._read("index.json"))
        except (ValueError, RecursionError):
            raise ImageError(f"{self._place}/index.json is not JSON") from None
        entries = member(index, "manifests")
        if not isinstance(entries, list):
            raise ImageError(f"{self._place}/index.json has no list of images")
        tags = [member(entry, "annotations", _NAMED) for entry in entries]
        found = [entry for entry, tag in zip(entries, tags, strict=True) if not wanted or tag == wanted]
        if len(found) != 1:
            named = ", ".join(sorted(tag for tag in tags if isinstance(tag, str))) or "none has a name"
            raise (ImageError if found else ImageMissing)(
                f"{self._place} has {len(found)} images for {wanted or 'no tag'}; there are: {named}"
            )
        digest = member(found[0], "digest")
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise ImageError(f"{self._place}/index.json names no digest of sha256")
        return self.manifest(digest)

    def blob(self, digest: str, size: int, into: Path, room: Takes) -> None:
        name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
        with self._open(name) as file, open(into, "wb") as target:
            copy_checked(lambda size: self._part(file, name, size), target, digest, size, room)

    def _read(self, name: str) -> bytes:
        with self._open(name) as file:
            data = self._part(file, name, MAX_MANIFEST + 1)
        if len(data) > MAX_MANIFEST:
            raise ImageError(f"{self._place}/{name} is larger than {MAX_MANIFEST >> 20} MB")
        return data

    def _open(self, name: str) -> io.BufferedIOBase:
        if not os.path.isfile(self._place):
            return self._opened(self._place / name, name)
        file = self._opened(self._place, name)
        try:
            if self._members is None:
                self._members = tars.members(file)
            if name not in self._members:
                raise self._unread(name, "it is not in the archive", FileNotFoundError)
            return tars.Part(file, *self._members[name])
        except OSError as failure:
            file.close()
            raise self._unread(name, str(failure.strerror)) from failure
        except ImageError as failure:
            file.close()
            raise type(failure)(f"{self._place}: {failure}") from None

    def _opened(self, path: Path, name: str) -> io.BufferedIOBase:
        try:
            file = open(path, "rb", opener=_without_waiting)
        except OSError as failure:
            raise self._unread(name, str(failure.strerror), type(failure)) from failure
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise self._unread(name, "it is no file")
        return file

    def _part(self, file: io.BufferedIOBase, name: str, size: int) -> bytes:
        try:
            return file.read(size)
        except OSError as failure:
            raise self._unread(name, str(failure.strerror)) from failure

    def _unread(self, name: str, why: str, kind: type[Exception] = Exception) -> ImageError:
        return _KINDS.get(kind, ImageError)(
            f"{self._place} is no OCI image layout: {name} cannot be read ({why})"
        )


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would be waited for, for ever
