"""What the names of images stand for, asked of registries that may hang: in threads of their own, of which
there are only so many, and for so long.

A thread that is given up still counts until it has ended, so those that hang never pile up.
"""

import asyncio
import time
from collections.abc import Callable

from lambent.kernel.images.source import ImageError
from lambent.kernel.threads import in_a_thread


class Lookups:
    """`seconds`: of one look-up, with its wait for the others; `at_once`: threads."""

    def __init__(self, *, seconds: float = 30.0, at_once: int = 8) -> None:
        self._seconds = seconds
        self._free = asyncio.Semaphore(at_once)

    async def find(self, look: Callable[[float], str]) -> str:
        """What `look(until)` finds (monotonic time). Raises ImageError."""
        until = time.monotonic() + self._seconds
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
                return await asyncio.shield(self._begun(lambda: look(until)))
        except TimeoutError:
            raise ImageError(f"it could not be looked up within {self._seconds:g} seconds") from None

    def _begun(self, look: Callable[[], str]) -> "asyncio.Future[str]":
        try:
            looking = in_a_thread("image look-up", look)
        except BaseException:
            self._free.release()
            raise
        looking.add_done_callback(self._ended)
        return looking

    def _ended(self, looking: "asyncio.Future[str]") -> None:
        self._free.release()
        if not looking.cancelled():
            looking.exception()  # who waited for it may have gone
