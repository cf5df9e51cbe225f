"""The environments' network with real namespaces, links and packet filter: what functions reach, what they must
not reach (each attempt with a control that succeeds elsewhere), and what is left on the host afterwards."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from network_world import FORWARD, HOST, HOST6, HOST6_LOCAL, LINK_LOCAL, OUTSIDE, Echo, World, exchange
from support import require

from lambent.executor.drivers.base import DriverConfig, Reachable
from lambent.executor.drivers.sandbox import egress_links as kernel
from lambent.executor.drivers.sandbox.egress_rules import find, nft
from lambent.executor.drivers.sandbox.network import NetworkAttachment, SandboxNetwork
from lambent.kernel.errors import LambdaError

MakeNetwork = Callable[..., SandboxNetwork]


@pytest.fixture
def world() -> Iterator[World]:
    require("root", os.geteuid() == 0, "making network namespaces needs root")
    require("nft", find("nft"), "apt-get install nftables")
    require("ip", shutil.which("ip"), "apt-get install iproute2")
    made = World()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def make_network(world: World, tmp_path: Path) -> AsyncIterator[MakeNetwork]:
    made: list[SandboxNetwork] = []
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"search example.test\nnameserver {OUTSIDE}\n")

    def make(*reachable: Reachable, instance: str = "test", resolvers: Path = resolv) -> SandboxNetwork:
        config = DriverConfig(tmp_path / instance, instance, 1_500_000, 16, reachable)
        made.append(SandboxNetwork(config, resolv_conf=resolvers))
        return made[-1]

    yield make
    for network in made:
        await network.close()


async def attached(world: World, network: SandboxNetwork, name: str) -> tuple[int, NetworkAttachment]:
    netns, sockets = world.environment(network.sockets())
    return netns, await network.attach(name, netns, None, sockets)


async def reach(netns: int, host: str, port: int, sent: bytes = b"ping", seconds: float = 3.0) -> bytes:
    """An exchange with an echo server from inside a namespace."""
    return await asyncio.to_thread(kernel.inside, netns, lambda: exchange(host, port, sent, seconds=seconds))


async def refused(netns: int, host: str, port: int) -> bool:
    """Whether the attempt fails; a short time is enough, because the controls need less."""
    try:
        await reach(netns, host, port, seconds=1.0)
    except OSError:
        return True
    return False


def own_address(netns: int) -> str:
    def look() -> str:
        with kernel.Links() as links:
            return next(str(each) for each in links.addresses() if not each.is_loopback)

    return kernel.inside(netns, look)


def links_of(netns: int) -> list[str]:
    def look() -> list[str]:
        with kernel.Links() as links:
            return [name for _, name, _ in links.links() if name.startswith("lmb")]

    return kernel.inside(netns, look)


async def test_an_environment_reaches_the_outside_under_the_hosts_address(
    world: World, make_network: MakeNetwork
) -> None:
    network = make_network()
    await network.open()
    outside = world.echo(world.outside, OUTSIDE)
    netns, _ = await attached(world, network, "one")
    assert await reach(netns, OUTSIDE, outside.port) == b"ping!"
    assert outside.peers == [HOST]
    assert [each.enforced for each in network.enforcement()] == [True, True]


async def test_the_hosts_addresses_are_closed_in_both_families(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    netns, _ = await attached(world, network, "one")
    with kernel.Links() as links:
        mine = links.addresses()
        veth = next(str(each) for each in mine if str(each).startswith("100."))
    for host in ("127.0.0.1", HOST, veth, "::1", HOST6, f"{HOST6_LOCAL}%up0"):
        server = world.echo(world.host, host)
        assert await reach(world.host, host, server.port) == b"ping!", f"control: {host}"
        assert await refused(netns, host.replace("%up0", "%eth0"), server.port), host
    anywhere = world.echo(world.host, "0.0.0.0")
    assert await reach(world.outside, HOST, anywhere.port) == b"ping!"
    assert await refused(netns, HOST, anywhere.port)
    assert await refused(netns, veth, anywhere.port)


async def test_link_local_addresses_are_closed(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    netns, _ = await attached(world, network, "one")
    metadata = world.echo(world.outside, LINK_LOCAL)
    assert await reach(world.host, LINK_LOCAL, metadata.port) == b"ping!"
    assert await refused(netns, LINK_LOCAL, metadata.port)
    assert metadata.peers == [HOST]


async def test_environments_do_not_reach_each_other(world: World, make_network: MakeNetwork) -> None:
    network, other = make_network(), make_network(instance="Other one")
    await network.open()
    await other.open()
    netns, _ = await attached(world, network, "one")
    for neighbour in (network, other):
        victim, _ = await attached(world, neighbour, "two")
        server = world.echo(victim, own_address(victim))
        assert await reach(victim, server.host, server.port) == b"ping!"
        assert await refused(netns, server.host, server.port)
        assert len(server.peers) == 1


async def test_nothing_outside_reaches_an_environment(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    netns, _ = await attached(world, network, "one")
    server = world.echo(netns, own_address(netns))
    world.ip("route", "add", server.host, "via", HOST, netns=world.outside)
    assert await reach(netns, server.host, server.port) == b"ping!"
    assert await refused(world.outside, server.host, server.port)
    assert len(server.peers) == 1


async def test_a_forged_source_address_gets_nowhere(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    netns, _ = await attached(world, network, "one")
    neighbour, _ = await attached(world, network, "two")
    own, forged = own_address(netns), own_address(neighbour)
    world.ip("address", "add", f"{forged}/32", "dev", "lo", netns=netns)

    def send(source: str) -> bytes | None:
        receiver: socket.socket = kernel.inside(
            world.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        )
        sender: socket.socket = kernel.inside(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with receiver, sender:
            receiver.bind((OUTSIDE, 0))
            receiver.settimeout(1)
            sender.bind((source, 0))
            try:
                sender.sendto(b"who", receiver.getsockname())
                return receiver.recv(10)
            except OSError:
                return None

    assert await asyncio.to_thread(send, own) == b"who"
    assert await asyncio.to_thread(send, forged) is None


async def test_the_host_does_not_become_a_router_for_others(world: World, make_network: MakeNetwork) -> None:
    lan, _ = world.environment()
    world.ip("link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", f"/proc/self/fd/{lan}")
    world.ip("address", "add", "203.0.113.1/24", "dev", "lan0")
    world.ip("link", "set", "lan0", "up")
    world.ip("address", "add", "203.0.113.2/24", "dev", "eth0", netns=lan)
    world.ip("link", "set", "eth0", "up", netns=lan)
    world.ip("route", "add", "default", "via", "203.0.113.1", netns=lan)
    world.ip("route", "add", "203.0.113.0/24", "via", HOST, netns=world.outside)
    server = world.echo(world.outside, OUTSIDE)
    FORWARD.write_text("1")
    assert await reach(lan, OUTSIDE, server.port) == b"ping!", "control: with plain forwarding"
    FORWARD.write_text("0")
    network = make_network()
    await network.open()
    assert FORWARD.read_text().strip() == "1"
    assert await refused(lan, OUTSIDE, server.port)
    netns, _ = await attached(world, network, "one")
    assert await reach(netns, OUTSIDE, server.port) == b"ping!"


async def test_a_relay_serves_the_same_address_inside(world: World, make_network: MakeNetwork) -> None:
    loopback = world.echo(world.host, "127.0.0.1")
    named = world.echo(world.host, "127.0.0.1")
    own = world.echo(world.host, HOST)
    unnamed = world.echo(world.host, "127.0.0.1")
    network = make_network(
        Reachable("127.0.0.1", loopback.port, ("127.0.0.1", loopback.port)),
        Reachable("localhost", named.port, ("localhost", named.port)),
        Reachable(HOST, own.port, (HOST, own.port)),
    )
    await network.open()
    netns, _ = await attached(world, network, "one")
    payload = os.urandom(3_000_000)
    assert await reach(netns, "127.0.0.1", loopback.port, payload) == payload + b"!"
    assert await reach(netns, "127.0.0.1", named.port) == b"ping!"
    assert await reach(netns, "::1", named.port) == b"ping!"
    assert await reach(netns, HOST, own.port) == b"ping!"
    assert await reach(world.host, "127.0.0.1", unnamed.port) == b"ping!"
    assert await refused(netns, "127.0.0.1", unnamed.port)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
async def test_names_are_answered_by_a_resolver_on_the_hosts_loopback(
    world: World, make_network: MakeNetwork, tmp_path: Path, kind: int
) -> None:
    resolvers = tmp_path / "stub.conf"
    resolvers.write_text("nameserver 127.0.0.53\noptions edns0\n")
    network = make_network(resolvers=resolvers)
    await network.open()
    netns, _ = await attached(world, network, "one")
    assert network.etc_files()["resolv.conf"] == "nameserver 127.0.0.1\noptions edns0\n"
    query = b"\x12\x34" + b"\x01\x00" + b"\0" * 8 + b"\x04name\0\0\x01\0\x01"
    if kind == socket.SOCK_STREAM:
        world.echo(world.host, "127.0.0.53", 53)
        assert await reach(netns, "127.0.0.1", 53, query) == query + b"!"
        return
    assert await asyncio.to_thread(ask_by_datagram, world, netns, query) == query + b" answered"


def ask_by_datagram(world: World, netns: int, query: bytes) -> bytes:
    server: socket.socket = kernel.inside(world.host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client: socket.socket = kernel.inside(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        for each in (server, client):
            each.settimeout(5)
        server.bind(("127.0.0.53", 53))
        client.sendto(query, ("127.0.0.1", 53))
        asked, peer = server.recvfrom(512)
        server.sendto(b"\xff\xff another id", peer)
        server.sendto(asked + b" answered", peer)
        return client.recv(512)


async def test_a_resolver_outside_is_named_as_it_is(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    assert network.etc_files()["resolv.conf"] == f"nameserver {OUTSIDE}\nsearch example.test\n"
    assert network.sockets() == []


async def test_close_leaves_the_host_as_it_was(world: World, make_network: MakeNetwork) -> None:
    before = await nft("list", "ruleset")
    network = make_network()
    await network.open()
    await attached(world, network, "one")
    assert FORWARD.read_text().strip() == "1"
    assert len(links_of(world.host)) == 1
    await network.close()
    await network.close()
    assert FORWARD.read_text().strip() == "0"
    assert links_of(world.host) == []
    assert await nft("list", "ruleset") == before


async def test_a_crash_is_cleaned_up_by_the_next_run(world: World, make_network: MakeNetwork) -> None:
    killed = make_network()
    await killed.open()
    await attached(world, killed, "one")
    assert killed._veth is not None
    # All that a killed process stops doing; what it made stays.
    await killed._veth._rules._tasks.drain(0)
    again = make_network()
    await again.open()
    assert links_of(world.host) == []
    outside = world.echo(world.outside, OUTSIDE)
    netns, _ = await attached(world, again, "two")
    assert await reach(netns, OUTSIDE, outside.port) == b"ping!"
    await again.close()
    assert FORWARD.read_text().strip() == "0"
    assert "lambent_" not in await nft("list", "tables")


async def test_forwarding_stays_on_while_another_instance_needs_it(
    world: World, make_network: MakeNetwork
) -> None:
    first, second = make_network(instance="first"), make_network(instance="second")
    await first.open()
    await second.open()
    await first.close()
    outside = world.echo(world.outside, OUTSIDE)
    netns, _ = await attached(world, second, "one")
    assert await reach(netns, OUTSIDE, outside.port) == b"ping!"
    await second.close()
    assert FORWARD.read_text().strip() == "0"


@pytest.mark.parametrize("was", ["0", "1"])
async def test_forwarding_is_left_as_it_was_and_what_is_changed_is_said(
    world: World, make_network: MakeNetwork, caplog: pytest.LogCaptureFixture, was: str
) -> None:
    FORWARD.write_text(was)
    network = make_network()
    with caplog.at_level("INFO"):
        await network.open()
    assert any("packet filter is loaded" in message for message in caplog.messages)
    assert any("was off on this host and is on" in message for message in caplog.messages) == (was == "0")
    await network.close()
    assert FORWARD.read_text().strip() == was


async def test_a_filter_of_others_that_drops_is_named(world: World, make_network: MakeNetwork) -> None:
    await nft("add", "table", "ip", "filter")
    await nft(
        "add", "chain", "ip", "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }"
    )
    network = make_network()
    await network.open()
    egress = network.enforcement()[1]
    assert not egress.enforced
    assert "ip filter FORWARD" in egress.how
    assert egress.advice.startswith("iptables -I FORWARD -i lmb")


async def test_the_filter_comes_back_when_the_hosts_firewall_is_reloaded(
    world: World, make_network: MakeNetwork
) -> None:
    network = make_network()
    await network.open()
    netns, _ = await attached(world, network, "one")
    server = world.echo(world.host, HOST)
    loaded = await nft("list", "ruleset")
    await nft("flush", "ruleset")
    async with asyncio.timeout(10):
        while await nft("list", "ruleset") != loaded:
            pass
    assert await refused(netns, HOST, server.port)
    await network.close()
    assert await nft("list", "ruleset") == ""


async def test_a_failed_attach_leaves_nothing(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    netns, sockets = world.environment(network.sockets())
    with Path("/dev/null").open() as no_namespace, pytest.raises(OSError, match="Invalid argument"):
        await network.attach("one", no_namespace.fileno(), None, sockets)
    assert links_of(world.host) == []
    with pytest.raises(LambdaError, match="sockets were handed over"):
        await network.attach("one", netns, None, [socket.socket()])
    _, attachment = await attached(world, network, "two")
    await attachment.close()
    assert links_of(world.host) == []


async def test_a_cancelled_attach_leaves_nothing(world: World, make_network: MakeNetwork) -> None:
    listener = world.echo(world.host, "127.0.0.1")
    network = make_network(Reachable("127.0.0.1", listener.port, ("127.0.0.1", listener.port)))
    await network.open()
    # Cancelled before its first step, in the middle of the kernel's work, and when it is done.
    for turns in range(12):
        netns, sockets = world.environment(network.sockets())
        attaching = asyncio.ensure_future(network.attach("one", netns, None, sockets))
        for _ in range(turns):
            await asyncio.sleep(0)
        attaching.cancel()
        outcome = (await asyncio.gather(attaching, return_exceptions=True))[0]
        if isinstance(outcome, NetworkAttachment):
            await outcome.close()
        elif turns == 0:
            for sock in sockets:  # attach has never run, so they are still ours
                sock.close()
        assert links_of(world.host) == []
        assert all(sock.fileno() == -1 for sock in sockets)


async def test_an_ended_namespace_takes_its_link_with_it(world: World, make_network: MakeNetwork) -> None:
    network = make_network()
    await network.open()
    netns, attachment = await attached(world, network, "one")
    world.ip("link", "delete", "eth0", netns=netns)
    await attachment.close()
    assert links_of(world.host) == []


def test_the_echo_server_of_these_tests_answers(world: World) -> None:
    server: Echo = world.echo(world.outside, OUTSIDE)
    assert kernel.inside(world.host, lambda: exchange(OUTSIDE, server.port)) == b"ping!"
