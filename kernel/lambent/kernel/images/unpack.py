"""The layers of an image become one folder, the lower ones first. https://github.com/opencontainers/image-spec:
"Image Layer Filesystem Changeset".

A layer is a stranger's archive: nothing of it may be written outside of the folder, through whatever links.
Owners are forgotten, and so are setuid bits and devices: functions run as one user, who has no power.
"""

import errno
import gzip
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from lambent.kernel.images.room import Room
from lambent.kernel.images.source import ImageError
from lambent.kernel.images.tars import MAX_HEADER, Bounded

MAX_BYTES = 10 << 30  # AWS: of an image, unpacked
MAX_FILES = 1_000_000
_HIDES, _HIDES_ALL = ".wh.", ".wh..wh..opq"
_MOST_LINKS = 40
_GZIP = b"\x1f\x8b"


class Unpacking:
    """Into `root`, an empty folder."""

    def __init__(self, root: Path, room: Room) -> None:
        self._root = root
        self._room = room
        self._bytes = self._files = 0

    def layer(self, path: Path) -> None:
        """A tar archive, compressed by gzip or not. Raises ImageError, and OSError for a disk that is full."""
        try:
            with open(path, "rb") as file:
                compressed = file.read(len(_GZIP)) == _GZIP
                file.seek(0)
                self._layer(gzip.GzipFile(fileobj=file) if compressed else file)
        except (
            tarfile.TarError,
            EOFError,
            zlib.error,
            gzip.BadGzipFile,
            OverflowError,
            RecursionError,
        ) as failure:
            raise ImageError(f"a layer is no archive that can be read: {failure}") from failure
        except (OSError, ValueError) as failure:  # ValueError: a name with a zero byte
            if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ImageError(f"a layer cannot be unpacked: {failure}") from failure

    def _layer(self, file: io.BufferedIOBase) -> None:
        bounded = Bounded(file)
        made: set[Path] = set()
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            while (entry := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps all: they may be a million
                archive.pax_headers = {}
                self._count(entry)
                bounded.allow(entry.size + MAX_HEADER)
                self._entry(archive, entry, made)
                bounded.allow(MAX_HEADER)

    def _entry(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, made: set[Path]) -> None:
        parts = [part for part in PurePosixPath(entry.name).parts if part not in ("/", ".")]
        if not parts:
            return
        if ".." in parts:
            raise ImageError(f"a layer has {entry.name}")
        folder, name = self._folder(parts[:-1]), parts[-1]
        if name == _HIDES_ALL:
            _hide(folder, made)
            return
        if name.startswith(_HIDES):
            hidden = name.removeprefix(_HIDES)
            if hidden in ("", ".", ".."):
                raise ImageError(f"a layer has {entry.name}")
            _remove(folder / hidden)
            return
        path = folder / name
        made.update((path, *path.parents))
        if entry.isdir():
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir()
            path.chmod(entry.mode & 0o777 | 0o700)
            return
        _remove(path)
        if entry.issym():
            path.symlink_to(entry.linkname)
        elif entry.islnk():
            os.link(self._inside(entry.linkname), path, follow_symlinks=False)
        elif entry.isfile():
            self._file(archive, entry, path)

    def _file(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
        content = archive.extractfile(entry)
        if content is None:
            raise ImageError(f"a layer has {entry.name} without its content")
        with content, open(path, "xb") as file:
            while part := content.read(1 << 20):
                self._room.take(len(part))
                file.write(part)
        path.chmod(entry.mode & 0o777 | 0o400)

    def _count(self, entry: tarfile.TarInfo) -> None:
        if entry.size < 0:
            raise ImageError(f"a layer has {entry.name} of no size that can be")
        self._add(1, entry.size)

    def _add(self, files: int, size: int = 0) -> None:
        self._room.entries(files)
        self._files += files
        self._bytes += size
        if self._files > MAX_FILES or self._bytes > MAX_BYTES:
            raise ImageError(f"the image has more than {MAX_FILES:,} files or {MAX_BYTES >> 30} GB")

    def _folder(self, parts: list[str]) -> Path:
        """Where the entries of a folder go: its links are followed, inside. It is made if it is not there."""
        folder = _resolved(self._root, parts)
        if not folder.is_dir():
            self._add(sum(not each.exists() for each in (folder, *folder.parents)))
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _inside(self, name: str) -> Path:
        parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
        if not parts or ".." in parts:
            raise ImageError(f"a layer has a link to {name}")
        return _resolved(self._root, parts[:-1]) / parts[-1]


def inside(root: Path, path: str) -> Path:
    """Where a path of the image lies, its links followed inside. Raises ImageError."""
    return _resolved(root, [part for part in PurePosixPath(path).parts if part not in ("/", ".")])


def _hide(folder: Path, made: set[Path]) -> None:
    """Removes what lower layers have there, however deep."""
    for path in list(folder.iterdir()):
        if path not in made:
            _remove(path)
        elif path.is_dir() and not path.is_symlink():
            _hide(path, made)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _resolved(root: Path, parts: list[str]) -> Path:
    at, links, left = root, 0, list(reversed(parts))
    while left:
        part = left.pop()
        if part == "..":
            at = at.parent if at != root else at
            continue
        path = at / part
        if path.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise ImageError(f"a layer has a link that leads nowhere: {'/'.join(parts)}")
            target = PurePosixPath(os.readlink(path))
            at = root if target.is_absolute() else at
            left += [each for each in reversed(target.parts) if each not in ("/", ".")]
        else:
            at = path
    return at
