"""Limits, freezing, killing and counting by control groups, of either version and of both at once, because
a host may have v1 controllers beside a v2 tree without any, v2 alone, or nothing that we may write to.

`find` looks once; `Tree.make` gives each environment its groups: `lambent-<instance>/<id>` under this
process's own group, the nearest group above that takes them, or the root. The spawner and a sleeping PID 1
stay outside; the driver moves the runtime process in. Memory in bytes, CPU in microseconds.
"""

import errno
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.kernel.log import Log

_log = Log(__name__)

CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
_MEMORY_AND_SWAP = "memory.memsw.limit_in_bytes"
_PERIOD_US = 20_000
_MIN_QUOTA_US = 1_000


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one environment gets from the start: memory in bytes, number of processes."""

    memory: int
    processes: int


def cpu_quota(cpus: float) -> tuple[int, int]:
    """(quota, period) in microseconds; the kernel refuses quotas under 1 ms."""
    return max(_MIN_QUOTA_US, int(cpus * _PERIOD_US)), _PERIOD_US


@dataclass(frozen=True, slots=True)
class Tree:
    """Where this host takes groups. `v1`: {controller: folder}, `unified`: the v2 folder, or None;
    `unified_controllers`: what v2 enforces there."""

    v1: Mapping[str, Path]
    unified: Path | None
    unified_controllers: frozenset[str]

    def enforces(self, controller: str) -> bool:
        return controller in self.v1 or controller in self.unified_controllers

    @property
    def freezes(self) -> bool:
        return "freezer" in self.v1 or self.unified is not None

    def folders(self) -> Iterator[Path]:
        yield from self.v1.values()
        if self.unified is not None:
            yield self.unified

    def make(self, environment_id: str, quotas: Quotas) -> "Groups":
        """Makes an environment's groups with their limits. Raises OSError; nothing is left then."""
        groups = Groups(
            {name: folder / environment_id for name, folder in self.v1.items()},
            self.unified / environment_id if self.unified is not None else None,
            self.unified_controllers,
        )
        try:
            groups.create(quotas)
        except OSError:
            groups.remove()
            raise
        return groups

    def reap(self, *, seconds: float = 5.0) -> int:
        """Kills and removes what an earlier run left; how many environments. Raises OSError if one stays."""
        left = {child.name for folder in self.folders() for child in _children(folder)}
        for name in left:
            groups = Groups(
                {controller: folder / name for controller, folder in self.v1.items()},
                self.unified / name if self.unified is not None else None,
                self.unified_controllers,
            )
            groups.kill()
            end = time.monotonic() + seconds
            while not groups.remove():
                if time.monotonic() > end:
                    raise OSError(f"the control group {name} of an earlier run cannot be emptied")
                groups.kill()
                time.sleep(0.01)
        return len(left)

    def remove(self) -> None:
        """Removes the folders that `find` made, now that they are empty."""
        for folder in self.folders():
            try:
                folder.rmdir()
            except OSError as error:
                _log.warning("A control group stays.", folder=str(folder), failure=str(error))


