"""The program that makes sockets inside an environment's network; see `sockets`. Standard library only."""

import os
import socket

from lambent.executor.drivers.sandbox import syscalls as sys_
from lambent.executor.drivers.sandbox import wire


def main(channel: str, network: str, user_namespace: str, count: str) -> None:
    """`channel`, `network`: descriptors; `user_namespace`: a path, or "-"."""
    end = socket.socket(fileno=int(channel))
    try:
        if user_namespace != "-":
            owner = os.open(user_namespace, os.O_RDONLY | os.O_CLOEXEC)
            sys_.setns(owner, sys_.NEWUSER)
        sys_.setns(int(network), sys_.NEWNET)
        made = [socket.socket() for _ in range(int(count))]
        wire.send(end, {}, [one.fileno() for one in made])
    except OSError as error:
        wire.send(end, {"error": str(error)})
