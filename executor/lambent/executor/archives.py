"""Reading uploaded zips without trusting them: what a header says is a claim until the bytes are inflated.

`inspect` reads every entry once, in memory, at deploy time; `extract` writes a tree. Both go through one plan,
so what was accepted is exactly what is written. The standard library parses the central directory only; the
data is inflated here, because its reader stops at the size that the header claims and so never sees a bomb.

Both are synchronous and busy: run them in a thread. Texts are AWS's where AWS has one.
"""

import calendar
import hashlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lambent.executor.archive_names import SymlinkEscape, check_symlinks, split_name
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.models import Archive

MAX_UNZIPPED = 262_144_000
MAX_ENTRIES = 100_000
NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"
TOO_LARGE = f"Unzipped size must be smaller than {MAX_UNZIPPED} bytes"

_CHUNK = 256 * 1024
_MAX_SYMLINK = 4095
_UNIX = (3, 19)  # "made by" systems whose attributes carry a Unix mode: Unix, macOS
_REFUSED_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000  # encrypted, patch data, strong encryption, masked headers
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def inspect(data: bytes, *, layer: bool = False) -> Archive:
    """Reads a zip's every entry within bounds; its digest and sizes in bytes.

    `layer` changes nothing today: AWS checks a layer's zip as a function's. Raises
    InvalidParameterValueException.
    """
    unzipped = 0
    with _guarded():
        if not data:
            raise InvalidParameterValueException(EMPTY)
        source = io.BytesIO(data)
        with _open(source) as archive:
            plan = _Plan(source, archive.infolist())
            unzipped = plan.unzipped
            for entry in plan.unread():
                for chunk in _inflate(source, entry.info, MAX_UNZIPPED - unzipped):
                    unzipped += len(chunk)
    return Archive(digest=hashlib.sha256(data).hexdigest(), size=len(data), unzipped=unzipped)


def extract(source: bytes | Path, into: Path) -> int:
    """Writes a zip's tree into the existing empty folder `into`; the bytes written.

    Modes are the zip's without setuid, setgid and sticky (0644 and 0755 where it has none; the owner can always
    enter a folder); times are the zip's, read as UTC; the owner is this process. A failure leaves what was
    written so far. Raises InvalidParameterValueException, OSError.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _extract(file, into)
    return _extract(io.BytesIO(source), into)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry that passed the checks on its header. `kind` is S_IFREG, S_IFDIR or S_IFLNK."""

    info: zipfile.ZipInfo
    parts: tuple[str, ...]
    kind: int
    mode: int

    @property
    def path(self) -> str:
        return "/".join(self.parts)


class _Plan:
    """What a zip's tree will be: the last entry of each path, every one inside the tree, with no path below a
    file or a symlink, so that nothing is ever written through one."""

    def __init__(self, source: BinaryIO, infos: Sequence[zipfile.ZipInfo]) -> None:
        if not infos:
            raise InvalidParameterValueException(EMPTY)
        self.unzipped = 0
        self.final: dict[tuple[str, ...], _Entry] = {}
        self.links: dict[tuple[str, ...], str] = {}
        self._entries = [entry for info in infos if (entry := _entry(info)) is not None]
        for entry in self._entries:
            self.final[entry.parts] = entry
        for entry in self._entries:
            if entry.kind == stat.S_IFLNK:
                target = self._target(source, entry)
                if self.final[entry.parts] is entry:
                    self.links[entry.parts] = target
        self.folders = self._folders()
        try:
            check_symlinks(self.links)
        except SymlinkEscape as escape:
            raise _refused(str(escape)) from None

    def unread(self) -> Iterator[_Entry]:
        """The entries whose data has not been read yet."""
        return (entry for entry in self._entries if entry.kind != stat.S_IFLNK)

    def _target(self, source: BinaryIO, entry: _Entry) -> str:
        raw = b"".join(_inflate(source, entry.info, MAX_UNZIPPED - self.unzipped, most=_MAX_SYMLINK))
        self.unzipped += len(raw)
        if not raw or b"\0" in raw:
            raise _refused(f"The symlink {entry.path} has no valid target.")
        return os.fsdecode(raw)

    def _folders(self) -> dict[tuple[str, ...], int]:
        """Every folder with its mode, parents first; those that no entry names get 0755."""
        folders: dict[tuple[str, ...], int] = {}
        checked: set[tuple[str, ...]] = set()
        for entry in self.final.values():
            for depth in range(len(entry.parts) - 1, 0, -1):
                parent = entry.parts[:depth]
                if parent in checked:
                    break  # and so is all above it
                above = self.final.get(parent)
                if above is not None and above.kind != stat.S_IFDIR:
                    raise _refused(f"{above.path} is a file or symlink, and {entry.path} lies below it.")
                checked.add(parent)
                folders.setdefault(parent, 0o755)
            if entry.kind == stat.S_IFDIR:
                folders[entry.parts] = entry.mode | 0o700
            if len(folders) > MAX_ENTRIES:  # a deep name makes many folders of one entry
                raise _refused(f"It has more than {MAX_ENTRIES} folders.")
        return dict(sorted(folders.items(), key=lambda item: len(item[0])))


def _entry(info: zipfile.ZipInfo) -> _Entry | None:
    """The entry, or None for the root itself. Raises InvalidParameterValueException."""
    name = info.orig_filename
    if info.flag_bits & _REFUSED_FLAGS or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidParameterValueException(NOT_A_ZIP)
    try:
        parts = split_name(name)
    except ValueError as problem:
        raise _refused(str(problem)) from None
    recorded = info.external_attr >> 16 if info.create_system in _UNIX else 0
    folder = name.endswith("/")
    kind = stat.S_IFMT(recorded) or (stat.S_IFDIR if folder else stat.S_IFREG)
    if folder:
        kind = stat.S_IFDIR
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise _refused(f"{name} is neither a file, a folder nor a symlink.")
    if not parts:
        return None
    mode = recorded & 0o777 if recorded else (0o755 if kind == stat.S_IFDIR else 0o644)
    return _Entry(info, parts, kind, mode)


