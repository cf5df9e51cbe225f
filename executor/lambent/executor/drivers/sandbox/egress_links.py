"""The few rtnetlink requests that an environment's egress needs, spoken directly, because they must also run
inside a foreign network namespace, where neither an event loop nor a library's threads can follow, and
because an attach is on the way of a cold start.

Everything here blocks (well under a millisecond a request, but creating and deleting a veth waits for the
kernel's global lock), and imports nothing but the standard library: `egress_inside.py` runs it in a bare
interpreter.
"""

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

_T = TypeVar("_T")
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/veth.h
_REQUEST, _ACK, _EXCL_CREATE, _DUMP = 0x01, 0x04, 0x200 | 0x400, 0x300
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _GETROUTE = 24, 26
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 3, 4, 18, 26, 27, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTO_BOOT, _UNICAST, _UNREACHABLE = 254, 3, 1, 7
_UP = 1

Message = tuple[int, int, bytes]  # type, flags, body


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[length + 3 & ~3 :]


def _link(index: int = 0, *, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def veth(name: str, group: int, peer: str, peer_netns: int, mtu: int) -> Message:
    """Makes a pair whose end `peer` is born in the namespace behind the descriptor `peer_netns`; our end joins
    the group."""
    inside = (
        _link()
        + _attribute(_IFLA_IFNAME, peer.encode() + b"\0")
        + _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns))
    )
    info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_INFO_PEER, inside))
    body = (
        _link()
        + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + _attribute(_IFLA_GROUP, struct.pack("=I", group))
        + _attribute(_IFLA_LINKINFO, info)
    )
    return _NEWLINK, _EXCL_CREATE, body


def without_ipv6(index: int) -> Message:
    """No address by itself, not even fe80::/64: must come before `up`."""
    inet6 = _attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
    return _NEWLINK, 0, _link(index) + _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, inet6))


def up(index: int) -> Message:
    return _NEWLINK, 0, _link(index, flags=_UP, change=_UP)


def address(index: int, value: Address, prefix: int) -> Message:
    family = socket.AF_INET if value.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBi", family, prefix, 0, 0, index)
    body += _attribute(_IFA_LOCAL, value.packed) + _attribute(_IFA_ADDRESS, value.packed)
    return _NEWADDR, _EXCL_CREATE, body


def _route(family: int, prefix: int, kind: int, attributes: bytes) -> Message:
    header = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, _TABLE_MAIN, _PROTO_BOOT, 0, kind, 0)
    return _NEWROUTE, _EXCL_CREATE, header + attributes


def default_route(gateway: IPv4Address) -> Message:
    return _route(socket.AF_INET, 0, _UNICAST, _attribute(_RTA_GATEWAY, gateway.packed))


def unreachable(network: Network) -> Message:
    """Packets to `network` end here with EHOSTUNREACH."""
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    kind = _attribute(_RTA_DST, network.network_address.packed)
    return _route(family, network.prefixlen, _UNREACHABLE, kind)


def join(index: int, group: int) -> Message:
    return _NEWLINK, 0, _link(index) + _attribute(_IFLA_GROUP, struct.pack("=I", group))


def delete_group(group: int) -> Message:
    """Deletes all links of the group for the price of one (34 ms measured); ENODEV when there is none."""
    return _DELLINK, 0, _link() + _attribute(_IFLA_GROUP, struct.pack("=I", group))


class Links:
    """A connection to the kernel's network configuration, in the namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.settimeout(20)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> "Links":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def do(self, *messages: Message, ignore: Sequence[int] = ()) -> None:
        """Sends the messages at once and waits for all; the first refusal, unless its errno is in `ignore`,
        is raised as OSError after the rest were answered."""
        if not messages:
            return
        first = self._sequence + 1
        self._socket.send(b"".join(self._packed(*message, _ACK) for message in messages))
        refused = 0
        while first <= self._sequence:
            for kind, sequence, body in self._received():
                if kind == _ERROR and sequence >= first:
                    first = sequence + 1
                    code = -struct.unpack_from("=i", body)[0]
                    refused = refused or (code if code not in ignore else 0)
        if refused:
            raise OSError(refused, os.strerror(refused))

    def _packed(self, kind: int, flags: int, body: bytes, more: int) -> bytes:
        self._sequence += 1
        return struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | more, self._sequence, 0) + body

    def _received(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 17)
        while len(data) >= 16:
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
            yield kind, sequence, data[16:length]
            data = data[length + 3 & ~3 :]

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        self._socket.send(self._packed(kind, 0, body, _DUMP))
        while True:
            for kind_seen, sequence, seen in self._received():
                if sequence != self._sequence:
                    continue
                if kind_seen == _DONE:
                    return
                if kind_seen == _ERROR:
                    code = -struct.unpack_from("=i", seen)[0]
                    raise OSError(code, os.strerror(code))
                yield seen

    def links(self) -> list[tuple[int, str, int]]:
        """(index, name, MTU) of each link."""
        found = []
        for body in self._dump(_GETLINK, _link()):
            values = dict(_attributes(body[16:]))
            name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
            mtu = struct.unpack("=I", values[_IFLA_MTU])[0] if _IFLA_MTU in values else 1500
            found.append((struct.unpack_from("=i", body, 4)[0], name, mtu))
        return found

    def addresses(self) -> list[Address]:
        """Every address of this namespace, loopback and link-local included."""
        found = []
        for body in self._dump(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
            values = dict(_attributes(body[8:]))
            packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if packed:
                found.append(ip_address(packed))
        return found

    def routes(self) -> list[tuple[IPv4Network, int]]:
        """(destination, index of the link or 0) of each IPv4 route of any table; default routes are /0."""
        found = []
        for body in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
            values = dict(_attributes(body[12:]))
            network = ip_network((values.get(_RTA_DST, b"\0\0\0\0"), body[1]), strict=False)
            assert isinstance(network, IPv4Network)
            found.append((network, struct.unpack("=i", values.get(_RTA_OIF, b"\0\0\0\0"))[0]))
        return found


_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: int, kind: int) -> None:
    """setns(2) of the calling thread."""
    if _libc.setns(namespace, kind):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def inside(netns: int, work: Callable[[], _T]) -> _T:
    """Runs `work` in the network namespace behind the descriptor, in a thread that ends there: a thread that
    had to find its way home could fail at it, and would then do the host's work in the wrong namespace."""
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            enter(netns, CLONE_NEWNET)
            outcome.append(work())
        except BaseException as raised:
            failure.append(raised)

    thread = threading.Thread(target=run, name="lambent-netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
