"""The filter of system calls that every runtime process gets, because a function without capabilities can still
reach much kernel code that it never needs, and most escapes began there.

What is denied answers EPERM, as without the capability; `clone3` answers ENOSYS, so that libc falls back to
`clone`, whose flags a filter can read. Assembled here, for x86_64 and aarch64; standard library only.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence

ALLOW = 0x7FFF0000
KILL = 0x80000000
_ERRNO = 0x00050000

# classic BPF: load a word, compare, mask, return
_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 8 bytes, low word first

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_RAW, _SOCK_PACKET, _SOCK_TYPE_MASK = 3, 10, 0xF

# {call: (x86_64, aarch64)}; None where the architecture has no such call
DENIED: dict[str, tuple[int | None, int | None]] = {
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # kernel code that only administrators need
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "lookup_dcookie": (212, 18),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "query_module": (178, None),
    "get_kernel_syms": (177, None),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "_sysctl": (156, None),
    "sysfs": (139, None),
    "ustat": (136, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    # the machine
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
}
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
IOCTL, PERSONALITY = (16, 29), (135, 92)


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _deny(error: int = errno.EPERM) -> bytes:
    return _op(_RET, _ERRNO | error)


def _argument(number: int) -> bytes:
    """Loads the low word; the kernel itself reads no more of the arguments that are checked here."""
    return _op(_LD, _ARGUMENTS + 8 * number)


def _when(number: int, block: Sequence[bytes]) -> list[bytes]:
    """`block` runs for one call and must end in a return; the number stays loaded for the next."""
    return [_op(_JEQ, number, 0, len(block)), *block]


def _socket_rules() -> list[bytes]:
    """Unix and internet sockets but no raw ones; of netlink only routing, which libc reads interfaces with."""
    netlink = [_argument(2), _op(_JEQ, 0, 0, 1), _op(_RET, ALLOW), _deny()]
    internet = [
        _argument(1),
        _op(_AND, _SOCK_TYPE_MASK),
        _op(_JEQ, _SOCK_RAW, 2, 0),
        _op(_JEQ, _SOCK_PACKET, 1, 0),
        _op(_RET, ALLOW),
        _deny(),
    ]
    families = [
        _argument(0),
        _op(_JEQ, _AF_NETLINK, 4, 0),
        _op(_JEQ, _AF_INET, 3 + len(netlink), 0),
        _op(_JEQ, _AF_INET6, 2 + len(netlink), 0),
        _op(_JEQ, _AF_UNIX, 1 + len(netlink), 0),
        _deny(),
    ]
    return [*families, *netlink, *internet]


def program(machine: str | None = None) -> bytes:
    """The filter as an array of struct sock_filter. Raises ValueError for an architecture it does not know."""
    machine = machine or platform.machine()
    if machine not in _AUDIT_ARCH:
        raise ValueError(f"no system call filter for {machine}: x86_64 and aarch64 are built")
    column = 0 if machine == "x86_64" else 1
    code = [_op(_LD, _ARCH), _op(_JEQ, _AUDIT_ARCH[machine], 1, 0), _op(_RET, KILL), _op(_LD, _NR)]
    if machine == "x86_64":
        code += [_op(_JGE, _X32, 0, 1), _deny(errno.ENOSYS)]
    code += _when(CLONE3[column], [_deny(errno.ENOSYS)])
    code += _when(CLONE[column], [_argument(0), _op(_JSET, _NEW_NAMESPACES, 0, 1), _deny(), _op(_RET, ALLOW)])
    code += _when(SOCKET[column], _socket_rules())
    code += _when(
        IOCTL[column],
        [_argument(1), _op(_JEQ, _TIOCSTI, 1, 0), _op(_JEQ, _TIOCLINUX, 0, 1), _deny(), _op(_RET, ALLOW)],
    )
    code += _when(
        PERSONALITY[column],
        [_argument(0), _op(_JEQ, 0, 1, 0), _op(_JEQ, 0xFFFFFFFF, 0, 1), _op(_RET, ALLOW), _deny()],
    )
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            code += _when(number, [_deny()])
    code.append(_op(_RET, ALLOW))
    return b"".join(code)
