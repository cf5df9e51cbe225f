"""What a server leaves on a machine, looked for by the names that only this server uses, so that tests of
several servers at once do not see each other's."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support import require

from lambent.executor.drivers.sandbox.egress_addresses import table_name, tag


def instance_of(data_dir: Path) -> str:
    """The id in a data folder that has been used."""
    return str(json.loads((data_dir / "lambent.json").read_text())["instance"])


def processes(data_dir: Path) -> dict[int, str]:
    """{pid: command line} of what works for a data folder: by arguments, working directory or control group."""
    group = f"/lambent-{instance_of(data_dir)}"
    found = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid == os.getpid():
            continue
        try:
            proc = Path("/proc") / str(pid)
            command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            cwd = os.readlink(proc / "cwd")
            state = (proc / "stat").read_text().rpartition(")")[2].split()[0]
            ours = f"{data_dir}" in command or cwd.startswith(f"{data_dir}")
            ours = ours or group in (proc / "cgroup").read_text()
        except OSError:
            continue  # it ended while we looked
        if ours and state != "Z":
            found[pid] = command
    return found


def need_groups() -> None:
    """`environments` finds them by their control groups, which an ordinary user's have not."""
    require("root", os.geteuid() == 0, "environments are told from other processes by their control groups")


def environments(data_dir: Path) -> dict[int, str]:
    """Those of `processes` that run functions: they are in the environments' control groups."""
    group = f"/lambent-{instance_of(data_dir)}/"
    found = {}
    for pid, command in processes(data_dir).items():
        try:
            if group in (Path("/proc") / str(pid) / "cgroup").read_text():
                found[pid] = command
        except OSError:
            continue
    return found


def _groups(instance: str) -> Iterator[str]:
    for root in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        if (root / f"lambent-{instance}").is_dir():
            yield f"control group {root}/lambent-{instance}"


def _tables() -> list[str]:
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return done.stdout.split()


def left_behind(data_dir: Path) -> list[str]:
    """Everything of a server that should be gone after a stop, in words."""
    instance = instance_of(data_dir)
    found = [f"process {pid}: {command}" for pid, command in processes(data_dir).items()]
    found += _groups(instance)
    found += [f"link {n}" for n in os.listdir("/sys/class/net") if n.startswith(f"lmb{tag(instance)}-")]
    if table_name(instance) in _tables():
        found.append(f"nft table {table_name(instance)}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if f"{data_dir}/" in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if str(data_dir) in backing.read_text():
            found.append(f"loop device {backing}")
    found += [f"folder {path}" for path in Path("/tmp").glob(f"lambent-*{instance}*")]
    return found


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Waits for what can only be looked at, as another process's end. Fails with `what` after so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
