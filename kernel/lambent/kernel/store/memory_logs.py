"""The log store's twin in memory, for tests that want no server."""

import asyncio
import itertools
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace

from lambent.kernel.models import LogGroupInfo, LogLine, LogStreamInfo
from lambent.kernel.store.log_buffer import cursor, cut


class MemoryLogs:
    """`ports.LogStore` that keeps the last `group_lines` lines of each group; gone with its process."""

    def __init__(self, *, group_lines: int = 10_000) -> None:
        self._group_lines = group_lines
        self._numbers = itertools.count(1)
        self._groups: dict[str, deque[tuple[int, LogLine]]] = defaultdict(deque)
        self._facts: dict[str, LogGroupInfo] = {}
        self._streams: dict[str, dict[str, LogStreamInfo]] = defaultdict(dict)
        self._more = asyncio.Event()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def flush(self) -> None:
        """Nothing waits."""

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        kept, now = self._groups[group], _ms()
        self._facts.setdefault(group, LogGroupInfo(group, now))
        for at, message in lines:
            number = next(self._numbers)
            kept.append((number, LogLine(at, stream, cut(message).decode(), f"{now}-{number}")))
            known = self._streams[group].get(stream, LogStreamInfo(stream, now))
            self._streams[group][stream] = replace(
                known,
                first=at if known.first is None else min(at, known.first),
                last=at if known.last is None else max(at, known.last),
                ingested=now,
            )
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

    async def end(self, group: str) -> str | None:
        kept = self._groups.get(group)
        return f"{kept[-1][0]}-0" if kept else None

    async def delete(self, group: str) -> bool:
        self._groups.pop(group, None)
        self._streams.pop(group, None)
        return self._facts.pop(group, None) is not None

    async def groups(self) -> Sequence[LogGroupInfo]:
        return [self._facts[name] for name in sorted(self._facts)]

    async def group(self, name: str) -> LogGroupInfo | None:
        return self._facts.get(name)

    async def create_group(self, name: str) -> bool:
        if name in self._facts:
            return False
        self._facts[name] = LogGroupInfo(name, _ms())
        return True

    async def set_retention(self, group: str, days: int | None) -> bool:
        if group not in self._facts:
            return False
        self._facts[group] = replace(self._facts[group], retention=days)
        return True

    async def streams(self, group: str) -> Sequence[LogStreamInfo] | None:
        if group not in self._facts:
            return None
        known = self._streams[group]
        return [known[name] for name in sorted(known)]

    async def create_stream(self, group: str, name: str) -> bool | None:
        if group not in self._facts:
            return None
        if name in self._streams[group]:
            return False
        self._streams[group][name] = LogStreamInfo(name, _ms())
        return True

    async def delete_stream(self, group: str, name: str) -> bool | None:
        if group not in self._facts:
            return None
        if self._streams[group].pop(name, None) is None:
            return False
        self._groups[group] = deque(entry for entry in self._groups[group] if entry[1].stream != name)
        return True

    async def scan(self, group: str, *, since: int, until: int) -> Sequence[LogLine]:
        facts = self._facts.get(group)
        if facts is not None and facts.retention is not None:
            since = max(since, _ms() - facts.retention * 86_400_000)
        lines = [line for _, line in self._groups.get(group, ()) if since <= line.at < until]
        return sorted(lines, key=lambda line: line.at)


def _ms() -> int:
    return int(time.time() * 1000)
