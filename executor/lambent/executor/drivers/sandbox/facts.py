"""What the sandbox driver enforces on this host, in words for `lambent doctor`, because a limit that
silently does not hold is worse than none. Pure: abilities in, sentences out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.sandbox.cgroups import Tree
from lambent.kernel.models import Enforcement

NO_NETWORK = Enforcement("network", True, "loopback only: functions reach nothing but the Runtime API")

_GROUPS_ADVICE = (
    "run as root, or give the server control groups: systemd-run --user --scope -p Delegate=yes lambent up"
)


@dataclass(frozen=True, slots=True)
class Host:
    """What was found out when the driver opened."""

    rootless: bool
    tree: Tree | None
    images: bool
    why: Mapping[str, str]
    nproc_hard: int
    filter_length: int


def enforcement(host: Host, config: DriverConfig) -> Sequence[Enforcement]:
    return (
        Enforcement("namespaces", True, "user, mount, pid, network, ipc, uts and cgroup"),
        _uids(host, config),
        Enforcement("capabilities", True, "none, in no set; no_new_privs"),
        Enforcement("system calls", True, f"seccomp filter of {host.filter_length} instructions"),
        _memory(host),
        _cpu(host, config),
        _processes(host, config),
        _freeze(host),
        _tmp(host),
    )


def _version(host: Host, controller: str) -> str:
    return "cgroup v1" if host.tree is not None and controller in host.tree.v1 else "cgroup v2"


def _has(host: Host, controller: str) -> bool:
    return host.tree is not None and host.tree.enforces(controller)


def _no_groups(host: Host) -> str:
    return host.why.get("groups", "this host's control groups lack the controller")


def _uids(host: Host, config: DriverConfig) -> Enforcement:
    if host.rootless:
        return Enforcement(
            "uid separation",
            False,
            "every environment runs as the server's own user (993 inside); namespaces alone keep them apart",
            "run as root",
        )
    last = config.uid_base + config.uid_count - 1
    return Enforcement("uid separation", True, f"one of {config.uid_base}-{last} each, 993 inside")


def _memory(host: Host) -> Enforcement:
    if _has(host, "memory"):
        return Enforcement("memory", True, _version(host, "memory"))
    how = f"looked at 5 times a second and killed above the limit, not stopped at it: {_no_groups(host)}"
    return Enforcement("memory", False, how, _GROUPS_ADVICE)


def _cpu(host: Host, config: DriverConfig) -> Enforcement:
    if _has(host, "cpu"):
        how = f"{_version(host, 'cpu')}, {config.limits.cpu_mb_per_core} MB = 1 core"
        return Enforcement("cpu", True, how)
    return Enforcement("cpu", False, f"not limited: {_no_groups(host)}", _GROUPS_ADVICE)


def _processes(host: Host, config: DriverConfig) -> Enforcement:
    limit = config.limits.processes
    if _has(host, "pids"):
        return Enforcement("processes", True, f"{_version(host, 'pids')}, {limit} each")
    if 0 <= host.nproc_hard < limit:
        limit = host.nproc_hard
    return Enforcement("processes", True, f"RLIMIT_NPROC in the user namespace, {limit} each")


def _freeze(host: Host) -> Enforcement:
    if host.tree is not None and host.tree.freezes:
        return Enforcement("freeze", True, _version(host, "freezer"))
    return Enforcement(
        "freeze", False, f"idle environments may go on computing: {_no_groups(host)}", _GROUPS_ADVICE
    )


def _tmp(host: Host) -> Enforcement:
    if host.images:
        return Enforcement("/tmp size", True, "ext4 image on a loop device")
    counts = "counts as its memory" if _has(host, "memory") else "takes the machine's memory"
    return Enforcement(
        "/tmp size",
        True,
        f"tmpfs of that size, whose content {counts}: {host.why.get('images', 'no images')}",
        "run as root with e2fsprogs and loop devices",
    )
