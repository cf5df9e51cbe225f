"""Many executors behind one port: a lease says which, and one that is gone or unreachable harms only itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from remote_hosts import LEASE, TARGET, MemoryHost, invocation, version
from support import free_port

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import InvalidRuntimeException, NotStarted
from lambent.kernel.models import Enforcement, Response
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.host_client import Address
from lambent.kernel.remote.host_server import HostServer
from lambent.kernel.remote.hosts import Hosts


class World:
    """Executors of these names, and the client of all of them."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.inner: dict[str, MemoryHost] = {}
        self.servers: dict[str, HostServer] = {}
        self.addresses: dict[str, Address] = {}
        self.hosts = Hosts(
            find=self.addresses.get,
            known=lambda: tuple(self.addresses),
            access=Access(),
            name="gateway-1",
            clock=self.clock,
        )

    async def start(self, name: str) -> None:
        host = self.inner[name] = MemoryHost()
        server = self.servers[name] = HostServer(host, executor=name, access=Access(), clock=self.clock)
        self.addresses[name] = Address("127.0.0.1", await server.open("127.0.0.1", 0))

    async def run(self, name: str, payload: bytes = b"{}") -> Response:
        return await self.hosts.invoke(invocation(payload), LEASE._replace(executor=name)).response

    def prepared(self) -> list[str]:
        """Who has fetched anything."""
        return [name for name, host in self.inner.items() if host.prepared]


@asynccontextmanager
async def executors(*names: str) -> AsyncIterator[World]:
    world = World()
    for name in names:
        await world.start(name)
    try:
        yield world
    finally:
        await world.hosts.close()
        for server in world.servers.values():
            await server.close(0.0)


async def test_a_lease_names_the_executor() -> None:
    async with executors("a", "b") as world:
        await world.run("b", b"1")
        await world.run("a", b"2")
        await world.run("b", b"3")
        ran = {name: [run.invocation.payload for run in host.runs] for name, host in world.inner.items()}
        assert ran == {"a": [b"2"], "b": [b"1", b"3"]}
        assert [len(server) for server in world.servers.values()] == [1, 1]


async def test_a_lease_on_an_executor_that_is_gone_is_not_started() -> None:
    async with executors("a") as world:
        run = world.hosts.invoke(invocation(), LEASE._replace(executor="b"))
        for end in (run.response, run.report):
            with pytest.raises(NotStarted) as raised:
                await end
            assert raised.value.reason == "unknown"


async def test_an_executor_that_has_moved_is_followed() -> None:
    async with executors("a") as world:
        await world.run("a")
        before = world.inner["a"]
        old = world.servers["a"]
        await world.start("a")
        await world.run("a", b"new")
        assert [run.invocation.payload for run in world.inner["a"].runs] == [b"new"]
        assert len(before.runs) == 1 and len(old) == 1
        await world.hosts.sweep()
        while len(old):
            await asyncio.sleep(0)
        await old.close()


async def test_code_is_prepared_by_one_executor_always_the_same() -> None:
    async with executors("a", "b", "c") as world:
        for _ in range(3):
            await world.hosts.prepare(TARGET)
        (name,) = world.prepared()
        assert world.inner[name].prepared == [TARGET] * 3


async def test_functions_are_spread_over_the_executors() -> None:
    async with executors("a", "b", "c") as world:
        for number in range(30):
            await world.hosts.prepare(version(number))
        assert world.prepared() == ["a", "b", "c"]


async def test_when_an_executor_goes_the_others_functions_stay_where_they_are() -> None:
    async with executors("a", "b", "c") as world:
        for number in range(20):
            await world.hosts.prepare(version(number))
        before = {name: list(host.prepared) for name, host in world.inner.items()}
        del world.addresses["b"]
        for number in range(20):
            await world.hosts.prepare(version(number))
        for name in ("a", "c"):
            again = world.inner[name].prepared[len(before[name]) :]
            assert set(map(str, before[name])) <= set(map(str, again))


