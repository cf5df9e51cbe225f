"""What a gateway says of code and runtimes: archives are read here, runtimes are the executors'."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lambent.cli.cluster import Membership
from lambent.executor import archives
from lambent.executor.runtimes import names
from lambent.kernel.models import Archive


@dataclass(frozen=True, slots=True)
class ClusterRuntime:
    """One line of `/_lambent/runtimes`; as the executors say."""

    runtime: str
    available: bool
    runs_on: str | None = None
    problem: str | None = None


class ClusterCode:
    """`ports.CodeCheck` of a gateway."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        # Inflating 250 MB keeps a core busy for a second: one upload at a time leaves the rest to invokes.
        self._turn = asyncio.Semaphore(1)

    async def inspect(self, data: bytes, *, layer: bool) -> Archive:
        async with self._turn:
            return await asyncio.to_thread(archives.inspect, data, layer=layer)

    def runtime_problem(self, runtime: str) -> tuple[str | None, str | None]:
        refused = names.refusal(runtime)
        if refused is not None:
            return refused, None
        found = self._membership.runtimes()
        if not found:
            return "No executor has joined the cluster yet: start one with `lambent executor`.", None
        _, problem = found.get(runtime, ("", f"No executor of the cluster can run {runtime}."))
        return problem or None, None

    async def listing(self) -> Sequence[Any]:
        """For `lambent deploy` and `lambent runtimes`."""
        return [
            ClusterRuntime(runtime, not problem, runs_on or None, problem or None)
            for runtime, (runs_on, problem) in self._membership.runtimes().items()
        ]
