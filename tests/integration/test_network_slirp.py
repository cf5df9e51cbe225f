"""Egress of an ordinary user, with a real slirp4netns and a network namespace that belongs to a user
namespace, as the driver makes it then. Run as root, because the test's internet needs it."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from network_world import FORWARD, HOST, LINK_LOCAL, OUTSIDE, World, exchange
from support import require

from lambent.executor.drivers.sandbox import egress_links as kernel
from lambent.executor.drivers.sandbox.egress_slirp import Slirp, SlirpEgress, unavailable
from lambent.kernel.tasks import Tasks


@pytest.fixture
def world() -> Iterator[World]:
    require("root", os.geteuid() == 0, "making network namespaces needs root")
    require("ip", shutil.which("ip"), "apt-get install iproute2")
    trouble = unavailable()
    require("slirp4netns", trouble is None, trouble[0] if trouble else "")
    made = World()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def owner(world: World) -> Iterator[tuple[int, str]]:
    """(network namespace, path of the user namespace that owns it) of a process that only waits."""
    process = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    netns = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    yield netns, f"/proc/{process.pid}/ns/user"
    os.close(netns)
    process.communicate()


async def reach(netns: int, host: str, port: int, seconds: float = 3.0) -> bytes:
    return await asyncio.to_thread(kernel.inside, netns, lambda: exchange(host, port, seconds=seconds))


async def attach(owner: tuple[int, str]) -> Slirp:
    return await SlirpEgress("test", Tasks("test")).attach(*owner)


async def test_the_outside_is_reached_and_the_host_is_not(world: World, owner: tuple[int, str]) -> None:
    netns, _ = owner
    outside = world.echo(world.outside, OUTSIDE)
    metadata = world.echo(world.outside, LINK_LOCAL)
    own, anywhere = world.echo(world.host, HOST), world.echo(world.host, "0.0.0.0")
    slirp = await attach(owner)
    try:
        assert await reach(netns, OUTSIDE, outside.port) == b"ping!"
        for server, host in ((metadata, LINK_LOCAL), (own, HOST), (anywhere, HOST), (anywhere, "127.0.0.1")):
            assert await reach(world.host, host, server.port) == b"ping!", f"control: {host}"
            with pytest.raises(OSError):
                await reach(netns, host, server.port, 1.0)
        # slirp4netns's names for the host: its gateway and its resolver.
        gateway = default_gateway(world, netns)
        for host in (gateway, gateway.rpartition(".")[0] + ".3"):
            with pytest.raises(OSError):
                await reach(netns, host, anywhere.port, 1.0)
    finally:
        await slirp.close()


def default_gateway(world: World, netns: int) -> str:
    shown = subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{netns}", "ip", "route", "show", "default"],
        pass_fds=(netns,),
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split()[2]


async def test_close_ends_it(world: World, owner: tuple[int, str]) -> None:
    netns, _ = owner
    outside = world.echo(world.outside, OUTSIDE)
    slirp = await attach(owner)
    assert await reach(netns, OUTSIDE, outside.port) == b"ping!"
    await slirp.close()
    await slirp.close()
    with pytest.raises(OSError):
        await reach(netns, OUTSIDE, outside.port, 1.0)
    assert FORWARD.read_text().strip() == "0"


async def test_it_ends_with_the_executor(world: World, owner: tuple[int, str]) -> None:
    slirp = await attach(owner)
    process = slirp._process
    assert process is not None and slirp._hold is not None
    os.close(slirp._hold)  # what a kill -9 of the executor does
    slirp._hold = None
    await asyncio.wait_for(process.wait(), 5)
    await slirp.close()


async def test_a_cancelled_attach_leaves_no_process(world: World, owner: tuple[int, str]) -> None:
    before = children()
    for seconds in (0.0, 0.01, 0.03):
        attaching = asyncio.ensure_future(attach(owner))
        await asyncio.wait({attaching}, timeout=seconds)
        attaching.cancel()
        outcome = (await asyncio.gather(attaching, return_exceptions=True))[0]
        if isinstance(outcome, Slirp):
            await outcome.close()
        assert children() == before


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as listed:
        return set(listed.read().split())


async def test_a_namespace_that_cannot_be_entered_is_an_error(world: World, owner: tuple[int, str]) -> None:
    with open("/dev/null") as no_namespace, pytest.raises(OSError, match="setns|routes"):
        await SlirpEgress("test", Tasks("test")).attach(no_namespace.fileno(), owner[1])
