"""Becomes an ordinary user and executes a command: `as_user.py UID PATH... -- COMMAND`, run as root.

The interpreter and the clone (PATH...) may lie where that user cannot go, as below /root: in mounts of its own
every folder above them that is closed becomes an empty one, in which they alone are shown. Nothing of that is
seen outside. Standard library only.
"""

import ctypes
import os
import stat
import sys
import tempfile

_NEWNS, _BIND, _REC, _MOVE, _PRIVATE = 0x20000, 4096, 16384, 8192, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    given = (text.encode() if text is not None else None for text in (source, target, kind))
    if _libc.mount(*given, ctypes.c_ulong(flags), data.encode() if data is not None else None):
        raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")


def _closed_above(path: str) -> str | None:
    """The first folder on the way to a path that others may not pass."""
    way = ""
    for name in path.strip("/").split("/"):
        way += f"/{name}"
        if not os.stat(way).st_mode & stat.S_IXOTH:
            return way
    return None


def _open(paths: list[str]) -> None:
    closed = {path: _closed_above(path) for path in paths}
    held = {}
    for path in [path for path in paths if closed[path] is not None]:
        held[path] = tempfile.mkdtemp()
        _mount(path, held[path], None, _BIND | _REC)
    for folder in {folder for folder in closed.values() if folder is not None}:
        _mount("opened", folder, "tmpfs", 0, "mode=755")
    for path, place in held.items():
        os.makedirs(path, exist_ok=True)
        _mount(place, path, None, _MOVE)
        os.rmdir(place)


def main(user: int, paths: list[str], command: list[str]) -> None:
    if _libc.unshare(_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _mount(None, "/", None, _REC | _PRIVATE)
    os.umask(0o022)
    _open([os.path.realpath(path) for path in paths])
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    os.execv(command[0], command)


if __name__ == "__main__":
    end = sys.argv.index("--")
    main(int(sys.argv[1]), sys.argv[2:end], sys.argv[end + 1 :])
