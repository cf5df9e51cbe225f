"""The zip of a folder with what its requirements.txt names installed at its top: the same bytes for the same
files, so that a second deploy changes nothing.

Links are followed, since a package has none; what can't be in a package is refused by its name, and what is
left out on purpose is told: a file that is silently missing fails only when the function runs.
"""

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.cli.client import Failed

_COMPILED_FOLDER = "__pycache__"
_COMPILED = (".pyc", ".pyo")
# Of development; never of a dependency that pip has installed.
_LEFT_OUT = frozenset(
    {".git", ".venv", "venv", "node_modules", ".aws-sam", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)
_MAX_ZIP = 50 * 1024 * 1024
_MAX_UNZIPPED = 262_144_000  # AWS: "Lambda quotas", 250 MB


@dataclass(frozen=True, slots=True)
class Package:
    """A zip. `left_out`: what of the folder is not in it, relative to it."""

    data: bytes
    left_out: Sequence[str]


class Requirements:
    """What requirements.txt names, installed in a folder of our own that lives as long as this; installed anew
    only when the file or the Python is another one."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="lambent-deploy-")
        self._installed: tuple[bytes, str] | None = None
        self._count = 0

    def __enter__(self) -> "Requirements":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def installed(self, requirements: Path, python: str) -> Path:
        """The folder. Raises Failed."""
        wanted = _bytes(requirements), python
        if wanted != self._installed:
            self._installed = None
            self._count += 1
            _install(requirements, self._folder(), python)
            self._installed = wanted
        return self._folder()

    def _folder(self) -> Path:
        return Path(self._scratch.name) / str(self._count)


def package(folder: Path, python: str, dependencies: Requirements | None = None) -> Package:
    """Zips a folder; its requirements are those for `python`, as python3.11. `dependencies`: what was installed
    for it before, if anything. For another runtime, as nodejs22.x, there are none, and node_modules is part of
    the code. Raises Failed."""
    if dependencies is None:
        with Requirements() as own:
            return package(folder, python, own)
    left_out: list[str] = []
    entries: dict[str, Path] = {}
    requirements = folder / "requirements.txt"
    of_python = python.startswith("python")
    if of_python and requirements.is_file() and _bytes(requirements).strip():
        entries |= _entries(dependencies.installed(requirements, python), skip=frozenset(), left_out=[])
    # Second: a person's own file over a dependency's.
    skip = _LEFT_OUT if of_python else _LEFT_OUT - {"node_modules"}
    entries |= _entries(folder, skip=skip, left_out=left_out)
    if not entries:
        raise Failed(f"{folder} has no files to deploy.")
    _check_size(folder, entries)
    data = _zip(entries)
    if len(data) > _MAX_ZIP:
        raise Failed(
            f"the package is {len(data) / 2**20:.0f} MB; a direct upload may have 50. Put large dependencies "
            "into a layer, or upload the zip to S3 and use `aws lambda create-function --code S3Bucket=...`."
        )
    return Package(data, left_out)


def this_python() -> str:
    """The runtime of the Python that runs this command."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _install(requirements: Path, target: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(target), "-r", str(requirements)]
    if python != this_python():
        command += ["--python-version", python.removeprefix("python"), "--only-binary=:all:"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise Failed(f"requirements.txt could not be installed for {python}:\n{done.stderr.strip()}")


def files(folder: Path) -> Iterator[Path]:
    """The person's own files that a package of the folder has. Raises Failed."""
    return _files(folder, folder, (), skip=_LEFT_OUT, left_out=[])


def _entries(root: Path, *, skip: frozenset[str], left_out: list[str]) -> dict[str, Path]:
    return {
        path.relative_to(root).as_posix(): path for path in _files(root, root, (), skip=skip, left_out=left_out)
    }


def _files(
    folder: Path, root: Path, above: tuple[Path, ...], *, skip: frozenset[str], left_out: list[str]
) -> Iterator[Path]:
    """Every file below, behind links too. `above`: the real paths of the folders on the way here."""
    real = folder.resolve()
    if real in above:
        raise Failed(f"{folder} is a link to a folder that it lies in, which has no end. Remove the link.")
    try:
        names = sorted(os.listdir(folder))
    except OSError as failure:
        raise Failed(f"{folder} can't be read: {failure.strerror}. Correct it, or remove it.") from None
    for name in names:
        path = folder / name
        if os.path.isdir(path):
            if name in skip:
                left_out.append(path.relative_to(root).as_posix())
            elif name != _COMPILED_FOLDER:
                yield from _files(path, root, (*above, real), skip=skip, left_out=left_out)
        elif os.path.isfile(path):
            if not name.endswith(_COMPILED):
                yield path
        elif path.is_symlink():
            raise Failed(f"{path} is a link to {os.readlink(path)}, which is not there. Correct or remove it.")
        else:  # a socket, a pipe, a device
            left_out.append(path.relative_to(root).as_posix())


def _check_size(folder: Path, entries: Mapping[str, Path]) -> None:
    tops: dict[str, int] = {}
    for name, path in entries.items():
        top = name.split("/")[0]
        tops[top] = tops.get(top, 0) + path.stat().st_size
    if sum(tops.values()) > _MAX_UNZIPPED:
        largest = max(tops, key=lambda top: tops[top])
        raise Failed(
            f"{folder} has {sum(tops.values()) / 2**20:.0f} MB with its requirements; a package may have "
            f"{_MAX_UNZIPPED / 2**20:.0f}. The largest part is {largest}. Put large dependencies into a layer."
        )


def _zip(entries: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            archive.writestr(entry, _bytes(path))
    return buffer.getvalue()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise Failed(f"{path} can't be read: {failure.strerror}. Correct it, or remove it.") from None
