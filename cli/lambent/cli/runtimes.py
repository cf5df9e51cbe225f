"""`lambent runtimes`: which runtimes this machine has, where, and what to install for the rest."""

import asyncio

from lambent.cli.client import Failed, err, read_settings, say, show
from lambent.executor.runtimes.registry import Runtimes
from lambent.kernel.errors import LambdaError


def _registry() -> Runtimes:
    settings = read_settings({})
    return Runtimes(settings.data_dir, settings.runtime_match)


def listing() -> None:
    """The table."""
    registry = _registry()
    try:
        asyncio.run(registry.open())
    except OSError as failure:
        raise Failed(
            f"{failure.filename} can't be written ({failure.strerror}). Set LAMBENT_DATA_DIR."
        ) from None
    rows = [
        (
            entry.runtime,
            "yes" if entry.available else "no",
            f"{entry.runs_on or ''} {entry.version or ''}".strip(),
            entry.interpreter or "",
            entry.packages.get("boto3", ""),
            entry.problem or entry.warning or "",
        )
        for entry in registry.listing()
    ]
    show(("runtime", "", "runs on", "interpreter", "boto3", "what to do"), rows)


def install(name: str) -> None:
    """Prepares a runtime's packages for an interpreter that is on this machine."""
    with err.status(f"Installing {name}'s packages..."):
        try:
            asyncio.run(_registry().install(name))
        except LambdaError as failure:
            raise Failed(failure.message) from None
    say(f"{name} is ready.", style="green")
