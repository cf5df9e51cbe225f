"""Blobs in a folder, because metadata may only name bytes that survive a crash: each blob is written aside,
fsynced, renamed to its digest, and its folders are fsynced, before `put` answers.

Layout: `<root>/ab/cd/<sha256 hex>`, `<root>/named/FOLDER/FILE` for those with names of their own, unfinished
writes in `<root>/aside/`, and `<root>/lock`, which keeps `collect` from deleting a blob that a `put` (of this
process or another) has just found to be there.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ResourceNotFoundException, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock

_log = Log(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DirectoryBlobs:
    """`ports.BlobStore` in the folder `root`, which is made when first needed, for its owner only."""

    def __init__(self, root: Path, *, clock: Clock | None = None) -> None:
        self._root = root
        self._clock = clock or SystemClock()

    async def put(self, data: bytes) -> str:
        """The hex digest. Raises ServiceException when the disk is full or refuses; nothing is left then."""
        return await asyncio.to_thread(self._put, data)

    async def get(self, digest: str) -> bytes:
        """Raises ResourceNotFoundException; ServiceException when the bytes are not the digest's any more."""
        return await asyncio.to_thread(self._get, digest)

    async def exists(self, digest: str) -> bool:
        return await self.path(digest) is not None

    async def path(self, digest: str) -> str | None:
        """The blob's file, which must only be read; its bytes are not verified."""
        file = self._file(digest)
        if file is None or not await asyncio.to_thread(file.is_file):
            return None
        return str(file)

    async def collect(self, keep: frozenset[str], *, untouched_seconds: float) -> int:
        """Deletes what is neither kept nor fresh; unfinished writes of dead processes as well, uncounted. What
        the disk refuses to delete stays; ServiceException when it refuses to list them."""
        try:
            return await asyncio.to_thread(self._collect, keep, untouched_seconds)
        except OSError as failure:
            raise ServiceException(f"{self._root} cannot be read: {failure.strerror}.") from failure

    async def put_named(self, name: str, data: bytes) -> None:
        """Raises ServiceException when the disk is full or refuses; nothing is left then."""
        await asyncio.to_thread(self._put_named, self._named_file(name), data)

    async def get_named(self, name: str) -> bytes:
        """Raises ResourceNotFoundException."""
        return await asyncio.to_thread(self._read, self._named_file(name), name)

    async def touch_named(self, name: str) -> None:
        """Raises ServiceException."""
        await asyncio.to_thread(self._touch_named, self._named_file(name))

    async def delete_named(self, name: str, *, untouched_seconds: float = 0.0) -> None:
        """Its empty folder stays until `named` finds it. Raises ServiceException."""
        await asyncio.to_thread(self._delete_named, self._named_file(name), untouched_seconds)

    async def named(self, *, untouched_seconds: float) -> Sequence[str]:
        try:
            return await asyncio.to_thread(self._names, self._clock.now() - untouched_seconds)
        except OSError as failure:
            raise ServiceException(f"{self._root} cannot be read: {failure.strerror}.") from failure

    def _named_file(self, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise ResourceNotFoundException(f"{name!r} is no name of a blob.")
        return self._root / "named" / name

    def _put_named(self, file: Path, data: bytes) -> None:
        try:
            aside = self._folder(self._root / "aside")
            try:
                self._write(aside, file, data)
            except FileNotFoundError:  # `named` has just removed the empty folder
                self._write(aside, file, data)
        except OSError as failure:
            raise self._refused(failure) from failure

    def _touch_named(self, file: Path) -> None:
        try:
            self._touch(file)
        except FileNotFoundError:
            return
        except OSError as failure:
            raise ServiceException(f"The blob {file} cannot be touched: {failure.strerror}.") from failure

    def _delete_named(self, file: Path, untouched_seconds: float) -> None:
        try:
            if not untouched_seconds or file.stat().st_mtime <= self._clock.now() - untouched_seconds:
                file.unlink()
        except FileNotFoundError:
            return
        except OSError as failure:
            raise ServiceException(f"The blob {file} cannot be deleted: {failure.strerror}.") from failure

    def _names(self, before: float) -> list[str]:
        names: list[str] = []
        for folder in (self._root / "named").glob("*"):
            with contextlib.suppress(OSError):  # not empty, most often
                folder.rmdir()
                continue
            for file in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    if file.stat().st_mtime <= before:
                        names.append(f"{folder.name}/{file.name}")
        return sorted(names)

    def _file(self, digest: str) -> Path | None:
        # Digests come from stored metadata and from URLs: nothing but a digest may become a path.
        if _DIGEST.fullmatch(digest) is None:
            return None
        return self._root / digest[:2] / digest[2:4] / digest

    def _put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        file = self._file(digest)
        assert file is not None
        try:
            aside = self._folder(self._root / "aside")
            with self._lock(fcntl.LOCK_SH):
                if not self._touched(file, data):
                    self._write(aside, file, data)
        except OSError as failure:
            raise self._refused(failure) from failure
        return digest

    def _touched(self, file: Path, data: bytes) -> bool:
        """Whether the blob is there and whole; a damaged one is written again, so that an upload heals it."""
        try:
            whole = file.stat().st_size == len(data) and file.read_bytes() == data
        except FileNotFoundError:
            return False
        if whole:
            self._touch(file)
        return whole

    def _touch(self, file: Path) -> None:
        now = self._clock.now()
        os.utime(file, (now, now))

    def _write(self, aside: Path, file: Path, data: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=aside)
        try:
            with open(descriptor, "wb") as writing:
                writing.write(data)
                writing.flush()
                os.fsync(writing.fileno())
            os.chmod(name, 0o444)
            self._touch(Path(name))
            self._folder(file.parent)
            os.rename(name, file)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        _fsync_folder(file.parent)

    def _folder(self, folder: Path) -> Path:
        """Makes a folder and those above it, each name fsynced, for a rename into a lost folder is lost."""
        if not folder.is_dir():
            self._folder(folder.parent)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _fsync_folder(folder.parent)
        return folder

    def _get(self, digest: str) -> bytes:
        file = self._file(digest)
        if file is None:
            raise ResourceNotFoundException(f"There is no blob {digest}.")
        data = self._read(file, digest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ServiceException(
                f"The blob {file} is corrupt: its {len(data)} bytes are not what was stored. "
                "Restore the file from a backup, or upload the same code again."
            )
        return data

    @staticmethod
    def _read(file: Path, name: str) -> bytes:
        try:
            return file.read_bytes()
        except FileNotFoundError:
            raise ResourceNotFoundException(f"There is no blob {name}.") from None
        except OSError as failure:
            raise ServiceException(f"The blob {file} cannot be read: {failure.strerror}.") from failure

    def _collect(self, keep: frozenset[str], untouched_seconds: float) -> int:
        if not self._root.is_dir():
            return 0
        before = self._clock.now() - untouched_seconds
        deleted = 0
        for file in self._root.glob("??/??/*"):
            if file.name not in keep and _DIGEST.fullmatch(file.name):
                deleted += self._delete_older(file, before)
        for file in (self._root / "aside").glob("*"):
            self._delete_older(file, before)
        return deleted

    def _delete_older(self, file: Path, before: float) -> bool:
        # One lock per file: a put that waits for it then finds the blob gone, and writes it.
        with self._lock(fcntl.LOCK_EX):
            try:
                if file.stat().st_mtime > before:
                    return False
                file.unlink()
            except FileNotFoundError:
                return False
            except OSError as failure:
                # The others must not wait for it.
                _log.warning("An unused blob cannot be deleted.", file=str(file), failure=failure)
                return False
        _log.debug("Blob collected.", file=str(file))
        return True

    @contextlib.contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _refused(self, failure: OSError) -> ServiceException:
        if failure.errno in _FULL:
            return ServiceException(
                f"The disk of {self._root} is full: nothing was stored. Free some space there and try again."
            )
        return ServiceException(f"{self._root} cannot be written: {failure.strerror}. Nothing was stored.")


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
