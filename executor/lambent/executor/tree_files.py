"""Merging and removing folders whose content came out of other people's zips: no symlink is followed, and a
folder without permissions is no obstacle."""

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path


def merge(layers: Sequence[Path], into: Path) -> None:
    """Fills the empty folder `into` with all layers' files by hard links, later layers over earlier ones: a
    file replaces a folder and a folder a file. Folders get the last layer's mode. Raises OSError."""
    for layer in layers:
        _overlay(layer, into)


def remove(folder: Path) -> None:
    """Deletes a folder with all that is in it. Raises OSError."""
    try:
        shutil.rmtree(folder)
    except PermissionError:  # an ordinary user's own folder that it may not enter or change
        _unlock(folder)
        shutil.rmtree(folder)


def _unlock(top: Path) -> None:
    todo = [top]
    while todo:
        folder = todo.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            todo += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _overlay(source: Path, target: Path) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            there = target / entry.name
            mode = _mode(there)
            if entry.is_dir(follow_symlinks=False):
                if mode is not None and not stat.S_ISDIR(mode):
                    there.unlink()
                    mode = None
                if mode is None:
                    there.mkdir(mode=0o700)
                _overlay(Path(entry.path), there)
                os.chmod(there, stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode))
                continue
            if mode is not None and stat.S_ISDIR(mode):
                remove(there)
            elif mode is not None:
                there.unlink()
            _link(entry, there)


def _link(entry: "os.DirEntry[str]", there: Path) -> None:
    try:
        os.link(entry.path, there, follow_symlinks=False)
    except OSError as failure:
        # Too many links to one file, or a file system without hard links (to symlinks).
        if failure.errno not in (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV):
            raise
        shutil.copy2(entry.path, there, follow_symlinks=False)


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None