def _open(source: BinaryIO) -> zipfile.ZipFile:
    """Parses the central directory, after a bound on how many entries it can hold: parsing a million headers
    would take a gigabyte."""
    size = source.seek(0, os.SEEK_END)
    source.seek(max(0, size - 65_557))
    tail = source.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + 22 > len(tail):
        raise InvalidParameterValueException(NOT_A_ZIP)
    directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    if directory == 0xFFFF_FFFF:  # zip64 keeps the size elsewhere
        directory = size
    source.seek(max(0, size - len(tail) + end - directory))
    if _occurrences(source, b"PK\1\2", directory) > MAX_ENTRIES:
        raise _refused(f"It has more than {MAX_ENTRIES} entries.")
    source.seek(0)
    return zipfile.ZipFile(source)


def _occurrences(source: BinaryIO, magic: bytes, size: int) -> int:
    count, carry = 0, b""
    while size > 0 and (block := source.read(min(size, 1 << 20))):
        size -= len(block)
        block = carry + block
        count += block.count(magic)
        carry = block[-(len(magic) - 1) :]
    return count


def _inflate(source: BinaryIO, info: zipfile.ZipInfo, room: int, *, most: int | None = None) -> Iterator[bytes]:
    """An entry's data in small pieces. Raises as soon as it is longer than `room` (AWS's size text) or `most`;
    at the end, if size or CRC are not the header's."""
    source.seek(info.header_offset)
    header = source.read(30)
    if len(header) != 30:
        raise zipfile.BadZipFile("truncated local header")
    magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if magic != b"PK\3\4":
        raise zipfile.BadZipFile("no local header")
    source.seek(info.header_offset + 30 + name_length + extra_length)
    length, crc = 0, 0
    for chunk in _plain(source, info):
        length += len(chunk)
        crc = zlib.crc32(chunk, crc)
        if length > room:
            raise InvalidParameterValueException(TOO_LARGE)
        if most is not None and length > most:
            raise _refused(f"The symlink {info.filename} has no valid target.")
        yield chunk
    if length != info.file_size or crc != info.CRC:
        raise zipfile.BadZipFile("size or CRC mismatch")


def _plain(source: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    left = info.compress_size
    stored = info.compress_type == zipfile.ZIP_STORED
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while left > 0 and not inflater.eof:
        block = source.read(min(left, _CHUNK))
        if not block:
            raise zipfile.BadZipFile("truncated")
        left -= len(block)
        if stored:
            yield block
            continue
        while block and not inflater.eof:
            yield inflater.decompress(block, _CHUNK)
            block = inflater.unconsumed_tail
    while not stored and not inflater.eof:  # what the window still holds after the last input
        rest = inflater.decompress(b"", _CHUNK)
        if not rest:
            raise zipfile.BadZipFile("truncated")
        yield rest


def _extract(source: BinaryIO, into: Path) -> int:
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with _guarded(), _open(source) as archive:
            plan = _Plan(source, archive.infolist())
            return _write(source, plan, root)
    finally:
        os.close(root)


def _write(source: BinaryIO, plan: _Plan, root: int) -> int:
    """Folders, then files, then symlinks, then the folders' own modes and times: while files are written there
    is no symlink to follow, and a folder without write permission can still be filled."""
    written = 0
    for parts in plan.folders:
        os.mkdir("/".join(parts), 0o700, dir_fd=root)
    for entry in plan.final.values():
        if entry.kind == stat.S_IFREG:
            written += _write_file(source, entry, root, MAX_UNZIPPED - written)
    for parts, target in plan.links.items():
        path = "/".join(parts)
        os.symlink(target, path, dir_fd=root)
        when = _time(plan.final[parts].info)
        os.utime(path, (when, when), dir_fd=root, follow_symlinks=False)
        written += len(os.fsencode(target))
    for parts, mode in reversed(plan.folders.items()):
        path = "/".join(parts)
        os.chmod(path, mode, dir_fd=root)
        named = plan.final.get(parts)
        if named is not None:
            when = _time(named.info)
            os.utime(path, (when, when), dir_fd=root)
    return written


def _write_file(source: BinaryIO, entry: _Entry, root: int, room: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    written = 0
    with os.fdopen(os.open(entry.path, flags, 0o600, dir_fd=root), "wb") as file:
        for chunk in _inflate(source, entry.info, room):
            written += file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), entry.mode)
        when = _time(entry.info)
        os.utime(file.fileno(), (when, when))
    return written


def _time(info: zipfile.ZipInfo) -> int:
    """Seconds since the epoch; a zip's times have no zone and may be nonsense."""
    year, month, day, hour, minute, second = info.date_time
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 62):
        return 315_532_800  # 1980-01-01, where a zip's time begins
    return calendar.timegm((year, month, day, hour, minute, second))


def _refused(why: str) -> InvalidParameterValueException:
    return InvalidParameterValueException(f"Could not unzip uploaded file. {why}")


# What the parser raises for a malformed zip, ValueError for a seek before the start among them; not OSError,
# which is a full disk.
_MALFORMED = (
    zipfile.BadZipFile,
    NotImplementedError,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    OverflowError,
)


@contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except _MALFORMED as malformed:
        raise InvalidParameterValueException(NOT_A_ZIP) from malformed
