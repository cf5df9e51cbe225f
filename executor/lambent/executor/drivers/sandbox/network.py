"""The network of the sandbox driver's environments: relays to what the operator has named, names, and the way
out, put together from `relay`, `dns` and `egress_*`.

Whatever the mode, an environment reaches neither the host's loopback and addresses, nor another environment,
nor link-local addresses: without egress because there is no way out, with it because the way out is filtered.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.sandbox import dns, egress_slirp
from lambent.executor.drivers.sandbox.egress_links import Address
from lambent.executor.drivers.sandbox.egress_rules import find
from lambent.executor.drivers.sandbox.egress_slirp import SlirpEgress
from lambent.executor.drivers.sandbox.egress_veth import VethEgress
from lambent.executor.drivers.sandbox.netport import SocketSpec
from lambent.executor.drivers.sandbox.reachable import Reachables, host_addresses, reachable_from_urls
from lambent.executor.drivers.sandbox.relay import Capacity, Relay
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Enforcement
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

_DNS = "dns"
_CLOSED = "the host's own addresses, link-local addresses and other environments are closed"


class _Closes(Protocol):
    async def close(self) -> None: ...


class SandboxNetwork:
    """Implements `netport.Network`. `egress`: "auto" is veth and nft as root, slirp4netns as an ordinary
    user, none where neither works (`enforcement` says why); "none" asks for none. LambdaError:
    `config.reachable` can't be served."""

    def __init__(
        self,
        config: DriverConfig,
        *,
        egress: Literal["auto", "none"] = "auto",
        resolv_conf: Path = Path("/etc/resolv.conf"),
    ) -> None:
        self._config = config
        self._wanted = egress
        self._reachables = Reachables(config.reachable)
        self._resolvers = dns.Resolvers(resolv_conf)
        self._tasks = Tasks("network")
        self._veth: VethEgress | None = None
        self._slirp: SlirpEgress | None = None
        self._relays_dns = False
        self._attached: set[NetworkAttachment] = set()
        self._enforcement: tuple[Enforcement, ...] = ()

    async def open(self) -> None:
        """Reaps an earlier run's links, rules and forwarding and gets egress ready. Missing egress is no error:
        `enforcement` says it."""
        if os.geteuid() == 0 and find("nft"):
            state = await self._open_veth()
        elif os.geteuid() == 0:
            state = _without("nft is not installed", "apt-get install nftables")
        elif (trouble := egress_slirp.unavailable()) is not None:
            state = _without(*trouble)
        else:
            self._slirp = SlirpEgress(self._config.instance, self._tasks)
            state = Enforcement("egress", True, f"slirp4netns; {_CLOSED}")
        if self._wanted == "none":
            self._slirp = None
            state = Enforcement("egress", True, "none, as configured")
        if self._veth or self._slirp:
            self._relays_dns = not self._direct_servers()
        named = ", ".join(f"{each.host}:{each.port}" for each in self._config.reachable) or "nothing"
        inner = Enforcement("network", True, f"a network namespace per environment; relays to {named}")
        self._enforcement = (inner, state)

    async def _open_veth(self) -> Enforcement:
        """Opened even where no egress is wanted, so that an earlier run's leavings go."""
        veth = VethEgress(self._config.instance, self._config.state_dir)
        try:
            if self._wanted == "none":
                await veth.close()
                return _without("not wanted", "")
            await veth.open(tuple(self._resolver_addresses()))
        except OSError as failure:
            veth.abandon()
            _log.warning("Functions have no outbound network.", failure=str(failure))
            return _without(str(failure), "load nf_tables and nf_nat, and let net.ipv4.ip_forward be set to 1")
        except BaseException:  # stopped in the middle
            await asyncio.shield(veth.close())
            raise
        self._veth = veth
        how = f"veth, nft masquerade, IPv4 only; {_CLOSED}"
        if not veth.dropping:
            return Enforcement("egress", True, how)
        return Enforcement(
            "egress",
            False,
            f"{how}; but another packet filter may drop it: {', '.join(veth.dropping)} has policy drop",
            _advice(veth.dropping[0], veth.links),
        )

    def _resolver_addresses(self) -> list[Address]:
        return [each for text in self._resolvers.servers() if (each := dns.parse(text)) is not None]

    def _direct_servers(self) -> list[str]:
        return dns.reachable_servers(self._resolvers.servers(), host_addresses())

    def sockets(self) -> Sequence[SocketSpec]:
        """What to bind in each new namespace; complete after `open`."""
        specs = self._reachables.sockets()
        if self._relays_dns:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                specs.append(SocketSpec(_DNS, socket.AF_INET, kind, dns.RELAY_ADDRESS, dns.PORT))
        return specs

    def etc_files(self) -> Mapping[str, str]:
        """ "resolv.conf" (empty without egress) and "hosts"."""
        servers: Sequence[str] = ()
        if self._relays_dns:
            servers = (dns.RELAY_ADDRESS,)
        elif self._veth or self._slirp:
            # Should the host have moved to a network whose resolver only it reaches, the names stay unanswered
            # until a restart: relays are made with the environment.
            servers = self._direct_servers()
        return {
            "resolv.conf": dns.resolv_conf(servers, self._resolvers.rest()),
            "hosts": self._reachables.hosts_file(),
        }

    async def attach(
        self, environment_id: str, netns_fd: int, userns_path: str | None, sockets: Sequence[socket.socket]
    ) -> "NetworkAttachment":
        """As `netport.Network.attach`. OSError: egress could not be made; nothing is left."""
        attachment = NetworkAttachment(environment_id, sockets, self._tasks, self._attached.discard)
        self._attached.add(attachment)
        try:
            await self._serve(attachment, self.sockets())
            if self._veth is not None:
                attachment.add(await self._veth.attach(netns_fd))
            elif self._slirp is not None:
                attachment.add(await self._slirp.attach(netns_fd, userns_path))
        except BaseException:
            await attachment.close()
            raise
        return attachment

    async def _serve(self, attachment: "NetworkAttachment", specs: Sequence[SocketSpec]) -> None:
        if len(specs) != len(attachment.sockets):
            raise LambdaError(
                f"{len(attachment.sockets)} sockets were handed over where {len(specs)} were asked for."
            )
        owner, capacity = attachment.environment_id, Capacity()
        for spec, sock in zip(specs, attachment.sockets, strict=True):
            if spec.kind == _DNS and spec.type == socket.SOCK_DGRAM:
                relay = dns.DnsRelay(sock, self._resolvers.servers, owner=owner)
                attachment.add(relay)
                await relay.start()
                continue
            served = Relay(sock, self._target(spec), capacity, owner=owner)
            attachment.add(served)
            served.start()

    def _target(self, spec: SocketSpec) -> Callable[[], tuple[str, int] | str]:
        if spec.kind == _DNS:
            return lambda: (self._resolvers.servers()[0], dns.PORT)
        target = self._reachables.target(spec.host, spec.port)
        return lambda: target

    async def close(self) -> None:
        """Closes every attachment and undoes what was changed on the host. Idempotent."""
        await asyncio.gather(*(each.close() for each in tuple(self._attached)))
        veth, self._veth, self._slirp = self._veth, None, None
        if veth is not None:
            await veth.close()
        await self._tasks.drain(1)

    def enforcement(self) -> Sequence[Enforcement]:
        """ "network" and "egress"; complete after `open`."""
        return self._enforcement


