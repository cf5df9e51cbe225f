"""Reading strangers' tar archives without taking the memory that they ask for."""

import io
import os
import tarfile
from collections.abc import Mapping

from lambent.kernel.images.source import ImageError

MAX_HEADER = 1 << 20  # of one entry: long names and the like
_MAX_MEMBERS = 10_000  # of an archived layout: an image has some 130 parts


class Bounded(io.BufferedIOBase):
    """An archive, as `tarfile` reads it: the headers of an entry go into memory whole, of whatever size they
    say they are, and a small layer can hold gigabytes of zeros."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = MAX_HEADER

    def allow(self, size: int) -> None:
        """So much may be read until the next call."""
        self._left = size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self._left:
            raise ImageError("an archive has an entry whose header is too large")
        self._left -= size
        return self._file.read(size)

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


class Part(io.BufferedIOBase):
    """So many bytes of a file, which it closes."""

    def __init__(self, file: io.BufferedIOBase, at: int, size: int) -> None:
        file.seek(at)
        self._file = file
        self._left = size

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


def members(file: io.BufferedIOBase) -> Mapping[str, tuple[int, int]]:
    """Where the files in an archive lie, and how long they are, by their names. Raises ImageError, OSError."""
    bounded = Bounded(file)
    found: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for _ in range(_MAX_MEMBERS):
                entry = archive.next()
                if entry is None:
                    return found
                archive.pax_headers = {}
                bounded.allow(MAX_HEADER)
                if entry.isreg() and entry.sparse is None and entry.size >= 0:
                    found[entry.name.removeprefix("./")] = entry.offset_data, entry.size
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as failure:
        raise ImageError(f"it is no tar archive that can be read, or it is compressed: {failure}") from failure
    raise ImageError(f"it has more than {_MAX_MEMBERS:,} entries")
