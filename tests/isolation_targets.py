"""What attempts of the isolation tests reach for: a server with secrets, another function that is warm on it,
and things of the host."""

import contextlib
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isolation_world import Attempts, halves, processes_of
from running import Functions, Server

SECRET = uuid.uuid4().hex
SETTING = uuid.uuid4().hex
MARKER = f"marker_{uuid.uuid4().hex}.txt"
# For the server: keys of its own, and a setting that has a password.
ENVIRONMENT = {"AWS_SECRET_ACCESS_KEY": SECRET, "LAMBENT_REACHABLE": f"redis://:{SETTING}@127.0.0.1:9"}


@dataclass(frozen=True)
class World:
    """A server that got ENVIRONMENT; `other` is warm on it, and its code has a file MARKER."""

    server: Server
    functions: Functions
    other: str
    attempts: Attempts


@contextlib.contextmanager
def targets(server: Server) -> Iterator[World]:
    """Of a server that runs. `attempts`: by names, what succeeds on the host for whoever may."""
    with socket.socket(socket.AF_UNIX) as listener:
        functions = Functions(server)
        code = {"app.py": "def handler(event, context):\n    return 1\n", MARKER: "another function's"}
        other = functions.create(code)
        assert functions.invoke(other).result == 1
        name = f"@lambent-test-{uuid.uuid4().hex}"
        listener.bind("\0" + name[1:])
        listener.listen()
        segment, key = _segment()
        try:
            yield World(server, functions, other, _attempts(server, other, name, key))
        finally:
            subprocess.run(["ipcrm", "-m", segment], check=True)


def secrets_of(server: Server) -> dict[str, bytes]:
    """What the server knows and no function may: {what: bytes}."""
    stored = (server.data_dir / "secret").read_bytes()
    return {"credentials": SECRET.encode(), "a setting": SETTING.encode(), "the stored one": stored}


def _segment() -> tuple[str, int]:
    """A System V segment of the host that anybody may read: its id and key."""
    made = subprocess.run(["ipcmk", "-M", "4096", "-p", "0666"], check=True, capture_output=True, text=True)
    segment = made.stdout.split()[-1]
    shown = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    key = next(int(line.split()[0]) for line in shown if line.split()[1] == segment)
    return segment, key & 0xFFFFFFFF


def _attempts(server: Server, other: str, name: str, key: int) -> Attempts:
    data = server.data_dir
    tree = next(path.parent for path in data.glob(f"trees/code/*/{MARKER}"))
    blob = next(path for path in (data / "blobs").rglob("*") if path.is_file() and path.stat().st_size)
    (running,) = processes_of(other)
    files: dict[str, Path | str] = {
        "another function's code": tree / MARKER,
        "another function's code, by its process": f"/proc/{running}/root/var/task/{MARKER}",
        "a blob": blob,
        "the server's secret": data / "secret",
        "the store's data": next((data / "redis" / "appendonlydir").glob("*.incr.aof")),
        "the shadow file": "/etc/shadow",
        "the shadow file, by pid 1": "/proc/1/root/etc/shadow",
        "the server's environment": f"/proc/{server.pid}/environ",
        "the environment of pid 1": "/proc/1/environ",
        "the server's memory map": f"/proc/{server.pid}/maps",
        "the kernel's symbols": "/proc/kallsyms",
    }
    attempts: dict[str, dict[str, Any]] = {
        f"read {what}": {"do": "read_file", "path": str(path)} for what, path in files.items()
    }
    attempts["find another function's code anywhere"] = {
        "do": "find_name",
        "name": MARKER,
        "tops": [str(data), "/"],  # the control finds it in the first; a whole host may take minutes to walk
    }
    for how in ("symlink", "hardlink"):
        attempts[f"read another function's code by {how}"] = {
            "do": "link_file",
            "source": str(tree / MARKER),
            "how": how,
        }
    for device in (
        "/dev/mem",
        "/dev/kmsg",
        "/dev/vda",
        "/dev/loop-control",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/kvm",
    ):
        attempts[f"open {device}"] = {"do": "open_file", "path": device}
    for path in ("kernel/core_pattern", "kernel/hostname", "vm/overcommit_memory", "net/ipv4/ip_forward"):
        attempts[f"change /proc/sys/{path}"] = {
            "do": "open_file",
            "path": f"/proc/sys/{path}",
            "flags": os.O_WRONLY,
        }
    for top in ("/sys", "/sys/fs/cgroup", str(data)):
        attempts[f"list {top.replace(str(data), 'the data folder')}"] = {"do": "list_folder", "path": top}
    attempts |= {
        "see the server's process": {"do": "see_process", "pid": server.pid, "text": "lambent"},
        "see another function's process": {"do": "see_process", "pid": running, "text": "python"},
        "signal the server": {"do": "send_signal", "pid": server.pid},
        "signal another function": {"do": "send_signal", "pid": running},
        "find the server's secret in an environment": {
            "do": "read_environments",
            "halves": halves(SECRET.encode()),
        },
        "use the store's socket": {"do": "connect_unix", "path": str(data / "redis" / "redis.sock")},
        "use the functions' socket": {"do": "connect_unix", "path": str(data / "run" / "functions.sock")},
        "use an abstract socket": {"do": "connect_unix", "path": name},
        "share memory with the host": {"do": "shared_memory", "key": key},
    }
    return attempts
