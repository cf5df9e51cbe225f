"""What only blobs in a bucket have, on a real S3 server: races with deletions, wrong servers, trees
without files."""

import asyncio
import hashlib
import os
import threading
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from s3_server import BUCKET, S3Server, TimedClient
from support import free_port

from lambent.executor.archives import inspect
from lambent.executor.trees import Trees
from lambent.kernel.blobs import s3
from lambent.kernel.blobs.s3 import S3Blobs
from lambent.kernel.blobs.s3_client import Bucket
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ServiceException

SECONDS = 30.0
HOUR = 3600.0


class World:
    """A store on the real server, whose clock jumps and whose requests can be waited for."""

    def __init__(self, server: S3Server) -> None:
        self.clock = TestClock()
        self.prefix = f"{uuid.uuid4().hex}/"
        self.client = TimedClient(server.client(), self.clock)
        bucket = Bucket(BUCKET, "us-east-1", server.url)
        self.blobs = S3Blobs(bucket, self.prefix, make_client=lambda _: self.client)

    def key(self, digest: str) -> str:
        return f"{self.prefix}sha256/{digest[:2]}/{digest}"

    def keys(self, folder: str) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}{folder}/")
        return [each["Key"] for each in listed.get("Contents", ())]

    def while_deleting(self, key: str, write: Callable[[], object]) -> asyncio.Event:
        """Has `write` put its bytes when a deletion has looked at the key's age, and before it deletes. Answers
        the event of `write`'s end."""
        loop, ended, looks = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def run() -> None:
            try:
                write()
            finally:
                loop.call_soon_threadsafe(ended.set)

        def before(operation: str, about: str) -> None:
            if operation == "list_objects_v2" and "/doomed/" in about:
                looks.set()  # the writer has put its bytes
            elif operation == "delete_object" and about == key and not looks.is_set():
                threading.Thread(target=run).start()
                assert looks.wait(SECONDS)

        self.client.before = before
        return ended


@pytest.fixture
async def world(s3_server: S3Server) -> AsyncIterator[World]:
    world = World(s3_server)
    yield world
    await world.blobs.close()
    world.client.close()


async def test_a_put_that_meets_a_collection_is_not_lost(world: World) -> None:
    digest = await world.blobs.put(b"code")
    await world.clock.advance(HOUR)
    loop = asyncio.get_running_loop()
    ended = world.while_deleting(
        world.key(digest),
        lambda: asyncio.run_coroutine_threadsafe(world.blobs.put(b"code"), loop).result(SECONDS),
    )
    assert await world.blobs.collect(frozenset(), untouched_seconds=HOUR) == 1
    async with asyncio.timeout(SECONDS):
        await ended.wait()
    assert await world.blobs.get(digest) == b"code"
    assert world.keys("doomed") == []


async def test_a_touch_that_meets_a_sweep_is_not_lost(world: World) -> None:
    await world.blobs.put_named("uid/request.1", b"payload")
    await world.clock.advance(HOUR)
    loop = asyncio.get_running_loop()
    ended = world.while_deleting(
        f"{world.prefix}named/uid/request.1",
        lambda: asyncio.run_coroutine_threadsafe(world.blobs.touch_named("uid/request.1"), loop).result(
            SECONDS
        ),
    )
    await world.blobs.delete_named("uid/request.1", untouched_seconds=HOUR)
    async with asyncio.timeout(SECONDS):
        await ended.wait()
    assert await world.blobs.get_named("uid/request.1") == b"payload"


async def test_what_is_put_before_the_last_look_is_not_deleted(world: World) -> None:
    digest = await world.blobs.put(b"code")
    await world.clock.advance(HOUR)
    client, key = world.client, world.key(digest)

    def before(operation: str, about: str) -> None:
        if operation == "put_object" and "/doomed/" in about:
            client.before = lambda *_: None
            client.put_object(Bucket=BUCKET, Key=key, Body=b"code")

    client.before = before
    assert await world.blobs.collect(frozenset(), untouched_seconds=HOUR) == 0
    assert await world.blobs.get(digest) == b"code"
    assert world.keys("doomed") == []


