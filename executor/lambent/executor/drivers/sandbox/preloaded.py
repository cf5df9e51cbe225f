"""Modules that a zygote has loaded and a plain start would not have: out of sight in an environment, and served
from memory when the function imports one. A module of the function's own of the same name must win, as it would
after a plain start; and since those here hold on to each other, one such name ends them all.

Runs on every Python 3 that a runtime names: no newer syntax.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_OURS = "lambent"


class Preloaded:
    """A finder of modules. `plain`: the names that a plain start would have loaded; `wanted`: what to load."""

    def __init__(self, plain: set[str], wanted: Sequence[str]) -> None:
        for name in wanted:
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # a runtime folder without it
        importlib.machinery.PathFinder.find_spec("nothing", ["/var/task"])  # so that its finder is there
        self._path = list(sys.path)
        self._looked: list[str] = []
        self._modules = {
            name: module
            for name, module in sys.modules.items()
            if name not in plain and name.partition(".")[0] != _OURS
        }
        self._specs = {name: getattr(module, "__spec__", None) for name, module in self._modules.items()}
        self._needs = {name: self._needed_by(module) for name, module in self._modules.items()}
        self._names = {name.partition(".")[0] for name in self._modules}
        self._plain = plain
        self._kept: list[object] = []
        for name, module in sys.modules.items():
            if name.partition(".")[0] == _OURS:
                self.keep(module)

    def keep(self, what: object) -> None:
        """Keeps it for ever: to free it in a fork would write to pages that are shared."""
        self._kept.append(what)

    def hide(self) -> None:
        """To be called before anything is forked: in a child it would write to pages that are shared."""
        for name in list(sys.modules):
            if name not in self._plain:
                del sys.modules[name]
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        module = self._modules.get(name)
        if module is None or self._functions_own():
            return None
        own = self._specs[name]
        spec = ModuleSpec(name, self, origin=own and own.origin, is_package=hasattr(module, "__path__"))  # type: ignore[arg-type]
        spec.has_location = bool(own and own.has_location)
        if own is not None and own.submodule_search_locations is not None:
            spec.submodule_search_locations = list(own.submodule_search_locations)
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It has run already. What it imports is brought in, so that it is where it would be."""
        module.__spec__ = self._specs[module.__name__]
        hooked = sys.meta_path[0] is not self  # by somebody who wants to see each import
        waiting = list(self._needs[module.__name__])
        while waiting:
            name = waiting.pop()
            if name in sys.modules:
                continue
            if hooked:
                importlib.import_module(name)
            else:
                sys.modules[name] = self._modules[name]
                waiting.extend(self._needs[name])

    def _needed_by(self, module: ModuleType) -> tuple[str, ...]:
        """The names of the modules here that it has, or has something of, and those that they are in."""
        found: set[str] = set()
        for value in list(vars(module).values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            while isinstance(name, str) and name in self._modules:
                found.add(name)
                name = name.rpartition(".")[0]
        return tuple(found - {module.__name__})

    def _functions_own(self) -> bool:
        """Whether the function brings one of these modules; then none is served from here on."""
        folders = [folder for folder in sys.path if folder not in self._path]
        if folders != self._looked:
            self._looked = folders
            if any(_brings(folder, self._names) for folder in folders):
                self._modules.clear()
        return not self._modules


def _brings(folder: str, names: set[str]) -> bool:
    try:
        entries = os.listdir(folder or ".")
    except FileNotFoundError:
        return False
    except OSError:  # an archive: what is in it is not looked at
        return True
    return any(entry.partition(".")[0] in names for entry in entries)
