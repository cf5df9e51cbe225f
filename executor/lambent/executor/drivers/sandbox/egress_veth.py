"""Egress where we may configure the host: a veth pair per environment, forwarded and masqueraded by the rules
of `egress_rules`. An attach makes the pair and nothing else, 0.9 ms measured; a deletion waits tens of
milliseconds in the kernel, so it runs in a thread of its own.

IPv6 is off on both ends: to forward it, the host would have to turn router advertisements off for itself. So an
environment has no IPv6 address but ::1, and nothing of IPv6 to filter can exist.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

from lambent.executor.drivers.sandbox import egress_links as kernel
from lambent.executor.drivers.sandbox.egress_addresses import Slots, choose_range, table_name, tag
from lambent.executor.drivers.sandbox.egress_rules import LINKS, Rules
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_T = TypeVar("_T")
_INSIDE = "eth0"
_THREADS = 4
# More answers than that overflow the buffer of the socket that asks.
_ANSWERED_AT_ONCE = 64


class VethEgress:
    """Egress for environments by veth pairs; one per instance."""

    def __init__(self, instance: str, state_dir: Path) -> None:
        self._instance = instance
        self._links = f"{LINKS}{tag(instance)}-"
        # A group of links is deleted at once; 0x6c keeps clear of the small numbers that people use.
        self._group = 0x6C000000 | int(tag(instance), 16)
        self._doom = 0x6D000000 | int(tag(instance), 16)
        self._rules = Rules(table_name(instance), self._links, state_dir)
        self._threads = ThreadPoolExecutor(_THREADS, "lambent-links")
        self._tasks = Tasks("links")
        self._doomed: list[tuple[int, asyncio.Future[None]]] = []
        self._deleting = False
        self._slots: Slots | None = None
        self._mtu = 1500
        self.dropping: tuple[str, ...] = ()  # foreign forward chains that drop, as "family table chain"

    @property
    def links(self) -> str:
        """The prefix of the names of the host's ends."""
        return self._links

    async def open(self, avoid: Iterable[kernel.Address]) -> None:
        """Reaps an earlier run's links and rules and loads the rules. `avoid`: addresses that must stay
        reachable (resolvers). OSError: this host can't; nothing is left."""
        routes, addresses, links = await self._run(self._reap)
        network = choose_range(self._instance, [*(route for route, _ in routes), *addresses, *avoid])
        uplinks = {index for route, index in routes if route.prefixlen == 0}
        self._mtu = min((mtu for index, _, mtu in links if index in uplinks), default=1500)
        chains = await self._rules.load(network, [name for _, name, _ in links])
        self._slots = Slots(network)
        self.dropping = tuple(chains.dropping)

    async def close(self) -> None:
        """Deletes what is left of the links, the rules, and restores forwarding."""
        await self._tasks.drain(10)
        try:
            await self._run(self._reap)
            await self._rules.unload()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Instead of `close` when `open` has failed."""
        self._threads.shutdown(wait=False)

    async def attach(self, netns_fd: int) -> "Veth":
        """A pair into the namespace. Cancelled or failed, it leaves nothing."""
        if self._slots is None:
            raise RuntimeError("attach before open")
        slot = self._slots.take()
        made = Veth(self, slot)
        # Duplicated, because a cancelled caller may close its own while the thread still works.
        netns = os.dup(netns_fd)
        work = asyncio.wrap_future(self._threads.submit(self._make, slot, netns))
        try:
            await asyncio.shield(work)
        except BaseException:
            await asyncio.shield(asyncio.gather(work, return_exceptions=True))
            await made.close()
            raise
        return made

    async def release(self, slot: int) -> None:
        """Deletes the pair of a slot, if it is there, and frees the slot. What gathers while one deletion
        runs is deleted together, because each waits for the kernel and holds up the attaches meanwhile."""
        deleted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._doomed.append((slot, deleted))
        if not self._deleting:
            self._deleting = True
            self._tasks.once("delete links", self._delete_doomed())
        await deleted

    async def _delete_doomed(self) -> None:
        try:
            while self._doomed:
                batch, self._doomed = self._doomed, []
                await self._delete_batch(batch)
        finally:
            self._deleting = False

    async def _delete_batch(self, batch: list[tuple[int, asyncio.Future[None]]]) -> None:
        names = [self._name(slot) for slot, _ in batch]
        failure: OSError | None = None
        try:
            await self._run(lambda: self._delete(names))
        except OSError as raised:
            failure = raised
        for slot, deleted in batch:
            # A slot whose link could not be deleted is not given again.
            if failure is None and self._slots is not None:
                self._slots.give_back(slot)
            if not deleted.done():
                deleted.set_exception(failure) if failure else deleted.set_result(None)

    def _name(self, slot: int) -> str:
        return f"{self._links}{slot}"

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.wrap_future(self._threads.submit(work))

    def _make(self, slot: int, netns: int) -> None:
        assert self._slots is not None
        outer, inner = self._slots.pair(slot)
        name = self._name(slot)
        try:
            with kernel.Links() as links:
                links.do(kernel.veth(name, self._group, _INSIDE, netns, self._mtu))
                index = socket.if_nametoindex(name)
                links.do(kernel.without_ipv6(index), kernel.address(index, outer, 31), kernel.up(index))
            kernel.inside(netns, lambda: _configure(inner, outer))
        finally:
            os.close(netns)

    def _delete(self, names: Iterable[str]) -> None:
        found = []
        for name in names:
            try:
                found.append(socket.if_nametoindex(name))
            except OSError:
                continue  # it went with its namespace
        with kernel.Links() as links:
            for first in range(0, len(found), _ANSWERED_AT_ONCE):
                some = found[first : first + _ANSWERED_AT_ONCE]
                links.do(*(kernel.join(index, self._doom) for index in some), ignore=(errno.ENODEV,))
            links.do(kernel.delete_group(self._doom), ignore=(errno.ENODEV,))

    def _reap(
        self,
    ) -> tuple[list[tuple[IPv4Network, int]], list[kernel.Address], list[tuple[int, str, int]]]:
        with kernel.Links() as links:
            found = links.links()
            left = [index for index, name, _ in found if name.startswith(self._links)]
            if left:
                for group in (self._group, self._doom):
                    links.do(kernel.delete_group(group), ignore=(errno.ENODEV,))
                _log.info("Links of environments that have ended were removed.", links=len(left))
            kept = [each for each in found if each[0] not in left]
            return links.routes(), links.addresses(), kept


def _configure(own: IPv4Address, gateway: IPv4Address) -> None:
    with kernel.Links() as links:
        index = socket.if_nametoindex(_INSIDE)
        links.do(
            kernel.without_ipv6(index),
            kernel.address(index, own, 31),
            kernel.up(index),
            kernel.default_route(gateway),
        )


class Veth:
    """The pair of one environment."""

    def __init__(self, egress: VethEgress, slot: int) -> None:
        self._egress = egress
        self._slot: int | None = slot

    async def close(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            await asyncio.shield(self._egress.release(slot))
