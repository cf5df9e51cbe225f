"""Trees are whole or absent, unpacked once, and stay while something uses them."""

import asyncio
import errno
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from lambent.executor.archives import extract, inspect
from lambent.executor.trees import Trees
from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.errors import InvalidZipFileException, ResourceNotFoundException, ServiceException
from lambent.kernel.models import Archive


def zipped(files: dict[str, str]) -> bytes:
    """{name: content}; a content that begins with "->" is a symlink's, a mode may follow the name after "|"."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            name, _, mode = name.partition("|")
            info = zipfile.ZipInfo(name)
            link = content.startswith("->")
            kind = stat.S_IFLNK if link else stat.S_IFDIR if name.endswith("/") else stat.S_IFREG
            info.external_attr = (kind | int(mode or "755", 8)) << 16
            archive.writestr(info, content.removeprefix("->"))
    return buffer.getvalue()


class World:
    """Trees over blobs in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = MemoryBlobs()
        self.trees = Trees(root, self.blobs)

    async def add(self, **files: str) -> Archive:
        return await self.add_files(files)

    async def add_files(self, files: dict[str, str]) -> Archive:
        data = zipped(files)
        await self.blobs.put(data)
        return inspect(data)

    def stored(self) -> int:
        return len(list((self.root / "code").iterdir())) + len(list((self.root / "opt").iterdir()))

    def leftovers(self) -> list[Path]:
        return list((self.root / "partial").iterdir())


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "trees")
    await world.trees.open()
    return world


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): "->" + os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


async def test_an_archive_is_unpacked_and_shared(world: World) -> None:
    archive = await world.add_files({"app.py": "code", "lib/x": "lib"})
    first, second = await world.trees.acquire(archive), await world.trees.acquire(archive)
    assert first.path == second.path
    assert content(first.path) == {"app.py": "code", "lib/x": "lib"}
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o755
    assert stat.S_IMODE(world.root.stat().st_mode) == 0o700


async def test_concurrent_acquires_unpack_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = await world.add(a="x")
    unpacked: list[Path] = []

    def counted(source: bytes | Path, into: Path) -> int:
        unpacked.append(into)
        return extract(source, into)

    monkeypatch.setattr("lambent.executor.trees.extract", counted)
    got = await asyncio.gather(*(world.trees.acquire(archive) for _ in range(10)))
    assert len({tree.path for tree in got}) == 1
    assert len(unpacked) == 1


async def test_without_files_few_archives_are_in_memory_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = [await world.add(a=str(number)) for number in range(8)]
    read = world.blobs.get
    held, most = 0, 0

    async def get(digest: str) -> bytes:
        nonlocal held, most
        held += 1
        most = max(most, held)
        await asyncio.sleep(0)
        return await read(digest)

    def done(source: bytes | Path, into: Path) -> int:
        nonlocal held
        size = extract(source, into)
        held -= 1
        return size

    monkeypatch.setattr(world.blobs, "get", get)
    monkeypatch.setattr("lambent.executor.trees.extract", done)
    await asyncio.gather(*map(world.trees.acquire, archives))
    assert (held, most) == (0, 2)
    assert world.stored() == 8


async def test_a_cancelled_acquire_does_not_stop_the_next(world: World) -> None:
    archive = await world.add(a="x")
    doomed = asyncio.ensure_future(world.trees.acquire(archive))
    await asyncio.sleep(0)
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    assert content((await world.trees.acquire(archive)).path) == {"a": "x"}


async def test_a_tree_in_use_is_not_collected_and_an_unused_one_is(world: World) -> None:
    archive = await world.add(a="x")
    first, second = await world.trees.acquire(archive), await world.trees.acquire(archive)
    first.release()
    first.release()
    assert await world.trees.collect(0) == 0
    assert second.path.exists()
    second.release()
    assert await world.trees.collect(0) == 1
    assert world.stored() == 0
    assert not world.leftovers()
    assert content((await world.trees.acquire(archive)).path) == {"a": "x"}


async def test_the_least_recently_used_go_first(world: World) -> None:
    archives = [await world.add(a=str(number) * 100) for number in range(3)]
    held = [await world.trees.acquire(archive) for archive in archives]
    for number in (1, 0, 2):
        held[number].release()
    assert world.trees.bytes() == 300
    assert await world.trees.collect(200) == 1
    assert [tree.path.exists() for tree in held] == [True, False, True]


async def test_trees_are_found_again_after_a_restart_and_leftovers_are_cleared(world: World) -> None:
    archive = await world.add(a="x")
    tree = await world.trees.acquire(archive)
    (world.root / "partial" / "half").mkdir()
    (world.root / "partial" / "half" / "f").write_text("h")
    again = Trees(world.root, MemoryBlobs())
    await again.open()
    assert not world.leftovers()
    assert (await again.acquire(archive)).path == tree.path


