"""Finds and ends exactly the server process that a killed Lambent left behind, because its data may be opened
only once it is gone, and a pid alone may long be another program's.

A process is ours if the pidfile's pid, start time and program all still agree; or, where Lambent was killed
between the start and the pidfile's fsync, if it runs our program with our folder as its working directory.
Linux only: elsewhere there is no /proc and nothing is found.
"""

import json
import os
import select
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from lambent.cli.client import Failed
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock

_log = Log(__name__)
_PROC = Path("/proc")
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: `start` is its start in clock ticks since boot, `boot` the boot's id, `program`
    the path of its executable."""

    pid: int
    start: int
    boot: str
    program: str


def identify(pid: int) -> ProcessId | None:
    """Who has this pid now; None if nobody, or a zombie, or a process that we may not look at."""
    try:
        # The second field is the name in brackets and may hold anything; the third is the state.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        program = os.readlink(_PROC / str(pid) / "exe").removesuffix(" (deleted)")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[19]), boot, program)


def write_pidfile(path: Path, process: ProcessId) -> None:
    """Replaces the file in one step, on disk when it returns."""
    aside = path.with_suffix(".new")
    with aside.open("w") as file:
        json.dump(asdict(process), file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def find(pidfile: Path, *, program: Path, folder: Path) -> ProcessId | None:
    """The leftover that still runs, if there is one."""
    try:
        noted = ProcessId(**json.loads(pidfile.read_text()))
    except FileNotFoundError:
        noted = None
    except (OSError, ValueError, TypeError) as failure:
        _log.warning("A pidfile is not readable; looking by folder.", file=pidfile, failure=failure)
        noted = None
    if noted is not None and identify(noted.pid) == noted:
        return noted
    return _working_in(folder, os.path.realpath(program))


def _working_in(folder: Path, program: str) -> ProcessId | None:
    here = os.path.realpath(folder)
    for entry in os.listdir(_PROC) if _PROC.is_dir() else ():
        try:
            if not entry.isdigit() or os.readlink(_PROC / entry / "cwd") != here:
                continue
        except OSError:
            continue  # gone meanwhile, or another user's: not ours
        process = identify(int(entry))
        if process is not None and process.program == program:
            return process
    return None


async def end(process: ProcessId, *, name: str, clock: Clock, seconds: float) -> None:
    """SIGTERM, then after `seconds` SIGKILL; returns once it is gone. Raises Failed if it cannot be ended."""
    try:
        # The descriptor holds this very process: a pid that is given to another one now cannot be hit.
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
            if identify(process.pid) != process:
                return
            signal.pidfd_send_signal(handle, number)
            if await _gone(handle, clock, patience):
                return
    except ProcessLookupError:
        return
    except PermissionError as failure:
        raise Failed(
            f"a {name} server (pid {process.pid}) still uses this data folder and belongs to another user. "
            f"Stop it as that user: kill {process.pid}"
        ) from failure
    finally:
        os.close(handle)
    raise Failed(f"the leftover {name} server (pid {process.pid}) does not end, even by kill -9.")


async def _gone(handle: int, clock: Clock, seconds: float) -> bool:
    # The descriptor is readable once the last thread has ended. /proc says "zombie" as soon as the first
    # one has, while others still hold the files and ports.
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    until = clock.monotonic() + seconds
    while not ended.poll(0):
        if clock.monotonic() > until:
            return False
        await clock.sleep(_POLL_SECONDS)
    return True


async def reap(pidfile: Path, *, name: str, program: Path, folder: Path, clock: Clock, seconds: float) -> int:
    """Ends what an earlier Lambent left running in `folder`; how many processes. Raises Failed."""
    ended = 0
    while (process := find(pidfile, program=program, folder=folder)) is not None:
        _log.warning("Ending a server that an earlier Lambent left behind.", server=name, pid=process.pid)
        await end(process, name=name, clock=clock, seconds=seconds)
        ended += 1
    pidfile.unlink(missing_ok=True)
    return ended
