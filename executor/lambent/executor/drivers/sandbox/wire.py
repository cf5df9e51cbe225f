"""How the driver and its spawner talk: one JSON object per datagram of a SEQPACKET socket pair, with
descriptors beside it, so that a message is never half read. Standard library only: the spawner runs without
site-packages.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_MESSAGE = 65536
_MAX_DESCRIPTORS = 64
_INT = array.array("i").itemsize


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, both closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Raises OSError; BlockingIOError on a non-blocking end whose buffer is full."""
    socket.send_fds(end, [json.dumps(message).encode()], list(descriptors))


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors (closed on exec, the caller's to close); None when the other end is
    gone. Raises BlockingIOError on a non-blocking end that has nothing."""
    room = socket.CMSG_LEN(_MAX_DESCRIPTORS * _INT)
    try:  # not socket.recv_fds: it drops the flags, and the descriptors would be inherited
        data, ancillary, flags, _ = end.recvmsg(_MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % _INT])
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError("a message was cut: this process may not open more descriptors")
    if not data:
        return None
    return json.loads(data), list(descriptors)


def body(message: Mapping[str, Any]) -> int:
    """A descriptor of memory that holds a message too long for a datagram (a function's environment)."""
    descriptor = os.memfd_create("lambent-request", os.MFD_CLOEXEC)
    data = json.dumps(message).encode()
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def read_body(descriptor: int) -> dict[str, Any]:
    """What `body` holds; closes it."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        message: dict[str, Any] = json.load(file)
        return message
