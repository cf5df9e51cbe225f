"""Small disks that can be filled to the last byte."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A sparse filesystem of 4 GB, for environments want 1.5 GB of free space before they start; on a loop
    device, for fsync means nothing on a tmpfs. Root alone may mount it."""
    image, disk = folder / "disk.ext4", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Takes the last byte of it; the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size, end = 1 << 30, 0
        while size >= 4096:
            try:
                os.posix_fallocate(file.fileno(), end, size)  # takes the blocks and writes none
                end += size
            except OSError as failure:
                if failure.errno != errno.ENOSPC:
                    raise
                size //= 2
    return ballast
