"""Which addresses environments get and which they must never reach, decided apart from the kernel calls,
because a range that collides with a route of the host cuts the host off from that network.
"""

import hashlib
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from lambent.executor.drivers.sandbox.egress_links import Address, Network

# Carrier-grade NAT's shared range comes first: nobody's private network is there by design. 100.100/16 is left
# out: some clouds keep resolvers and credential endpoints there.
_POOLS = (IPv4Network("100.64.0.0/10"), IPv4Network("10.192.0.0/10"), IPv4Network("172.16.0.0/12"))
_RESERVED = (IPv4Network("100.100.0.0/16"),)
_RANGE_PREFIX = 18  # 8,192 environments of two addresses each

# What no environment reaches besides the host's own addresses: this network, loopback, link-local (the clouds'
# credential endpoints), multicast and broadcast.
FORBIDDEN = tuple(
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


def tag(instance: str) -> str:
    """Six characters that name an instance in names of links, which the kernel cuts at 15."""
    return hashlib.sha256(instance.encode()).hexdigest()[:6]


def table_name(instance: str) -> str:
    """The nft table of an instance; unlike instances never share one."""
    plain = re.sub(r"[^a-z0-9_]", "_", instance.lower())[:40]
    return f"lambent_{plain}" if plain == instance else f"lambent_{plain}_{tag(instance)}"


def choose_range(instance: str, taken: Iterable[Network | Address], prefix: int = _RANGE_PREFIX) -> IPv4Network:
    """A range of `prefix` length that overlaps nothing in `taken`. It starts searching at a place of the
    instance's own, so that a restart finds the same range and two instances different ones. OSError: none left.
    """
    used = [_as_network(each) for each in taken if each.version == 4]
    used = [each for each in used if each.prefixlen > 0] + list(_RESERVED)
    for pool in _POOLS:
        count = 1 << (prefix - pool.prefixlen)
        start = int(tag(instance), 16) % count
        for step in range(count):
            offset = (start + step) % count << (32 - prefix)
            candidate = IPv4Network((int(pool.network_address) + offset, prefix))
            if not any(candidate.overlaps(each) for each in used):
                return candidate
    raise OSError("every private range that environments could have overlaps a route of this host")


def _as_network(value: Network | Address) -> IPv4Network:
    if isinstance(value, IPv4Network):
        return value
    assert isinstance(value, IPv4Address)
    return IPv4Network((value, 32))


class Slots:
    """The pairs of addresses of a range: (host's end, environment's end) by slot number.

    The slot that has been free for longest is given next, so that late packets to an environment that has ended
    seldom meet its successor.
    """

    def __init__(self, network: IPv4Network) -> None:
        self.network = network
        self._fresh = iter(range(network.num_addresses // 2))
        self._returned: list[int] = []

    def take(self) -> int:
        """OSError when all are in use."""
        slot = next(self._fresh, None)
        if slot is None and self._returned:
            slot = self._returned.pop(0)
        if slot is None:
            raise OSError(f"all {self.network.num_addresses // 2} environment addresses are in use")
        return slot

    def give_back(self, slot: int) -> None:
        self._returned.append(slot)

    def pair(self, slot: int) -> tuple[IPv4Address, IPv4Address]:
        first = self.network.network_address + 2 * slot
        return first, first + 1