class NetworkAttachment:
    """One environment's relays and egress; owns its sockets."""

    def __init__(
        self,
        environment_id: str,
        sockets: Sequence[socket.socket],
        tasks: Tasks,
        closed: Callable[["NetworkAttachment"], None],
    ) -> None:
        self.environment_id = environment_id
        self.sockets = tuple(sockets)
        self._parts: list[_Closes] = []
        self._tasks = tasks
        self._closed = closed
        self._closing: asyncio.Task[None] | None = None

    def add(self, part: _Closes) -> None:
        self._parts.append(part)

    async def close(self) -> None:
        """Idempotent, and finished even if the caller is cancelled; every part is closed even if another one
        fails, and the first failure is raised."""
        if self._closing is None:
            self._closing = self._tasks.once("close", self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        outcomes = await asyncio.gather(*(part.close() for part in self._parts), return_exceptions=True)
        for sock in self.sockets:
            sock.close()
        self._closed(self)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


def _without(how: str, advice: str) -> Enforcement:
    return Enforcement("egress", False, f"none: {how}", advice)


def _advice(chain: str, links: str) -> str:
    """How to let environments through a foreign filter; Docker has a chain that is meant for it."""
    if chain.startswith("ip filter FORWARD"):
        return (
            f"iptables -I FORWARD -i {links}+ -j ACCEPT; "
            f"iptables -I FORWARD -o {links}+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
        )
    return (
        f'nft insert rule {chain} iifname "{links}*" accept; '
        f'nft insert rule {chain} oifname "{links}*" ct state established,related accept'
    )


__all__ = ["NetworkAttachment", "SandboxNetwork", "reachable_from_urls"]
