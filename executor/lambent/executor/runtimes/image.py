"""A runtime that runs in an image, AWS's own base image say, instead of on what this machine has: its root file
system, its interpreter, its runtime client, unpacked without Docker into the data folder.

The function's code is at /var/task and its layers at /opt, over what the image has there; it is started as AWS
starts a function of that runtime, by the image's /var/runtime/bootstrap, or where there is none by the image's
own entrypoint.
"""

import asyncio
import shutil
import time
from pathlib import Path

from lambent.executor.image_cache import make_places, whole_path
from lambent.executor.runtimes import folders
from lambent.executor.runtimes.family import (
    RUNTIME_DIR,
    Options,
    Place,
    RuntimeCommand,
    RuntimeInfo,
    variables,
)
from lambent.executor.runtimes.folders import Folder
from lambent.kernel.errors import ServiceException
from lambent.kernel.images import pull, reference, unpack
from lambent.kernel.images.source import ImageError

FAMILY = "image"
_ROOT = "root"
_BOOTSTRAP = f"{RUNTIME_DIR}/bootstrap"
_RESCAN_SECONDS = 3.0


class ImageRuntimes:
    """Those of any family, as far as an image was installed for them; asked before the families are."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._ready: dict[str, Folder] = {}
        self._scanned: float | None = None

    def scan(self) -> None:
        ready: dict[str, Folder] = {}
        for folder in folders.find(self._place.root, FAMILY):
            ready.setdefault(folder.runtime, folder)
        self._ready, self._scanned = ready, time.monotonic()

    def has(self, runtime: str) -> bool:
        return self._resolve(runtime) is not None

    def command(self, runtime: str, handler: str) -> RuntimeCommand | None:
        folder = self._resolve(runtime)
        if folder is None:
            return None
        said = folder.said
        return RuntimeCommand(
            argv=said["start"],
            prefixes=(),
            runtime_dir=folder.path,
            env={
                **variables(handler),
                **said["environment"],
                "_HANDLER": handler,
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
            },
            version_text=f"image:{said['digest'].removeprefix('sha256:')[:12]}",
            root=folder.path / _ROOT,
        )

    def info(self, runtime: str) -> RuntimeInfo | None:
        folder = self._resolve(runtime)
        if folder is None:
            return None
        return RuntimeInfo(
            runtime,
            True,
            runs_on=runtime,
            interpreter=folder.said["image"],
            version=folder.said["digest"].removeprefix("sha256:")[:12],
            client="the image's own",
        )

    async def install(self, runtime: str, options: Options) -> None:
        """Raises ServiceException with advice."""
        assert options.image is not None
        try:
            wanted = reference.parse(options.image)
        except ValueError as problem:
            raise ServiceException(str(problem)) from None
        new = await asyncio.to_thread(folders.new_folder, self._place.root)
        try:
            await asyncio.to_thread(_make, new, self._place.root, runtime, options.image, wanted, options)
        except ImageError as failure:
            raise ServiceException(f"The image {options.image} cannot be had: {failure}.") from None
        except OSError as failure:
            raise ServiceException(f"The image could not be unpacked in {new.parent}: {failure}.") from failure
        finally:
            if new.exists():
                await asyncio.to_thread(shutil.rmtree, new)

    def _resolve(self, runtime: str) -> Folder | None:
        found = self._ready.get(runtime)
        if found is not None and found.path.exists():
            return found
        if self._scanned is None or time.monotonic() - self._scanned >= _RESCAN_SECONDS:
            self.scan()
        return self._ready.get(runtime)


def _make(
    new: Path, root: Path, runtime: str, named: str, wanted: reference.Reference, options: Options
) -> Folder:
    inside, work = new / _ROOT, new / ".work"
    inside.mkdir()
    work.mkdir()
    image = pull.pull(wanted, inside, work, options.on_line)
    shutil.rmtree(work)
    make_places(inside)
    said = {
        "image": named,
        "digest": image.digest,
        "start": _start(inside, image),
        "environment": dict(image.environment),
    }
    return folders.finish(new, root, family=FAMILY, runtime=runtime, said=said)


def _start(root: Path, image: pull.Image) -> list[str]:
    """The command, by its whole path. Raises ImageError."""
    if unpack.inside(root, _BOOTSTRAP).is_file():
        return [_BOOTSTRAP]
    command = [*image.entrypoint, *image.command]
    if not command:
        raise ImageError(f"it has neither {_BOOTSTRAP} nor an entrypoint, so nothing can be started in it")
    return whole_path(root, command, image.environment)
