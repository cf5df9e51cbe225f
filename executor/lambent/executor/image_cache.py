"""The images of functions, unpacked: each once, by its digest, below the data folder, for all environments that
are made of it. What is there is whole, since it gets its name last; what no environment uses may go.
"""

import asyncio
import functools
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lambent.executor.drivers.sandbox.rootfs import IMAGE_FILES, IMAGE_FOLDERS
from lambent.executor.extension_start import FOLDER
from lambent.executor.runtimes.folders import readable
from lambent.kernel.errors import ImageAccessDenied, ImageDeleted, InvalidImage, ServiceException
from lambent.kernel.images import pull, unpack
from lambent.kernel.images.reference import parse
from lambent.kernel.images.room import Room
from lambent.kernel.images.source import ImageDenied, ImageError, ImageMissing, NoSpace
from lambent.kernel.log import Log
from lambent.kernel.models import ImageUse
from lambent.kernel.threads import in_a_thread

_log = Log(__name__)
_ROOT, _SAID = "root", "image.json"
# Nothing of the image is seen there.
_LAID_OVER = frozenset(("dev", "proc", "tmp", *IMAGE_FILES))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image in use, until `release`. `path`: its root file system."""

    path: Path
    image: pull.Image
    cache: "ImageCache"

    def release(self) -> None:
        self.cache.released(self.image.digest)


class ImageCache:
    """`folder`: its own. `promised`: bytes of its disk that others may still come to take."""

    def __init__(self, folder: Path, *, promised: Callable[[], int] = lambda: 0) -> None:
        self._folder = folder
        self._promised = promised
        self._uses: Counter[str] = Counter()
        self._pulling: dict[str, asyncio.Future[None]] = {}

    async def open(self) -> None:
        """Removes what was under way when the last run ended."""
        await asyncio.to_thread(self._clear)

    def _clear(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.glob(".new-*"):
            shutil.rmtree(left)

    async def acquire(self, use: ImageUse) -> Unpacked:
        """Fetched if it is not there. Raises InvalidImage, ServiceException."""
        self._uses[use.digest] += 1
        try:
            path = self._path(use.digest)
            if not path.exists():
                if use.digest not in self._pulling:
                    # It may take minutes, and a stop does not wait for it.
                    self._pulling[use.digest] = pulling = in_a_thread("image", lambda: self._pull(use, path))
                    pulling.add_done_callback(functools.partial(self._pulled, use.digest))
                await asyncio.shield(self._pulling[use.digest])
            said = json.loads((path / _SAID).read_text())
            os.utime(path)
            return Unpacked(path / _ROOT, pull.Image(**said), self)
        except BaseException:
            self.released(use.digest)
            raise

    def _pulled(self, digest: str, done: "asyncio.Future[None]") -> None:
        self._pulling.pop(digest, None)
        if not done.cancelled():
            done.exception()  # who waited for it may have gone

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _pull(self, use: ImageUse, path: Path) -> None:
        new = self._folder / f".new-{uuid.uuid4().hex}"
        root, work = new / _ROOT, new / "work"
        try:
            root.mkdir(parents=True)
            work.mkdir()
            reference = parse(use.uri)
            room = Room(new, self._promised)
            image = pull.pull(pull.by_digest(reference, use.digest), root, work, room=room)
            shutil.rmtree(work)
            make_places(root)
            readable(root)
            (new / _SAID).write_text(json.dumps(asdict(image)))
            os.sync()  # the name must not outlive a power cut without the files
            new.rename(path)
            _log.info("An image is unpacked.", image=use.uri, digest=use.digest)
        except NoSpace as failure:  # which is no fault of the image
            raise ServiceException(f"The image {use.uri} could not be unpacked: {failure}.") from None
        except ImageError as failure:
            raise _invalid(failure)(f"The image {use.uri} cannot be had: {failure}") from None
        except OSError as failure:
            raise ServiceException(f"The image {use.uri} could not be unpacked: {failure}") from failure
        finally:
            if new.exists():
                shutil.rmtree(new)

    def released(self, digest: str) -> None:
        self._uses[digest] -= 1
        if self._uses[digest] <= 0:
            del self._uses[digest]

    async def collect(self, keep_bytes: int) -> int:
        """Removes what nothing uses, the least recently used first, until so much is left; how many."""
        there = await asyncio.to_thread(self._by_age)
        unused = [path for path in there if f"sha256:{path.name}" not in self._uses]
        sizes = await asyncio.to_thread(lambda: {path: _size(path) for path in unused})
        total, removed = sum(sizes.values()), 0
        for path in unused:
            if total <= keep_bytes:
                break
            aside = self._folder / f".new-{uuid.uuid4().hex}"
            if f"sha256:{path.name}" in self._uses:
                continue
            path.rename(aside)
            await asyncio.to_thread(shutil.rmtree, aside)
            total, removed = total - sizes[path], removed + 1
        return removed

    def _by_age(self) -> list[Path]:
        if not self._folder.exists():
            return []
        found = [path for path in self._folder.iterdir() if not path.name.startswith(".")]
        return sorted(found, key=lambda path: path.stat().st_mtime)


def _invalid(failure: ImageError) -> type[InvalidImage]:
    if isinstance(failure, ImageMissing):
        return ImageDeleted
    return ImageAccessDenied if isinstance(failure, ImageDenied) else InvalidImage


def make_places(root: Path) -> None:
    """What an environment needs a place for, reached by no link: what is mounted there would land where the
    link leads on this machine. Raises ImageError."""
    for name in (*IMAGE_FOLDERS, *IMAGE_FILES):
        place = root / name
        if place.is_symlink() and name in _LAID_OVER:
            place.unlink()
        for path in (place, *place.parents)[: len(Path(name).parts)]:
            if path.is_symlink():
                raise ImageError(f"its /{path.relative_to(root)} is a link, where functions need a folder")
        if name in IMAGE_FOLDERS:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.touch()


def extensions_of(root: Path) -> Sequence[str]:
    """The names of the external extensions in an image. Its links are followed inside: where they lead on this
    machine is nobody's to know."""
    try:
        folder = unpack.inside(root, f"opt/{FOLDER}")
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        return [name for name in names if unpack.inside(root, f"opt/{FOLDER}/{name}").is_file()]
    except ImageError:  # a link to itself
        return ()


def whole_path(root: Path, command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command with the whole path of its program. Raises ImageError."""
    found = found_in(root, command[0], environment, "/")
    if found is None:
        raise ImageError(f"its entrypoint {command[0]} is nowhere in it")
    return [found, *command[1:]]


def found_in(root: Path, program: str, environment: Mapping[str, str], cwd: str) -> str | None:
    """The whole path of a program in an image, found as a shell in `cwd` would; None if it is not there."""
    folders = [cwd] if "/" in program else environment.get("PATH", _PATH).split(":")
    found = []
    for path in (os.path.join(folder, program) for folder in folders if folder.startswith("/")):
        try:
            file = unpack.inside(root, path)
            if program and os.path.lexists(file) and not (file.is_dir() and len(folders) > 1):
                found.append((not os.access(file, os.X_OK), path))
        except (ImageError, OSError, ValueError):  # a link to itself; too long a name, or one with a zero byte
            continue
    # One that can be executed, if there is one; else the first.
    return min(found, key=lambda each: each[0])[1] if found else None


def _size(path: Path) -> int:
    return sum(each.lstat().st_size for each in path.rglob("*"))
