"""A snapshot of a function after its init, and the restore of it in a slot: the memory, the registers and the
open files of the one process become those of the other, which keeps its own namespaces, uid, groups, /tmp and
filter. Both have been forked from one zygote, so what stays the same in forks (the layout of addresses, the
thread's own area, what the kernel was told of it) fits by itself.

The memory lies in a file of memory that each restored process maps privately: it shares the pages that it does
not write to with all others. The process is stopped in the call in which the official client waits to be
restored (a read from its connection to the Runtime API); in the slot, whose connection is a new one, that call
is made again. Standard library only.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lambent.executor.drivers.sandbox import memory_map, ptrace
from lambent.executor.drivers.sandbox.memory_map import Area, Kind
from lambent.executor.drivers.sandbox.ptrace import PAGE, Tracee, call

MEMORY = 3  # the descriptor that a slot has the snapshot's memory as
_RUNTIME_API = ("127.0.0.1", 9001)
_SCRATCH = (0x10000000, 0x20000000, 0x30000000, 0x680000000000)
_PATIENCE_SECONDS = 2.0
_TAKE_SECONDS = 60.0  # for gigabytes
_MOST_CALLS = 4096
_MOST_PLANS = 8
_ROOM = 64 * PAGE  # for what the calls point to
_MOST_BYTES = 2 << 30
_PRESENT = 3 << 62  # or swapped, in /proc/PID/pagemap
_SIGNALS = tuple(number for number in range(1, 65) if number not in (9, 19))
_SIGACTION, _STACK_T, _ITIMERVAL = 32, 24, 32
_DISABLED = 2  # SS_DISABLE
_OPENING = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_CLOEXEC
_FILES = ("/var/task/", "/opt/", "/usr/", "/var/runtime/", "/etc/", "/dev/null", "/dev/urandom", "/dev/zero")

_READ, _CLOSE, _MMAP, _MUNMAP, _BRK, _SIGACT, _LSEEK = 0, 3, 9, 11, 12, 13, 8
_GETITIMER, _SOCKET, _CONNECT, _RECVFROM, _CHDIR, _UMASK, _ALTSTACK, _OPENAT, _DUP3 = (
    *(36, 41, 42, 45),
    *(80, 95, 131, 257, 292),
)
_AT_FDCWD = -100
_PRIVATE, _SHARED, _FIXED, _ANONYMOUS, _GROWSDOWN = 2, 1, 0x10, 0x20, 0x100


class Refused(Exception):
    """The process cannot be kept; the text says what it holds."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A descriptor. `path` None: a socket of the family."""

    number: int
    flags: int
    path: str | None
    position: int = 0
    family: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to have a slot with certain memory do."""

    scratch: int
    calls: Sequence[bytes]
    data: bytes

    @property
    def size(self) -> int:
        return PAGE + _MOST_CALLS * ptrace.ENTRY + _ROOM


@dataclass(eq=False)
class Snapshot:
    """`memory`: a read-only descriptor, this object's to close; `size`: bytes of it that are there."""

    memory: int
    size: int
    registers: ptrace.Registers
    extended: bytes
    blocked: bytes
    actions: Sequence[bytes]
    stack: bytes
    areas: Sequence[Area]
    places: dict[int, int]  # {start of an area: where in the memory its content is}
    opened: Sequence[_Open]
    connection: int
    folder: str
    umask: int
    plans: dict[str, _Plan] = field(default_factory=dict)

    def close(self) -> None:
        os.close(self.memory)


# ---- taking -------------------------------------------------------------------------------------------


def take(pid: int, pidfd: int, init: int) -> Snapshot:
    """Of a process that waits to be restored; it is good for nothing afterwards. `init`: the PID 1 of its
    namespace. Raises Refused with what it holds, OSError."""
    tracee, waiting = _stopped(pid, pidfd)
    with tracee:
        _check_alone(pid, init)
        connection = waiting["rdi"]
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="surrogateescape") as file:
            areas = memory_map.of_text(file.read())
        opened = list(_descriptors(pid, pidfd, connection))
        folder, umask = os.readlink(f"/proc/{pid}/cwd"), int(_status(pid)["Umask"], 8)
        extended, blocked = tracee.extended(), tracee.blocked_signals()
        memory, size, places = _copy(tracee, areas)
        try:
            actions, stack = _signals(tracee, areas)
        except BaseException:
            os.close(memory)
            raise
    return Snapshot(
        memory,
        size,
        waiting,
        extended,
        blocked,
        actions,
        stack,
        areas,
        places,
        opened,
        connection,
        folder,
        umask,
    )


