"""What a server has on its machine, counted, so that a test can say that a failure left nothing behind:
descriptors, processes, mounts, control groups, network links, loop devices, unfinished files."""

import hashlib
import json
import os
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from running import Functions, Server

PARKED = 2  # slots of the server that is looked at: so many at rest, whatever there was to start
_SECONDS = 15.0
_LISTEN = "0A"
_CONNECTED = "03"
_UNFINISHED = ("trees/partial", "blobs/aside", "executor/roots", "executor/empty")


@dataclass(frozen=True)
class Residue:
    """One look at a server: names of things, whose first word is their kind, and descriptors, which are
    counted by kind. Of things there may be other ones of a kind than before, since slots that are parked
    replace each other, but no more."""

    descriptors: Counter[str]
    things: frozenset[str]

    @classmethod
    def of(cls, server: Server) -> "Residue":
        instance = json.loads((server.data_dir / "lambent.json").read_text())["instance"]
        things = {f"process {pid}" for pid in _descendants(server.pid)}
        things |= {f"mount {line}" for line in _mounts(str(server.data_dir))}
        things |= {f"cgroup {path}" for path in _groups(f"lambent-{instance}")}
        link = "lmb" + hashlib.sha256(instance.encode()).hexdigest()[:6]
        things |= {f"link {name}" for name in os.listdir("/sys/class/net") if name.startswith(link)}
        things |= {f"loop device {name}" for name in _loops(str(server.data_dir.absolute()))}
        for folder in _UNFINISHED:
            if (server.data_dir / folder).is_dir():
                things |= {f"file {path}" for path in (server.data_dir / folder).iterdir()}
        return cls(_descriptors(server, instance), frozenset(things))

    def beyond(self, before: "Residue") -> list[str]:
        """What is here and was not before."""
        more = self.descriptors - before.descriptors
        kinds = _kinds(self.things) - _kinds(before.things)
        return sorted(name for name in self.things - before.things if _kind(name) in kinds) + [
            f"{count} more open {kind}" for kind, count in more.items()
        ]


def _kind(name: str) -> str:
    """A group's is the one that it is in."""
    return name.rpartition("/")[0] if name.startswith("cgroup ") else name.partition(" ")[0]


def _kinds(things: frozenset[str]) -> Counter[str]:
    return Counter(map(_kind, things))


def slots_are_parked(server: Server, functions: Functions, count: int) -> None:
    """Waits until the server, which parks at most so many, has that many; after a long silence it has none,
    and a start has it make them again."""
    until = time.monotonic() + _SECONDS
    while (parked := _parked(server)) != count:
        if parked == 0:
            functions.run("def handler(event, context): pass")
        assert time.monotonic() < until, f"{parked} of {count} slots are parked"
        time.sleep(0.2)


def _parked(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/metrics") as page:
        found = re.search(r'^lambent_environments\{state="parked"\} (\d+)', page.read().decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def settle(server: Server) -> None:
    """Waits until two looks, some freeze delays apart, show the same: an environment opens the file that
    freezes it when it is first frozen, after its first answer."""
    look = Residue.of(server)
    for _ in range(100):
        time.sleep(0.1)
        before, look = look, Residue.of(server)
        if look == before:
            return
    raise AssertionError("the server never comes to rest")


@contextmanager
def nothing_left(server: Server, functions: Functions) -> Iterator[None]:
    """Deletes the functions that were made inside, waits until their environments are gone, and fails if
    anything of theirs is still there, or if the server's log got a traceback.

    Waiting is polling, since the kernel tells nobody when the last of a namespace is gone.
    """
    known = names(functions)
    slots_are_parked(server, functions, PARKED)
    before = Residue.of(server)
    logged = len(server.output())
    yield
    for name in names(functions) - known:
        functions.aws.delete_function(FunctionName=name)
    until = time.monotonic() + _SECONDS
    while left := Residue.of(server).beyond(before):
        if time.monotonic() > until:
            raise AssertionError("left behind:\n" + "\n".join(left))
        time.sleep(0.02)
    said = server.output()[logged:]
    assert "Traceback" not in said, said


def names(functions: Functions) -> set[str]:
    """The functions that there are."""
    pages = functions.aws.get_paginator("list_functions").paginate()
    return {row["FunctionName"] for page in pages for row in page["Functions"]}


def marked(marker: str) -> list[int]:
    """Pids on this machine whose command line has the marker."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and marker in _read(Path("/proc") / entry / "cmdline"):
            found.append(int(entry))
    return found


def _read(path: Path) -> str:
    """Empty when its process or device ended meanwhile."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _callers(port: int) -> set[str]:
    """The sockets of connections to the server, which its clients keep open."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port and fields[3] != _LISTEN:
            found.add(f"socket:[{fields[9]}]")
    return found


def _to_store(data_dir: Path, instance: str) -> set[str]:
    """The connections to the server's store: their other ends, for only those bear the name of its socket."""
    names = (f"{data_dir}/", f"-{instance}/")  # the folder of a data folder whose path is too long for a socket
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return {
        line[6]
        for line in lines
        if line[5] == _CONNECTED and line[-1].endswith("/redis.sock") and any(n in line[-1] for n in names)
    }


def _descriptors(server: Server, instance: str) -> Counter[str]:
    """The server's open descriptors by kind, without its connections with its callers and its store, which come
    and go with load."""
    port = int(server.url.rsplit(":", 1)[1])
    while True:
        callers, to_store = _callers(port), _to_store(server.data_dir, instance)
        kinds = _open(server.pid, but=callers)
        # One that comes or goes meanwhile would be counted, or taken off, once too often.
        if (callers, to_store) == (_callers(port), _to_store(server.data_dir, instance)):
            kinds["socket:"] -= len(to_store)
            return kinds


def _open(pid: int, *, but: set[str]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # closed meanwhile
        if target in but:
            continue
        # A file without a name has a number, which says nothing.
        named = re.sub(r"#\d+ \(deleted\)$", "# (deleted)", target)
        kinds[named if named.startswith("/") else named.split("[")[0]] += 1
    return kinds


def _descendants(pid: int) -> set[int]:
    """Its children and theirs; and what descends from the processes that it holds a pidfd of, as of the one
    that forks environments, whose parent is no more."""
    found: set[int] = set()
    waiting = [pid, *_held(pid)]
    while waiting:
        for task in _children(waiting.pop()):
            if task not in found:
                found.add(task)
                waiting.append(task)
    return found


def _held(pid: int) -> list[int]:
    texts = [_read(file) for file in Path(f"/proc/{pid}/fdinfo").iterdir()]
    pids = [int(line[4:]) for text in texts for line in text.splitlines() if line.startswith("Pid:")]
    return [held for held in pids if held > 0]


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    texts = (_read(Path(f"/proc/{pid}/task/{task}/children")) for task in tasks)
    return [int(child) for text in texts for child in text.split()]


def _mounts(folder: str) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if folder in line]


def _groups(name: str) -> list[str]:
    """Every group at or below one of that name."""
    found = []
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        if f"/{name}" in path:
            found.append(path)
        elif name in folders:
            folders[:] = [name]
    return found


def _loops(folder: str) -> list[str]:
    devices = Path("/sys/block").glob("loop*/loop/backing_file")
    return [device.parts[3] for device in devices if folder in _read(device)]
