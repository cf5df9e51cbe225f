"""What the operator has made reachable from inside, turned into sockets and /etc/hosts, so that one URL works
on the host and in a function alike.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from lambent.executor.drivers.base import Reachable
from lambent.executor.drivers.sandbox.egress_links import Address, Links
from lambent.executor.drivers.sandbox.netport import SocketSpec
from lambent.kernel.errors import LambdaError

RELAY = "relay"
_PORTS: Mapping[str, int] = {
    "http": 80,
    "https": 443,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
}
# Ports of 127.0.0.1 inside every environment that are taken.
_TAKEN: Mapping[int, str] = {9001: "the Runtime API", 53: "the resolver"}


def taken_inside(host: str, port: int) -> str | None:
    """What has this address in every environment already, so that it can't be made reachable; None if free."""
    return _TAKEN.get(port) if "127.0.0.1" in _bound(host) else None


def host_addresses() -> list[Address]:
    """Every address of this host."""
    with Links() as links:
        return links.addresses()


def addresses_of(host: str) -> list[str]:
    """The addresses of a name; none if it has none now."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError:
        return []


def reachable_from_urls(
    urls: Iterable[str],
    *,
    resolve: Callable[[str], Iterable[str]] = addresses_of,
    own: Callable[[], Iterable[Address]] = host_addresses,
) -> tuple[Reachable, ...]:
    """The endpoints among `urls` that need a relay: those on loopback or on an address of this host. Others are
    reached by egress like everything else. Ports default by scheme; LambdaError where there is none.

    `resolve` gives the addresses of a host name, `own` this host's addresses.
    """
    mine = set(own())
    found: dict[tuple[str, int], Reachable] = {}
    for url in urls:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if not host or not any(_is_here(text, mine) for text in (_literal(host) or resolve(host))):
            continue
        port = parts.port or _PORTS.get(parts.scheme)
        if port is None:
            raise LambdaError(f"{url} has no port, and {parts.scheme} has no default one. Write it out.")
        found.setdefault((host, port), Reachable(host, port, (host, port)))
    return tuple(found.values())


def _literal(host: str) -> list[str]:
    return [host] if _address(host) else []


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_here(text: str, mine: set[Address]) -> bool:
    address = _address(text)
    return address is not None and (address.is_loopback or address.is_unspecified or address in mine)


class Reachables:
    """The relays of every environment: what to bind and where it leads.

    LambdaError if two endpoints, or an endpoint and what is there anyway, would need the same port inside.
    """

    def __init__(self, reachable: Sequence[Reachable], *, ipv6: bool | None = None) -> None:
        if ipv6 is None:
            ipv6 = os.path.exists("/proc/net/if_inet6")
        self._targets: dict[tuple[str, int], tuple[str, int] | str] = {}
        self._names: list[str] = []
        for each in reachable:
            for host in _bound(each.host):
                if ":" not in host or ipv6:
                    self._add(host, each)
            name = each.host.lower()
            if _address(name) is None and name != "localhost" and name not in self._names:
                self._names.append(name)

    def _add(self, host: str, each: Reachable) -> None:
        key = (host, each.port)
        if host == "127.0.0.1" and each.port in _TAKEN:
            raise LambdaError(
                f"{each.host}:{each.port} can't be made reachable: inside an environment that port belongs to "
                f"{_TAKEN[each.port]}. Let the service listen on another port."
            )
        other = self._targets.setdefault(key, each.target)
        if _same(other) != _same(each.target):
            raise LambdaError(
                f"{each.host}:{each.port} can't be made reachable twice, at {other} and at {each.target}: "
                "inside an environment they are one address. Give one of them another port."
            )

    def sockets(self) -> list[SocketSpec]:
        """One listening TCP socket per address and port."""
        return [
            SocketSpec(
                RELAY, socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, host, port
            )
            for host, port in self._targets
        ]

    def target(self, host: str, port: int) -> tuple[str, int] | str:
        """Where the socket bound to (host, port) leads."""
        return self._targets[host, port]

    def hosts_file(self) -> str:
        """The text of /etc/hosts inside."""
        names = " ".join(("localhost", "sandbox.localdomain", "sandbox", *self._names))
        return f"127.0.0.1\t{names}\n::1\t{names} ip6-localhost ip6-loopback\n"


def _bound(host: str) -> list[str]:
    """Where to listen for a host: names and "any" stand for loopback, a literal address for itself."""
    address = _address(host)
    if address is None:
        return ["127.0.0.1", "::1"]
    if address.is_unspecified:
        return ["127.0.0.1" if address.version == 4 else "::1"]
    if address.is_link_local:
        raise LambdaError(f"{host} can't be made reachable: link-local addresses are closed to functions.")
    return [str(address)]


def _same(target: tuple[str, int] | str) -> object:
    """Spellings of the host's loopback lead to the same service."""
    if isinstance(target, str):
        return target
    address = _address(target[0])
    here = target[0].lower() == "localhost" if address is None else address.is_loopback
    return ("loopback", target[1]) if here else target
