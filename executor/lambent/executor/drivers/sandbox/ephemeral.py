"""/tmp of environments as ext4 images on loop devices, because a tmpfs counts as the function's memory and
AWS's /tmp does not; and the promise that all of them together never take the disk that the durable data
needs.

An image has no name from the start (O_TMPFILE) and its device detaches itself, so both are gone when the
environment's mount namespace is, whatever killed the server. Sizes in MB are AWS's: 1,048,576 bytes.
"""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lambent.kernel import disk

_MB = 1 << 20
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG_SIZE, _LOOP_FLAGS_OFFSET = 304, 60
_EXT4_IOC_SHUTDOWN, _SHUTDOWN_DISCARD = 0x8004587D, 2
_TRIES = 32


class Image:
    """One environment's /tmp: the nameless file, and until it is mounted a hold on its loop device."""

    __slots__ = ("_file", "_hold", "device", "size")

    def __init__(self, file: int, hold: int, device: str, size: int) -> None:
        self._file = file
        self._hold = hold
        self.device = device
        self.size = size

    @property
    def hold(self) -> int:
        """A descriptor of the device, until it is mounted."""
        return self._hold

    def mounted(self) -> None:
        """The mount holds the device from now on."""
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    def unwritten(self) -> int:
        """Bytes that the image may still come to take."""
        return max(0, self.size - os.fstat(self._file).st_blocks * 512) if self._file >= 0 else 0

    def close(self) -> None:
        self.mounted()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def discard(folder: int) -> None:
    """Throws away an image file system's contents and closes `folder`, the last hold on it: without it the
    kernel would first write every dirty page of a /tmp that nobody will read. Blocks for some
    milliseconds."""
    try:
        fcntl.ioctl(folder, _EXT4_IOC_SHUTDOWN, struct.pack("I", _SHUTDOWN_DISCARD))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EPERM, errno.EOPNOTSUPP, errno.EIO):
            raise
    finally:
        os.close(folder)


class Images:
    """Makes images in `folder`, which must be on a file system of its own right to take them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: set[Image] = set()
        self._promised = 0  # bytes of those that are being made
        self._making = threading.Lock()  # one draft of a template at a time
        self._mkfs = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")

    def problem(self) -> str | None:
        """Why this host cannot, with advice; None if it seems to."""
        if self._mkfs is None:
            return "mkfs.ext4 is missing: install e2fsprogs"
        if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
            return "no loop devices (/dev/loop-control)"
        return None

    def promised(self) -> int:
        """Bytes that the images may still come to take."""
        return self._promised + sum(image.unwritten() for image in tuple(self._running))

    def refusal(self, size_mb: int) -> str | None:
        """Why one more image of that size would endanger the disk; None if there is room."""
        found = disk.space(self._folder)
        promised = self.promised()
        if found.free - promised - size_mb * _MB >= found.kept:
            return None
        return (
            f"no room for {size_mb} MB of /tmp: {found.free // _MB} MB are free at {self._folder}, of which "
            f"{found.kept // _MB} MB are kept for the server's data and {promised // _MB} MB are promised to "
            "running environments. Free disk space or stop idle functions"
        )

    @contextmanager
    def promise(self, size_mb: int) -> Iterator[None]:
        """Counts an image that is being made: starts at the same time must not share the same room."""
        self._promised += size_mb * _MB
        try:
            yield
        finally:
            self._promised -= size_mb * _MB

    def make(self, size_mb: int) -> Image:
        """An attached image. Blocks for about a millisecond; once per size some 10 ms. Raises OSError."""
        with self._making:
            template = self._template(size_mb)
        file = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            size = _copy_sparse(template, file)
            hold, device = _attach(file)
        except BaseException:
            os.close(file)
            raise
        image = Image(file, hold, device, size)
        self._running.add(image)
        return image

    def release(self, image: Image) -> None:
        image.close()
        self._running.discard(image)

    def _template(self, size_mb: int) -> Path:
        template = self._folder / f"tmp-{size_mb}.ext4"
        if template.exists():
            return template
        # A little more than the size, for the file system's own tables: as much is free as was asked for.
        draft = self._folder / f"tmp-{size_mb}.draft"
        with open(draft, "wb") as file:
            file.truncate((size_mb + size_mb // 64 + 4) * _MB)
        command = [str(self._mkfs), "-q", "-F", "-m", "0", "-i", "32768", "-O", "^has_journal,^resize_inode"]
        command += ["-E", "lazy_itable_init=1,nodiscard", str(draft)]
        done = subprocess.run(
            command, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            draft.unlink()
            raise OSError(f"mkfs.ext4 failed: {done.stderr.strip()}")
        draft.rename(template)
        return template


def _copy_sparse(template: Path, target: int) -> int:
    """Copies the data and leaves the holes; the size."""
    with open(template, "rb") as file:
        source, position = file.fileno(), 0
        size = os.fstat(source).st_size
        os.ftruncate(target, size)
        while True:
            try:
                start = os.lseek(source, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return size
                raise
            position = os.lseek(source, start, os.SEEK_HOLE)
            while start < position:
                start += os.pwrite(target, os.pread(source, min(_MB, position - start), start), start)


def _attach(file: int) -> tuple[int, str]:
    """(a descriptor that holds the device, its path). Another process may take a free device first: again."""
    config = bytearray(_LOOP_CONFIG_SIZE)
    struct.pack_into("=I", config, 0, file)
    struct.pack_into("=I", config, _LOOP_FLAGS_OFFSET, _LO_FLAGS_AUTOCLEAR)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            hold = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(hold, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(hold)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return hold, device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "every free loop device was taken by somebody else")
