"""A response on its way while the function still makes it: between who writes it (a runtime's connection, or an
executor's socket) and who reads it, in one event loop.

The writer is held back where the reader is slow, so that no response is ever in memory as a whole. A reader
that goes away holds nobody back: the rest is dropped, for on AWS a client that hangs up does not stop the
function.
"""

import asyncio
from collections import deque
from collections.abc import Callable

#: AWS: "maximum response payload size 200 MB" of a streamed response.
MAX_STREAMED = 200 << 20
MAX_WAITING = 256 << 10
"""Bytes that wait for the reader before the writer is held back."""


class ResponseStream:
    """The bytes of one response. It is begun or not, then ended; what comes after the end is dropped."""

    __slots__ = (
        "_chunks",
        "_loop",
        "_reader",
        "_waiting",
        "abandoned",
        "content_type",
        "ended",
        "room",
        "size",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._reader: asyncio.Future[None] | None = None
        self.content_type: str | None = None
        """As the runtime posts it; None before it begins."""
        self.ended = self.abandoned = False
        self.size = 0
        """Bytes written so far."""
        self.room: Callable[[], None] | None = None
        """Called once, when a writer that was held back may go on."""

    # ---- the writer -----------------------------------------------------------------------------------

    def begin(self, content_type: str) -> None:
        if not self.ended and self.content_type is None:
            self.content_type = content_type
            self._wake()

    def write(self, data: bytes) -> bool:
        """False: nothing more is to be written before `room` is called."""
        if self.ended:
            return True
        self.size += len(data)
        if self.abandoned or not data:
            return True
        self._chunks.append(data)
        self._waiting += len(data)
        self._wake()
        return self._waiting < MAX_WAITING

    def end(self) -> None:
        """Nothing follows; may be called again."""
        if not self.ended:
            self.ended = True
            self._wake()
            self._go_on()  # a writer that is held back gets rid of the rest

    # ---- the reader, one task -------------------------------------------------------------------------

    async def begun(self) -> bool:
        """Waits for the first word; False: it ended without one, and whoever made it says why."""
        while self.content_type is None and not self.ended:
            await self._wait()
        return self.content_type is not None

    async def read(self) -> bytes:
        """What is there, as soon as there is something; b"" at the end."""
        while not self._chunks and not self.ended:
            await self._wait()
        if not self._chunks:
            return b""
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._waiting = 0
        self._go_on()
        return data

    def abandon(self) -> None:
        """Nobody reads any more."""
        self.abandoned = True
        self._chunks.clear()
        self._waiting = 0
        self._go_on()

    def _go_on(self) -> None:
        room, self.room = self.room, None
        if room is not None:
            room()

    async def _wait(self) -> None:
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
