"""Unpacked code and layers, shared by every environment that runs them: unpacked once per digest, counted while
in use, so that a start only mounts and a removal never pulls code from under a running function.

Layout under the root: `code/DIGEST-BYTES`, `opt/KEY-BYTES` (several layers merged by hard links) and
`partial/`, whose content is worthless. A tree appears by one rename, complete or not at all. Nothing is
fsynced: the trees are a cache of the blob store, so those of an earlier boot, which a power cut may have left
hollow, are dropped. The folders above a tree are this user's alone; environments see a tree only where it is
mounted.
"""

import asyncio
import errno
import hashlib
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from lambent.executor.archives import extract
from lambent.executor.tree_files import merge, remove
from lambent.kernel.errors import InvalidParameterValueException, InvalidZipFileException, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.models import Archive
from lambent.kernel.ports import BlobStore

_log = Log(__name__)
# Zips that are in memory at once, where the blob store has no files: of 50 MB each, 250 MB those from S3.
_IN_MEMORY = 2
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Tree:
    """A reference to a tree. `path` stays whole until `release`."""

    def __init__(self, path: Path, released: Callable[[], None]) -> None:
        self.path = path
        self._released: Callable[[], None] | None = released

    def release(self) -> None:
        """Gives the reference back; a second call does nothing."""
        released, self._released = self._released, None
        if released is not None:
            released()


class Trees:
    """The trees of one executor. Used from one event loop."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self._root = root
        self._blobs = blobs
        self._partial = root / "partial"
        self._uses: dict[Path, int] = {}  # every tree known, least recently used first
        self._locks: dict[Path, asyncio.Lock] = {}
        self._in_memory = asyncio.Semaphore(_IN_MEMORY)

    async def open(self) -> None:
        """Makes the folders, clears what a crash left, and learns which trees are there."""
        self._uses = dict.fromkeys(await asyncio.to_thread(self._prepare), 0)

    def _prepare(self) -> list[Path]:
        boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
        mark = self._root / "boot-id"
        stale = [self._partial]
        if not mark.exists() or mark.read_text() != boot:
            stale += [self._root / "code", self._root / "opt"]
        for folder in stale:
            if folder.exists():
                remove(folder)
        for folder in (self._root, self._partial, self._root / "code", self._root / "opt"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.write_text(boot)
        found = [entry for name in ("code", "opt") for entry in os.scandir(self._root / name)]
        found.sort(key=lambda entry: entry.stat().st_ctime)
        return [Path(entry.path) for entry in found if entry.name.rpartition("-")[2].isdigit()]

    async def acquire(self, archive: Archive) -> Tree:
        """The tree of one archive, unpacked if it is not there yet. Raises InvalidZipFileException,
        ResourceNotFoundException, ServiceException (as when the disk is full)."""
        return await self._acquire(self._code_path(archive), lambda: self._unpack(archive))

    async def acquire_opt(self, layers: Sequence[Archive]) -> Tree | None:
        """The one /opt of several layers, in order, later files over earlier ones; None without layers."""
        if not layers:
            return None
        if len(layers) == 1:
            return await self.acquire(layers[0])
        key = hashlib.sha256("".join(layer.digest for layer in layers).encode()).hexdigest()
        path = self._root / "opt" / f"{key}-{sum(layer.unzipped for layer in layers)}"
        return await self._acquire(path, lambda: self._merge(layers))

    def cached(self) -> frozenset[str]:
        """Digests of the code that is unpacked."""
        try:
            names = os.listdir(self._root / "code")
        except FileNotFoundError:
            return frozenset()
        return frozenset(name.partition("-")[0] for name in names)

    def _code_path(self, archive: Archive) -> Path:
        return self._root / "code" / f"{archive.digest}-{archive.unzipped}"

    async def _acquire(self, path: Path, build: Callable[[], Awaitable[Path]]) -> Tree:
        lock = self._locks.setdefault(path, asyncio.Lock())
        try:
            async with lock:
                if not path.is_dir():
                    self._move_in(await build(), path)
                # No await between this check and the count: `collect` takes only what has no uses.
                self._uses[path] = self._uses.pop(path, 0) + 1
        finally:
            if not lock.locked() and self._locks.get(path) is lock:
                del self._locks[path]
        return Tree(path, lambda: self._release(path))

    def _release(self, path: Path) -> None:
        self._uses[path] = self._uses.pop(path) - 1  # to the end: most recently used

    async def _unpack(self, archive: Archive) -> Path:
        local = await self._blobs.path(archive.digest)
        if local is not None:
            return await self._extract(Path(local))
        async with self._in_memory:
            return await self._extract(await self._blobs.get(archive.digest))

    async def _extract(self, source: bytes | Path) -> Path:
        try:
            return await asyncio.to_thread(self._build, lambda into: extract(source, into))
        except InvalidParameterValueException as refused:
            raise InvalidZipFileException(refused.message) from refused

    async def _merge(self, layers: Sequence[Archive]) -> Path:
        parts: list[Tree] = []
        try:
            for layer in layers:
                parts.append(await self.acquire(layer))
            paths = [part.path for part in parts]
            return await asyncio.to_thread(self._build, lambda into: merge(paths, into))
        finally:
            for part in parts:
                part.release()

    def _build(self, fill: Callable[[Path], object]) -> Path:
        """A finished tree in `partial/`; nothing on failure. Runs in a thread."""
        partial = self._partial / uuid.uuid4().hex
        try:
            partial.mkdir(mode=0o700)
            fill(partial)
            partial.chmod(0o755)
        except OSError as failure:
            self._discard(partial)
            if failure.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ServiceException(
                    f"The disk that holds {self._root} is full: the function's code could not be unpacked. "
                    "Free some space there and try again."
                ) from failure
            raise ServiceException(
                f"The function's code could not be unpacked below {self._root}: {failure.strerror or failure}."
            ) from failure
        except BaseException:
            self._discard(partial)
            raise
        return partial

    @staticmethod
    def _discard(partial: Path) -> None:
        if partial.exists():
            remove(partial)

    @staticmethod
    def _move_in(partial: Path, path: Path) -> None:
        try:
            partial.rename(path)
        except OSError as failure:
            # Two processes on one data folder, or an acquire that was cancelled and made again: both are whole.
            if failure.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not path.is_dir():
                raise ServiceException(
                    f"The tree {path} could not be moved in: {failure.strerror}."
                ) from failure
            remove(partial)

    async def collect(self, limit_bytes: int) -> int:
        """Removes trees that nothing uses, the least recently used first, until the rest is within
        `limit_bytes` (unzipped sizes; a merged /opt counts in full although it shares its files); how many."""
        total = sum(_size(path) for path in self._uses)
        doomed: list[Path] = []
        for path in [path for path, uses in self._uses.items() if not uses]:
            if total <= limit_bytes:
                break
            aside = self._partial / uuid.uuid4().hex
            del self._uses[path]
            total -= _size(path)
            try:
                path.rename(aside)
            except FileNotFoundError:
                continue
            doomed.append(aside)
        for aside in doomed:
            await asyncio.to_thread(remove, aside)
        if doomed:
            _log.info("Removed unpacked code that nothing uses.", trees=len(doomed), bytes_left=total)
        return len(doomed)

    def bytes(self) -> int:
        """Unzipped bytes of all trees that are there."""
        return sum(_size(path) for path in self._uses)


def _size(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
