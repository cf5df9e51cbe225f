"""Images in a folder: an OCI image layout. https://github.com/opencontainers/image-spec: image-layout."""

import json
from pathlib import Path

from lambent.kernel.images.reference import DIGEST
from lambent.kernel.images.source import MAX_MANIFEST, ImageError, check, copy_checked, member

_NAMED = "org.opencontainers.image.ref.name"


class Layout:
    """See `source.Source`. The tag may be left out where there is one image only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def manifest(self, wanted: str) -> bytes:
        if DIGEST.fullmatch(wanted):
            return check(self._read(f"blobs/sha256/{wanted.removeprefix('sha256:')}"), wanted)
        try:
            index = json.loads(self._read("index.json"))
        except ValueError:
            raise ImageError(f"{self._folder}/index.json is not JSON") from None
        entries = member(index, "manifests") or []
        tags = [member(entry, "annotations", _NAMED) for entry in entries]
        found = [entry for entry, tag in zip(entries, tags, strict=True) if not wanted or tag == wanted]
        if len(found) != 1:
            named = ", ".join(sorted(tag for tag in tags if isinstance(tag, str))) or "none has a name"
            raise ImageError(
                f"{self._folder} has {len(found)} images for {wanted or 'no tag'}; there are: {named}"
            )
        digest = member(found[0], "digest")
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise ImageError(f"{self._folder}/index.json names no digest of sha256")
        return self.manifest(digest)

    def blob(self, digest: str, size: int, into: Path) -> None:
        path = self._folder / "blobs/sha256" / digest.removeprefix("sha256:")
        try:
            with open(path, "rb") as file, open(into, "wb") as target:
                copy_checked(file.read, target, digest, size)
        except OSError as failure:
            raise ImageError(f"{path} cannot be read: {failure.strerror}") from failure

    def _read(self, name: str) -> bytes:
        try:
            with open(self._folder / name, "rb") as file:
                data = file.read(MAX_MANIFEST + 1)
        except OSError as failure:
            raise ImageError(
                f"{self._folder} is no OCI image layout: {name} cannot be read ({failure.strerror})"
            ) from failure
        if len(data) > MAX_MANIFEST:
            raise ImageError(f"{self._folder}/{name} is larger than {MAX_MANIFEST >> 20} MB")
        return data
