"""Noticing that files of a folder have changed, for `lambent deploy --watch`. By looking, not by the kernel's
events: that works on every disk, in containers and on network mounts alike, and a code folder is small."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lambent.cli.client import Failed
from lambent.cli.package import files

SECONDS = 0.3

_Seen = Mapping[str, tuple[int, int]]


def changes(
    folder: Path, *, sleep: Callable[[float], None] = time.sleep, seconds: float = SECONDS
) -> Iterator[Sequence[str]]:
    """The names of the files that have changed, came or went since the last time, as often as there are some;
    once nothing has changed any more for one look, for editors write in several steps."""
    known = _look(folder, {})
    while True:
        sleep(seconds)
        now = _look(folder, known)
        if now == known:
            continue
        while True:
            sleep(seconds)
            later = _look(folder, now)
            if later == now:
                break
            now = later
        yield sorted(name for name in known.keys() | now.keys() if known.get(name) != now.get(name))
        known = now


def _look(folder: Path, before: _Seen) -> _Seen:
    """What is there; what was there before if the folder is between two states now. What makes it no package is
    a change too: the deploy says it."""
    try:
        return {
            path.relative_to(folder).as_posix(): (stat.st_mtime_ns, stat.st_size)
            for path in files(folder)
            if (stat := path.stat())
        }
    except Failed as failure:
        return {**before, ".": (hash(str(failure)), 0)}
    except OSError:
        return before
