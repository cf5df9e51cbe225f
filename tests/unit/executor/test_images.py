"""Images from a stranger: what is read of them, what is refused, and that nothing leaves the folder."""

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from images import Made, layer

from lambent.kernel import disk
from lambent.kernel.images import pull, reference, room, tars, unpack
from lambent.kernel.images.source import ImageError, ImageMissing, NoSpace

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry.example/lambda/python:3.13", ("registry.example", "lambda/python", "3.13")),
        ("[::1]:5000/x", ("[::1]:5000", "x", "latest")),
        ("localhost:5000/x", ("localhost:5000", "x", "latest")),
        (f"a.b/c@{DIGEST}", ("a.b", "c", DIGEST)),
        (f"a.b/c:1@{DIGEST}", ("a.b", "c", DIGEST)),
        ("oci-layout:/srv/images:one", ("", "/srv/images", "one")),
        ("oci-layout:/srv/images", ("", "/srv/images", "")),
    ],
)
def test_a_reference_is_read(text: str, expected: tuple[str, str, str]) -> None:
    found = reference.parse(text)
    assert (found.registry, found.name, found.wanted) == expected
    assert found.is_layout == text.startswith("oci-layout:")


@pytest.mark.parametrize(
    "text",
    [
        "python:3.13",
        "library/python",
        "oci-layout:folder",
        "oci-layout:/a\0b",
        "oci-layout:/a\n",
        "a.b/C",
        "a.b/c:",
        "a.b/c@sha256:1",
        "a.b/../c",
        "a.b/",
        "user:word@a.b/c",
        "[::1/c",
        "a.b:x/c",
    ],
)
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"names no|is no name"):
        reference.parse(text)


def unpacked(root: Path, *layers: bytes) -> Path:
    root.mkdir()
    unpacking = unpack.Unpacking(root, room.Room(root))
    for number, data in enumerate(layers):
        path = root.parent / f"layer{number}"
        path.write_bytes(data)
        unpacking.layer(path)
    return root


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path / "root",
        layer(
            {"usr/bin/one": b"1", "usr/bin/two": b"2", "etc/x/a": b"a", "etc/x/b": b"b", "bin": "-> usr/bin"}
        ),
        layer({"bin/three": b"3", "usr/bin/.wh.one": b"", "etc/x/c": b"c", "etc/x/.wh..wh..opq": b""}),
        layer({"usr/bin/four": "=> usr/bin/three", "usr/bin/two": b"new"}, compressed=False),
    )
    assert sorted(path.name for path in (root / "usr/bin").iterdir()) == ["four", "three", "two"]
    assert (root / "usr/bin/two").read_bytes() == b"new"
    assert (root / "usr/bin/four").read_bytes() == b"3"
    assert [path.name for path in (root / "etc/x").iterdir()] == ["c"], "what was below is hidden"
    assert (root / "bin").is_symlink()


def test_what_is_hidden_is_hidden_however_deep(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path / "root",
        layer({"a/sub/old": b"", "a/sub/deep/old": b"", "b": b""}),
        layer({"a/sub/new": b"", "a/.wh..wh..opq": b""}),
    )
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["a", "a/sub", "a/sub/new", "b"]


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "a/.wh..."])
def test_nothing_but_an_entry_can_be_hidden(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ImageError, match="a layer has"):
        unpacked(tmp_path / "in/root", layer({"a/x": b"kept", name: b""}))
    assert (tmp_path / "in/root/a/x").read_bytes() == b"kept"


def zeros(kind: bytes, size: int) -> bytes:
    """A layer of one entry that is so large, of zeros, and of another one."""
    data = io.BytesIO()
    entry = tarfile.TarInfo("zeros")
    entry.type, entry.size = kind, size
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=1) as file:
        file.write(entry.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        file.write(tarfile.TarInfo("next").tobuf() + bytes(1024))
    return data.getvalue()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ImageError, match="header is too large"):
        unpacked(tmp_path / "root", zeros(kind, 4 << 20))


def test_every_entry_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_FILES", 10)
    monkeypatch.setattr(unpack, "MAX_BYTES", 3 << 20)
    for number, data in enumerate(
        (
            layer({f".wh.{number}": b"" for number in range(11)}),
            layer({str(number): device(str(number)) for number in range(11)}),
            zeros(b"9", 4 << 20),  # of a kind that nobody knows: skipped, which is work too
        )
    ):
        with pytest.raises(ImageError, match="more than"):
            unpacked(tmp_path / f"root{number}", data)
    unpacked(tmp_path / "large", zeros(tarfile.REGTYPE, 3 << 20))


def test_folders_that_only_paths_name_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_FILES", 100)
    with pytest.raises(ImageError, match="more than"):
        unpacked(tmp_path / "root", layer({f"{number}/" + "a/" * 30 + "x": b"" for number in range(4)}))


