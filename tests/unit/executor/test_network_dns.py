"""Resolvers inside environments, and the relay to the host's."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lambent.executor.drivers.sandbox import dns

QUERY = b"\x12\x34" + b"\0" * 10 + b"question"


class Resolver(asyncio.DatagramProtocol):
    """Answers with the query and a mark, after an answer to another id; silent when told so."""

    def __init__(self) -> None:
        self.silent = False
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.put_nowait(data)
        if not self.silent:
            assert self._transport is not None
            self._transport.sendto(b"\xff\xff forged", addr)
            self._transport.sendto(data + b" answered", addr)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    made = Resolver()
    await made.start()
    yield made
    made.close()


async def relay_to(servers: list[str], port: int, seconds: float = 5.0) -> tuple[dns.DnsRelay, socket.socket]:
    """A started relay and a client's socket connected to it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(sock.getsockname())
    client.setblocking(False)
    relay = dns.DnsRelay(sock, lambda: servers, owner="test", port=port, seconds=seconds)
    await relay.start()
    return relay, client


async def test_an_answer_with_the_querys_id_comes_back(resolver: Resolver) -> None:
    relay, client = await relay_to(["127.0.0.1"], resolver.port)
    with client:
        client.send(QUERY)
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 512), 5)
    assert answer == QUERY + b" answered"
    await relay.close()
    await relay.close()


async def test_the_next_resolver_is_asked_when_one_does_not_answer(resolver: Resolver) -> None:
    relay, client = await relay_to(["127.0.0.9", "127.0.0.1"], resolver.port)
    with client:
        client.send(QUERY)
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 512), 5)
    assert answer == QUERY + b" answered"
    await relay.close()


async def test_silent_resolvers_are_reported_once(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(dns._log, "warning", lambda sentence, **_: said.append(sentence))
    resolver.silent = True
    relay, client = await relay_to(["127.0.0.1"], resolver.port, seconds=0.01)
    with client:
        for _ in range(2):
            await relay._ask(QUERY, client.getsockname())
    assert said == ["The host's resolvers do not answer."]
    await relay.close()


async def test_queries_above_the_bound_are_dropped(resolver: Resolver) -> None:
    resolver.silent = True
    relay, client = await relay_to(["127.0.0.1"], resolver.port)
    with client:
        for number in range(dns.PENDING + 20):
            relay.datagram_received(number.to_bytes(2) + b"\0" * 10, client.getsockname())
        assert len(relay._tasks) == dns.PENDING
        for _ in range(dns.PENDING):
            await asyncio.wait_for(resolver.asked.get(), 5)
    assert resolver.asked.empty()
    await relay.close()


async def test_what_is_no_query_is_ignored(resolver: Resolver) -> None:
    relay, client = await relay_to(["127.0.0.1"], resolver.port)
    with client:
        client.send(b"short")
        client.send(QUERY)
        assert await asyncio.wait_for(resolver.asked.get(), 5) == QUERY
    await relay.close()


def test_resolvers_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# a comment\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch a.test b.test\n")
    resolvers = dns.Resolvers(path)
    assert resolvers.servers() == ("192.0.2.1", "fe80::1%eth0")
    assert resolvers.rest() == ("search a.test b.test",)
    path.write_text("nameserver 192.0.2.200\n")
    os.utime(path, ns=(1, 1))
    assert resolvers.servers() == ("192.0.2.200",)
    path.unlink()
    assert resolvers.servers() == ("192.0.2.200",)


def test_no_resolver_at_all_means_the_one_on_loopback(tmp_path: Path) -> None:
    assert dns.Resolvers(tmp_path / "absent").servers() == ("127.0.0.1",)


def test_only_resolvers_that_egress_reaches_are_named_inside() -> None:
    servers = ["127.0.0.53", "169.254.169.253", "10.0.0.5", "192.0.2.1", "2001:db8::53", "fe80::1%eth0", "junk"]
    assert dns.reachable_servers(servers, [ip_address("10.0.0.5")]) == ["192.0.2.1"]


def test_resolv_conf_is_empty_without_servers() -> None:
    assert dns.resolv_conf([], ["search a.test"]) == ""
    assert dns.resolv_conf(["192.0.2.1"], ["search a.test"]) == "nameserver 192.0.2.1\nsearch a.test\n"
