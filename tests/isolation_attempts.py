"""What a hostile function tries, as code that runs in a function and on the host alike, because an attempt that
fails inside proves nothing until the same lines have succeeded outside.

Standard library only: it is deployed as the function's app.py beside `isolation_calls`. Each attempt runs in a
forked child, so that none disturbs the next, and ends as `["done", value]`, `["refused", errno name, text]` or
`["died", wait status]`.
"""

import ctypes
import errno
import http.client
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import isolation_calls as calls

SECONDS = 8
AT_ONCE = 24
Outcome = list[Any]


def read_file(path: str) -> str:
    """The beginning of a file."""
    with open(path, "rb") as file:
        return file.read(4096).decode("utf-8", "replace")


def open_file(path: str, flags: int = os.O_RDONLY) -> str:
    os.close(os.open(path, flags))
    return "opened"


def write_folder(path: str) -> str:
    """A file without a name: nothing stays behind where it works."""
    os.close(os.open(path, os.O_TMPFILE | os.O_RDWR, 0o600))
    return "written"


def list_folder(path: str) -> list[str]:
    return sorted(os.listdir(path))


def find_name(name: str, tops: Sequence[str]) -> str:
    """Looks for a file of that name below `tops`, on one file system after the other."""
    for top in tops:
        for folder, folders, files in os.walk(top):
            if name in files:
                return f"{folder}/{name}"
            folders[:] = [each for each in folders if f"{folder.rstrip('/')}/{each}" not in ("/proc", "/usr")]
    raise FileNotFoundError(errno.ENOENT, "no file of that name", name)


def link_file(source: str, how: str) -> str:
    """Reads a file by a link in a folder of one's own."""
    folder = tempfile.mkdtemp(dir="/tmp")
    try:
        (os.symlink if how == "symlink" else os.link)(source, f"{folder}/link")
        return read_file(f"{folder}/link")
    finally:
        subprocess.run(["rm", "-rf", folder], check=False)


def see_process(pid: int, text: str) -> str:
    """Finds a process by pid and by what its command line has; a pid inside may be another's outside."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        if text.encode() not in file.read():
            raise ProcessLookupError(errno.ESRCH, "another process has this pid")
    return "seen"


def read_environments(halves: Sequence[str]) -> list[int]:
    """Pids of processes whose environment has the value that `halves` make together."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if holds(file.read(), halves):
                    found.append(int(pid))
        except OSError:
            continue  # not ours to read, or gone: exactly what is counted
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no readable process has it")
    return found


def scan_memory(halves: Sequence[str], pid: str = "self") -> int:
    """How often the value that `halves` make together lies in a process's memory. It comes in halves, in
    hex, so that the search does not find itself."""
    count = 0
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if "r" not in rights or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(begin)
                count += holds(memory.read(end - begin), halves)
            except (OSError, OverflowError):
                continue  # a guard page or a device's memory
    if not count:
        raise LookupError("not in memory")
    return count


def holds(data: bytes, halves: Sequence[str]) -> int:
    first, second = (bytes.fromhex(half) for half in halves)
    count = at = 0
    while (at := data.find(first, at)) >= 0:
        at += len(first)
        count += data.startswith(second, at)
    return count


def send_signal(pid: int, number: int = 0) -> str:
    os.kill(pid, number)
    return "sent"


def connect(host: str, port: int, family: str = "AF_INET") -> str:
    """Connects and reads the service's greeting."""
    with socket.socket(getattr(socket, family)) as one:
        one.settimeout(3)
        one.connect(socket.getaddrinfo(host, port, one.family, socket.SOCK_STREAM)[0][4])
        return one.recv(100).decode()


def connect_url(url: str = "", variable: str = "") -> str:
    """Connects to a URL, or to the one that a variable of one's own names."""
    host, _, port = (url or os.environ[variable]).removeprefix("http://").rpartition(":")
    return connect(host, int(port))


def datagram(host: str, port: int, family: str = "AF_INET") -> str:
    """Sends a datagram and reads the answer."""
    with socket.socket(getattr(socket, family), socket.SOCK_DGRAM) as one:
        one.settimeout(1.5)
        one.connect((host, port))  # so that a refusal comes back as an error
        one.send(b"?")
        return one.recv(100).decode()


def look_up(server: str, name: str) -> str:
    """Asks a resolver for the address of a name, past the C library; the last four bytes of its answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(1.5)
        one.connect((server, 53))
        one.send(b"\x12\x34\1\0\0\1" + bytes(6) + labels + b"\0\0\1\0\1")
        return socket.inet_ntoa(one.recv(512)[-4:])


def connect_unix(path: str) -> str:
    """`path` begins with @ for an abstract name."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(3)
        one.connect("\0" + path[1:] if path.startswith("@") else path)
    return "connected"


def open_socket(family: int, kind: int, protocol: int = 0) -> str:
    socket.socket(family, kind, protocol).close()
    return "opened"


def set_link_up(own_network: bool = False) -> str:
    """Changes a network interface over netlink; `own_network` makes a namespace for it first."""
    if own_network:
        calls.call("unshare", 0x40000000)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
        change = struct.pack("=BxHiII", 0, 0, 1, 1, 1)
        one.send(struct.pack("=IHHII", 16 + len(change), 16, 5, 1, 0) + change)
        code = struct.unpack_from("=i", one.recv(4096), 16)[0]
    if code:
        raise OSError(-code, os.strerror(-code))
    return "changed"


