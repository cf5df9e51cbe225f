"""The few Linux calls that Python's library does not have, each raising OSError with its own name, because an
environment is made of exactly these and a refusal must say which one. Standard library only.

Numbers are Linux's ABI; calls without a libc wrapper have the same number on x86_64 and aarch64 unless told.
Runs on every Python 3 that a runtime names, for a zygote loads it: no newer syntax.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME = 2, 4, 8, 1024
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SLAVE = 4096, 8192, 16384, 1 << 18, 1 << 19

_ATTR_IDMAP = 0x100000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8

_AT_FDCWD = -100
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
_MNT_DETACH = 2
_MOUNT_SETATTR, _CLOSE_RANGE, _OPEN_TREE, _MOVE_MOUNT = 442, 436, 428, 429
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine(), -1)
_CAPSET = {"x86_64": 126, "aarch64": 91}.get(platform.machine(), -1)
_CLOSE_RANGE_CLOEXEC = 4

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP = 4, 8, 22
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 38, 47
_SECCOMP_MODE_FILTER, _CAP_AMBIENT_CLEAR_ALL = 2, 4

_CAP_SYS_ADMIN, _CAP_SETPCAP = 1 << 21, 1 << 8
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_IFF_UP = 1

_MADV_POPULATE_READ, _MADV_POPULATE_WRITE = 22, 23
_ZEROS = (0, 0, 0, 0)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _check(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(
        _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]),
        f"mount {source or ''} {target}",
    )


def set_attributes(path: str, attributes: int, *, recursive: bool = True) -> None:
    """Adds mount attributes and keeps the others; an ordinary user may not remove those of the host."""
    value = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    _check(
        _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, value, ctypes.c_size_t(len(value))),
        f"mount_setattr {path}",
    )


def bind(source: str, target: str, attributes: int) -> None:
    """Binds a tree with its submounts, which the kernel demands of an ordinary user."""
    mount(source, target, None, MS_BIND | MS_REC)
    if attributes:
        set_attributes(target, attributes)


def open_tree(path: str, attributes: int, users: int = -1) -> int:
    """A copy of the tree at `path` that is mounted nowhere, with its submounts, as a descriptor; it goes with
    it. `users`: a user namespace whose map its owners go through; without submounts then, since not every file
    system can do that."""
    recursive = _AT_RECURSIVE if users < 0 else 0
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | recursive
    tree = _check(
        _libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags)), f"open_tree {path}"
    )
    if users >= 0:
        attributes |= _ATTR_IDMAP
    value = struct.pack("=QQQQ", attributes, 0, MS_PRIVATE, max(users, 0))
    try:
        _check(
            _libc.syscall(
                _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | recursive, value, ctypes.c_size_t(len(value))
            ),
            f"mount_setattr {path}",
        )
    except OSError:
        os.close(tree)
        raise
    return tree


def move_tree(tree: int, target: str) -> None:
    """Mounts what `open_tree` made."""
    _check(
        _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH),
        f"move_mount {target}",
    )


def pivot(root: str) -> None:
    """Makes a mount point the root and drops the old one whole."""
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")


def detach(path: str) -> None:
    """Drops a mount and those below, if `path` is one."""
    if os.path.ismount(path):
        unmount(path)


def unmount(path: str) -> None:
    """Drops the topmost mount there and those below."""
    _check(_libc.umount2(os.fsencode(path), _MNT_DETACH), f"umount {path}")


def become_user_of(uid: int, uid_map: str, gid_map: str, *, separate: bool = True) -> None:
    """Takes the outside uid and gid (`separate`, as root), then a user namespace with these maps. They need no
    privilege, since they name only this process's own ids; CAP_SYS_ADMIN is kept over the change of uid because
    some hosts allow user namespaces to administrators only."""
    if separate:
        os.setgroups([])
        prctl(PR_SET_KEEPCAPS, 1)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        set_capabilities(_CAP_SYS_ADMIN | _CAP_SETPCAP)
    unshare(NEWUSER)
    prctl(PR_SET_DUMPABLE, 1)  # else the kernel gives /proc/self to root
    for name, text in (("setgroups", "deny"), ("uid_map", uid_map), ("gid_map", gid_map)):
        file = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(file, text.encode())
        os.close(file)


def set_hostname(name: str) -> None:
    data = name.encode()
    _check(_libc.sethostname(data, len(data)), "sethostname")


def prctl(option: int, *arguments: int) -> None:
    _check(_libc.prctl(option, *arguments, *_ZEROS[len(arguments) :]), f"prctl {option}")


def set_capabilities(permitted: int) -> None:
    """Permitted and effective become `permitted` (a bit set), inheritable nothing."""
    header = struct.pack("=Ii", 0x20080522, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    _check(_libc.syscall(_CAPSET, header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")


def drop_capabilities() -> None:
    """Every capability goes, from the bounding set too, and no exec brings one back."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            if capability < 32:  # else past the last capability that this kernel knows
                _check(-1, "prctl PR_CAPBSET_DROP")
            break
    prctl(PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    set_capabilities(0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


class Filter:
    """A seccomp filter, ready to be installed: `program` is an array of struct sock_filter."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        self._header = ctypes.create_string_buffer(
            struct.pack("@HP", len(program) // 8, ctypes.addressof(self._code))
        )

    def install(self) -> None:
        prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(self._header))


def close_on_exec_from(first: int) -> None:
    """Marks every descriptor from `first` on close-on-exec, whatever opened it."""
    _check(
        _libc.syscall(_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), _CLOSE_RANGE_CLOEXEC),
        "close_range",
    )


def populate(address: int, length: int, *, written: bool) -> None:
    """Has memory ready to be read, or to be written to; what is not there (any more) is left out. Does
    nothing on a kernel that cannot (before 5.14)."""
    _libc.madvise(address, length, _MADV_POPULATE_WRITE if written else _MADV_POPULATE_READ)


def close_from(first: int) -> None:
    """Closes every descriptor from `first` on."""
    _check(_libc.syscall(_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), 0), "close_range")


def loopback_up() -> None:
    """Brings `lo` of this network namespace up; 127.0.0.1 and ::1 come with it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
        flags = struct.unpack_from("H", request, 16)[0] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags))


def add_loopback_address(family: int, host: str, alias: int) -> None:
    """Gives `lo` one more address, as a host route; `alias` numbers the IPv4 ones."""
    with socket.socket(family, socket.SOCK_DGRAM) as control:
        if family == socket.AF_INET:
            name = f"lo:{alias}".encode()
            for request, address in ((_SIOCSIFADDR, host), (_SIOCSIFNETMASK, "255.255.255.255")):
                packed = socket.inet_pton(socket.AF_INET, address)
                fcntl.ioctl(control, request, struct.pack("16sHH4s16x", name, socket.AF_INET, 0, packed))
        else:
            packed = socket.inet_pton(socket.AF_INET6, host)
            fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16sIi", packed, 128, socket.if_nametoindex("lo")))
