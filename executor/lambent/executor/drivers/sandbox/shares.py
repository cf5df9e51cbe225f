"""Folders of the host that several environments write to, each under /mnt, because every environment has
another uid outside and all of them must be one user to the folder: its owner, as an access point makes it on
AWS.

Runs between fork and exec, with every power still. Standard library only; no newer syntax.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from lambent.executor.drivers.sandbox import syscalls as sys_

_FLAGS = sys_.ATTR_NOSUID | sys_.ATTR_NODEV


def mount(root: str, shares: Sequence[Any], uid: int, *, separate_uid: bool) -> None:
    """Mounts (source, target, read only) in the environment's copy of the root. As root each file of the
    folder's owner is `uid`'s here and what is written is the owner's there; files of others are nobody's, and
    out of reach. An ordinary user is the folder's user already."""
    if not shares:
        return
    sys_.mount("mnt", f"{root}/mnt", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "size=64k,mode=755")
    for source, target, read_only in shares:
        owner = os.stat(source)
        users = _owned_by(owner.st_uid, owner.st_gid, uid) if separate_uid else -1
        try:
            tree = sys_.open_tree(source, _FLAGS | (sys_.ATTR_RDONLY if read_only else 0), users)
        finally:
            if users >= 0:
                os.close(users)
        try:
            os.mkdir(root + target, 0o755)
            sys_.move_tree(tree, root + target)
        finally:
            os.close(tree)
    sys_.set_attributes(f"{root}/mnt", _FLAGS | sys_.ATTR_RDONLY, recursive=False)


def _owned_by(uid: int, gid: int, outside: int) -> int:
    """A user namespace, as a descriptor, in which the folder's owner is the environment's outside uid. Made by
    a child that is that uid alone: mapping oneself needs no right."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _give_namespace(theirs, uid, gid, outside)
    theirs.close()
    with ours:
        text, descriptors, _, _ = socket.recv_fds(ours, 256, 1)
    os.waitpid(child, 0)
    if not descriptors:
        raise OSError(f"no user namespace for a shared folder: {text.decode(errors='replace')}")
    return descriptors[0]


def _give_namespace(channel: socket.socket, uid: int, gid: int, outside: int) -> None:
    """Never returns."""
    try:
        sys_.become_user_of(outside, f"{uid} {outside} 1", f"{gid} {outside} 1")
        namespace = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(channel, [b"made"], [namespace])
    except BaseException as error:
        channel.send(str(error).encode()[:256])
    finally:
        os._exit(0)
