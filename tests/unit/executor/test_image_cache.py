"""The cache of unpacked images: one of each, whole or not there, and kept while it is used."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from images import Asked, Entry, Made, layer, served

from lambent.executor.drivers.sandbox.rootfs import IMAGE_FILES, IMAGE_FOLDERS
from lambent.executor.image_cache import ImageCache, extensions_of
from lambent.kernel import disk
from lambent.kernel.errors import ImageAccessDenied, ImageDeleted, InvalidImage, ServiceException
from lambent.kernel.models import ImageUse


def made(folder: Path, said: bytes) -> ImageUse:
    image = Made([layer({"x": said}, mode=0o600)], Entrypoint=["/x"])
    layout = image.write(folder / said.decode())
    return ImageUse(f"oci-layout:{layout}:latest", image.manifest["digest"])


async def test_one_image_is_unpacked_once_for_all(tmp_path: Path) -> None:
    use, cache = made(tmp_path, b"one"), ImageCache(tmp_path / "cache")
    await cache.open()
    first, second = await asyncio.gather(cache.acquire(use), cache.acquire(use))
    assert first.path == second.path and (first.path / "x").read_bytes() == b"one"
    assert (first.path / "x").stat().st_mode & 0o777 == 0o644, "functions can read it"
    assert (first.path / "var/task").is_dir() and (first.path / "etc/hosts").is_file()
    shutil.rmtree(tmp_path / "one")
    assert (await cache.acquire(use)).image == first.image, "it is not fetched again"
    assert first.image.entrypoint == ["/x"]


async def test_what_cannot_be_had_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    use, cache = made(tmp_path, b"gone"), ImageCache(tmp_path / "cache")
    await cache.open()
    kept = tmp_path / "elsewhere"
    (tmp_path / "gone").rename(kept)
    for _ in range(2):
        with pytest.raises(ImageDeleted, match="cannot be had"):
            await cache.acquire(use)
        assert list((tmp_path / "cache").iterdir()) == []
    kept.rename(tmp_path / "gone")
    assert ((await cache.acquire(use)).path / "x").exists(), "it is tried again"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda asked: asked.say(404), ImageDeleted),
        (lambda asked: asked.say(401), ImageAccessDenied),
        (lambda asked: asked.say(401, WWW_Authenticate='Basic realm="x"'), ImageAccessDenied),
        (lambda asked: asked.say(403), ImageAccessDenied),
        (lambda asked: asked.say(400), InvalidImage),
        (lambda asked: asked.say(200, b"{}"), InvalidImage),
    ],
)
async def test_why_it_cannot_be_had_is_told_in_awss_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Asked], None], kind: type[Exception]
) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none"))
    cache = ImageCache(tmp_path / "cache")
    await cache.open()
    with served(answer) as at, pytest.raises(InvalidImage) as failure:
        await cache.acquire(ImageUse(f"{at}/a:tag", f"sha256:{'0' * 64}"))
    assert type(failure.value) is kind and failure.value.code == "ServiceException"


async def test_a_full_disk_is_no_fault_of_the_image_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = 0
    use, cache = made(tmp_path, b"large"), ImageCache(tmp_path / "cache", promised=lambda: promised)
    await cache.open()
    monkeypatch.setattr(disk, "space", lambda _: disk.Space(1 << 30, 1 << 29))
    promised = 1 << 29
    with pytest.raises(ServiceException, match="no room for it") as failure:
        await cache.acquire(use)
    assert not isinstance(failure.value, InvalidImage)
    assert list((tmp_path / "cache").iterdir()) == []
    promised = 1 << 28
    assert (await cache.acquire(use)).path.exists()


async def test_what_is_used_stays_and_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache")
    await cache.open()
    uses = [made(tmp_path, name) for name in (b"a", b"b", b"c")]
    unpacked = [await cache.acquire(use) for use in uses]
    assert await cache.collect(0) == 0
    for each in unpacked[:2]:
        each.release()
    assert await cache.collect(1 << 30) == 0
    assert await cache.collect(0) == 2
    assert [each.path.exists() for each in unpacked] == [False, False, True]


async def test_what_a_killed_server_left_goes_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "cache/.new-1/root").mkdir(parents=True)
    await ImageCache(tmp_path / "cache").open()
    assert list((tmp_path / "cache").iterdir()) == []


def linked(folder: Path, files: Mapping[str, Entry]) -> ImageUse:
    image = Made([layer(files)], Entrypoint=["/x"])
    return ImageUse(f"oci-layout:{image.write(folder)}:latest", image.manifest["digest"])


async def test_no_place_of_a_mount_is_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").write_text("the machine's")
    leading = {"dev": outside, "tmp": outside, "etc/hosts": outside / "hosts", "etc/resolv.conf": "../../../x"}
    use = linked(tmp_path / "image", {name: f"-> {target}" for name, target in leading.items()})
    cache = ImageCache(tmp_path / "cache")
    await cache.open()
    root = (await cache.acquire(use)).path
    for name in (*IMAGE_FOLDERS, *IMAGE_FILES):
        assert (root / name).resolve() == root.resolve() / name, name
    assert [path.name for path in outside.iterdir()] == ["hosts"]
    assert (outside / "hosts").read_text() == "the machine's"


@pytest.mark.parametrize("name", ["etc", "var", "var/task", "opt", "mnt"])
async def test_a_link_where_functions_need_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    cache = ImageCache(tmp_path / "cache")
    await cache.open()
    with pytest.raises(InvalidImage, match=f"its /{name} is a link"):
        await cache.acquire(linked(tmp_path / "image", {name: f"-> {tmp_path}"}))
    assert list((tmp_path / "cache").iterdir()) == []


def test_extensions_are_those_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "opt", root / "kept", outside):
        folder.mkdir(parents=True)
    (outside / "secret").touch()
    (root / "opt/extensions").symlink_to(outside)
    assert extensions_of(root) == []
    (root / "opt/extensions").unlink()
    (root / "opt/extensions").symlink_to("/kept")
    for name, target in (("one", None), ("two", "/kept/one"), ("other", outside / "secret")):
        path = root / "kept" / name
        path.symlink_to(target) if target is not None else path.touch()
    assert extensions_of(root) == ["one", "two"]
