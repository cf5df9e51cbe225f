"""The log store's twin in memory, for tests that want no server."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Sequence

from lambent.kernel.models import LogLine
from lambent.kernel.store.log_buffer import cursor, cut


class MemoryLogs:
    """`ports.LogStore` that keeps the last `group_lines` lines of each group; gone with its process."""

    def __init__(self, *, group_lines: int = 10_000) -> None:
        self._group_lines = group_lines
        self._numbers = itertools.count(1)
        self._groups: dict[str, deque[tuple[int, LogLine]]] = defaultdict(deque)
        self._more = asyncio.Event()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        kept = self._groups[group]
        for at, message in lines:
            line = LogLine(at, stream, cut(message).decode())
            kept.append((next(self._numbers), line))
        while len(kept) > self._group_lines:
            kept.popleft()
        # Wakes those who wait now; who comes later waits for the next one.
        self._more.set()
        self._more = asyncio.Event()

    async def read(
        self, group: str, *, after: str | None, limit: int, wait: float = 0
    ) -> tuple[Sequence[LogLine], str | None]:
        try:
            async with asyncio.timeout(wait):
                while not (found := self._after(group, after, limit)):
                    await self._more.wait()
        except TimeoutError:
            return [], after
        return [line for _, line in found], f"{found[-1][0]}-0"

    def _after(self, group: str, after: str | None, limit: int) -> list[tuple[int, LogLine]]:
        start = 0 if after is None else int(cursor(after).partition("-")[0])
        lines = (entry for entry in self._groups.get(group, ()) if entry[0] > start)
        return list(itertools.islice(lines, limit))

    async def delete(self, group: str) -> None:
        self._groups.pop(group, None)
