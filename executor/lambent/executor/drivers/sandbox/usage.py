"""How much memory and CPU time a tree of processes uses, read from /proc, for hosts without control groups that
would count it. Bytes and microseconds; processes that end meanwhile count as nothing.

Counts resident anonymous and shared memory; of more than two processes what they share is divided (PSS), since
forked workers share most of it.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

_STATUS = ("RssAnon:", "RssShmem:")
_ROLLUP = ("Pss_Anon:", "Pss_Shmem:")
_QUICKLY_READ = 16  # processes: what a process shares is worked out page by page, milliseconds each
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def memory_of(roots: Iterable[int]) -> int:
    """Memory of the processes `roots` (pids; negative ones are skipped) and all that descend from them."""
    return _memory(_tree(roots))


def used_by(roots: Iterable[int]) -> tuple[int, int]:
    """(memory; CPU time, of their children that ended too) of those processes, from one walk. It is on the way
    of every answer, and so of more processes than a few the memory is 0: for who asks now and then."""
    pids = _tree(roots)
    ticks = 0
    for pid in pids:
        _, _, rest = _text(Path(f"/proc/{pid}/stat")).rpartition(")")
        ticks += sum(int(word) for word in rest.split()[11:15])
    return _memory(pids) if len(pids) <= _QUICKLY_READ else 0, ticks * _TICK_US


def _tree(roots: Iterable[int]) -> list[int]:
    return list(_descendants(pid for pid in roots if pid > 0))


def _memory(pids: list[int]) -> int:
    quick = sum(_sum(Path(f"/proc/{pid}/status"), _STATUS) for pid in pids)
    if len(pids) <= 2:
        return quick
    exact = sum(_sum(Path(f"/proc/{pid}/smaps_rollup"), _ROLLUP) for pid in pids)
    return exact or quick


def _descendants(roots: Iterable[int]) -> Iterable[int]:
    pending, seen = list(roots), set[int]()
    while pending:
        pid = pending.pop()
        if pid in seen:
            continue
        seen.add(pid)
        yield pid
        for task in _listed(Path(f"/proc/{pid}/task")):
            pending.extend(int(word) for word in _text(task / "children").split())


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # ended meanwhile, or ending (then its memory is no longer shown)


def _sum(path: Path, names: tuple[str, ...]) -> int:
    """The sum of those fields, which are in kB."""
    return 1024 * sum(int(line.split()[1]) for line in _text(path).splitlines() if line.startswith(names))


def is_dying(pid: int) -> bool:
    """Whether a process has been killed, be it that it is not dead yet."""
    fields = dict(line.split(":", 1) for line in _text(Path(f"/proc/{pid}/status")).splitlines() if ":" in line)
    if not fields or fields["State"].split()[0] in "ZX":
        return True
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return bool(pending & 1 << signal.SIGKILL - 1)
