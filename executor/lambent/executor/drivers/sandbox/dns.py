"""Names inside environments: what /etc/resolv.conf says there, and a relay to the host's resolver for when that
is an address that no environment reaches (127.0.0.53, a link-local one, IPv6).

The relay understands no DNS beyond the two bytes of a query's id: datagrams go to the resolver as they are,
from a port of their own each; long answers go by TCP, which `relay.py` serves.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import cast

from lambent.executor.drivers.sandbox.egress_addresses import FORBIDDEN
from lambent.executor.drivers.sandbox.egress_links import Address
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

PORT = 53
RELAY_ADDRESS = "127.0.0.1"
PENDING = 64
_ANSWER_SECONDS = 3.0
_DATAGRAM = 4096
_KEPT = ("search", "domain", "options", "sortlist")


class Resolvers:
    """The host's /etc/resolv.conf, read again when it has changed."""

    def __init__(self, path: Path = Path("/etc/resolv.conf")) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._servers: tuple[str, ...] = ()
        self._rest: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        """Addresses in the file's order; 127.0.0.1 when it names none, as the C library has it."""
        self._refresh()
        return self._servers or ("127.0.0.1",)

    def rest(self) -> tuple[str, ...]:
        """The lines that also hold inside: search domains and options."""
        self._refresh()
        return self._rest

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == self._stamp:
                return
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            # A network manager is replacing it: what we knew still holds.
            return
        words = [line.split() for line in lines if line.strip() and line.strip()[0] not in "#;"]
        self._servers = tuple(line[1] for line in words if line[0] == "nameserver" and len(line) > 1)
        self._rest = tuple(" ".join(line) for line in words if line[0] in _KEPT)
        self._stamp = stamp


def reachable_servers(servers: Iterable[str], host: Iterable[Address]) -> list[str]:
    """Those that an environment reaches by egress: IPv4, not the host's own, not loopback or link-local."""
    own = set(host)
    found = []
    for text in servers:
        address = parse(text)
        if isinstance(address, IPv4Address) and address not in own:
            if not any(address in each for each in FORBIDDEN):
                found.append(text)
    return found


def parse(text: str) -> Address | None:
    """A resolver's address; None for what is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def resolv_conf(servers: Sequence[str], rest: Sequence[str]) -> str:
    """The file's text; empty without servers."""
    return (
        "".join(f"{line}\n" for line in (*(f"nameserver {each}" for each in servers), *rest)) if servers else ""
    )


class DnsRelay(asyncio.DatagramProtocol):
    """Answers the queries that arrive at one UDP socket of an environment, which it owns. At most `PENDING`
    wait at a time; what comes above that is dropped, as a busy resolver would."""

    def __init__(
        self,
        sock: socket.socket,
        servers: Callable[[], Sequence[str]],
        *,
        owner: str,
        port: int = PORT,
        seconds: float = _ANSWER_SECONDS,
    ) -> None:
        self._socket = sock
        self._servers = servers
        self._owner = owner
        self._port = port
        self._seconds = seconds
        self._tasks = Tasks(f"dns of {owner}")
        self._transport: asyncio.DatagramTransport | None = None
        self._said = False

    async def start(self) -> None:
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket)

    async def close(self) -> None:
        """Idempotent."""
        await self._tasks.drain(0)
        if self._transport is not None:
            self._transport.close()
        else:
            self._socket.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if 12 <= len(data) <= _DATAGRAM and len(self._tasks) < PENDING:
            self._tasks.once("query", self._ask(data, addr))

    def error_received(self, exc: Exception) -> None:
        # A client that closed its port before the answer came: nothing to tell anybody.
        _log.debug("A DNS client went away.", environment=self._owner, failure=repr(exc))

    async def _ask(self, query: bytes, client: tuple[str, int]) -> None:
        failure: BaseException | None = None
        for server in self._servers():
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await _exchange(server, self._port, query)
            except (OSError, TimeoutError) as raised:
                failure = raised
                continue
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(answer, client)
            return
        if failure is not None and not self._said:
            self._said = True
            _log.warning("The host's resolvers do not answer.", environment=self._owner, failure=repr(failure))


class _Exchange(asyncio.DatagramProtocol):
    """One query, one answer with the same id."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by isinstance: the loop's own class is no DatagramTransport by name.
        cast(asyncio.DatagramTransport, transport).sendto(self._query)

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] == self._query[:2] and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _exchange(server: str, port: int, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Exchange(query), remote_addr=(server, port)
    )
    try:
        return await protocol.answer
    finally:
        # Never awaited if the time was up; an exception that nobody fetched would be reported at its end.
        protocol.answer.cancel()
        transport.close()
