"""Which executable of a function's own starts it, and in AWS's words why none does: a bootstrap that is
missing, not executable or made for another machine is the function's error, never the platform's.

Judged before an environment is made, because inside one it is only a failed system call.
"""

import os
import platform
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from lambent.executor.runtimes.family import TASK_ROOT, RuntimeCommand

_ELF = b"\x7fELF"
_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of what Lambda has
_PT_INTERP = 3
_HEAD_BYTES = 4096
# As the bootstraps of AWS's runtimes do it; in the shell that a wrapper mostly is anyway.
_WRAP = (
    '[ -f "$0" ] || { echo "$0: does not exist"; exit 127; }; '
    '[ -x "$0" ] || { echo "$0: is not an executable"; exit 126; }; '
    'exec "$0" "$@"'
)
_SHARED = ("/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/")  # of the host, in every environment


class NotStartable(Exception):
    """What the function says of how it is started cannot be. `kind`: AWS's errorType; `line`: for its log."""

    def __init__(self, kind: str, why: str, line: str = "") -> None:
        super().__init__(why)
        self.kind = kind
        self.line = line


class InvalidEntrypoint(NotStartable):
    """The function brings nothing that runs; the text says why."""

    def __init__(self, why: str, line: str = "") -> None:
        super().__init__("Runtime.InvalidEntrypoint", why, line)


def resolve(
    command: RuntimeCommand, task: Path, opt: Path | None, *, wrapper: str | None = None
) -> RuntimeCommand:
    """`command` with its entrypoint chosen from the function's code and layers, which lie in these folders.
    `wrapper`: the function's AWS_LAMBDA_EXEC_WRAPPER, which runs the runtime; OS-only ones have none. Raises
    InvalidEntrypoint."""
    if not command.entrypoints:
        return replace(command, argv=("/bin/sh", "-c", _WRAP, wrapper, *command.argv)) if wrapper else command
    folders = {TASK_ROOT: task} | ({"/opt": opt} if opt is not None else {})
    for inside in command.entrypoints:
        path = _outside(inside, folders)
        if path is None or not os.path.lexists(path):
            continue
        # A link's target means something inside only: the kernel decides.
        refused = None if path.is_symlink() else refusal(path, lambda loader: _outside(loader, folders))
        if refused is not None:
            raise InvalidEntrypoint(f"fork/exec {inside}: {refused}")
        return replace(command, argv=(inside,), entrypoints=())
    raise InvalidEntrypoint(f"Couldn't find valid bootstrap(s): [{' '.join(command.entrypoints)}]")


def _outside(inside: str, folders: Mapping[str, Path]) -> Path | None:
    """Where a path of an environment lies on the host, or None if nowhere."""
    for top, folder in folders.items():
        if inside.startswith(f"{top}/"):
            return folder / inside.removeprefix(f"{top}/")
    return Path(inside) if inside.startswith(_SHARED) else None


def refusal(path: Path, find: Callable[[str], Path | None]) -> str | None:
    """Why the kernel would not execute a file, in its words. `find`: where a path of the environment lies on
    the host, or None if nowhere."""
    # As root functions run as another user, for whom the permissions of "others" count.
    needed = 0o001 if os.geteuid() == 0 else 0o100
    if not path.is_file() or not path.stat().st_mode & needed:
        return "permission denied"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"#!"):
        loader = head[2:].split(b"\n", 1)[0].strip().split(maxsplit=1)
    elif head.startswith(_ELF) and _machine(head) == _MACHINES.get(platform.machine()):
        loader = [found] if (found := _loader(head)) else []
    else:
        return "exec format error"
    if loader:
        target = find(loader[0].decode("utf-8", "replace"))
        if target is None or not os.path.lexists(target):
            return "no such file or directory"
    return None


def _machine(head: bytes) -> int:
    return int.from_bytes(head[18:20], "little")


def _loader(head: bytes) -> bytes | None:
    """The dynamic linker that a 64-bit ELF file names; None if it is static, or lists it further on."""
    if len(head) < 64:
        return None
    (at,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for number in range(count):
        entry = head[at + number * size : at + (number + 1) * size]
        if len(entry) < 40:
            return None
        (kind,) = struct.unpack_from("<I", entry)
        offset, length = struct.unpack_from("<Q", entry, 8)[0], struct.unpack_from("<Q", entry, 32)[0]
        if kind == _PT_INTERP:
            return head[offset : offset + length].rstrip(b"\0") or None
    return None
