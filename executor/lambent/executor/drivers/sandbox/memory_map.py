"""The memory of a process as the kernel lists it, and what of it a snapshot has to keep. Pure; standard library
only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

READ, WRITE, EXECUTE = 1, 2, 4
STACK, HEAP = "[stack]", "[heap]"
_KERNELS = ("[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]")
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S)(\S)(\S)(\S) ([0-9a-f]+) (\S+) (\d+) *(.*)")
_WIPED, _DROPPABLE, _SHADOW_STACK = "wf", "dp", "ss"


class Kind(Enum):
    """How an area comes to be in another process."""

    CONTENT = "its content is copied"
    FILE = "the same part of the same file"
    EMPTY = "new, without content"


@dataclass(frozen=True, slots=True)
class Area:
    """One mapping. `protection`: bits; `file`: (device, inode), or None; `offset` in the file;
    `anonymous`: bytes that are no file's, where that is known."""

    start: int
    end: int
    protection: int
    shared: bool
    offset: int
    file: tuple[str, int] | None
    path: str
    anonymous: int = field(default=0, compare=False)
    flags: tuple[str, ...] = field(default=(), compare=False)

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def kind(self) -> Kind:
        """Raises ValueError for one that cannot be in another process."""
        if _SHADOW_STACK in self.flags:
            raise ValueError("a shadow stack")
        if _WIPED in self.flags or _DROPPABLE in self.flags:
            return Kind.EMPTY  # what no child may have: state of random number generators
        if self.file is None:
            if self.shared:
                raise ValueError("memory that is shared")
            return Kind.CONTENT if self.protection else Kind.EMPTY
        if self.shared:
            if self.protection & WRITE or not self.path.startswith("/"):
                raise ValueError(f"a shared mapping of {self.path}")
            return Kind.FILE
        clean = not self.anonymous and not self.protection & WRITE and not self.path.endswith(" (deleted)")
        return Kind.FILE if clean else Kind.CONTENT


def of_text(text: str) -> list[Area]:
    """Of /proc/PID/maps or smaps, without what the kernel gives each process."""
    return [area for area in _areas(text) if area.path not in _KERNELS]


def _areas(text: str) -> Iterator[Area]:
    head: re.Match[str] | None = None
    anonymous, flags = 0, tuple[str, ...]()
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            if line.startswith("Anonymous:"):
                anonymous = int(line.split()[1]) << 10
            elif line.startswith("VmFlags:"):
                flags = tuple(line.split()[1:])
            continue
        if head is not None:
            yield _area(head, anonymous, flags)
        head, anonymous, flags = found, 0, ()
    if head is not None:
        yield _area(head, anonymous, flags)


def _area(found: re.Match[str], anonymous: int, flags: tuple[str, ...]) -> Area:
    start, end, read, write, execute, kept, offset, device, inode, path = found.groups()
    protection = (
        (READ if read == "r" else 0) | (WRITE if write == "w" else 0) | (EXECUTE if execute == "x" else 0)
    )
    file = (device, int(inode)) if int(inode) else None
    return Area(
        int(start, 16), int(end, 16), protection, kept == "s", int(offset, 16), file, path, anonymous, flags
    )


def uncovered(areas: Sequence[Area], by: Sequence[Area]) -> list[tuple[int, int]]:
    """The parts (start, end) of `areas` at which `by` has nothing."""
    found = []
    for area in areas:
        start = area.start
        for other in by:
            if other.end <= start or other.start >= area.end:
                continue
            if other.start > start:
                found.append((start, other.start))
            start = max(start, other.end)
        if start < area.end:
            found.append((start, area.end))
    return found


def is_free(start: int, size: int, areas: Sequence[Area]) -> bool:
    return all(area.end <= start or area.start >= start + size for area in areas)
