"""A small internet of network namespaces for tests of the environments' network, so that they change nothing
of the machine they run on and nothing of the machine changes them.

`World` puts the calling thread into a namespace that plays the host; a second one plays the world outside,
joined by a veth pair; environments get namespaces as the driver makes them.
"""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from lambent.executor.drivers.sandbox import egress_links as kernel
from lambent.executor.drivers.sandbox.netport import SocketSpec

_T = TypeVar("_T")
HOST, OUTSIDE = "198.51.100.1", "198.51.100.2"
HOST6, HOST6_LOCAL = "2001:db8::1", "fe80::1"
LINK_LOCAL = "169.254.169.254"
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_libc = ctypes.CDLL(None, use_errno=True)


def new_namespace(prepare: Callable[[], _T]) -> tuple[int, _T]:
    """(descriptor of a new network namespace with lo up, what `prepare` returned in it)."""
    outcome: list[tuple[int, _T]] = []

    def work() -> None:
        assert _libc.unshare(kernel.CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        with kernel.Links() as links:
            links.do(kernel.up(1))
        outcome.append((os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), prepare()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return outcome[0]


def bind(specs: Iterable[SocketSpec]) -> list[socket.socket]:
    """What the spawner does in a new namespace."""
    made = []
    for spec in specs:
        address = ip_address(spec.host)
        if not address.is_loopback:
            with kernel.Links() as links:
                links.do(kernel.address(1, address, address.max_prefixlen))
        sock = socket.socket(spec.family, spec.type)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((spec.host, spec.port))
        if spec.type == socket.SOCK_STREAM:
            sock.listen(64)
        sock.setblocking(False)
        made.append(sock)
    return made


class Echo:
    """A TCP server at (host, port) of a namespace that sends back what it reads until the end of the stream,
    and `b"!"` after that; `peers` are the addresses it was called from."""

    def __init__(self, netns: int, host: str, port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener: socket.socket = kernel.inside(netns, lambda: self._listen(family, host, port))
        self.host = host
        self.port: int = self.listener.getsockname()[1]
        self.peers: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @staticmethod
    def _listen(family: int, host: str, port: int) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
        listener.bind(address)
        listener.listen(64)
        return listener

    def _serve(self) -> None:
        while True:
            try:
                client, peer = self.listener.accept()
            except OSError:
                return  # closed
            self.peers.append(peer[0])
            with client:
                client.settimeout(10)
                try:
                    while data := client.recv(1 << 16):
                        client.sendall(data)
                    client.sendall(b"!")
                except OSError:
                    continue  # the test's client has gone

    def close(self) -> None:
        # shutdown, because close alone does not wake an accept in another thread.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()


def exchange(host: str, port: int, sent: bytes = b"ping", *, seconds: float = 3.0) -> bytes:
    """Connects, sends, ends its half, and reads to the end. OSError (TimeoutError too): it could not."""
    with socket.create_connection((host, port), timeout=seconds) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(1 << 16):
            received += data
        return received


class World:
    """The namespaces of one test. `host` and `outside` are descriptors; `close` takes the thread home."""

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.host, _ = new_namespace(lambda: None)
        self.outside, _ = new_namespace(lambda: None)
        self._descriptors = [self._home, self.host, self.outside]
        self._servers: list[Echo] = []
        kernel.enter(self.host, kernel.CLONE_NEWNET)
        try:
            self._furnish()
        except BaseException:
            self.close()
            raise

    def _furnish(self) -> None:
        FORWARD.write_text("0")
        self.ip(
            "link",
            "add",
            "up0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            f"/proc/self/fd/{self.outside}",
        )
        for where, link, address in ((self.host, "up0", HOST), (self.outside, "eth0", OUTSIDE)):
            self.ip("address", "add", f"{address}/24", "dev", link, netns=where)
            self.ip("link", "set", link, "up", netns=where)
        for address in (HOST6, HOST6_LOCAL):
            self.ip("-6", "address", "add", f"{address}/64", "dev", "up0", "nodad")
        self.ip("-6", "address", "add", "2001:db8::2/64", "dev", "eth0", "nodad", netns=self.outside)
        self.ip("address", "add", f"{LINK_LOCAL}/32", "dev", "eth0", netns=self.outside)
        self.ip("route", "add", "default", "via", OUTSIDE)
        self.ip("route", "add", "169.254.0.0/16", "dev", "up0")

    def ip(self, *arguments: str, netns: int | None = None) -> str:
        """The `ip` command in a namespace (default: the host's)."""
        where = self.host if netns is None else netns
        done = subprocess.run(
            ["nsenter", f"--net=/proc/self/fd/{where}", "ip", *arguments],
            pass_fds=tuple(self._descriptors),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def echo(self, netns: int, host: str, port: int = 0) -> Echo:
        server = Echo(netns, host, port)
        self._servers.append(server)
        return server

    def environment(self, specs: Iterable[SocketSpec] = ()) -> tuple[int, list[socket.socket]]:
        """A namespace as the driver makes it: its descriptor (closed with the world) and its sockets."""
        netns, sockets = new_namespace(lambda: bind(specs))
        self._descriptors.append(netns)
        return netns, sockets

    def close(self) -> None:
        for server in self._servers:
            server.close()
        kernel.enter(self._home, kernel.CLONE_NEWNET)
        for descriptor in self._descriptors:
            os.close(descriptor)