class Groups:
    """The groups of one environment. The files that each invocation touches are opened once and kept."""

    __slots__ = (
        "_cpu_file",
        "_cpu_us",
        "_freeze_file",
        "_peak",
        "_peak_file",
        "_unified",
        "_unified_controllers",
        "_v1",
    )

    def __init__(
        self, v1: Mapping[str, Path], unified: Path | None, unified_controllers: frozenset[str]
    ) -> None:
        self._v1 = v1
        self._unified = unified
        self._unified_controllers = unified_controllers
        self._peak = self._cpu_us = 0
        self._peak_file = self._freeze_file = self._cpu_file = -1

    @property
    def counts_memory(self) -> bool:
        return "memory" in self._v1 or "memory" in self._unified_controllers

    @property
    def counts_cpu(self) -> bool:
        return "cpuacct" in self._v1 or self._unified is not None

    def create(self, quotas: Quotas) -> None:
        for folder in self._folders():
            folder.mkdir()
        self._limit_swap()
        self.limit_memory(quotas.memory)
        if pids := self._v1.get("pids"):
            _write(pids / "pids.max", str(quotas.processes))
        if self._unified is None:
            return
        if "pids" in self._unified_controllers:
            _write(self._unified / "pids.max", str(quotas.processes))

    def _limit_swap(self) -> None:
        """No swap; where it cannot be limited, as little as the kernel can do with."""
        memory = self._v1.get("memory")
        if memory is not None and not (memory / _MEMORY_AND_SWAP).exists():
            _write(memory / "memory.swappiness", "0")
        if self._unified is not None and "memory" in self._unified_controllers:
            if (self._unified / "memory.swap.max").exists():
                _write(self._unified / "memory.swap.max", "0")

    def limit_memory(self, size: int) -> None:
        """In bytes, swap included; set again it may only become less."""
        if memory := self._v1.get("memory"):
            _write(memory / "memory.limit_in_bytes", str(size))
            if (memory / _MEMORY_AND_SWAP).exists():
                _write(memory / _MEMORY_AND_SWAP, str(size))
        if self._unified is not None and "memory" in self._unified_controllers:
            _write(self._unified / "memory.max", str(size))

    def limit_cpu(self, cpus: float) -> None:
        """Sets the share of CPU, in cores. Apart from the rest, for it would slow the making of the environment
        as it slows the function."""
        quota, period = cpu_quota(cpus)
        if cpu := self._v1.get("cpu"):
            _write(cpu / "cpu.cfs_period_us", str(period))
            _write(cpu / "cpu.cfs_quota_us", str(quota))
        elif self._unified is not None and "cpu" in self._unified_controllers:
            _write(self._unified / "cpu.max", f"{quota} {period}")

    def join(self, pid: int) -> None:
        """Moves a process of one thread in. Raises OSError. The first move after a pause takes some 10 ms (the
        kernel waits for a grace period), so not on the event loop."""
        for folder in self._folders():
            _write(folder / "cgroup.procs", str(pid))

    def freeze(self) -> None:
        """Freezes, as far as the host can; the processes stop within some microseconds."""
        self._freezer("1", "FROZEN")

    def thaw(self) -> None:
        self._freezer("0", "THAWED")

    def _freezer(self, unified: str, v1: str) -> None:
        if self._freeze_file < 0:
            if self._unified is not None:
                path = self._unified / "cgroup.freeze"
            elif "freezer" in self._v1:
                path = self._v1["freezer"] / "freezer.state"
            else:
                return
            self._freeze_file = _open_if_there(path, os.O_WRONLY)
            if self._freeze_file < 0:
                return
        try:
            os.pwrite(self._freeze_file, (unified if self._unified is not None else v1).encode(), 0)
        except OSError as error:
            if error.errno != errno.ENODEV:  # the group is gone
                raise

    def kill(self) -> None:
        """SIGKILL to every process in the groups, frozen or not; thaws, for v1 frozen ones die only then."""
        if self._unified is not None and _write_if_there(self._unified / "cgroup.kill", "1"):
            _write_if_there(self._unified / "cgroup.freeze", "0")
            return
        for folder in self._folders():
            for pid in _pids(folder):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if freezer := self._v1.get("freezer"):
            _write_if_there(freezer / "freezer.state", "THAWED")

    def peak(self) -> int:
        """The most memory so far, page cache included; what was last read once the groups are gone."""
        if self._peak_file < 0:
            for path in self._peak_paths():
                self._peak_file = _open_if_there(path, os.O_RDONLY)
                if self._peak_file >= 0:
                    break
            else:
                return self._peak
        try:
            self._peak = max(self._peak, int(os.pread(self._peak_file, 32, 0)))
        except OSError as error:
            if error.errno != errno.ENODEV:  # the group is gone
                raise
        return self._peak

    def _peak_paths(self) -> Iterator[Path]:
        if memory := self._v1.get("memory"):
            yield memory / "memory.max_usage_in_bytes"
        elif self._unified is not None and "memory" in self._unified_controllers:
            yield self._unified / "memory.peak"
            yield self._unified / "memory.current"  # kernels before 5.19

    def cpu_us(self) -> int:
        """CPU time so far; what was last read once the groups are gone."""
        accounting = self._v1.get("cpuacct")
        if self._cpu_file < 0:
            path = accounting / "cpuacct.usage" if accounting else self._unified and self._unified / "cpu.stat"
            self._cpu_file = _open_if_there(path, os.O_RDONLY) if path else -1
            if self._cpu_file < 0:
                return self._cpu_us
        try:
            text = os.pread(self._cpu_file, 64, 0)
        except OSError as error:
            if error.errno != errno.ENODEV:  # the group is gone
                raise
            return self._cpu_us
        # Nanoseconds; or cpu.stat, whose first line is "usage_usec N".
        self._cpu_us = int(text) // 1000 if accounting else int(text.split(maxsplit=2)[1])
        return self._cpu_us

    def oom_kills(self) -> int:
        if memory := self._v1.get("memory"):
            return _field(memory / "memory.oom_control", "oom_kill")
        if self._unified is not None and "memory" in self._unified_controllers:
            return _field(self._unified / "memory.events", "oom_kill")
        return 0

    def empty(self) -> bool:
        return not any(_pids(folder) for folder in self._folders())

    def remove(self) -> bool:
        """Removes the groups; whether all are gone."""
        for descriptor in (self._peak_file, self._freeze_file, self._cpu_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._peak_file = self._freeze_file = self._cpu_file = -1
        gone = True
        for folder in self._folders():
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                gone = False
        return gone

    def _folders(self) -> Iterator[Path]:
        yield from self._v1.values()
        if self._unified is not None:
            yield self._unified


def group_name(instance: str) -> str:
    return "lambent-" + re.sub(r"[^A-Za-z0-9_-]", "-", instance)


def find(
    instance: str,
    *,
    mounts: str | None = None,
    own: str | None = None,
) -> Tree:
    """Makes `lambent-<instance>` wherever this process may. `mounts` and `own`: the texts of
    /proc/self/mountinfo and /proc/self/cgroup."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mounts is None else mounts
    own = Path("/proc/self/cgroup").read_text(encoding="utf-8") if own is None else own
    name = group_name(instance)
    v1_mounts, unified_mount = _parse_mounts(mounts)
    paths = _parse_own(own)
    unified, unified_controllers = None, frozenset[str]()
    if unified_mount is not None:
        unified, unified_controllers = _make_unified(unified_mount, paths.get("", "/"), name)
    wanted: Iterable[str] = CONTROLLERS
    if unified is None or not (unified / "cgroup.freeze").exists():
        wanted = (*CONTROLLERS, "freezer")
    v1: dict[str, Path] = {}
    for controller in wanted:
        if controller in v1_mounts:
            folder = _make_first(v1_mounts[controller], paths.get(controller, "/"), name)
            if folder is not None:
                v1[controller] = folder
    # cpu and cpuacct are often one hierarchy: one folder, made and joined once
    for controller in ("cpuacct",):
        if "cpu" in v1 and controller in v1 and v1["cpu"].resolve() == v1[controller].resolve():
            v1[controller] = v1["cpu"]
    return Tree(v1, unified, unified_controllers)


def _parse_mounts(text: str) -> tuple[dict[str, Path], Path | None]:
    v1: dict[str, Path] = {}
    unified = None
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = Path(before.split(" ")[4].encode().decode("unicode_escape"))
        if kind == "cgroup2" and unified is None:
            unified = point
        elif kind == "cgroup":
            for option in options.split(" ")[-1].split(","):
                v1.setdefault(option, point)
    return v1, unified


def _parse_own(text: str) -> dict[str, str]:
    """{controller: path}; "" is v2."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """From a group up to its hierarchy's root; only the root when the path lies outside the mount."""
    inside = Path(path.lstrip("/"))
    if ".." in inside.parts or not (mount / inside).is_dir():
        inside = Path()
    yield mount / inside
    for parent in inside.parents:
        yield mount / parent


def _make_first(mount: Path, path: str, name: str) -> Path | None:
    candidates = list(dict.fromkeys(_upwards(mount, path)))
    for parent in (candidates[0], candidates[-1]):
        if _mkdir(parent / name):
            return parent / name
    return None


def _make_unified(mount: Path, path: str, name: str) -> tuple[Path | None, frozenset[str]]:
    """The nearest group upwards whose children get controllers (a group with processes cannot pass them on),
    else the nearest that takes a child at all: freezing and killing work without controllers."""
    bare = None
    for parent in dict.fromkeys(_upwards(mount, path)):
        if not _mkdir(parent / name):
            continue
        enabled = _enable(parent) & _enable(parent / name)
        if enabled:
            if bare is not None:
                bare.rmdir()
            return parent / name, enabled
        if bare is None:
            bare = parent / name
        else:
            (parent / name).rmdir()
    return bare, frozenset()


def _enable(folder: Path) -> frozenset[str]:
    """Passes our controllers on to `folder`'s children, as far as it goes; those that they then have."""
    available = _words(folder / "cgroup.controllers")
    for controller in ("memory", "cpu", "pids"):
        if controller in available and controller not in _words(folder / "cgroup.subtree_control"):
            try:
                _write(folder / "cgroup.subtree_control", f"+{controller}")
            except OSError as error:
                _log.debug(
                    "A controller stays off.", folder=str(folder), controller=controller, failure=str(error)
                )
    return frozenset(_words(folder / "cgroup.subtree_control")) & {"memory", "cpu", "pids"}


def _mkdir(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
        return os.access(folder / "cgroup.procs", os.W_OK)
    except OSError:
        return False


def _children(folder: Path) -> Sequence[Path]:
    return [child for child in folder.iterdir() if child.is_dir()]


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"{path.name} = {text}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _open_if_there(path: Path, flags: int) -> int:
    """A descriptor, or -1 if there is no such file."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _write_if_there(path: Path, text: str) -> bool:
    try:
        _write(path, text)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed between open and write
            return False
        raise
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return ""
        raise


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text else None


def _field(path: Path, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _words(path: Path) -> list[str]:
    return _read(path).split()


def _pids(folder: Path) -> list[int]:
    return [int(word) for word in _words(folder / "cgroup.procs")]
