"""What the gateway asks before it accepts code: the port `CodeCheck`, made of the zip reader and the
runtimes."""

import asyncio

from lambent.executor import archives
from lambent.executor.runtimes.registry import Runtimes
from lambent.kernel.models import Archive


class CodeInspector:
    """`ports.CodeCheck` of this machine."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes
        # Inflating 250 MB keeps a core busy for a second: one upload at a time leaves the rest to invokes.
        self._turn = asyncio.Semaphore(1)

    async def inspect(self, data: bytes, *, layer: bool) -> Archive:
        """Reads a zip's every entry within bounds. Raises InvalidParameterValueException with AWS's text."""
        async with self._turn:
            return await asyncio.to_thread(archives.inspect, data, layer=layer)

    def runtime_problem(self, runtime: str) -> tuple[str | None, str | None]:
        """(why this machine cannot run `runtime` and what to install, or None; a warning, or None)."""
        return self._runtimes.problem(runtime)
