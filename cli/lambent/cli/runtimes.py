"""`lambent runtimes`: which runtimes a server of this machine has, where, and what to install for the rest.

Runtimes that were installed lie in the server's data folder, so that is what has to be named; looking at them
writes nothing there.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lambent.cli.client import Failed, err, read_settings, say, show
from lambent.executor.runtimes import nodejs_client
from lambent.executor.runtimes.family import Options
from lambent.executor.runtimes.registry import Runtimes
from lambent.kernel.errors import LambdaError
from lambent.kernel.settings import Settings


def _settings(data_dir: Path | None) -> Settings:
    return read_settings({} if data_dir is None else {"data_dir": data_dir})


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    try:
        yield
    except LambdaError as failure:
        raise Failed(failure.message) from None
    except OSError as failure:
        raise Failed(
            f"the data folder {folder} can't be used: {failure.filename}: {failure.strerror}. "
            "Name the server's with --data-dir, or become the user that the server runs as."
        ) from None


def listing(data_dir: Path | None) -> None:
    """The table of what could run here, what to do for the rest, and what is not built."""
    settings = _settings(data_dir)
    registry = Runtimes(settings.data_dir, settings.runtime_match, look_only=True)
    with _failures(settings.data_dir):
        entries = registry.listing()
    rows = [
        (
            entry.runtime,
            "yes" if entry.available else "no",
            f"{entry.runs_on or ''} {entry.version or ''}".strip(),
            entry.interpreter or "",
            ", ".join(part for part in (entry.client, _sdk(entry.packages)) if part),
        )
        for entry in entries
    ]
    show(("runtime", "", "runs on", "interpreter", "client"), rows)
    for entry in entries:
        if entry.problem or entry.warning:
            say(f"{entry.runtime}: {entry.problem or entry.warning}")
    say(f"This is so for a server with the data folder {settings.data_dir}; --data-dir names another.")


def _sdk(packages: Mapping[str, str]) -> str | None:
    if "boto3" in packages:
        return f"boto3 {packages['boto3']}"
    clients = sum(name.startswith("@aws-sdk/") for name in packages)
    return f"{clients} packages of @aws-sdk" if clients else None


def install(
    name: str,
    data_dir: Path | None,
    *,
    build: bool,
    sdk: bool,
    packages: Sequence[str],
    image: str | None,
) -> None:
    """Fetches what a runtime needs into the data folder."""
    wanted = (*(nodejs_client.SDK if sdk and name.startswith("nodejs") else ()), *packages)
    options = Options(build=build, packages=wanted, image=image)
    settings = _settings(data_dir)
    folder = settings.data_dir
    with _failures(folder), err.status(f"Installing {name}'s packages..."):
        if folder.exists() and folder.stat().st_uid != os.geteuid():
            raise Failed(
                f"the data folder {folder} belongs to uid {folder.stat().st_uid}, and this is uid "
                f"{os.geteuid()}: its server could not read what is installed. Become that user, or name "
                "another folder with --data-dir."
            )
        info = asyncio.run(Runtimes(folder, settings.runtime_match).install(name, options))
    say(f"{name} is ready in {folder}: {info.version} with {info.client}.", style="green")
    if info.warning:
        say(info.warning)
