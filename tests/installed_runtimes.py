"""Runtimes that tests fetch once, and functions that they compile once: both are kept in pytest's cache folder.
Runtimes lie in the data folder of each server that a test starts with them."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from running import Server
from support import require

from lambent.executor.runtimes.family import Options
from lambent.executor.runtimes.registry import Runtimes
from lambent.kernel.errors import ServiceException


def fetched(cache: Path, *runtimes: str, build: bool = False) -> Path:
    """A data folder with the runtimes installed, or the test ends where that cannot be done here."""
    folder = cache / ("built" if build else "fetched")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers want the same
        registry = Runtimes(folder)
        registry.scan()
        for runtime in runtimes:
            problem, _ = registry.problem(runtime)
            if problem is None:
                continue
            try:
                asyncio.run(registry.install(runtime, Options(build=build)))
            except ServiceException as failure:
                require(runtime, False, failure.message)
    return folder


@contextmanager
def server_with(data_dir: Path, folder: Path) -> Iterator[Server]:
    """`lambent up --no-s3` with the runtimes of `folder`."""
    data_dir.mkdir()
    (data_dir / "runtimes").symlink_to(folder / "runtimes")
    server = Server(data_dir, "--no-s3").start()
    yield server
    assert server.stop() == 0, server.output()


def compiled(cache: Path, source: Path, command: Sequence[str], made: str) -> bytes:
    """The file `made` (a path in the folder) that `command` makes in a copy of `source`."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    folder = cache / f"{source.name}-{digest.hexdigest()[:12]}"
    with open(cache / f"{source.name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / made).exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder)
            ran = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "CGO_ENABLED": "0"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, f"{command} in {folder}:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
        return (folder / made).read_bytes()
