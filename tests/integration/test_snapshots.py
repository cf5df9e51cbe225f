"""Environments that are restored from a snapshot of an initialised one, with the real runtime client: they go
on where it was, and are otherwise environments as any."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from driver_support import read_line
from forking import World, forking
from support import require

from lambent.executor.drivers.base import NoSnapshot, Snapshot
from lambent.executor.drivers.sandbox import ptrace
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.runtimes.family import RuntimeCommand
from lambent.executor.runtimes.registry import Runtimes

OWN = f"python3.{sys.version_info.minor}"
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


@pytest.fixture(scope="module", autouse=True)
def processor() -> None:
    require("x86_64", ptrace.available(), "snapshots are built for x86_64 only")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> RuntimeCommand:
    runtimes = Runtimes(tmp_path_factory.mktemp("data"))
    runtimes.scan()
    return runtimes.command(OWN, "app.handler")


@pytest.fixture
async def world(command: RuntimeCommand, tmp_path: Path) -> AsyncIterator[World]:
    async with forking(command, tmp_path) as made:
        await made.parked()
        yield made


class Api:
    """The Runtime API of one environment, played. Its connections live as long as the environment."""

    def __init__(self, sandbox: RunningSandbox) -> None:
        self._listener = sandbox.listener
        self._made: list[socket.socket] = []
        self.connection: socket.socket | None = None
        sandbox.exited.add_done_callback(self._close)

    def _close(self, _: object) -> None:
        for made in self._made:
            made.close()

    async def connected(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            self.connection, _ = await loop.sock_accept(self._listener)
        self.connection.setblocking(False)
        self._made.append(self.connection)
        return self.connection

    async def asked(self) -> str:
        """The first line of the next request, on a new connection."""
        connection = await self.connected()
        async with asyncio.timeout(20):
            data = await asyncio.get_running_loop().sock_recv(connection, 65536)
        return data.decode().splitlines()[0]

    async def restored(self) -> None:
        """Answers what the client waits for, and waits until it asks for an event."""
        connection = self.connection or await self.connected()
        await asyncio.get_running_loop().sock_sendall(
            connection, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        )
        assert await self.asked() == "GET /2018-06-01/runtime/invocation/next HTTP/1.1"


async def initialised(world: World, code: str, *, connections: int = 0) -> RunningSandbox:
    """An environment whose client has run its init and waits to be restored; `connections`: that the function
    makes itself."""
    sandbox = await world.start(code, env=SNAP_START)
    api = Api(sandbox)
    for _ in range(connections):
        await api.connected()
    assert await api.asked() == "GET /2018-06-01/runtime/restore/next HTTP/1.1"
    return sandbox


async def snapshot(world: World, code: str, *, connections: int = 0) -> Snapshot:
    sandbox = await initialised(world, code, connections=connections)
    try:
        return await world.driver.snapshot(sandbox)
    finally:
        await sandbox.dispose()


async def restored(world: World, taken: Snapshot) -> tuple[RunningSandbox, Any]:
    """One that was restored, and what it says as JSON."""
    sandbox = await world.start("raise Exception('it is not started again')", env=SNAP_START, snapshot=taken)
    assert sandbox.start == "restored"
    await Api(sandbox).restored()
    return sandbox, json.loads(await read_line(sandbox))


STATE = """
    import json, os, random, secrets, socket, sys, uuid
    from snapshot_restore_py import register_after_restore, register_before_snapshot
    order, big = [], {str(number): [number] * 10 for number in range(50_000)}
    random.seed(1)
    first = random.random()
    connection = socket.create_connection(("127.0.0.1", 9001))
    file = open("/var/task/app.py")
    file.read(7)

    @register_before_snapshot
    def before():
        order.append("before")

    @register_after_restore
    def after():
        order.append("after")
        with open("/tmp/own", "x") as own:
            own.write("mine")
        try:
            connection.send(b"x")
            sent = "sent"
        except OSError as failure:
            sent = type(failure).__name__
        print(json.dumps({
            "order": order,
            "big": [len(big), big["49999"]],
            "draws": [random.random(), str(uuid.uuid4()), secrets.token_hex(8)],
            "pid": os.getpid(),
            "file": file.read(5),
            "sent": sent,
            "modules": "secrets" in sys.modules,
            "more": sum(len(bytearray(1 << 20)) for _ in range(40)),
        }), flush=True)

    def handler(event, context): pass