async def test_the_next_executor_prepares_where_one_is_unreachable() -> None:
    async with executors("a", "b") as world:
        await world.hosts.prepare(TARGET)
        (first,) = world.prepared()
        world.addresses[first] = Address("127.0.0.1", free_port())
        await world.hosts.prepare(TARGET)
        assert world.prepared() == ["a", "b"]


async def test_an_error_of_the_code_is_not_tried_elsewhere() -> None:
    async with executors("a", "b") as world:
        for host in world.inner.values():
            host.refuse = InvalidRuntimeException("no python")
        with pytest.raises(InvalidRuntimeException):
            await world.hosts.prepare(TARGET)


async def test_without_executors_nothing_is_prepared() -> None:
    async with executors() as world:
        with pytest.raises(NotStarted, match="no executor"):
            await world.hosts.prepare(TARGET)


async def test_a_function_is_stopped_everywhere_and_who_is_unreachable_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with executors("a", "b") as world:
        world.addresses["gone"] = Address("127.0.0.1", free_port())
        with caplog.at_level(logging.WARNING):
            await world.hosts.stop_function("u-1", version="2", keep=TARGET.key)
        assert [host.stopped for host in world.inner.values()] == [[("u-1", "2", TARGET.key)]] * 2
        assert "A function could not be stopped on an executor." in caplog.messages


ENTRIES: Sequence[tuple[Enforcement, ...]] = [
    (Enforcement("memory", True, "cgroups"), Enforcement("freeze", True, "cgroups")),
    (Enforcement("memory", False, "", "Do this."), Enforcement("network", True, "nft")),
]


async def test_what_is_enforced_is_asked_once_and_the_weakest_counts() -> None:
    async with executors("a", "b") as world:
        for host, entries in zip(world.inner.values(), ENTRIES, strict=True):
            host.enforced = entries
        assert world.hosts.enforcement() == ()
        await world.hosts.open()
        assert {(entry.name, entry.enforced) for entry in world.hosts.enforcement()} == {
            ("memory", False),
            ("freeze", True),
            ("network", True),
        }


async def test_an_executor_that_cannot_be_asked_is_asked_again() -> None:
    async with executors("a") as world:
        world.addresses["b"] = Address("127.0.0.1", free_port())
        await world.hosts.open()
        assert {entry.name for entry in world.hosts.enforcement()} == {"memory", "freeze"}
        await world.start("b")
        world.inner["b"].enforced = ENTRIES[1]
        await world.hosts.sweep()
        assert {entry.name for entry in world.hosts.enforcement()} == {"memory", "freeze", "network"}


async def test_an_executor_that_was_started_again_is_asked_again() -> None:
    async with executors("a") as world:
        await world.hosts.open()
        address = world.addresses["a"]
        await world.servers["a"].close()
        world.inner["a"].enforced = ENTRIES[1]
        server = world.servers["a"] = HostServer(
            world.inner["a"], executor="a", access=Access(), clock=world.clock
        )
        await server.open(*address)
        while True:
            try:
                await world.run("a")
                break
            except NotStarted as failure:  # the end of the old connection is on its way
                assert failure.reason in ("draining", "unreachable")
        await world.hosts.sweep()
        assert {entry.name for entry in world.hosts.enforcement()} == {"memory", "network"}


async def test_connections_to_executors_that_are_gone_are_closed_when_they_are_idle() -> None:
    async with executors("a", "b") as world:
        world.inner["a"].hold = True
        run = world.hosts.invoke(invocation(), LEASE._replace(executor="a"))
        began = await world.inner["a"].began.get()
        await world.run("b")
        world.addresses.clear()
        await world.hosts.sweep()
        while len(world.servers["b"]):
            await asyncio.sleep(0)
        assert len(world.servers["a"]) == 1
        began.end(Response(b"1"))
        await run.report
        await world.hosts.sweep()
        while len(world.servers["a"]):
            await asyncio.sleep(0)


async def test_the_sweep_goes_on_by_itself_until_the_end() -> None:
    before = asyncio.all_tasks()
    async with executors("a") as world:
        await world.hosts.open()
        world.addresses.clear()
        await world.clock.advance(30.0)
        while len(world.servers["a"]):
            await asyncio.sleep(0)
        await world.hosts.close()
    assert asyncio.all_tasks() == before
