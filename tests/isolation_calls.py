"""The system calls that a hostile function tries, by number, because libc has no names for most of them.

Each has arguments with which it harms nothing where it is allowed: it succeeds, or fails by what it was given.
So "not permitted" inside and anything else as root on the host tells the filter from a wrong call. Standard
library only: it runs in functions too.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Sequence
from typing import Any

_COLUMN = 1 if platform.machine() == "aarch64" else 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
    "time": 0x00000080,
}
_HERE = -100  # AT_FDCWD
_SIGCHLD = 17

# {call: (x86_64, aarch64, arguments)}; a bytes argument is passed by address, and is written to by some.
_TABLE: dict[str, tuple[int | None, int | None, Sequence[Any]]] = {
    "mount": (165, 40, (b"none", b"/tmp", b"tmpfs", 0, 0)),
    "mount (remount)": (165, 40, (0, b"/", 0, 0x1020, 0)),
    "umount2": (166, 39, (b"/tmp", 2)),
    "pivot_root": (155, 41, (b".", b".")),
    "chroot": (161, 51, (b"/",)),
    "open_tree": (428, 428, (_HERE, b"/", 0)),
    "open_tree (clone)": (428, 428, (_HERE, b"/", 1)),
    "move_mount": (429, 429, (-1, b"", -1, b"", 0)),
    "fsopen": (430, 430, (b"tmpfs", 0)),
    "fsconfig": (431, 431, (-1, 0, 0, 0, 0)),
    "fsmount": (432, 432, (-1, 0, 0)),
    "fspick": (433, 433, (_HERE, b"/", 0)),
    "mount_setattr": (442, 442, (_HERE, b"/", 0, bytes(32), 32)),
    "sethostname": (170, 161, (b"mine", 4)),
    "setdomainname": (171, 162, (b"mine", 4)),
    "ptrace": (101, 117, (0, 0, 0, 0)),
    "process_vm_readv": (310, 270, (os.getpid(), 0, 0, 0, 0, 0)),
    "process_vm_writev": (311, 271, (os.getpid(), 0, 0, 0, 0, 0)),
    "process_madvise": (440, 440, (-1, 0, 0, 0, 0)),
    "pidfd_getfd": (438, 438, (-1, 0, 0)),
    "kcmp": (312, 272, (os.getpid(), os.getpid(), 1, 0, 0)),
    "move_pages": (279, 239, (0, 0, 0, 0, 0, 2)),
    "migrate_pages": (256, 238, (0, 0, 0, 0)),
    "bpf": (321, 280, (0, struct.pack("<IIII", 2, 4, 4, 1) + bytes(112), 128)),
    "perf_event_open": (298, 241, (struct.pack("<IIQ", 1, 128, 9) + bytes(112), 0, -1, -1, 0)),
    "io_uring_setup": (425, 425, (1, bytes(120))),
    "io_uring_enter": (426, 426, (-1, 0, 0, 0, 0, 0)),
    "io_uring_register": (427, 427, (-1, 0, 0, 0)),
    "userfaultfd": (323, 282, (0,)),
    "userfaultfd (user mode)": (323, 282, (1,)),
    "add_key": (248, 217, (b"user", b"lambent-test", b"x", 1, -1)),
    "request_key": (249, 218, (b"user", b"lambent-test-none", 0, 0)),
    "keyctl": (250, 219, (0, -3, 1)),
    "name_to_handle_at": (303, 264, (_HERE, b"/", struct.pack("<Ii", 128, 0) + bytes(128), bytes(8), 0)),
    "open_by_handle_at": (304, 265, (-1, struct.pack("<Ii", 8, 1) + bytes(8), 0)),
    "fanotify_init": (300, 262, (0, 0)),
    "fanotify_mark": (301, 263, (-1, 1, 1, _HERE, b"/")),
    "kexec_load": (246, 104, (0, 0, 0, 0xFFFF)),
    "kexec_file_load": (320, 294, (-1, -1, 0, 0, 0xFFFF)),
    "init_module": (175, 105, (0, 0, b"")),
    "finit_module": (313, 273, (-1, b"", 0)),
    "delete_module": (176, 106, (b"lambent_none", 0)),
    "iopl": (172, None, (3,)),
    "ioperm": (173, None, (0x80, 1, 1)),
    "modify_ldt": (154, None, (0, bytes(16), 16)),
    "reboot": (169, 142, (0, 0, 0, 0)),
    "swapon": (167, 224, (b"/none", 0)),
    "swapoff": (168, 225, (b"/none",)),
    "acct": (163, 89, (b"/none",)),
    "quotactl": (179, 60, (0x800004 << 8, b"/none", 0, bytes(64))),
    "syslog": (103, 116, (10, 0, 0)),
    "settimeofday": (164, 170, (0, 0)),
    "adjtimex": (159, 171, (bytes(208),)),
    "clock_settime": (227, 112, (0, 0)),
    "personality": (135, 92, (0x0040000,)),
    "ioctl (TIOCSTI)": (16, 29, (-1, 0x5412, b"x")),
    "ioctl (TIOCLINUX)": (16, 29, (-1, 0x541C, b"x")),
}
_TABLE |= {f"unshare ({name})": (272, 97, (flag,)) for name, flag in NAMESPACES.items()}

_SPECIAL: dict[str, Callable[[], int]] = {}
_SPECIAL |= {
    f"clone ({name})": lambda flag=flag: clone(flag | _SIGCHLD)  # type: ignore[misc]
    for name, flag in NAMESPACES.items()
    if name != "time"  # clone reads its bit as part of the signal
}
_SPECIAL |= {
    f"clone3 ({name})": lambda flag=flag: clone3(flag)  # type: ignore[misc]
    for name, flag in NAMESPACES.items()
}
_SPECIAL |= {
    f"setns ({name})": lambda name=name: enter(name)  # type: ignore[misc]
    for name in ("mnt", "net", "ipc", "uts", "cgroup")
}
_SPECIAL["clone (namespace in the high word)"] = lambda: clone(NAMESPACES["uts"] | _SIGCHLD | 1 << 40)


def names() -> list[str]:
    """What `attempt` takes on this architecture."""
    return [name for name, row in _TABLE.items() if row[_COLUMN] is not None] + list(_SPECIAL)


def attempt(name: str) -> int:
    """Makes the call; its result, or OSError."""
    if name in _SPECIAL:
        return _SPECIAL[name]()
    return call(name, *_TABLE[name][2])


def call(name: str, *arguments: Any) -> int:
    """The call of that name in the table, or by its plain name, with these arguments."""
    known = {each.partition(" ")[0]: row for each, row in _TABLE.items()}
    number = (_TABLE.get(name) or known[name])[_COLUMN]
    if not isinstance(number, int):
        raise OSError(38, "this architecture has no such call")
    return raw(number, *arguments)


def raw(number: int, *arguments: Any) -> int:
    """A call by number; bytes go as the address of a buffer that holds them."""
    given = [
        ctypes.create_string_buffer(each, len(each) + 1) if isinstance(each, bytes) else ctypes.c_long(each)
        for each in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *given))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def clone(flags: int) -> int:
    """A child that ends at once."""
    child = raw((56, 220)[_COLUMN], flags, 0, 0, 0, 0)
    return _ended(child)


def clone3(flags: int) -> int:
    """The same by the call whose flags no filter can read."""
    return _ended(raw(435, struct.pack("<QQQQQQQQ", flags, 0, 0, 0, _SIGCHLD, 0, 0, 0), 64))


def _ended(child: int) -> int:
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def enter(name: str) -> int:
    """Enters a namespace that one is in already: allowed to an administrator, and nobody else."""
    descriptor = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
    try:
        return raw((308, 268)[_COLUMN], descriptor, 0)
    finally:
        os.close(descriptor)


def set_capabilities(bits: int) -> int:
    """Asks for capabilities, effective, permitted and inheritable."""
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = struct.pack("<Ii", 0x20080522, 0)
    return raw((126, 91)[_COLUMN], header, struct.pack("<IIIIII", low, low, low, high, high, high))


def raise_limit(limit: int, value: int) -> int:
    """Sets a hard limit, with the kernel's own errors."""
    return raw((302, 261)[_COLUMN], 0, limit, struct.pack("<QQ", value, value), 0)
