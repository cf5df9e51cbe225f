"""What /proc/PID/environ says of a forked process: the variables of its function, as after a plain start, where
profilers and monitors look for them. The kernel shows the memory that a process names to it.

Runs on every Python 3 that a runtime names: no newer syntax. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping

from lambent.executor.drivers.sandbox import syscalls as sys_

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS = 3, 0x22
# Fields of /proc/PID/stat, counted from 1: start_code, end_code, start_data, end_data, start_brk; start_stack,
# arg_start, arg_end.
_CODE_DATA_HEAP, _STACK_ARGUMENTS = (26, 27, 45, 46, 47), (28, 48, 49)
_ROOM, _USUAL = 1 << 18, 1 << 13  # of address space; of memory

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = _libc.sbrk.restype = ctypes.c_void_p
_libc.sbrk.argtypes = [ctypes.c_long]
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


class Appearance:
    """To be made before the fork; the addresses of a process stay the same in its children."""

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # from the third field on
        self._first = [int(fields[number - 3]) for number in _CODE_DATA_HEAP]
        self._last = [int(fields[number - 3]) for number in _STACK_ARGUMENTS]
        self._place = 0

    def prepare(self) -> None:
        """In the child, before it is a function's."""
        place = _libc.mmap(None, _ROOM, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, 0)
        if place is not None and place != ctypes.c_void_p(-1).value:
            self._place = place
            ctypes.memset(place, 0, _USUAL)

    def show(self, variables: Mapping[str, str]) -> None:
        """A kernel without checkpoint and restore does not let this process choose; then the variables of the
        zygote are shown, which are no secret."""
        text = b"".join([os.fsencode(f"{name}={value}\0") for name, value in variables.items()])
        if not self._place or len(text) > _ROOM:
            return
        ctypes.memmove(self._place, text, len(text))
        ends = [self._place, self._place + len(text)]
        layout = struct.pack("=12QIi", *self._first, _libc.sbrk(0), *self._last, *ends, 0, 0, -1)
        try:
            sys_.prctl(_PR_SET_MM, _PR_SET_MM_MAP, _address(layout), len(layout))
        except OSError:
            return


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
