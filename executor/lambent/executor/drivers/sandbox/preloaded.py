"""Modules that a zygote has loaded and a plain start would not have: out of sight in an environment, and served
from memory when the function imports them, unless it has a module of that name itself, which must win as it
would after a plain start. Runs on every Python 3 that a runtime names: no newer syntax.
"""

from __future__ import annotations

import sys

_OURS = "lambent"


class Preloaded:
    """`plain`: the names that a plain start would have loaded."""

    def __init__(self, plain: set[str]) -> None:
        self._plain = plain

    def hide(self) -> None:
        for name in list(sys.modules):
            if name not in self._plain:
                del sys.modules[name]