def device(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.devmajor, entry.devminor = tarfile.CHRTYPE, 1, 3
    return entry


def test_nothing_leaves_the_folder_or_keeps_a_power(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    root = unpacked(
        tmp_path / "root",
        layer({"out": f"-> {outside}", "up": "-> ../../..", "out2": f"-> {outside}"}),
        layer({"out/x": b"x", "up/y": b"y", "out2/.wh.kept": b""}),
        layer({"dev/null": device("dev/null"), "bin/su": b"su"}, mode=0o4755),
    )
    assert [path.name for path in outside.iterdir()] == ["kept"], "a link leads to a folder inside"
    assert (root / str(outside).lstrip("/") / "x").read_bytes() == b"x"
    assert (root / "y").read_bytes() == b"y"
    assert not (root / "dev/null").exists() and (root / "bin/su").stat().st_mode & 0o7777 == 0o755
    for wrong in (
        {"../x": b""},
        {"a/../../x": b""},
        {"x": "=> ../../etc/passwd"},
        {"x": "=> /etc/../../passwd"},
    ):
        with pytest.raises(ImageError, match="a layer has"):
            unpacked(tmp_path / f"wrong{len(list(tmp_path.iterdir()))}", layer(wrong))


def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="leads nowhere"):
        unpacked(tmp_path / "root", layer({"a": "-> a"}), layer({"a/x": b""}))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"nothing", layer({"x": b"x" * 10_000}, compressed=False)[:2000]):
        with pytest.raises(ImageError, match="no archive"):
            unpacked(tmp_path / f"root{len(list(tmp_path.iterdir()))}", data)


def taken(folder: Path, layout: Path, tag: str = "", allowed: room.Room | None = None) -> pull.Image:
    root, work = folder / "root", folder / "work"
    root.mkdir()
    work.mkdir()
    named = reference.parse(f"oci-layout:{layout}{':' + tag if tag else ''}")
    return pull.pull(named, root, work, room=allowed)


def in_bytes(folder: Path) -> int:
    return sum(4096 + path.stat().st_size * path.is_file() for path in folder.rglob("*"))


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk with 4 MB free, of which 1 MB is kept."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(room, "_STEP", 1 << 16)
    monkeypatch.setattr(disk, "space", lambda _: disk.Space((4 << 20) - in_bytes(tmp_path / "disk"), 1 << 20))
    return tmp_path / "disk"


@pytest.mark.parametrize(
    "files",
    [
        {"one": bytes(5 << 20)},
        {f"{number:03}": bytes(20_000) for number in range(300)},
        {f"{number:04}": b"" for number in range(1000)},
    ],
)
def test_what_is_unpacked_leaves_the_reserve_of_the_disk(
    tmp_path: Path, small_disk: Path, files: dict[str, bytes]
) -> None:
    layout = Made([layer(files)]).write(tmp_path / "layout")
    with pytest.raises(NoSpace, match="no room for it: .* 1 MB are kept"):
        taken(small_disk, layout)
    assert in_bytes(small_disk) <= 3 << 20


