"""Fills the gaps that imports left in the memory of a zygote, so that what a forked process allocates lies
side by side: each gap would cost it a page of its own. What fills them is kept, once for all forks.

Runs on every Python 3 that a runtime names: no newer syntax. Standard library only.
"""

from __future__ import annotations

import sys

_EMPTY = sys.getsizeof(b"")
# Of the interpreter's own allocator: blocks of these sizes lie in pools of so much.
_SMALL, _STEP, _POOL = 512, 16, 1 << 14
_LARGE = (1 << 15, 1 << 14, 1 << 13, 1 << 12, 3 << 10, 1 << 11, 1536, 1 << 10, 768, 544)
_MOST = 1 << 18  # bytes of one size


def fill_gaps() -> list[bytes]:
    """To be kept as long as the process lives."""
    kept: list[bytes] = []
    for size in _LARGE:
        kept.extend(bytes(size - _EMPTY) for _ in range(_MOST // size // 4))
    for size in range(_SMALL, _EMPTY, -_STEP):
        side_by_side, last = 0, 0
        for _ in range(_MOST // size):
            block = bytes(size - _EMPTY)
            kept.append(block)
            side_by_side = side_by_side + size if id(block) == last + size else 0
            last = id(block)
            if side_by_side >= _POOL:
                break
    return kept
