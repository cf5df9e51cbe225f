"""The disk that an image may take. It is asked for before each write: an image says little of how large it is
unpacked, and others write meanwhile."""

from collections.abc import Callable
from pathlib import Path

from lambent.kernel import disk
from lambent.kernel.images.source import NoSpace

_STEP = 16 << 20  # so much is written between two looks at the disk
_ENTRY = 4096  # of the file system's own, for each file, folder and link


class Room:
    """On the file system of `folder`. `promised`: bytes that others may still come to take."""

    def __init__(self, folder: Path, promised: Callable[[], int] = lambda: 0) -> None:
        self._folder = folder
        self._promised = promised
        self._allowed = 0

    def take(self, size: int) -> None:
        """So many bytes are about to be written. Raises NoSpace."""
        if size > self._allowed:
            self._allowed = min(self.need(size), size + _STEP)
        self._allowed -= size

    def entries(self, count: int) -> None:
        """So many files, folders and links are about to be made. Raises NoSpace."""
        self.take(count * _ENTRY)

    def need(self, size: int) -> int:
        """What may be written, which must not be less. Raises NoSpace."""
        found, promised = disk.space(self._folder), self._promised()
        left = found.free - found.kept - promised
        if left < size:
            raise NoSpace(
                f"there is no room for it: {found.free >> 20} MB are free at {self._folder}, of which "
                f"{found.kept >> 20} MB are kept for the server's data and {promised >> 20} MB are promised to "
                "running environments. Free disk space"
            )
        return left
