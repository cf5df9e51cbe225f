"""How much of a disk may be taken: a part stays free for the server's data, whatever fills the rest."""

import os
from dataclasses import dataclass
from pathlib import Path

KEEP_FREE, KEEP_FREE_SHARE = 1 << 30, 0.05


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes. `kept`: what is kept of the free ones."""

    free: int
    kept: int


def space(folder: Path) -> Space:
    """On the file system of `folder`."""
    stat = os.statvfs(folder)
    total = stat.f_blocks * stat.f_frsize
    return Space(stat.f_bavail * stat.f_frsize, max(KEEP_FREE, int(total * KEEP_FREE_SHARE)))
