"""Runtime folders, as far as several families share them: what is /var/runtime inside, made in a folder of
another name that becomes one by a rename, and named by what is in it, so that an upgrade makes another one.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambent.kernel.log import Log

_log = Log(__name__)
MANIFEST = ".runtime.json"  # those of Python have one of their own
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Folder:
    """A finished folder: `runtime` is the name that it was made for, `said` what its family wrote of it."""

    path: Path
    runtime: str
    said: Mapping[str, Any]


def find(root: Path, family: str) -> list[Folder]:
    """The finished folders of a family below `root`, newest first."""
    found: list[tuple[float, Folder]] = []
    for manifest in root.glob(f"*/{MANIFEST}"):
        if manifest.parent.name.startswith("."):
            continue
        try:
            said = json.loads(manifest.read_text())
            if said["schema"] == _SCHEMA and said["family"] == family:
                folder = Folder(manifest.parent, said["runtime"], said)
                found.append((manifest.stat().st_mtime, folder))
        except (ValueError, KeyError, TypeError) as failure:
            _log.warning(
                "A runtime folder is damaged; remove it.", path=str(manifest.parent), why=repr(failure)
            )
    return [folder for _, folder in sorted(found, key=lambda item: item[0], reverse=True)]


def finish(new: Path, root: Path, *, family: str, runtime: str, said: Mapping[str, Any]) -> Folder:
    """Makes a folder that was built in `new` one to be found."""
    whole = {"schema": _SCHEMA, "family": family, "runtime": runtime, **said}
    (new / MANIFEST).write_text(json.dumps(whole, indent=1))
    readable(new)
    os.sync()  # the name must not outlive a power cut without the files
    path = root / f"{runtime}-{hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]}"
    if path.is_dir():  # the same was there: it may be in use
        os.utime(path / MANIFEST)
        shutil.rmtree(new)
    else:
        new.rename(path)
    _log.info("A runtime folder is ready.", runtime=runtime, path=str(path))
    return Folder(path, runtime, whole)


def put_file(path: Path, wanted: bytes, mode: int = 0o644) -> None:
    """Writes a file unless it is there with these bytes; one that is in use stays as it was for its users."""
    if path.is_file() and path.read_bytes() == wanted:
        return
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    aside.write_bytes(wanted)
    aside.chmod(mode)
    aside.rename(path)


def put_folder(folder: Path, *sources: Path) -> None:
    """A folder of files of this package, that functions may read."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for source in sources:
        put_file(folder / source.name, source.read_bytes())


def new_folder(root: Path) -> Path:
    """A folder to build in, of a name that `packages.clear_leftovers` knows."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = root / f".new-{uuid.uuid4().hex}"
    new.mkdir(mode=0o755)
    return new


def readable(folder: Path) -> None:
    """Everything in it may be read by the user that functions run as; what could be executed still can be."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.suffix == ".so" or os.access(path, os.X_OK)
            path.chmod(0o755 if runs else 0o644)