def _stopped(pid: int, pidfd: int) -> tuple[Tracee, ptrace.Registers]:
    """Where it waits for its restore: it comes there moments after it has asked."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        tracee = Tracee(pid, pidfd, seconds=_TAKE_SECONDS)
        waiting = tracee.waiting()
        if waiting is not None and waiting["rax"] in (_RECVFROM, _READ):
            return tracee, waiting
        tracee.let_go()
        if time.monotonic() > until:
            raise Refused("it does not wait for its restore")
        time.sleep(0.005)


def _check_alone(pid: int, init: int) -> None:
    threads = len(os.listdir(f"/proc/{pid}/task"))
    if threads != 1:
        raise Refused(f"its init has started threads ({threads - 1} are alive)")
    children = []
    for parent in (pid, init):
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            children += file.read().split()
    if children:
        raise Refused("its init has started other processes")
    with os.scandir(f"/proc/{pid}/root/tmp") as entries:
        if any(entries):
            raise Refused("its init has written to /tmp")


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _descriptors(pid: int, pidfd: int, connection: int) -> Iterator[_Open]:
    for number in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        if number <= 2:
            continue
        path = os.readlink(f"/proc/{pid}/fd/{number}")
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            said = dict(line.split(":", 1) for line in file if ":" in line)
        flags, position = int(said["flags"], 8), int(said["pos"])
        if path.startswith("socket:"):
            family, kind, peer = _socket(pidfd, number)
            if number == connection and peer != _RUNTIME_API:
                raise Refused("it does not wait for its restore")
            if kind != socket.SOCK_STREAM or family not in (socket.AF_INET, socket.AF_INET6):
                raise Refused(f"its init has opened a socket that is no TCP connection (descriptor {number})")
            yield _Open(number, flags, None, family=family)
        elif path.startswith(_FILES) and not path.endswith(" (deleted)"):
            yield _Open(number, flags, path, position)
        else:
            raise Refused(f"its init holds {path} open (descriptor {number})")
        if number == connection and not path.startswith("socket:"):
            raise Refused("it does not wait for its restore")


def _socket(pidfd: int, number: int) -> tuple[int, int, object]:
    """(family, type, peer) of a socket of the process's."""
    with socket.socket(fileno=ptrace.descriptor_of(pidfd, number)) as copy:
        try:
            peer = copy.getpeername()
        except OSError:
            peer = None
        return copy.family, copy.type, peer


def _copy(tracee: Tracee, areas: Sequence[Area]) -> tuple[int, int, dict[int, int]]:
    """(read-only memory, bytes there, places)."""
    places: dict[int, int] = {}
    size = 0
    for area in areas:
        try:
            kind = area.kind
        except ValueError as problem:
            raise Refused(f"its init has made {problem}") from None
        if kind is Kind.CONTENT:
            places[area.start] = size
            size += area.size
    writable = os.memfd_create("snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(writable, size)
        copied = 0
        with (
            mmap.mmap(writable, size) as there,
            memoryview(there) as view,
            open(f"/proc/{tracee.pid}/pagemap", "rb", 0) as pages,
        ):
            for area in areas:
                if area.start not in places:
                    continue
                for start, end in _filled(area, pages.fileno()):
                    at = places[area.start] + start - area.start
                    with view[at : at + end - start] as part:
                        if os.preadv(tracee.memory, [part], start) != end - start:
                            raise OSError(f"memory at {start:#x} cannot be read")
                    copied += end - start
                    if copied > _MOST_BYTES:
                        raise Refused(f"its init has filled more than {_MOST_BYTES >> 20} MB")
        fcntl.fcntl(
            writable,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
        )
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC), copied, places
    finally:
        os.close(writable)


