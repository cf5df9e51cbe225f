"""`lambent doctor` and the start-up lines: what this host can enforce and what it can't, said in one table."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lambent.cli.client import Failed, read_settings, say, show
from lambent.kernel.errors import LambdaError
from lambent.kernel.models import Enforcement


def not_enforced(entries: Sequence[Enforcement]) -> list[str]:
    """One line for each thing this host can't enforce."""
    return [
        f"{entry.name}: {entry.how}{'. ' + entry.advice if entry.advice else ''}"
        for entry in entries
        if not entry.enforced
    ]


def run(endpoint: str | None) -> int:
    """Probes this host as `lambent up` would; exit code 1 when `LAMBENT_ISOLATION=strict` would refuse. What an
    accepted event is worth is asked of the server at `endpoint`, if one runs."""
    from lambent.cli.durability import durability
    from lambent.cli.wiring import make_driver

    settings = read_settings({})
    with tempfile.TemporaryDirectory(prefix="lambent-doctor-") as folder:

        async def probe() -> Sequence[Enforcement]:
            driver = make_driver(settings, Path(folder), instance="doctor", reachable=())
            await driver.open()
            try:
                return driver.enforcement()
            finally:
                await driver.close()

        try:
            entries = asyncio.run(probe())
        except LambdaError as failure:
            raise Failed(failure.message) from None
    rows = [("yes" if entry.enforced else "no", entry.name, entry.how, entry.advice) for entry in entries]
    kept = durability(settings, endpoint)
    rows.append(({True: "yes", False: "no", None: "?"}[kept.durable], "durability", kept.how, ""))
    show(("", "what", "how", "what to do"), rows)
    if not kept.durable:
        say("An asynchronous event that was accepted (202) may be lost: see durability.", style="yellow")
    missing = not_enforced(entries)
    if not missing:
        say("This machine enforces everything.", style="green")
        return 0
    say(
        f"{len(missing)} of {len(entries)} cannot be enforced here; "
        "LAMBENT_ISOLATION=strict would refuse to start."
    )
    return 1 if settings.isolation == "strict" else 0
