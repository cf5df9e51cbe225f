"""The memory that a start writes to first, found out by one rehearsal, so that a slot has it before it is
needed: each page that is shared with the zygote is copied when it is first written to, and a start has some
hundreds.

The rehearsal is a start without any function, in a process that ends with it. Only addresses come out of it.
Runs on every Python 3 that a runtime names: no newer syntax. Standard library only.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from lambent.executor.drivers.sandbox import contain
from lambent.executor.drivers.sandbox import syscalls as sys_

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
_SECONDS = 10


def learn(perform: Callable[[], None]) -> list[tuple[int, int, bool]]:
    """(first address, length, whether it is written to) of each stretch. `perform` starts the runtime
    client, whose first call is answered by hanging up; it is run in a child. Raises OSError with what went
    wrong."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _rehearse(perform, write)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    answer = json.loads(said or b'"it ended"')
    if isinstance(answer, str):
        raise OSError(f"the rehearsal of a start failed: {answer}")
    return [(address, length, written) for address, length, written in answer]


def touch(footprint: list[tuple[int, int, bool]]) -> None:
    """Makes that memory this process's own, or maps it where it is only read."""
    for address, length, written in footprint:
        sys_.populate(address, length, written=written)


def _rehearse(perform: Callable[[], None], answer: int) -> NoReturn:
    said: object = "it never asked for an event"
    try:
        signal.alarm(_SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys_.unshare(sys_.NEWNET)
        sys_.loopback_up()
        server = _hang_up_on_the_first()
        before = _pages()
        try:
            perform()
        except (Exception, SystemExit) as failure:
            said = f"{type(failure).__name__}: {failure}"
        finally:
            asked = os.waitpid(server, os.WNOHANG)[0] == server
            if not asked:
                os.kill(server, signal.SIGKILL)
        if asked:
            said = _ranges(before, _pages())
    except BaseException as failure:
        said = f"{type(failure).__name__}: {failure}"
    os.write(answer, json.dumps(said).encode())
    os._exit(0)


def _hang_up_on_the_first() -> int:
    """The pid of a process that takes one call at the Runtime API's address."""
    listener = socket.create_server(contain.RUNTIME_API)
    pid = os.fork()
    if pid == 0:
        signal.alarm(_SECONDS)
        connection, _ = listener.accept()
        connection.recv(4096)
        os._exit(0)
    listener.close()
    return pid


def _pages() -> dict[int, tuple[bool, bool]]:
    """{page: (written to, its own)} of the pages that are there, of private mappings."""
    found: dict[int, tuple[bool, bool]] = {}
    with open("/proc/self/maps", "rb") as maps, open("/proc/self/pagemap", "rb") as pagemap:
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
    """What came to be there, and what came to be the process's own."""
    ranges: list[tuple[int, int, bool]] = []
    for page in sorted(after):
        writable, own = after[page]
        if page in before and (before[page][1] or not own or not writable):
            continue
        written = writable and own
        if ranges and ranges[-1][0] + ranges[-1][1] == page * _PAGE and ranges[-1][2] == written:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + _PAGE, written)
        else:
            ranges.append((page * _PAGE, _PAGE, written))
    return ranges
