"""Every blob store: bytes by SHA-256, durable before they are named, deleted only when unwanted and old."""

import errno
import hashlib
import os
import resource
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, S3Server, TimedClient

from lambent.kernel.blobs.directory import DirectoryBlobs
from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.blobs.s3 import S3Blobs
from lambent.kernel.blobs.s3_client import Bucket
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ResourceNotFoundException, ServiceException
from lambent.kernel.ports import BlobStore


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture(params=["directory", "memory", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path, clock: TestClock) -> AsyncIterator[BlobStore]:
    if request.param == "memory":
        yield MemoryBlobs(clock=clock)
    elif request.param == "directory":
        yield DirectoryBlobs(tmp_path / "blobs", clock=clock)
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        timed = TimedClient(server.client(), clock)
        bucket = Bucket(BUCKET, "us-east-1", server.url)
        store = S3Blobs(bucket, f"{uuid.uuid4().hex}/", make_client=lambda _: timed)
        yield store
        await store.close()
        timed.close()


async def test_what_was_put_comes_back_under_its_sha256(blobs: BlobStore) -> None:
    data = os.urandom(100_000)
    digest = await blobs.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await blobs.exists(digest)
    assert await blobs.get(digest) == data


async def test_the_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    assert await blobs.get(await blobs.put(b"")) == b""


async def test_the_same_bytes_are_one_blob(blobs: BlobStore, clock: TestClock) -> None:
    assert await blobs.put(b"x") == await blobs.put(b"x")
    await clock.advance(10)
    assert await blobs.collect(frozenset(), untouched_seconds=10) == 1


@pytest.mark.parametrize("digest", ["0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63 + "\n"])
async def test_an_unknown_digest_is_not_found(blobs: BlobStore, digest: str) -> None:
    assert not await blobs.exists(digest)
    assert await blobs.path(digest) is None
    with pytest.raises(ResourceNotFoundException):
        await blobs.get(digest)


async def test_collect_deletes_only_what_is_unwanted_and_old(blobs: BlobStore, clock: TestClock) -> None:
    kept, old = await blobs.put(b"kept"), await blobs.put(b"old")
    await clock.advance(3600)
    fresh = await blobs.put(b"fresh")
    assert await blobs.collect(frozenset({kept}), untouched_seconds=3600) == 1
    assert [await blobs.exists(d) for d in (kept, old, fresh)] == [True, False, True]


async def test_putting_again_touches(blobs: BlobStore, clock: TestClock) -> None:
    digest = await blobs.put(b"x")
    await clock.advance(3000)
    await blobs.put(b"x")
    await clock.advance(3000)
    assert await blobs.collect(frozenset(), untouched_seconds=3600) == 0
    assert await blobs.exists(digest)


async def test_a_collected_blob_can_be_put_again(blobs: BlobStore, clock: TestClock) -> None:
    digest = await blobs.put(b"x")
    await clock.advance(10)
    await blobs.collect(frozenset(), untouched_seconds=5)
    assert await blobs.put(b"x") == digest
    assert await blobs.get(digest) == b"x"


class TestDirectory:
    """What only files have."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "blobs"

    @pytest.fixture
    def blobs(self, root: Path, clock: TestClock) -> DirectoryBlobs:
        return DirectoryBlobs(root, clock=clock)

    @pytest.fixture
    def small_files(self) -> Iterator[None]:
        """A real refusal by the kernel in the middle of a write: no file may grow beyond 64 KB."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    async def test_the_path_is_a_read_only_file_with_the_bytes(self, blobs: DirectoryBlobs) -> None:
        path = await blobs.path(await blobs.put(b"code"))
        assert path is not None
        assert Path(path).read_bytes() == b"code"
        assert Path(path).stat().st_mode & 0o222 == 0

    async def test_another_process_finds_it(self, blobs: DirectoryBlobs, root: Path) -> None:
        digest = await blobs.put(b"code")
        assert await DirectoryBlobs(root).get(digest) == b"code"

    @pytest.mark.usefixtures("small_files")
    async def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
        self, blobs: DirectoryBlobs, root: Path
    ) -> None:
        data = os.urandom(200_000)
        with pytest.raises(ServiceException, match=r"is full: nothing was stored\. Free some space"):
            await blobs.put(data)
        assert not await blobs.exists(hashlib.sha256(data).hexdigest())
        assert [file for file in root.rglob("*") if file.is_file() and file.name != "lock"] == []
        assert await blobs.get(await blobs.put(b"small")) == b"small"

    async def test_corrupt_bytes_are_never_served_and_an_upload_heals_them(self, blobs: DirectoryBlobs) -> None:
        digest = await blobs.put(b"code")
        file = Path(await blobs.path(digest) or "")
        file.chmod(0o644)
        file.write_bytes(b"c0de")
        with pytest.raises(ServiceException, match="is corrupt"):
            await blobs.get(digest)
        await blobs.put(b"code")
        assert await blobs.get(digest) == b"code"

    async def test_an_unfinished_write_of_a_dead_process_is_swept(
        self, blobs: DirectoryBlobs, root: Path, clock: TestClock
    ) -> None:
        await blobs.put(b"x")
        left = root / "aside" / "tmpdead"
        left.write_bytes(b"half")
        os.utime(left, (clock.now(), clock.now()))
        assert await blobs.collect(frozenset(), untouched_seconds=10) == 0
        assert left.exists()
        await clock.advance(10)
        await blobs.collect(frozenset(), untouched_seconds=10)
        assert not left.exists()

    async def test_a_kill_in_the_middle_of_a_write_names_nothing(self, root: Path) -> None:
        script = (
            "import asyncio, os, signal, sys; from pathlib import Path\n"
            "from lambent.kernel.blobs import directory\n"
            "directory.os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
            "root = Path(sys.argv[1]); (root / 'aside').mkdir(parents=True)\n"
            "asyncio.run(directory.DirectoryBlobs(root).put(b'code'))\n"
        )
        died = subprocess.run(
            [sys.executable, "-c", script, str(root)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert died.returncode == -9
        assert [file.parent.name for file in root.rglob("*") if file.is_file() and file.name != "lock"] == [
            "aside"
        ]
        assert not await DirectoryBlobs(root).exists(hashlib.sha256(b"code").hexdigest())


async def test_a_disk_that_refuses_a_collection_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError would end the collector, and the server with it."""
    blobs = DirectoryBlobs(tmp_path / "blobs")
    await blobs.put(b"x")

    def refuse(*_: object) -> Iterator[Path]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "glob", refuse)
    with pytest.raises(ServiceException, match="Input/output error"):
        await blobs.collect(frozenset(), untouched_seconds=0)


async def test_a_blob_that_cannot_be_deleted_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = TestClock()
    blobs = DirectoryBlobs(tmp_path / "blobs", clock=clock)
    digests = [await blobs.put(data) for data in (b"1", b"2", b"3")]
    await clock.advance(10)
    unlink = Path.unlink

    def refuse_one(path: Path, missing_ok: bool = False) -> None:
        if path.name == digests[1]:
            raise OSError(errno.EIO, "Input/output error")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse_one)
    assert await blobs.collect(frozenset(), untouched_seconds=5) == 2
    assert [await blobs.exists(digest) for digest in digests] == [False, True, False]


async def test_a_named_blob_comes_back_until_it_is_deleted(blobs: BlobStore) -> None:
    await blobs.put_named("uid-1/request.1", b"one")
    await blobs.put_named("uid-1/request.2", b"")
    assert await blobs.get_named("uid-1/request.1") == b"one"
    assert await blobs.get_named("uid-1/request.2") == b""
    await blobs.delete_named("uid-1/request.1")
    await blobs.delete_named("uid-1/request.1")
    with pytest.raises(ResourceNotFoundException):
        await blobs.get_named("uid-1/request.1")
    assert list(await blobs.named(untouched_seconds=0)) == ["uid-1/request.2"]


async def test_named_blobs_are_listed_by_age_and_never_collected(blobs: BlobStore, clock: TestClock) -> None:
    await blobs.put_named("a/old", b"x")
    await clock.advance(60)
    await blobs.put_named("b/new", b"y")
    assert list(await blobs.named(untouched_seconds=60)) == ["a/old"]
    await blobs.delete_named("a/old")
    await blobs.put_named("a/again", b"z")
    assert await blobs.collect(frozenset(), untouched_seconds=0) == 0
    assert list(await blobs.named(untouched_seconds=0)) == ["a/again", "b/new"]


@pytest.mark.parametrize(
    "name", ["", "file", "../x/y", "a/../b", "a/b/c", ".hidden/x", "a/.", "a\n/b", "a/" + "x" * 201]
)
async def test_a_name_that_is_none_of_ours_is_refused(blobs: BlobStore, name: str) -> None:
    with pytest.raises(ResourceNotFoundException):
        await blobs.get_named(name)


async def test_a_named_blob_that_was_touched_is_not_deleted_as_old(blobs: BlobStore, clock: TestClock) -> None:
    await blobs.put_named("a/x", b"x")
    await clock.advance(60)
    await blobs.touch_named("a/x")
    await blobs.touch_named("a/never")
    await blobs.delete_named("a/x", untouched_seconds=60)
    assert await blobs.get_named("a/x") == b"x"
    assert list(await blobs.named(untouched_seconds=60)) == []
    await clock.advance(60)
    await blobs.delete_named("a/x", untouched_seconds=60)
    assert list(await blobs.named(untouched_seconds=0)) == []
