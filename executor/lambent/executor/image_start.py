"""What starts a function that is an image, and in AWS's words why nothing does.

AWS: Runtime.InvalidEntrypoint and Runtime.InvalidWorkingDir are told when the function is invoked, for it is
Active as soon as its image is there.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from lambent.executor.image_cache import Unpacked, found_in
from lambent.executor.runtimes import entrypoint
from lambent.executor.runtimes.entrypoint import NotStartable
from lambent.kernel.images import unpack
from lambent.kernel.images.source import ImageError
from lambent.kernel.models import ImageUse

_MOUNTED = (("dev",), ("mnt",), ("proc",), ("tmp",))  # what is there is not the image's


def started(use: ImageUse, unpacked: Unpacked) -> tuple[Sequence[str], str]:
    """(the command with the whole path of its program, the working directory): the image's, as far as the
    function has none of its own. Raises NotStartable."""
    image = unpacked.image
    entry, command = use.entry_point or image.entrypoint, use.command or image.command
    folder = use.working_directory or image.working_directory

    def refused(kind: str, why: str) -> NotStartable:
        asked = f"Entrypoint: [{','.join(entry)}]\tCmd: [{','.join(command)}]\tWorkingDir: [{folder}]"
        return NotStartable(kind, why, f"IMAGE\tLaunch error: {why}\t{asked}")

    words = [*entry, *command]
    program = found_in(unpacked.path, words[0], image.environment, folder) if words else None
    if program is None:
        why = f"Couldn't find valid bootstrap(s): [{words[0] if words else ''}]"
        raise refused("Runtime.InvalidEntrypoint", why)
    problem = _problem(unpacked.path, program)
    if problem is not None:
        raise refused("Runtime.InvalidEntrypoint", f"fork/exec {program}: {problem}")
    if not folder.startswith("/"):
        why = f"the working directory '{folder}' is invalid, it needs to be an absolute path"
        raise refused("Runtime.InvalidWorkingDir", why)
    if not _is_folder(unpacked.path, folder):
        raise refused("Runtime.InvalidWorkingDir", f"the working directory doesn't exist: {folder}")
    return [program, *words[1:]], folder


def _problem(root: Path, program: str) -> str | None:
    path = _inside(root, program)
    return entrypoint.refusal(path, lambda loader: _inside(root, loader)) if path is not None else None


def _is_folder(root: Path, folder: str) -> bool:
    path = _inside(root, folder)
    if path is None:
        return False
    return path.is_dir() or path.relative_to(root).parts[:1] in _MOUNTED


def _inside(root: Path, path: str) -> Path | None:
    try:
        return unpack.inside(root, os.path.join("/", path))
    except (ImageError, OSError, ValueError):  # a link to itself; a name that is too long, or has a zero byte
        return None
