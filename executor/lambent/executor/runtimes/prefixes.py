"""Which folders of the host an interpreter needs to be shown to functions, at their own paths, and why some can
not be: they hold too much, lie where an environment has its own, or are closed to the user of functions.
"""

import os
from collections.abc import Sequence
from pathlib import Path

_BOUND_ANYWAY = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")  # every environment has them
_TAKEN = ("/opt", "/tmp", "/var/task", "/var/runtime", "/proc", "/dev", "/sys")


def bindable(folders: Sequence[Path], executable: Path, *modules: Path) -> tuple[Path, ...] | str:
    """The outermost of `folders` that every environment lacks, or why they cannot be shown. `modules`: files
    that have to be readable, beside `executable`."""
    prefixes = _outermost(folders)
    own = home().resolve()
    for prefix in prefixes:
        if own.is_relative_to(prefix):
            return f"needs files right in {prefix}, which cannot be shown to functions"
        if any(prefix.is_relative_to(taken) for taken in _TAKEN):
            return f"lies in {prefix}, where an environment has folders of its own"
    unreadable = _unreadable(prefixes, executable, *modules)
    if unreadable is not None:
        return f"{unreadable} cannot be read by the user that functions run as"
    return tuple(prefixes)


def home() -> Path:
    """The home folder of this user, or one that is not there."""
    path = Path(os.path.expanduser("~"))
    return path if path.is_absolute() else Path("/nonexistent")  # a service user may have none


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """The folders that are in no other one, nor in what every environment has."""
    outside = [
        path for path in dict.fromkeys(folders) if not any(path.is_relative_to(top) for top in _BOUND_ANYWAY)
    ]
    return [
        path for path in outside if not any(path != other and path.is_relative_to(other) for other in outside)
    ]


def _unreadable(prefixes: Sequence[Path], executable: Path, *modules: Path) -> Path | None:
    """The first thing that a function could not read. As root its user is another one, so the permissions of
    "others" count, from the bound folder down (a mount needs none of the folders above); else it is ours."""
    for path in (*prefixes, executable, *modules):
        need = os.R_OK | (os.X_OK if path not in modules else 0)
        if os.geteuid() != 0:
            if not os.access(path, need):
                return path
            continue
        inside = next((prefix for prefix in prefixes if path.is_relative_to(prefix)), None)
        chain = [path] if inside is None else [inside, *_between(inside, path)]
        for step in chain:
            bits = need if step == path else os.X_OK
            if step.stat().st_mode & bits != bits:
                return step
    return None


def _between(top: Path, path: Path) -> list[Path]:
    parts = path.relative_to(top).parts
    return [top.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
