"""The networks around an isolation test: services of the host, and a machine beside it (a network namespace
with a link to the host) that has an ordinary address, which functions may reach, and link-local ones, which
they may not.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from support import require

GREETING = b"here"
OUTSIDE = ("198.51.100.7", "fd51:100::7")
METADATA = ("169.254.169.254", "fd00:ec2::254")
LINK_LOCAL = "fe80::7"
_NAME = "lmtest"

_SERVICE = """
import socket, sys, threading
def serve(one):
    while True:
        client, _ = one.accept()
        client.sendall(b"here")
        client.close()
one = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(one.getsockname()[1], flush=True)
threading.Thread(target=serve, args=(one,), daemon=True).start()
sys.stdin.read()
"""


class Service:
    """Greets whoever connects, and answers datagrams, at one port of every address of this host."""

    def __init__(self) -> None:
        self._tcp = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._udp.bind(("::", self.port))
        self.callers: list[str] = []
        for work in (self._greet, self._answer):
            threading.Thread(target=work, daemon=True).start()

    def _greet(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, caller = self._tcp.accept()
                self.callers.append(caller[0])
                with client, contextlib.suppress(OSError):
                    client.sendall(GREETING)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                _, caller = self._udp.recvfrom(100)
                if not caller:
                    return  # shut down
                self.callers.append(caller[0])
                self._udp.sendto(GREETING, caller)

    def close(self) -> None:
        for one in (self._tcp, self._udp):
            with contextlib.suppress(OSError):  # wakes the thread; a socket that listens only says ENOTCONN
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@dataclass(frozen=True)
class Beside:
    """The machine beside the host: its service's port, and the host's link to it."""

    port: int
    link: str


@contextlib.contextmanager
def machine_beside() -> Iterator[Beside]:
    """A namespace with OUTSIDE, METADATA and LINK_LOCAL as its addresses, which the host routes to. Removed
    afterwards."""
    require("ip", shutil.which("ip"), "apt-get install iproute2")
    name = f"{_NAME}{os.getpid() % 10_000}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", "beside", "netns", name)
        _ip("addr", "add", "198.51.100.1/24", "dev", f"{name}a")
        for address in ("fd51:100::1/64", "fe80::1/64"):
            _ip("addr", "add", address, "dev", f"{name}a", "nodad")
        _ip("link", "set", f"{name}a", "up")
        for address in (f"{OUTSIDE[0]}/24", f"{OUTSIDE[1]}/64", f"{LINK_LOCAL}/64", *METADATA):
            _ip("-n", name, "addr", "add", address, "dev", "beside", *(["nodad"] if ":" in address else []))
        _ip("-n", name, "link", "set", "beside", "up")
        _ip("-n", name, "route", "add", "default", "via", "198.51.100.1")
        _ip("-n", name, "route", "add", "default", "via", "fd51:100::1")
        for address, via in zip(METADATA, OUTSIDE, strict=True):
            _ip("route", "add", address, "via", via)
        command = ["ip", "netns", "exec", name, sys.executable, "-c", _SERVICE]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
            assert service.stdout is not None
            yield Beside(int(service.stdout.readline()), f"{name}a")
            service.kill()
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False)
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
