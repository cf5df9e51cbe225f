"""Small acts on runtime folders that several families share: a file that appears whole, a new folder that
becomes a runtime folder by one rename."""

import os
import uuid
from pathlib import Path


def put_file(path: Path, wanted: bytes, mode: int = 0o644) -> None:
    """Writes a file unless it is there with these bytes; one that is in use stays as it was for its users."""
    if path.is_file() and path.read_bytes() == wanted:
        return
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    aside.write_bytes(wanted)
    aside.chmod(mode)
    aside.rename(path)


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