def _filled(area: Area, pages: int) -> Iterator[tuple[int, int]]:
    """The parts with content: of a file all, of other memory the pages that are there."""
    if area.file is not None:
        yield area.start, area.end
        return
    count = area.size // PAGE
    entries = struct.unpack(f"{count}Q", os.pread(pages, count * 8, area.start // PAGE * 8))
    begun = -1
    for number, entry in enumerate((*entries, 0)):
        if entry & _PRESENT:
            begun = number if begun < 0 else begun
        elif begun >= 0:
            yield area.start + begun * PAGE, area.start + number * PAGE
            begun = -1


def _signals(tracee: Tracee, areas: Sequence[Area]) -> tuple[Sequence[bytes], bytes]:
    """(each signal's action, the alternate stack)."""
    scratch = _scratch(areas, areas)
    table = scratch + PAGE
    room = table + (len(_SIGNALS) + 8) * ptrace.ENTRY
    calls = [call(_SIGACT, number, 0, room + index * _SIGACTION, 8) for index, number in enumerate(_SIGNALS)]
    others = room + len(_SIGNALS) * _SIGACTION
    calls += [call(_ALTSTACK, 0, others)]
    calls += [call(_GETITIMER, kind, others + _STACK_T + 8 + kind * _ITIMERVAL) for kind in range(3)]
    _map_scratch(tracee, scratch, 8 * PAGE)
    tracee.batch(scratch, table, calls)
    found = tracee.read(room, len(_SIGNALS) * _SIGACTION)
    if any(tracee.read(others + _STACK_T + 8, 3 * _ITIMERVAL)):
        raise Refused("its init has set a timer")
    actions = [found[at : at + _SIGACTION] for at in range(0, len(found), _SIGACTION)]
    return actions, tracee.read(others, _STACK_T)


def _scratch(*maps: Sequence[Area]) -> int:
    size = PAGE + _MOST_CALLS * ptrace.ENTRY + _ROOM
    for start in _SCRATCH:
        if all(memory_map.is_free(start, size, areas) for areas in maps):
            return start
    raise OSError("there is no room for the restore's own memory")


def _map_scratch(tracee: Tracee, start: int, size: int) -> None:
    own = _PRIVATE | _FIXED | _ANONYMOUS
    tracee.perform(_MMAP, start, PAGE, memory_map.READ | memory_map.EXECUTE, own, -1, 0)
    tracee.perform(_MMAP, start + PAGE, size - PAGE, memory_map.READ | memory_map.WRITE, own, -1, 0)


# ---- restoring ----------------------------------------------------------------------------------------


def restore(snapshot: Snapshot, pid: int, pidfd: int) -> None:
    """Makes a slot that only waits, and has the snapshot's memory as descriptor `MEMORY`, what the snapshot was
    taken of. Raises OSError; the slot is good for nothing then."""
    with Tracee(pid, pidfd) as slot:
        slot.instruction = snapshot.registers["rip"]  # that of the same library, at the same address
        status = _status(pid)
        if int(status["CapPrm"], 16) or status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
            raise OSError("the slot has powers yet")
        if status["Threads"] != "1":
            raise OSError("the slot has threads")
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        plan = snapshot.plans.get(text)
        if plan is None:
            if len(snapshot.plans) >= _MOST_PLANS:  # slots look the same, but for what a kernel does otherwise
                snapshot.plans.clear()
            plan = snapshot.plans[text] = _plan(snapshot, memory_map.of_text(text))
        _map_scratch(slot, plan.scratch, plan.size)
        table = plan.scratch + PAGE
        if plan.data:
            slot.write(table + _MOST_CALLS * ptrace.ENTRY, plan.data)
        slot.batch(plan.scratch, table, plan.calls)
        for area in snapshot.areas:
            if area.path == memory_map.STACK:
                slot.write(area.start, os.pread(snapshot.memory, area.size, snapshot.places[area.start]))
        slot.perform(_MUNMAP, plan.scratch, plan.size)
        slot.set_extended(snapshot.extended)
        slot.block_signals(snapshot.blocked)
        slot.set_registers(snapshot.registers)


class _Planner:
    """Collects the calls and what they point to."""

    def __init__(self, snapshot: Snapshot, slot: Sequence[Area]) -> None:
        self._snapshot = snapshot
        self.scratch = _scratch(snapshot.areas, slot)
        self.calls: list[bytes] = []
        self.data = bytearray()
        self._used = {0, 1, 2, MEMORY}

    def call(self, number: int, *arguments: int) -> None:
        self.calls.append(call(number, *arguments))

    def pointer(self, data: bytes) -> int:
        at = len(self.data)
        self.data += data + bytes(8 - len(data) % 8)
        return self.scratch + PAGE + _MOST_CALLS * ptrace.ENTRY + at

    def text(self, text: str) -> int:
        return self.pointer(os.fsencode(text) + b"\0")

    def lowest(self) -> int:
        """The descriptor that the next call will give."""
        return next(number for number in range(1024) if number not in self._used)

    def close(self, number: int) -> None:
        self.call(_CLOSE, number)
        self._used.discard(number)

    def moved(self, number: int, flags: int) -> None:
        """The descriptor that the last call gave becomes `number`."""
        given = self.lowest()
        if given != number:
            self.call(_DUP3, given, number, flags & os.O_CLOEXEC)
            self.call(_CLOSE, given)
        self._used.add(number)

    def memory(self, slot: Sequence[Area]) -> None:
        snapshot, there = self._snapshot, {area for area in slot if area.file is not None}
        for start, end in memory_map.uncovered(slot, snapshot.areas):
            self.call(_MUNMAP, start, end - start)
        heap = [area for area in snapshot.areas if area.path == memory_map.HEAP]
        if heap:
            self.call(_BRK, heap[-1].end)
        path, given = "", self.lowest()
        for area in snapshot.areas:
            where = area.start, area.size, area.protection
            if area.kind is Kind.CONTENT and area.path != memory_map.STACK:
                self.call(_MMAP, *where, _PRIVATE | _FIXED, MEMORY, snapshot.places[area.start])
            elif area.kind is not Kind.FILE:
                grows = _GROWSDOWN if area.path == memory_map.STACK else 0
                self.call(_MMAP, *where, _PRIVATE | _FIXED | _ANONYMOUS | grows, -1, 0)
            elif area not in there:
                if area.path != path:
                    if path:
                        self.call(_CLOSE, given)
                    path = area.path
                    self.call(_OPENAT, _AT_FDCWD, self.text(path), os.O_CLOEXEC, 0)
                self.call(_MMAP, *where, (_SHARED if area.shared else _PRIVATE) | _FIXED, given, area.offset)
        if path:
            self.call(_CLOSE, given)
        self.close(MEMORY)

    def descriptors(self) -> None:
        """Files at their places; connections are made new and lead nowhere, but for that to the Runtime API."""
        snapshot = self._snapshot
        for one in snapshot.opened:
            if one.path is not None:
                self.call(_OPENAT, _AT_FDCWD, self.text(one.path), one.flags & ~_OPENING | os.O_CLOEXEC, 0)
                if one.position:
                    self.call(_LSEEK, self.lowest(), one.position, os.SEEK_SET)
            else:
                self.call(_SOCKET, one.family, socket.SOCK_STREAM | os.O_CLOEXEC, 0)
                if one.number == snapshot.connection:
                    host, port = _RUNTIME_API
                    address = (
                        struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host)
                    )
                    self.call(_CONNECT, self.lowest(), self.pointer(address + bytes(8)), 16)
            self.moved(one.number, one.flags)

    def rest(self) -> None:
        for number, action in zip(_SIGNALS, self._snapshot.actions, strict=True):
            self.call(_SIGACT, number, self.pointer(action), 0, 8)
        if not struct.unpack_from("=i", self._snapshot.stack, 8)[0] & _DISABLED:
            self.call(_ALTSTACK, self.pointer(self._snapshot.stack), 0)
        self.call(_CHDIR, self.text(self._snapshot.folder))
        self.call(_UMASK, self._snapshot.umask)


def _plan(snapshot: Snapshot, slot: Sequence[Area]) -> _Plan:
    made = _Planner(snapshot, slot)
    made.memory(slot)
    made.descriptors()
    made.rest()
    if len(made.calls) > _MOST_CALLS or len(made.data) > _ROOM:
        raise OSError(f"a restore of {len(made.calls)} steps is too long")
    return _Plan(made.scratch, made.calls, bytes(made.data))
