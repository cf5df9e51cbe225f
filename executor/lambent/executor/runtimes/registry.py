"""Which runtimes this machine can run, and how to start one: the families of runtimes as one, for those who
have a runtime's name and ask no more.

What is missing is looked for again, at most every few seconds, so that what is installed meanwhile is found
without a restart. Nothing is fetched but by `install`.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lambent.executor.runtimes import names
from lambent.executor.runtimes.dotnet import DotnetFamily
from lambent.executor.runtimes.family import Family, Match, Options, Place, RuntimeCommand, RuntimeInfo
from lambent.executor.runtimes.image import ImageRuntimes
from lambent.executor.runtimes.interpreters import Rejected
from lambent.executor.runtimes.java import JavaFamily
from lambent.executor.runtimes.nodejs import NodejsFamily
from lambent.executor.runtimes.provided import ProvidedFamily
from lambent.executor.runtimes.python_family import PythonFamily
from lambent.executor.runtimes.ruby import RubyFamily
from lambent.kernel.errors import InvalidRuntimeException, ServiceException

__all__ = ["RuntimeCommand", "RuntimeInfo", "Runtimes"]

_LISTING_SECONDS = 3.0


class Runtimes:
    """The runtimes of one machine. `state_dir`: the data folder; runtime folders go to `runtimes/` in it.
    `look_only`: nothing is written, and what a server would make at its start counts as there."""

    def __init__(self, state_dir: Path, match: Match = "exact", *, look_only: bool = False) -> None:
        self._place = place = Place(state_dir, match, look_only)
        self._python = PythonFamily(place)
        self._families: tuple[Family, ...] = (
            self._python,
            NodejsFamily(place),
            JavaFamily(place),
            RubyFamily(place),
            DotnetFamily(place),
            ProvidedFamily(place),
        )
        self._images = ImageRuntimes(place)
        self._by_name = {name: family for family in self._families for name in family.names}
        self._scanned: float | None = None

    async def open(self) -> None:
        """Looks at the machine and makes our own version's runtime folder; seconds the first time, else 0.3 s.
        Never raises for a runtime that cannot be had: `problem` and `listing` say it."""
        await asyncio.to_thread(self.scan)

    def scan(self) -> None:
        """Looks again. From any thread; blocks for the first look at each interpreter."""
        if not self._place.look_only:
            self._place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="runtimes") as pool:
            for done in [
                pool.submit(scan) for scan in (self._images.scan, *(family.scan for family in self._families))
            ]:
                done.result()
        self._scanned = time.monotonic()

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        """`CodeCheck.runtime_problem`: (why it cannot run here, or None; a warning, or None)."""
        refused = names.refusal(runtime)
        if refused is not None:
            return refused, None
        if self._images.has(runtime):
            return None, None
        return self._by_name[runtime].problem(runtime)

    def command(self, runtime: str, handler: str, memory_mb: int = 128) -> RuntimeCommand:
        """How to start it in an environment of so much memory. Raises InvalidRuntimeException when it is not on
        this machine (any more)."""
        family = self._by_name.get(runtime)
        command = self._images.command(runtime, handler)
        if command is None and family is not None:
            command = family.command(runtime, handler, memory_mb)
        if command is None:
            raise InvalidRuntimeException(self.problem(runtime)[0])
        return command

    def listing(self) -> Sequence[RuntimeInfo]:
        """Every runtime that AWS takes functions of. Looks at the machine if that was not done lately."""
        if self._scanned is None or time.monotonic() - self._scanned >= _LISTING_SECONDS:
            self.scan()
        return [self._info(runtime) for runtime in names.CURRENT]

    def rejected(self) -> Sequence[Rejected]:
        """The interpreters that cannot be used, and why; for `lambent doctor`."""
        return self._python.rejected()

    async def install(self, runtime: str, options: Options | None = None) -> RuntimeInfo:
        """Fetches what a runtime needs, from the network. Raises ServiceException with advice."""
        options = options or Options()
        family = self._by_name.get(runtime)
        if names.refusal(runtime) is not None or family is None:
            raise ServiceException(self.problem(runtime)[0])
        if options.packages and not runtime.startswith("nodejs"):
            raise ServiceException(
                f"Packages are installed for Node.js only: a layer brings them to {runtime}."
            )
        await asyncio.to_thread(self.scan)
        if options.image is not None:
            await self._images.install(runtime, options)
        else:
            await family.install(runtime, options)
        await asyncio.to_thread(self.scan)
        return self._info(runtime)

    def _info(self, runtime: str) -> RuntimeInfo:
        return self._images.info(runtime) or self._by_name[runtime].info(runtime)
