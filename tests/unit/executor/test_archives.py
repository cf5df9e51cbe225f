"""Zips that lie, escape or explode; each refusal has a harmless twin that is accepted."""

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from lambent.executor import archives
from lambent.executor.archives import EMPTY, MAX_UNZIPPED, NOT_A_ZIP, TOO_LARGE
from lambent.kernel.errors import InvalidParameterValueException

Item = tuple[str | zipfile.ZipInfo, bytes]


def zipped(*items: Item, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in items:
            archive.writestr(name, data, method)
    return buffer.getvalue()


def entry(name: str, mode: int, *, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (2024, 2, 29, 12, 30, 44))
    info.create_system = system
    info.external_attr = mode << 16
    return info


def link(name: str, target: str) -> Item:
    return entry(name, stat.S_IFLNK | 0o777), target.encode()


def file(name: str, data: bytes = b"x", mode: int = 0o644) -> Item:
    return entry(name, stat.S_IFREG | mode), data


def renamed(data: bytes, old: str, new: str) -> bytes:
    """Puts a name in that the zipfile module would not write; of the same length."""
    assert len(old) == len(new)
    return data.replace(old.encode(), new.encode())


def refusal(data: bytes, into: Path | None = None) -> str:
    with pytest.raises(InvalidParameterValueException) as raised:
        archives.inspect(data)
    if into is not None:
        with pytest.raises(InvalidParameterValueException) as again:
            archives.extract(data, into)
        assert again.value.message == raised.value.message
        assert not list(into.iterdir())
    assert raised.value.status == 400
    return raised.value.message


def patched_sizes(data: bytes, size: int, crc: int | None = None) -> bytes:
    """The one entry's uncompressed size (and CRC) changed in both headers."""
    changed = bytearray(data)
    central = data.index(b"PK\1\2")
    for at in (14, central + 16):
        if crc is not None:
            struct.pack_into("<L", changed, at, crc)
        struct.pack_into("<L", changed, at + 8, size)
    return bytes(changed)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """300 MB of zeros in one entry, 300 kB zipped."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros", "w") as stream,
    ):
        for _ in range(300):
            stream.write(bytes(1_000_000))
    return buffer.getvalue()


def test_the_digest_and_both_sizes_are_those_of_the_upload() -> None:
    data = zipped(file("app.py", b"a" * 1000), file("lib/b.txt", b"b" * 500))
    archive = archives.inspect(data)
    assert (archive.size, archive.unzipped) == (len(data), 1500)
    assert len(archive.digest) == 64
    assert archives.inspect(data) == archive


def test_files_folders_modes_and_times_are_the_zips(tmp_path: Path) -> None:
    items = (
        file("bin/run", b"#!", 0o755),
        file("secret", b"s", 0o600),
        file("none", b"n", 0),
        (entry("closed/", stat.S_IFDIR | 0o500), b""),
        file("closed/in", b"i"),
    )
    data = zipped(*items)
    assert archives.extract(data, tmp_path) == archives.inspect(data).unzipped
    modes = {
        name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("bin", "bin/run", "secret", "none")
    }
    assert modes == {"bin": 0o755, "bin/run": 0o755, "secret": 0o600, "none": 0}
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o700
    assert (tmp_path / "closed/in").read_bytes() == b"i"
    assert (tmp_path / "secret").stat().st_mtime == 1_709_209_844


def test_setuid_and_setgid_are_stripped(tmp_path: Path) -> None:
    archives.extract(zipped(file("su", b"x", 0o6755)), tmp_path)
    assert stat.S_IMODE((tmp_path / "su").stat().st_mode) == 0o755


def test_an_entry_without_a_unix_mode_gets_0644_and_0755(tmp_path: Path) -> None:
    archives.extract(zipped((entry("a", 0o600, system=0), b"x"), (entry("d/", 0, system=0), b"")), tmp_path)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755


def test_a_file_is_extracted_from_a_path_as_from_bytes(tmp_path: Path) -> None:
    data = zipped(file("a/b", bytes(range(256)) * 5000), method=zipfile.ZIP_STORED)
    (tmp_path / "blob").write_bytes(data)
    (tmp_path / "tree").mkdir()
    assert archives.extract(tmp_path / "blob", tmp_path / "tree") == 1_280_000
    assert (tmp_path / "tree/a/b").read_bytes() == bytes(range(256)) * 5000


@pytest.mark.parametrize(
    "data", [b"PK", b"hello", b"\0" * 5000, b"PK\5\6" + bytes(3), b"PK\5\6" + b"\xff" * 18]
)
def test_what_is_not_a_zip_is_refused(data: bytes, tmp_path: Path) -> None:
    assert refusal(data, tmp_path) == NOT_A_ZIP


@pytest.mark.parametrize("data", [b"", zipped()])
def test_an_empty_zip_is_refused(data: bytes) -> None:
    assert refusal(data) == EMPTY


def test_every_truncation_is_refused() -> None:
    data = zipped(file("app.py", os.urandom(400)), file("b", b"b"))
    for length in range(1, len(data)):
        assert refusal(data[:length]) == NOT_A_ZIP


def test_no_flipped_byte_raises_anything_but_a_refusal() -> None:
    data = zipped(file("app.py", os.urandom(60)), link("l", "app.py"))
    for at in range(len(data)):
        for bits in (0xFF, 0x01, 0x80):
            broken = bytearray(data)
            broken[at] ^= bits
            try:
                archives.inspect(bytes(broken))
            except InvalidParameterValueException as refused:
                assert refused.message.startswith(
                    ("Could not unzip uploaded file.", "Uploaded file", "Unzipped")
                )


def test_a_wrong_crc_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(file("a", b"hello world"), method=zipfile.ZIP_STORED))
    data[data.index(b"hello")] ^= 1
    assert refusal(bytes(data)) == NOT_A_ZIP


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(file("a")))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    assert refusal(bytes(data), tmp_path) == NOT_A_ZIP


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unsupported_compression_is_refused(method: int, tmp_path: Path) -> None:
    assert refusal(zipped(file("a", b"a" * 100), method=method), tmp_path) == NOT_A_ZIP


def test_more_than_250_mb_is_refused(bomb: bytes) -> None:
    assert refusal(bomb) == TOO_LARGE


def test_a_bomb_whose_headers_lie_is_refused_for_its_true_size(bomb: bytes, tmp_path: Path) -> None:
    lying = patched_sizes(bomb, 10, zlib.crc32(bytes(10)))
    assert refusal(lying) == TOO_LARGE
    with pytest.raises(InvalidParameterValueException, match=str(MAX_UNZIPPED)):
        archives.extract(lying, tmp_path)
    assert (tmp_path / "zeros").stat().st_size <= MAX_UNZIPPED


@pytest.mark.parametrize("size", [10, 1000])
def test_a_small_lie_about_the_size_is_refused(size: int) -> None:
    honest = zipped(file("a", bytes(100)))
    assert refusal(patched_sizes(honest, size)) == NOT_A_ZIP


def test_entries_that_share_their_data_are_counted_each() -> None:
    """A zip whose headers all point at one piece of data is small and unzips to as much as one likes."""
    one = zipped(file("a", bytes(1_000_000)))
    start = one.index(b"PK\1\2")
    end = one.index(b"PK\5\6")
    header, count = one[start:end], 300
    tail = bytearray(one[end:])
    struct.pack_into("<HHL", tail, 8, count, count, len(header) * count)
    assert refusal(one[:start] + header * count + bytes(tail)) == TOO_LARGE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("xx/evil", "../evil"),
        ("x/xx/evil", "x/../evil"),
        ("xevil", "/evil"),
        ("xxx", "../"),
        ("dxwindows", "d\\windows"),
        ("cx/windows", "c:/windows"),
        ("exil", "e\0il"),
    ],
)
def test_a_name_outside_the_tree_is_refused(old: str, new: str, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    data = zipped(file(old))
    assert archives.inspect(data).unzipped == 1
    assert refusal(renamed(data, old, new), inside).startswith("Could not unzip uploaded file. ")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_names_with_dots_inside_components_are_fine(tmp_path: Path) -> None:
    archives.extract(zipped(file("./a//..b/c..")), tmp_path)
    assert (tmp_path / "a/..b/c..").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["a" * 256, "/".join("a" * 200), "/".join(["a" * 200] * 11)])
def test_a_name_too_long_or_too_deep_is_refused(name: str) -> None:
    assert "too long or too deep" in refusal(zipped(file(name)))


def test_too_many_entries_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(*(file(f"f{number}") for number in range(11)))
    monkeypatch.setattr(archives, "MAX_ENTRIES", 11)
    assert archives.inspect(data).unzipped == 11
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "more than 10 entries" in refusal(data)


def test_deep_names_cannot_make_more_folders_than_entries_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 50)
    data = zipped(*(file(f"{number}/" + "d/" * 20 + "f") for number in range(5)))
    assert "more than 50 folders" in refusal(data)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_devices_fifos_and_sockets_are_refused(kind: int, tmp_path: Path) -> None:
    assert "neither a file" in refusal(zipped((entry("dev", kind | 0o666), b"")), tmp_path)


def test_symlinks_within_the_tree_are_kept(tmp_path: Path) -> None:
    archives.extract(
        zipped(
            file("real/file", b"r"),
            link("direct", "real/file"),
            link("sub/up", "../real"),
            link("chained", "sub/up/file"),
            link("dangling", "nothing/there"),
        ),
        tmp_path,
    )
    assert (tmp_path / "direct").read_bytes() == (tmp_path / "chained").read_bytes() == b"r"
    assert os.readlink(tmp_path / "dangling") == "nothing/there"


@pytest.mark.parametrize(
    "items",
    [
        (link("l", "/etc/shadow"),),
        (link("l", "../x"),),
        (link("a/b/l", "../../../x"),),
        (link("d", "."), link("l", "d/d/../x")),
        (file("x/y/z"), link("up", "x/y"), link("l", "up/../../../etc")),
        (link("one", "sub/two"), link("sub/two", "../three"), link("three", "..")),
    ],
)
def test_symlinks_out_of_the_tree_are_refused(items: tuple[Item, ...], tmp_path: Path) -> None:
    said = refusal(zipped(*items), tmp_path)
    assert re.fullmatch(r"Could not unzip uploaded file\. The symlink [a-z/]+ leads out of the archive\.", said)


@pytest.mark.parametrize("target", ["", "a" * 5000, "a\0b"], ids=["empty", "long", "zero"])
def test_symlinks_to_what_is_no_path_are_refused(target: str, tmp_path: Path) -> None:
    said = refusal(zipped((entry("l", stat.S_IFLNK | 0o777), target.encode())), tmp_path)
    assert said == "Could not unzip uploaded file. The symlink l has no valid target."


def test_symlinks_in_a_circle_are_refused(tmp_path: Path) -> None:
    assert "circle" in refusal(zipped(link("a", "b"), link("b", "a")), tmp_path)


def test_symlinks_that_multiply_are_refused_in_bounded_time() -> None:
    long = "/".join(["a/.."] * 500)
    items = [link(f"l{number}", f"l{number + 1}/{long}") for number in range(35)]
    many = [link(f"m{number}", "l0") for number in range(2000)]
    assert "too many" in refusal(zipped(*items, *many))


@pytest.mark.parametrize(
    "items",
    [
        (link("d", "sub"), file("sub/x"), file("d/evil")),
        (file("d/evil"), link("d", "sub"), file("sub/x")),
        (file("f"), file("f/below")),
    ],
)
def test_nothing_is_written_through_a_symlink_or_below_a_file(items: tuple[Item, ...], tmp_path: Path) -> None:
    assert "lies below it" in refusal(zipped(*items), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_duplicate_names_the_last_wins_and_none_is_written_through(tmp_path: Path) -> None:
    data = zipped(file("t", b"target"), link("a", "t"), file("a", b"plain"), file("b", b"one"), link("b", "t"))
    archives.extract(data, tmp_path)
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"plain"
    assert (tmp_path / "b").is_symlink()
    assert (tmp_path / "t").read_bytes() == b"target"
