"""Has another process perform system calls and takes its registers: what a snapshot is read from and put into a
process with. Linux's ptrace, x86_64 only; standard library only.

The process must be stopped where it waits in a system call, for the two bytes of that call's instruction are
what calls are made by. A batch of calls runs by itself, from a page that is mapped for it, because each stop
costs more than a call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import struct
import time
from collections.abc import Sequence
from types import TracebackType

MACHINE = "x86_64"

_SEIZE, _INTERRUPT, _DETACH, _CONT, _SINGLESTEP = 0x4206, 0x4207, 17, 7, 9
_SETOPTIONS = 0x4200
_GETREGSET, _SETREGSET, _GETSIGMASK, _SETSIGMASK = 0x4204, 0x4205, 0x420A, 0x420B
_EXITKILL = 0x100000
_GENERAL, _EXTENDED = 1, 0x202  # NT_PRSTATUS, NT_X86_XSTATE
_EXTENDED_ROOM = 1 << 15
_WALL = 0x40000000
_PIDFD_GETFD = 438
_WORD = 1 << 64
_MOST_ERROR = 4095
# struct user_regs_struct
_NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_CALL = b"\x0f\x05"  # syscall
_NO_CALL = _WORD - 1  # of orig_rax: nothing is to be done again
_RESTARTED = frozenset(_WORD - number for number in (512, 513, 514, 516))  # the kernel's ERESTART*

# rbx: table of (number, six arguments, result); rbp: how many. Ends in a breakpoint, or after one that fails.
_BATCH = bytes.fromhex(
    "4885ed 7430"  # loop: test rbp,rbp; jz end
    "488b03 488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30"  # rax, rdi, rsi, rdx, r10, r8, r9
    "0f05 48894338"  # syscall; store rax
    "4883c340 48ffcd"  # add rbx,64; dec rbp
    "483d01f0ffff 72cb cc"  # cmp rax,-4095; jb loop; end: int3
)
ENTRY = 64
PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

Registers = dict[str, int]


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def available() -> bool:
    """Whether the registers of this machine are known here."""
    return platform.machine() == MACHINE


def call(number: int, *arguments: int) -> bytes:
    """An entry of a batch."""
    words = [number, *arguments, *[0] * (7 - len(arguments))]
    return struct.pack("8Q", *[word % _WORD for word in words])


class Tracee:
    """A process that is stopped until `let_go`; it dies with this process. Raises OSError. `seconds`: the
    longest that all of it may take."""

    def __init__(self, pid: int, pidfd: int, *, seconds: float = 10.0) -> None:
        self.pid = pid
        self._until = time.monotonic() + seconds
        self._trace(_SEIZE)
        self.memory = -1
        try:
            self._trace(_INTERRUPT)
            self._wait()
            if select.select([pidfd], [], [], 0)[0]:
                raise ProcessLookupError("the process has ended")  # and the pid may be another's
            self._trace(_SETOPTIONS, 0, _EXITKILL)
            self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            self.was = self.registers()
            self.instruction = self.was["rip"] - len(_CALL)
            """Of a system call; to be set where the process does not wait in one."""
        except BaseException:
            self.let_go()
            raise

    def __enter__(self) -> Tracee:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def let_go(self) -> None:
        """It goes on where its registers say. Idempotent."""
        if self.pid < 0:
            return
        if self.memory >= 0:
            os.close(self.memory)
        try:
            self._trace(_DETACH)
        except ProcessLookupError:
            return  # it was killed meanwhile
        finally:
            self.pid = -1

    # ---- memory and registers -------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        data = os.pread(self.memory, length, address)
        if len(data) != length:
            raise OSError(f"memory at {address:#x} cannot be read")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Whatever its protection is."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self.memory, view, address)
            view, address = view[done:], address + done

    def registers(self) -> Registers:
        return dict(
            zip(_NAMES, struct.unpack(f"{len(_NAMES)}Q", self._get(_GENERAL, 8 * len(_NAMES))), strict=True)
        )

    def set_registers(self, registers: Registers) -> None:
        self._set(_GENERAL, struct.pack(f"{len(_NAMES)}Q", *(registers[name] % _WORD for name in _NAMES)))

    def extended(self) -> bytes:
        """Those of floating point and vectors."""
        return self._get(_EXTENDED, _EXTENDED_ROOM)

    def set_extended(self, data: bytes) -> None:
        self._set(_EXTENDED, data)

    def blocked_signals(self) -> bytes:
        mask = ctypes.create_string_buffer(8)
        self._trace(_GETSIGMASK, 8, ctypes.addressof(mask))
        return mask.raw

    def block_signals(self, mask: bytes) -> None:
        self._trace(_SETSIGMASK, 8, ctypes.addressof(ctypes.create_string_buffer(mask, 8)))

    # ---- calls ----------------------------------------------------------------------------------------

    def waiting(self) -> Registers | None:
        """What it goes on with so that it makes the call again that it waits in; None if it waits in none."""
        was = self.was
        if was["orig_rax"] >= _WORD >> 1 or was["rax"] not in _RESTARTED:
            return None
        return dict(was, rax=was["orig_rax"], rip=self.instruction, orig_rax=_NO_CALL)

    def perform(self, number: int, *arguments: int) -> int:
        """One call, made by it. Raises OSError with its error."""
        if self.read(self.instruction, len(_CALL)) != _CALL:
            raise OSError("where a system call should be, there is none")
        registers = dict(self.was, rax=number, orig_rax=_NO_CALL, rip=self.instruction)
        registers |= dict(zip(_ARGUMENTS, [*arguments, *[0] * (6 - len(arguments))], strict=True))
        self.set_registers(registers)
        self._trace(_SINGLESTEP)
        self._wait()
        result = self.registers()["rax"]
        if result >= _WORD - _MOST_ERROR:
            raise OSError(_WORD - result, f"call {number}: {os.strerror(_WORD - result)}")
        return result

    def batch(self, code: int, table: int, calls: Sequence[bytes]) -> None:
        """All calls, one after the other; `code`: a page of its own to execute, `table`: where they are put.
        Raises OSError with the error of the first that failed."""
        self.write(code, _BATCH)
        self.write(table, b"".join(calls))
        self.set_registers(dict(self.was, rip=code, rbx=table, rbp=len(calls), orig_rax=_NO_CALL))
        self._trace(_CONT)
        self._wait()
        ended = self.registers()
        if ended["rax"] >= _WORD - _MOST_ERROR:
            number = _WORD - ended["rax"]
            words = struct.unpack("8Q", calls[len(calls) - ended["rbp"] - 1])
            told = ", ".join(f"{word:#x}" for word in words[1:7])
            raise OSError(number, f"call {words[0]}({told}): {os.strerror(number)}")

    # ---- ptrace ---------------------------------------------------------------------------------------

    def _trace(self, request: int, address: int = 0, data: int = 0) -> None:
        if _libc.ptrace(request, self.pid, address, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"ptrace {request:#x}: {os.strerror(number)}")

    def _get(self, kind: int, room: int) -> bytes:
        buffer = ctypes.create_string_buffer(room)
        vector = _Vector(ctypes.addressof(buffer), room)
        self._trace(_GETREGSET, kind, ctypes.addressof(vector))
        return buffer.raw[: vector.length]

    def _set(self, kind: int, data: bytes) -> None:
        buffer = ctypes.create_string_buffer(data, len(data))
        vector = _Vector(ctypes.addressof(buffer), len(data))
        self._trace(_SETREGSET, kind, ctypes.addressof(vector))

    def _wait(self) -> None:
        """Until it stops by what was asked of it. Another signal's stop is a failure: nobody but its own
        function can send it one."""
        pause = 0.0
        while True:
            pid, status = os.waitpid(self.pid, _WALL | os.WNOHANG)
            if pid:
                break
            if time.monotonic() > self._until:
                raise TimeoutError("the process does not stop")
            time.sleep(pause)
            pause = min(0.001, pause + 0.00002)
        if not os.WIFSTOPPED(status):
            self.pid, gone = -1, self.pid
            raise ProcessLookupError(f"the process {gone} ended with status {status}")
        if os.WSTOPSIG(status) != signal.SIGTRAP:
            raise OSError(f"the process stopped by signal {os.WSTOPSIG(status)}")


def descriptor_of(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor."""
    copy = int(_libc.syscall(_PIDFD_GETFD, pidfd, number, 0))
    if copy < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"pidfd_getfd: {os.strerror(error)}")
    return copy