"""


async def test_what_is_restored_goes_on_where_the_snapshot_was(world: World) -> None:
    taken = await snapshot(world, STATE, connections=1)
    found = [await restored(world, taken) for _ in range(3)]
    says = [said for _, said in found]
    draws = [said.pop("draws") for said in says]
    assert says[0] == {
        "order": ["before", "after"],
        "big": [50_000, [49_999] * 10],
        "pid": 2,
        "file": " json",
        "sent": "BrokenPipeError",
        "modules": True,
        "more": 40 << 20,
    }
    assert says[1] == says[2] == says[0]
    assert len({draw for each in draws for draw in each}) == 9, "each draws numbers of its own"
    for sandbox, _ in found:
        assert not sandbox.exited.done()
        await sandbox.dispose()
    world.driver.drop(taken)


@pytest.mark.parametrize(
    "init, why",
    [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "threads",
        ),
        ("import subprocess; kept = subprocess.Popen(['/bin/sleep', '99'])", "other processes"),
        ("open('/tmp/x', 'w').close()", "has written to /tmp"),
        ("import os; kept = os.pipe()", "holds pipe:"),
        ("import asyncio; loop = asyncio.new_event_loop()", "holds anon_inode"),
        ("import socket; kept = socket.socketpair()", "no TCP connection"),
        ("import mmap; kept = mmap.mmap(-1, 4096)", "shared mapping"),
        ("import signal; signal.alarm(600)", "set a timer"),
    ],
)
async def test_what_cannot_be_kept_is_named(world: World, init: str, why: str) -> None:
    sandbox = await initialised(world, f"{init}\ndef handler(event, context): pass")
    try:
        with pytest.raises(NoSnapshot, match=why):
            await world.driver.snapshot(sandbox)
    finally:
        await sandbox.dispose()
    # The next one works: nothing is left stopped or half done.
    taken = await snapshot(world, "print('[1]', flush=True)\ndef handler(event, context): pass")
    world.driver.drop(taken)


SHOWS = """
    import json, os
    from snapshot_restore_py import register_after_restore

    def link(name):
        return os.readlink(f"/proc/self/ns/{name}")

    @register_after_restore
    def after():
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\\n").split(":\\t", 1) for line in file if ":\\t" in line)
        refused = []
        for attempt in (
            lambda: os.setuid(0),
            lambda: os.open("/var/task/new", os.O_CREAT | os.O_WRONLY),
        ):
            try:
                attempt()
            except OSError as failure:
                refused.append(type(failure).__name__)
        print(json.dumps({
            "namespaces": {name: link(name) for name in os.listdir("/proc/self/ns")},
            "status": {name: status[name] for name in ("CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
            "ids": [os.getuid(), os.getgid(), os.getpid()],
            "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
            "tmp": os.listdir("/tmp"),
            "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:3],
            "refused": refused,
        }), flush=True)
        with open("/tmp/mine", "x") as file:
            file.write("x")

    def handler(event, context): pass
"""


async def test_a_restored_environment_is_as_apart_as_any(world: World) -> None:
    taken = await snapshot(world, SHOWS)
    (one, first), (two, second) = [await restored(world, taken) for _ in range(2)]
    shared = {name for name, value in first["namespaces"].items() if second["namespaces"][name] == value}
    assert shared <= {"time", "time_for_children"}, "nothing but the clock's"
    assert first.pop("namespaces").keys() == second.pop("namespaces").keys()
    assert (
        first
        == second
        == {
            "status": {
                "CapPrm": "0" * 16,
                "CapEff": "0" * 16,
                "CapBnd": "0" * 16,
                "NoNewPrivs": "1",
                "Seccomp": "2",
            },
            "ids": [993, 990, 2],
            "processes": [1, 2],
            "tmp": [],
            "descriptors": [0, 1, 2],
            "refused": ["OSError", "OSError"],
        }
    )
    assert one.uid != two.uid
    for sandbox in (one, two):
        await sandbox.dispose()
    world.driver.drop(taken)


SAYS = """
    from snapshot_restore_py import register_after_restore
    register_after_restore(lambda: print("[1]", flush=True))
    def handler(event, context): pass
"""


async def test_who_keeps_snapshots_ends_with_the_server_and_is_replaced(world: World) -> None:
    taken = await snapshot(world, SAYS)
    keeper = world.driver._snapshots._keeper
    assert keeper is not None and keeper._control is not None
    keeper._control.shutdown(socket.SHUT_RDWR)  # as when the server dies
    await asyncio.to_thread(keeper._process.wait, 10)
    assert not taken.alive
    sandbox = await world.start(SAYS, env=SNAP_START, snapshot=taken)
    assert sandbox.start != "restored", "it is started instead"
    await sandbox.dispose()
    world.driver.drop(taken)
    again = await snapshot(world, SAYS)
    other, said = await restored(world, again)
    assert said == [1]
    await other.dispose()
    world.driver.drop(again)


async def test_many_at_once_are_restored_and_leave_nothing(world: World) -> None:
    taken = await snapshot(world, SAYS)
    found = await asyncio.gather(*(restored(world, taken) for _ in range(20)))
    assert [said for _, said in found] == [[1]] * 20
    pids = [pid for sandbox, _ in found for pid in sandbox.pids()]
    await asyncio.gather(*(sandbox.dispose() for sandbox, _ in found))
    async with asyncio.timeout(20):
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            await asyncio.sleep(0.01)
    world.driver.drop(taken)


async def test_a_snapshot_keeps_its_zygote(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a long silence would end otherwise: SnapStart is for what starts after one."""
    taken = await snapshot(world, SAYS)
    line = next(line for line in world.driver._parking._lines.values() if line.zygote is not None)
    monkeypatch.setattr(line.demand, "silent", lambda now: True)
    monkeypatch.setattr(line.demand, "wanted", lambda now, room: 0)
    line.changed.set()
    async with asyncio.timeout(20):
        while world.driver.parked:
            await asyncio.sleep(0.01)
    sandbox, said = await restored(world, taken)
    assert said == [1]
    await sandbox.dispose()
    world.driver.drop(taken)
    line.changed.set()
    async with asyncio.timeout(20):
        while line.zygote is not None:
            line.changed.set()
            await asyncio.sleep(0.01)


async def test_what_was_dropped_meanwhile_is_started_and_harms_no_other(world: World) -> None:
    """A start may hold a snapshot while it waits for something, and its descriptor may be another's by then."""
    dropped, kept = await snapshot(world, SAYS), await snapshot(world, SAYS)
    world.driver.drop(dropped)
    assert not dropped.alive
    sandbox = await world.start(SAYS, env=SNAP_START, snapshot=dropped)
    assert sandbox.start != "restored"
    await sandbox.dispose()
    world.driver.drop(dropped)  # again: nothing
    other, said = await restored(world, kept)
    assert said == [1]
    await other.dispose()
    world.driver.drop(kept)


async def test_a_restore_of_nothing_is_refused_and_the_keeper_lives(world: World) -> None:
    taken = await snapshot(world, SAYS)
    keeper = world.driver._snapshots._keeper
    assert keeper is not None
    answer, _ = await keeper.ask({"restore": "nothing", "pid": 1}, [])
    assert "dropped" in str(answer["error"])
    sandbox, said = await restored(world, taken)
    assert said == [1]
    await sandbox.dispose()
    world.driver.drop(taken)
