"""One simulation from a seed to its verdict."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from simulation.cluster import Cluster, Shape
from simulation.loop import VirtualLoop

_T = TypeVar("_T")


def in_virtual_time(work: Callable[[], Awaitable[_T]]) -> _T:
    """Runs `work()` on a loop whose time jumps."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(_turn())
        loop.close()


async def _turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `problems` is empty if all held."""

    seed: int
    cluster: Cluster
    virtual: float
    problems: list[str]

    def text(self, took: float) -> str:
        cluster = self.cluster
        lines = [
            f"seed {self.seed}: {sum(cluster.results.values())} invocations, {cluster.truth.begun} begun, "
            f"{cluster.network.sent} messages, {self.virtual:.0f} s in {took:.1f} s",
            "  faults: " + ", ".join(f"{count} {name}" for name, count in sorted(cluster.faults.items())),
            "  answers: " + ", ".join(f"{count} {name}" for name, count in cluster.results.most_common()),
            "  most at once: "
            + ", ".join(
                f"{uid} {cluster.truth.peaks[uid]} of {limit}" for uid, limit in cluster.truth.limits.items()
            )
            + f", pool {cluster.truth.pool_peak} of {cluster.truth.pool}",
        ]
        lines += [f"  PROBLEM {each}" for each in self.problems[:20]]
        return "\n".join(lines)


def simulate(
    seed: int,
    *,
    invocations: int,
    executors: int,
    rate: float,
    fault_every: float,
    shape: Shape | None = None,
) -> Outcome:
    """A cluster under load and faults, then at rest, then asked once more for every function."""

    async def work() -> Outcome:
        made = shape or Shape(
            gateways=4, schedulers=3, executors=executors, functions=50, rate=rate, limit=1000
        )
        cluster = Cluster(seed, made)
        await cluster.start()
        await asyncio.sleep(5)
        if fault_every:
            cluster.tasks.forever("trouble", cluster.trouble(fault_every))
        await cluster.load(invocations)
        await cluster.settle()
        problems = cluster.truth.violations + cluster.left_over()
        gateway = next(iter(cluster.gateways.values()))
        last = [cluster.invoke(gateway, each.name, 0.01) for each in cluster.functions]
        problems += [f"at rest: {result}" for result in await asyncio.gather(*last) if result != "ok"]
        return Outcome(seed, cluster, asyncio.get_running_loop().time(), problems)

    return in_virtual_time(work)
