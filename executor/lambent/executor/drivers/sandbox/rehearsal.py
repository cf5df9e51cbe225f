"""The memory that a start writes to first, found out by one rehearsal, so that a slot has it before it is
needed: each page that is shared with the zygote is copied when it is first written to, and a start has some
hundreds.

The rehearsal is a start without any function, in a process that ends with it, looked at by another one. Only
addresses come out of it. Runs on every Python 3 that a runtime names: no newer syntax. Standard library only.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
from collections.abc import Callable

from lambent.executor.drivers.sandbox import contain
from lambent.executor.drivers.sandbox import syscalls as sys_

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
_SECONDS = 10
_MOST = 1 << 16


def learn(perform: Callable[[], None]) -> list[tuple[int, int, bool]]:
    """(first address, length, whether it is written to) of each stretch. `perform` starts the runtime
    client, and is over with its first call; it is run in a child. Raises OSError with what went wrong."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(_SECONDS)
            os.close(read)
            answer: object = _look_at(perform)
        except BaseException as failure:
            answer = f"{type(failure).__name__}: {failure}"
        with open(write, "w", encoding="ascii") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    found = json.loads(said or b'"it took too long"')
    if isinstance(found, str):
        raise OSError(f"the rehearsal of a start failed: {found}")
    return [(address, length, written) for address, length, written in found]


def touch(footprint: list[tuple[int, int, bool]]) -> None:
    """Makes that memory this process's own, or maps it where it is only read."""
    for address, length, written in footprint:
        sys_.populate(address, length, written=written)


def _look_at(perform: Callable[[], None]) -> list[tuple[int, int, bool]] | str:
    sys_.unshare(sys_.NEWNET)
    sys_.loopback_up()
    listener = socket.create_server(contain.RUNTIME_API)
    begin, go = os.pipe()
    words, said = os.pipe()
    actor = os.fork()
    if actor == 0:
        listener.close()
        os.read(begin, 1)
        _act(perform, said)
    os.close(said)
    ended = os.pidfd_open(actor)
    try:
        before = _pages(actor)
        os.write(go, b"x")
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        if not any(descriptor == listener.fileno() for descriptor, _ in poll.poll()):
            return os.read(words, _MOST).decode() or "it ended"
        with listener.accept()[0] as connection:  # which the actor waits at, meanwhile
            connection.recv(_MOST)
            return _ranges(before, _pages(actor))
    finally:
        os.kill(actor, signal.SIGKILL)


def _act(perform: Callable[[], None], said: int) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        perform()
    except BaseException as failure:
        os.write(said, f"{type(failure).__name__}: {failure}"[:_MOST].encode())
    finally:
        os._exit(0)


def _pages(pid: int) -> dict[int, tuple[bool, bool]]:
    """{page: (can be written to, is its own)} of the pages that are there, of private mappings."""
    found: dict[int, tuple[bool, bool]] = {}
    with open(f"/proc/{pid}/maps", "rb") as maps, open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in maps.read().splitlines():
            bounds, rights, _, _, _, *name = line.split(None, 5)
            if rights[3:4] != b"p" or rights[:1] != b"r" or (name and name[0].startswith(b"[v")):
                continue
            first, end = (int(bound, 16) // _PAGE for bound in bounds.split(b"-"))
            pagemap.seek(first * 8)
            bits = array.array("Q", pagemap.read((end - first) * 8))
            writable = rights[1:2] == b"w"
            for page, entry in enumerate(bits, first):
                if entry & _PRESENT:
                    found[page] = (writable, bool(entry & _EXCLUSIVE))
    return found


def _ranges(
    before: dict[int, tuple[bool, bool]], after: dict[int, tuple[bool, bool]]
) -> list[tuple[int, int, bool]]:
    """What came to be there to be read, and what came to be the process's own."""
    ranges: list[tuple[int, int, bool]] = []
    for page in sorted(after):
        writable, own = after[page]
        written = writable and own
        if page in before and (before[page][1] or not written):
            continue
        if ranges and ranges[-1][0] + ranges[-1][1] == page * _PAGE and ranges[-1][2] == written:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + _PAGE, written)
        else:
            ranges.append((page * _PAGE, _PAGE, written))
    return ranges
