"""The file system that a function sees, in two steps, because most of it is the same for every environment.

`build_template` runs once per set of interpreters in the spawner's own mount namespace: an unwritable tmpfs
with the host's /usr, the interpreter's folders, a /dev and an /etc of its own. `complete` runs in each
environment's copy of that namespace: code, layers, /tmp, a /proc of its own PID namespace; then the copy
becomes the root. Of a zygote the copy with the interpreter's folders is the root already, and `renew` makes
it that of one environment. Runs on every Python 3 that a runtime names, for a zygote loads it: no newer
syntax. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.executor.drivers.sandbox import syscalls as sys_

READ_ONLY = sys_.ATTR_RDONLY | sys_.ATTR_NOSUID | sys_.ATTR_NODEV

_PASSWD = (
    "root:x:0:0:root:/root:/sbin/nologin\n"
    "sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
)
_GROUP = "root:x:0:\nsbx_user1051:x:990:\nnogroup:x:65534:\n"
_ETC = {
    "passwd": _PASSWD,
    "group": _GROUP,
    "hosts": "127.0.0.1 localhost sandbox.localdomain sandbox\n::1 localhost\n",
    "resolv.conf": "",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "hostname": "localhost\n",
}
# Read by TLS libraries, the dynamic linker, Debian's alternatives and getservbyname; nothing secret.
_ETC_OF_HOST = (
    "ssl",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "services",
    "protocols",
    "mime.types",
)
_ETC_OF_JAVA = "java-"  # /etc/java-17-openjdk: where Debian's JDKs keep their settings
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_OWN = ("/tmp", "/proc", "/dev", "/etc", "/var/task", "/var/runtime", "/opt", "/mnt")
SOURCES = "/home"  # of a zygote, while it starts
ZYGOTE_TMP = "/tmp"
PLACES = ("/var/task", "/opt")
# What an environment needs a place for in an image's root.
IMAGE_FOLDERS = ("proc", "dev", "tmp", "var/task", "var/runtime", "opt", "mnt", "etc")
IMAGE_FILES = tuple(f"etc/{name}" for name in _ETC)
_MASKED_FILES = (
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "sysrq-trigger",
    "timer_list",
    "kallsyms",
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
    "config.gz",
    "latency_stats",
    "sched_debug",
    "slabinfo",
    "vmallocinfo",
)
_READ_ONLY_FOLDERS = ("sys", "irq", "bus", "fs", "acpi", "scsi", "driver")


def build_template(root: str, prefixes: Sequence[str], etc: Mapping[str, str]) -> None:
    """Mounts a template at the empty folder `root`. Raises OSError; the mounts then stay for the caller to
    drop."""
    sys_.mount("lambent", root, "tmpfs", sys_.MS_NOSUID, "size=4m,nr_inodes=4k,mode=755")
    for folder in (
        "usr",
        "proc",
        "dev",
        "tmp",
        "var/task",
        "var/runtime",
        "var/tmp",
        "opt",
        "mnt",
        "etc",
        "home",
        "root",
    ):
        os.makedirs(f"{root}/{folder}", 0o755)
    sys_.bind("/usr", f"{root}/usr", READ_ONLY)
    for name in _TOP:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.mkdir(f"{root}/{name}")
            sys_.bind(f"/{name}", f"{root}/{name}", READ_ONLY)
    for prefix in _outermost(prefixes):
        os.makedirs(root + prefix, 0o755, exist_ok=True)
        sys_.bind(prefix, root + prefix, READ_ONLY)
    _build_dev(f"{root}/dev")
    _build_etc(f"{root}/etc", etc)
    sys_.set_attributes(root, READ_ONLY, recursive=False)


def build_template_of_image(root: str, image: str, etc: Mapping[str, str]) -> None:
    """The same of an image's unpacked root file system, in which `IMAGE_FOLDERS` and `IMAGE_FILES` are there:
    what is the machine's (devices, names of hosts and users) lies over its own. Raises OSError as
    `build_template`."""
    sys_.bind(image, root, READ_ONLY)
    sys_.mount("lambent", f"{root}/dev", "tmpfs", sys_.MS_NOSUID, "size=4m,nr_inodes=1k,mode=755")
    _build_dev(f"{root}/dev")
    os.mkdir(f"{root}/dev/.etc")
    for name, text in {**_ETC, **etc}.items():
        with open(f"{root}/dev/.etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        if os.path.isfile(f"{root}/etc/{name}"):
            sys_.bind(f"{root}/dev/.etc/{name}", f"{root}/etc/{name}", READ_ONLY)
    sys_.set_attributes(f"{root}/dev", READ_ONLY & ~sys_.ATTR_NODEV, recursive=False)


def _outermost(prefixes: Sequence[str]) -> list[str]:
    """Without those that /usr or another one holds already; parents before children."""
    chosen: list[str] = []
    for prefix in sorted(os.path.normpath(prefix) for prefix in prefixes):
        if any(f"{prefix}/".startswith(f"{own}/") or own.startswith(f"{prefix.rstrip('/')}/") for own in _OWN):
            raise OSError(
                f"an interpreter in {prefix} cannot be shown to functions, which have their own there"
            )
        if not any(prefix == outer or prefix.startswith(outer + "/") for outer in ("/usr", *chosen)):
            chosen.append(prefix)
    return chosen


def _build_dev(dev: str) -> None:
    """Devices are bound, not made: an ordinary user may not make any. No /dev/shm, as on AWS."""
    for name in _DEVICES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        sys_.mount(f"/dev/{name}", f"{dev}/{name}", None, sys_.MS_BIND)
    os.symlink("/proc/self/fd", f"{dev}/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{dev}/{name}")


def _build_etc(etc: str, files: Mapping[str, str]) -> None:
    for name, text in {**_ETC, **files}.items():
        with open(f"{etc}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    of_java = sorted(name for name in os.listdir("/etc") if name.startswith(_ETC_OF_JAVA))
    for name in (*_ETC_OF_HOST, *of_java):
        source, target = f"/etc/{name}", f"{etc}/{name}"
        if os.path.lexists(target) or not os.path.exists(source):
            continue
        if os.path.isdir(source):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        sys_.bind(source, target, READ_ONLY)


def complete(root: str, request: Mapping[str, Any]) -> None:
    """Adds what is this environment's own to its copy of the template. Needs the environment's PID
    namespace."""
    for target, source in (
        ("/var/task", request["task"]),
        ("/var/runtime", request["runtime"]),
        ("/opt", request["opt"]),
    ):
        if source is not None:
            sys_.bind(source, root + target, READ_ONLY)
    # An ordinary user may mount a /proc only while the old root's, whole, is still in sight.
    sys_.mount("proc", f"{root}/proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    _mask(f"{root}/proc", f"{root}/dev/null")


def complete_for_zygote(root: str, request: Mapping[str, Any]) -> None:
    """Adds what a zygote needs to its copy of the template: the runtime, our own sources for the start, and a
    /proc as it is, without which a zygote of an ordinary user could mount none for its environments."""
    sys_.bind(request["runtime"], f"{root}/var/runtime", READ_ONLY)
    sys_.bind(request["sources"], root + SOURCES, READ_ONLY)
    sys_.mount("proc", f"{root}/proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    sys_.mount("zygote", f"{root}{ZYGOTE_TMP}", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "size=1m,mode=755")
    for number, place in enumerate(PLACES):
        # The dynamic linker looks once whether a folder of LD_LIBRARY_PATH is there, and remembers that.
        os.makedirs(f"{root}{ZYGOTE_TMP}/{number}/lib")
        sys_.bind(f"{root}{ZYGOTE_TMP}/{number}", root + place, READ_ONLY)


def renew() -> None:
    """Makes a zygote's root that of a new environment, whose /tmp, code and layers come later. Needs the
    environment's PID namespace and a mount namespace of its own."""
    for place in (*PLACES, ZYGOTE_TMP):
        sys_.unmount(place)
    # The zygote's own stays until then: an ordinary user may mount a /proc only while a whole one is in sight.
    sys_.mount("proc", "/tmp", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    _mask("/tmp", "/dev/null")
    sys_.unmount("/proc")
    sys_.mount("/tmp", "/proc", None, sys_.MS_MOVE)


def mount_tmp(root: str, request: Mapping[str, Any]) -> None:
    """/tmp: the loop device `image`, else a tmpfs of `ephemeral_mb`; owned by the function alone."""
    target, flags = f"{root}/tmp", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOATIME
    if request["image"] is not None:
        # No barriers: it dies with the environment. noinit_itable: or the kernel would fill the sparse file.
        sys_.mount(request["image"], target, "ext4", flags, "noinit_itable,discard,barrier=0")
        os.rmdir(f"{target}/lost+found")
    else:
        size = request["ephemeral_mb"]
        sys_.mount("tmp", target, "tmpfs", flags, f"size={size}m,nr_inodes={size * 64},mode=700")
    os.chown(target, request["uid"], request["uid"])
    os.chmod(target, 0o700)


def _mask(proc: str, null: str) -> None:
    for name in _MASKED_FILES:
        if os.path.isfile(f"{proc}/{name}"):
            sys_.mount(null, f"{proc}/{name}", None, sys_.MS_BIND)
    for name in _READ_ONLY_FOLDERS:
        path = f"{proc}/{name}"
        if os.path.isdir(path):
            sys_.mount(path, path, None, sys_.MS_BIND | sys_.MS_REC)
            sys_.set_attributes(path, READ_ONLY | sys_.ATTR_NOEXEC)