async def test_the_mark_of_a_dead_deleter_holds_writers_for_minutes_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_WAIT_SECONDS", 0.0)
    digest = hashlib.sha256(b"code").hexdigest()
    mark = world.key(digest).replace("/sha256/", "/doomed/sha256/") + ".dead"
    world.client.put_object(Bucket=BUCKET, Key=mark, Body=b"")
    with pytest.raises(ServiceException, match="was being deleted. Try again"):
        await world.blobs.put(b"code")
    await world.clock.advance(300)
    assert await world.blobs.put(b"code") == digest
    await world.clock.advance(301)
    await world.blobs.collect(frozenset({digest}), untouched_seconds=HOUR)
    assert world.keys("doomed") == []


async def test_corrupt_bytes_are_never_served_and_an_upload_heals_them(world: World) -> None:
    digest = await world.blobs.put(b"code")
    world.client.put_object(Bucket=BUCKET, Key=world.key(digest), Body=b"c0de")
    with pytest.raises(ServiceException, match="is corrupt"):
        await world.blobs.get(digest)
    await world.blobs.put(b"code")
    assert await world.blobs.get(digest) == b"code"


async def test_what_is_not_ours_is_neither_listed_nor_collected(world: World) -> None:
    stray = [f"{world.prefix}{name}" for name in ("named/file", "named/a/b/c", "sha256/ab/readme", "other")]
    for key in stray:
        world.client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    digest = await world.blobs.put(b"code")
    assert list(await world.blobs.named(untouched_seconds=0)) == []
    assert await world.blobs.collect(frozenset(), untouched_seconds=0) == 1
    assert not await world.blobs.exists(digest)
    for key in stray:
        assert world.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"


@pytest.mark.usefixtures("keys")
async def test_a_bucket_that_is_not_there_is_told_with_what_to_do(s3_server: S3Server) -> None:
    blobs = S3Blobs(Bucket("nowhere", "us-east-1", s3_server.url), "")
    try:
        told = r"There is no bucket nowhere at http://\S+ Make it \(aws s3 mb s3://nowhere\)"
        with pytest.raises(ServiceException, match=told):
            await blobs.put(b"x")
        with pytest.raises(ServiceException, match=told):
            await blobs.get("0" * 64)
        with pytest.raises(ServiceException, match=told):
            await blobs.named(untouched_seconds=0)
    finally:
        await blobs.close()


@pytest.mark.usefixtures("keys")
async def test_a_server_that_is_not_there_is_told() -> None:
    blobs = S3Blobs(Bucket("b", "us-east-1", f"http://127.0.0.1:{free_port()}"), "")
    try:
        with pytest.raises(ServiceException, match="does not answer: .* AWS_ENDPOINT_URL_S3"):
            await blobs.exists("0" * 64)
    finally:
        await blobs.close()


@pytest.mark.usefixtures("keys")
async def test_the_real_client_puts_and_gets(s3_server: S3Server) -> None:
    blobs = S3Blobs(Bucket(BUCKET, "us-east-1", s3_server.url), f"{uuid.uuid4().hex}/a b/")
    try:
        digests = await asyncio.gather(*(blobs.put(b"%d" % n) for n in range(40)))
        assert await asyncio.gather(*map(blobs.get, digests)) == [b"%d" % n for n in range(40)]
        assert await blobs.collect(frozenset(digests[1:]), untouched_seconds=0) == 1
    finally:
        await blobs.close()
    with pytest.raises(ServiceException, match="closed"):
        await blobs.get(digests[1])


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")


async def test_a_tree_of_50_mb_is_unpacked_from_the_bucket(world: World, tmp_path: Path) -> None:
    large = os.urandom(50_000_000)
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("app.py", "code")
        archive.writestr("lib/large.bin", large)
    data = (tmp_path / "code.zip").read_bytes()
    await world.blobs.put(data)
    trees = Trees(tmp_path / "trees", world.blobs)
    await trees.open()
    tree = await trees.acquire(inspect(data))
    assert (tree.path / "app.py").read_text() == "code"
    assert (tree.path / "lib/large.bin").read_bytes() == large
