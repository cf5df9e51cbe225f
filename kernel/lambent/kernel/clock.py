"""Wall and monotonic time behind `ports.Clock`, and a test clock that jumps, because code that reads the time
itself can only be tested by waiting."""

import asyncio
import heapq
import itertools
import time


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class TestClock:
    """A clock that stands still until `advance`; sleepers wake in the order of their times."""

    __test__ = False  # not a test class, whatever its name says to pytest

    def __init__(self, now: float = 1_769_860_800.0) -> None:
        self._now = now
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Moves both times on and lets each sleeper that falls due run, one after the other."""
        end = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now += due - self._monotonic
            self._monotonic = due
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self._now += end - self._monotonic
        self._monotonic = end
        await self.settle()

    @staticmethod
    async def settle(turns: int = 20) -> None:
        """Lets every ready task run."""
        for _ in range(turns):
            await asyncio.sleep(0)