def test_what_is_fetched_leaves_the_reserve_of_the_disk(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Made([layer({"x": os.urandom(1 << 20)}), layer({"y": os.urandom(4 << 20)})]).write(
        tmp_path / "layout"
    )
    with pytest.raises(NoSpace):
        taken(small_disk, layout)
    assert not (small_disk / "work/layer").exists(), "it says how large it is"
    fetched = small_disk / "again/work/layer"

    def space(_: Path) -> disk.Space:
        """Another one takes the rest of the disk meanwhile."""
        begun = fetched.exists() and fetched.stat().st_size >= 1 << 20
        return disk.Space((1 if begun else 8) << 20, 1 << 20)

    monkeypatch.setattr(disk, "space", space)
    fetched.parents[1].mkdir()
    with pytest.raises(NoSpace):
        taken(small_disk / "again", layout)
    assert fetched.stat().st_size <= 2 << 20


def test_what_others_are_promised_is_left(tmp_path: Path, small_disk: Path) -> None:
    layout = Made([layer({"x": bytes(1200 << 10)})]).write(tmp_path / "layout")
    with pytest.raises(NoSpace, match="2 MB are promised"):
        taken(small_disk, layout, allowed=room.Room(small_disk, lambda: 2 << 20))
    (small_disk / "again").mkdir()
    taken(small_disk / "again", layout, allowed=room.Room(small_disk, lambda: 1 << 20))


CONFIG: dict[str, Any] = {
    "Entrypoint": ["/start"],
    "Cmd": ["a", "b"],
    "Env": ["X=1=2", "Y="],
    "WorkingDir": "/w",
}


def test_a_layout_is_pulled(tmp_path: Path) -> None:
    made = Made([layer({"x": b"1"}), layer({"y": b"2"})], **CONFIG)
    image = taken(tmp_path, made.write(tmp_path / "layout"))
    assert image == pull.Image(made.manifest["digest"], ["/start"], ["a", "b"], {"X": "1=2", "Y": ""}, "/w")
    assert (tmp_path / "root/x").read_bytes() + (tmp_path / "root/y").read_bytes() == b"12"
    assert list((tmp_path / "work").glob("layer*")) == []


def test_a_place_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    for name in ("x" * 300, "/".join(["x" * 200] * 30)):
        with pytest.raises(ImageError, match="cannot be read"):
            pull.resolve(reference.parse(f"oci-layout:{tmp_path}/{name}"))


def archived(layout: Path, *, mode: str = "w", top: str = "") -> Path:
    path = layout.with_suffix(".tar")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(layout, top or ".")
    return path


@pytest.mark.parametrize("top", ["", "/"])
def test_a_layout_in_an_archive_is_pulled(tmp_path: Path, top: str) -> None:
    made = Made([layer({"x": b"1"}), layer({"y": b"2"})], **CONFIG)
    archive = archived(made.write(tmp_path / "layout", "one"), top=top)
    shutil.rmtree(tmp_path / "layout")
    assert taken(tmp_path, archive, "one").digest == made.manifest["digest"]
    assert (tmp_path / "root/x").read_bytes() + (tmp_path / "root/y").read_bytes() == b"12"
    with pytest.raises(ImageMissing, match="has 0 images for two; there are: one"):
        pull.resolve(reference.parse(f"oci-layout:{archive}:two"))


def test_an_archive_that_is_no_layout_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Made([layer({"x": b"1"})]).write(tmp_path / "layout")
    named = reference.parse(f"oci-layout:{archived(layout)}")
    monkeypatch.setattr(tars, "_MAX_MEMBERS", 3)
    with pytest.raises(ImageError, match="more than 3 entries"):
        pull.resolve(named)
    monkeypatch.undo()
    archived(layout, mode="w:gz")
    with pytest.raises(ImageError, match=r"layout\.tar: it is no tar archive that can be read, or it is compr"):
        pull.resolve(named)
    (tmp_path / "layout.tar").write_bytes(gzip.decompress(zeros(tarfile.GNUTYPE_LONGNAME, 4 << 20)))
    with pytest.raises(ImageError, match="header is too large"):
        pull.resolve(named)
    endless = tarfile.TarInfo("x")
    endless.size = 1 << 70
    (tmp_path / "layout.tar").write_bytes(endless.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ImageError, match="no tar archive that can be read"):
        pull.resolve(named)
    (layout / "index.json").unlink()
    archived(layout)
    with pytest.raises(ImageMissing, match=r"index\.json cannot be read \(it is not in the archive\)"):
        pull.resolve(named)


def test_an_archive_that_was_cut_is_refused(tmp_path: Path) -> None:
    archive = archived(Made([layer({"x": os.urandom(1 << 20)})]).write(tmp_path / "layout"))
    whole = archive.read_bytes()
    for size in range(0, len(whole), len(whole) // 20):
        archive.write_bytes(whole[:size])
        (tmp_path / f"{size}").mkdir()
        with pytest.raises(ImageError):
            taken(tmp_path / f"{size}", archive)


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    for kind in ("layer", "config", "manifest"):
        made = Made([layer({"x": kind.encode()})])
        layout = made.write(tmp_path / kind / "layout")
        manifest = json.loads(made.blobs[made.manifest["digest"]])
        digest = {
            "layer": manifest["layers"][0]["digest"],
            "config": manifest["config"]["digest"],
            "manifest": made.manifest["digest"],
        }[kind]
        path = layout / "blobs/sha256" / digest.removeprefix("sha256:")
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(ImageError, match="is something else"):
            taken(tmp_path / kind, layout)


def test_a_tag_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    layout = Made([layer({"x": b""})]).write(tmp_path / "layout", "one")
    with pytest.raises(ImageError, match="has 0 images for two; there are: one"):
        taken(tmp_path, layout, "two")
    with pytest.raises(ImageError, match="is no OCI image layout"):
        pull.pull(reference.parse(f"oci-layout:{tmp_path}/none"), tmp_path / "root", tmp_path / "work")


def test_a_layout_that_is_none_is_told(tmp_path: Path) -> None:
    layout = Made([layer({"x": b""})]).write(tmp_path / "layout")
    for text in ("1", "[" * 100_000, '{"manifests": 1}', "{"):
        (layout / "index.json").write_text(text)
        with pytest.raises(ImageError, match=r"is not JSON|has no list"):
            pull.resolve(reference.parse(f"oci-layout:{layout}"))
    (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    with pytest.raises(ImageError, match="it is no file"):
        pull.resolve(reference.parse(f"oci-layout:{layout}"))


def test_an_image_for_another_machine_is_refused(tmp_path: Path) -> None:
    layout = Made([layer({"x": b""})], top={"architecture": "s390x"}).write(tmp_path / "layout")
    with pytest.raises(ImageError, match="is for linux/s390x"):
        taken(tmp_path, layout)