async def test_trees_of_an_earlier_boot_are_dropped(world: World) -> None:
    archive = await world.add(a="x")
    tree = await world.trees.acquire(archive)
    (world.root / "boot-id").write_text("another boot")
    (tree.path / "a").write_text("")  # as a power cut may leave it
    again = Trees(world.root, world.blobs)
    await again.open()
    assert content((await again.acquire(archive)).path) == {"a": "x"}


async def test_a_full_disk_is_said_and_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = await world.add(a="x")

    def full(source: object, into: Path) -> int:
        (into / "part").write_text("p")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lambent.executor.trees.extract", full)
        with pytest.raises(ServiceException, match="is full"):
            await world.trees.acquire(archive)
    assert not world.leftovers()
    assert world.stored() == 0
    assert (await world.trees.acquire(archive)).path.exists()


async def test_a_blob_that_is_no_zip_is_an_invalid_zip_file(world: World) -> None:
    digest = await world.blobs.put(b"no zip")
    with pytest.raises(InvalidZipFileException, match="Could not unzip"):
        await world.trees.acquire(Archive(digest, 6, 6))
    with pytest.raises(ResourceNotFoundException):
        await world.trees.acquire(Archive("00" * 32, 6, 6))
    assert not world.leftovers()


async def test_no_layers_have_no_opt_and_one_layer_is_its_own(world: World) -> None:
    assert await world.trees.acquire_opt([]) is None
    layer = await world.add(a="x")
    opt, tree = await world.trees.acquire_opt([layer]), await world.trees.acquire(layer)
    assert opt is not None
    assert opt.path == tree.path


async def test_layers_are_merged_in_order_and_share_their_files(world: World) -> None:
    one = await world.add_files({"python/a.py": "1", "both": "1", "l": "->both"})
    two = await world.add_files({"python/b.py": "2", "both": "2"})
    opt, swapped = await world.trees.acquire_opt([one, two]), await world.trees.acquire_opt([two, one])
    assert opt is not None and swapped is not None
    assert content(opt.path) == {"python/a.py": "1", "python/b.py": "2", "both": "2", "l": "->both"}
    assert content(swapped.path)["both"] == "1"
    source = (await world.trees.acquire(one)).path / "python/a.py"
    assert (opt.path / "python/a.py").samefile(source)
    assert source.read_text() == "1"


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ({"x": "file"}, {"x/y": "below"}, {"x/y": "below"}),
        ({"x/y": "below"}, {"x": "file"}, {"x": "file"}),
        ({"x": "->t/u", "t/u/f": "1"}, {"x/y": "below"}, {"x/y": "below", "t/u/f": "1"}),
        ({"x/y": "below"}, {"x": "->t"}, {"x": "->t"}),
        ({"x": "->t", "t": "1"}, {"x": "2"}, {"x": "2", "t": "1"}),
        ({"d/|700": "", "d/f|0": ""}, {"d": "file"}, {"d": "file"}),
    ],
)
async def test_a_later_layer_replaces_files_folders_and_symlinks(
    world: World, first: dict[str, str], second: dict[str, str], merged: dict[str, str]
) -> None:
    opt = await world.trees.acquire_opt([await world.add_files(first), await world.add_files(second)])
    assert opt is not None
    assert content(opt.path) == merged


async def test_folders_of_a_merge_have_the_last_layers_mode(world: World) -> None:
    one = await world.add_files({"d/|755": "", "d/f": "1"})
    two = await world.add_files({"d/|750": "", "d/g": "2"})
    opt = await world.trees.acquire_opt([one, two])
    assert opt is not None
    assert stat.S_IMODE((opt.path / "d").stat().st_mode) == 0o750


async def test_a_merged_opt_outlives_its_layers(world: World) -> None:
    layers = [await world.add(a="1"), await world.add(b="2")]
    opt = await world.trees.acquire_opt(layers)
    assert opt is not None
    assert await world.trees.collect(0) == 2
    assert content(opt.path) == {"a": "1", "b": "2"}
    opt.release()
    assert await world.trees.collect(0) == 1


async def test_folders_without_permissions_are_removed_too(world: World) -> None:
    tree = await world.trees.acquire(await world.add_files({"d/|0": "", "d/e/|500": "", "d/e/f|0": "x"}))
    os.chmod(tree.path / "d/e", 0)
    os.chmod(tree.path / "d", 0)
    tree.release()
    assert await world.trees.collect(0) == 1
    assert not world.leftovers()