def request(url: str, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> Any:
    """[status, beginning of the body] of an HTTP request whose path goes out as it is. `url` may name a
    variable, as $AWS_ENDPOINT_URL_LAMBDA."""
    where = os.environ[url[1:]] if url.startswith("$") else url
    connection = http.client.HTTPConnection(where.removeprefix("http://"), timeout=SECONDS - 1)
    try:
        connection.request(method, path, body.encode(), dict(headers or {}))
        response = connection.getresponse()
        return [response.status, response.read(2000).decode("utf-8", "replace")]
    finally:
        connection.close()


def system_call(name: str) -> int:
    """A call of the table in `isolation_calls`."""
    return calls.attempt(name)


def trace_sibling() -> str:
    """Attaches to a child of one's own, as a debugger does."""
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        calls.call("ptrace", 0x4206, child, 0, 0)
        return "attached"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def trace(pid: int) -> str:
    calls.call("ptrace", 0x4206, pid, 0, 0)
    return "attached"


def run_setuid_program(program: str, first_become: int | None = None) -> int:
    """The effective uid that a setuid program gets: 0, or it is refused."""
    if first_become is not None:
        os.setgroups([])
        os.setuid(first_become)
    quiet = subprocess.DEVNULL
    # It ends when its input does.
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as process:
        until = time.monotonic() + 1
        # The call that starts it returns before the program's new identity is there.
        while (uid := _effective_uid(process.pid)) != 0 and time.monotonic() < until:
            time.sleep(0.01)
    if uid != 0:
        raise PermissionError(errno.EPERM, f"it runs as {uid}")
    return 0


def _effective_uid(pid: int) -> int:
    with open(f"/proc/{pid}/status", "rb") as file:
        return int(next(line for line in file if line.startswith(b"Uid:")).split()[2])


def become(what: str) -> str:
    """Takes an identity or a limit that only an administrator may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    steps: dict[str, Callable[[], Any]] = {
        "uid 0": lambda: os.setresuid(0, 0, 0),
        "gid 0": lambda: os.setresgid(0, 0, 0),
        "another uid": lambda: os.setuid(1000),
        "groups": lambda: os.setgroups([0, 42]),
        "capabilities": lambda: calls.set_capabilities(1 << 21),
        "more descriptors": lambda: calls.raise_limit(resource.RLIMIT_NOFILE, hard + 1),
        "real-time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "niceness": lambda: os.nice(-10),
        "oom score": lambda: _write("/proc/self/oom_score_adj", "-1000"),
        "uid map": lambda: _write("/proc/self/uid_map", "0 0 1"),
        "chown": lambda: _own_file(lambda path: os.chown(path, 0, 0)),
        "device": lambda: _own_file(lambda path: os.mknod(path + "d", 0o600 | stat.S_IFCHR, os.makedev(1, 1))),
    }
    steps[what]()
    return "done"


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _own_file(change: Callable[[str], Any]) -> None:
    folder = tempfile.mkdtemp(dir="/tmp")
    try:
        path = f"{folder}/file"
        open(path, "w").close()
        change(path)
    finally:
        subprocess.run(["rm", "-rf", folder], check=False)


def shared_memory(key: int) -> int:
    """The id of a System V segment that somebody else made."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.shmget(key, 1, 0))
    if found < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    return found


def facts() -> dict[str, Any]:
    """What a process knows of itself. A program that was executed tells inherited descriptors from its own."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    ids = os.listdir("/proc/self/ns")
    return {
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "host": socket.gethostname(),
        "status": {name: status[name] for name in ("CapBnd", "CapEff", "CapPrm", "NoNewPrivs", "Seccomp")},
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ids},
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "devices": [f"/dev/{name}" for name in os.listdir("/dev") if _is_device(f"/dev/{name}")],
        "processes": len(list(filter(str.isdigit, os.listdir("/proc")))),
    }


def _is_device(path: str) -> bool:
    kind = os.stat(path).st_mode if os.path.exists(path) else 0
    return not os.path.islink(path) and (stat.S_ISBLK(kind) or stat.S_ISCHR(kind))


def run(attempts: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
    """{name: outcome} of {name: {"do": name of a function here, its arguments}}."""
    names, outcomes = list(attempts), dict[str, Outcome]()
    for first in range(0, len(names), AT_ONCE):
        batch = names[first : first + AT_ONCE]
        started = [_start(attempts[name]) for name in batch]
        until = time.monotonic() + SECONDS
        outcomes |= {name: _finish(*one, until) for name, one in zip(batch, started, strict=True)}
    return outcomes


def _try(given: Mapping[str, Any]) -> Outcome:
    arguments = dict(given)
    try:
        return ["done", globals()[arguments.pop("do")](**arguments)]
    except OSError as error:
        return ["refused", errno.errorcode.get(error.errno or 0, type(error).__name__), str(error)]
    except LookupError as error:
        return ["refused", type(error).__name__, str(error)]


def _start(given: Mapping[str, Any]) -> tuple[int, int]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.write(write, json.dumps(_try(given)).encode())
        except BaseException as error:
            os.write(write, json.dumps(["failed", type(error).__name__, str(error)]).encode())
        finally:
            os._exit(0)
    os.close(write)
    return child, read


def _finish(child: int, read: int, until: float) -> Outcome:
    data = b""
    while select.select([read], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(read, 65536)
        if not part:
            break
        data += part
    os.close(read)
    try:
        os.kill(child, signal.SIGKILL)
    except PermissionError:
        data = data or b'["failed", "it became somebody whom its parent may not kill"]'
    status = os.waitpid(child, 0)[1]
    return json.loads(data) if data else ["died", status]


def handler(event: Any, context: Any) -> Any:
    return run(event)


if __name__ == "__main__":
    if os.geteuid() == 0:
        # The host's side, in mounts and a host name of its own, so that what succeeds there changes nothing.
        calls.call("unshare", 0x00020000 | 0x04000000)
        calls.call("mount", 0, b"/", 0, 0x44000, 0)
    json.dump(run(json.load(sys.stdin)), sys.stdout)
