"""The usage ledger in memory, for unit tests: same contract, nothing durable."""

from collections.abc import Mapping

from lambent.kernel.usage import Rollup, Usage, UsageBatch, UsageKey, cover, rolled_up


class MemoryUsageLedger:
    """`ports.UsageLedger`."""

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}
        self._missing = 0
        self._rollups: dict[Rollup, dict[UsageKey, Usage]] = {}

    async def mark(self, executor: str) -> int:
        return self._marks.get(executor, 0)

    async def add(self, batch: UsageBatch, *, after: int) -> int:
        mark = self._marks.get(batch.executor, 0)
        if mark != after:
            return mark
        self._missing += batch.first - mark - 1
        for rollup, rows in rolled_up(batch.minutes).items():
            for key, use in rows.items():
                self._rollups.setdefault(rollup, {}).setdefault(key, Usage()).add(use)
        self._marks[batch.executor] = batch.last
        return batch.last

    async def read(self, start: int, end: int) -> Mapping[UsageKey, Usage]:
        found: dict[UsageKey, Usage] = {}
        for rollup in cover(start, end):
            for key, use in self._rollups.get(rollup, {}).items():
                found.setdefault(key, Usage()).add(use)
        return found

    async def missing(self) -> int:
        return self._missing
