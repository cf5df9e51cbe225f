"""Delivers an environment's telemetry to one subscriber inside it, over HTTP or TCP, at least once while it
takes it. What listens there is the function's: whatever it answers is bounded, and nothing waits for it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from lambent.executor.telemetry import Buffer
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock

_log = Log(__name__)

_INSIDE = "127.0.0.1"
_SOCKETS = 8  # made at once: a subscriber may close its connection after each delivery
# Each attempt may cost a socket, and those a process outside of the function's own limits.
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 5.0
_HEAD = 16 * 1024
_BODY = 1 << 20

MakeSockets = Callable[[int], Awaitable[Sequence[socket.socket]]]


class _Refused(Exception):
    """The subscriber did not take it."""


class Delivery:
    """Of one subscription. `run` until `close`; `pause` while the environment is frozen."""

    def __init__(self, buffer: Buffer, sockets: MakeSockets, clock: Clock) -> None:
        self.buffer = buffer
        self._sockets = sockets
        self._clock = clock
        self._spare: list[socket.socket] = []
        self._news = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._hurry = asyncio.Event()
        self._taken = asyncio.Event()
        self._taken.set()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    def add(self, event: bytes) -> None:
        self.buffer.add(event, self._clock.monotonic())
        self._taken.clear()
        self._news.set()

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    async def flush(self) -> None:
        """The environment ends: everything goes out as it comes. Returns when what there is has been taken."""
        self._hurry.set()
        self._news.set()
        self._running.set()
        await self._taken.wait()

    async def run(self) -> None:
        """Never ends by itself."""
        try:
            await self._have_sockets()  # they take a while to make, and an environment that ends has none
            while True:
                await self._news.wait()
                self._news.clear()
                while not self.buffer.empty:
                    await self._until_due()
                    await self._running.wait()
                    batch = self.buffer.take(self._clock.now(), self._clock.monotonic())
                    await self._deliver(batch)
                self._taken.set()
        finally:
            self._hang_up()
            for one in self._spare:
                one.close()

    async def _have_sockets(self) -> None:
        try:
            self._spare = list(await self._sockets(_SOCKETS))
        except OSError as failure:  # it is tried again, when there is something to deliver
            _log.warning("No sockets for telemetry.", failure=failure)

    async def _until_due(self) -> None:
        while not self._hurry.is_set():
            left = self.buffer.due(self._clock.monotonic())
            if left <= 0:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _deliver(self, batch: Sequence[bytes]) -> None:
        """Until it is taken."""
        pause = _RETRY_SECONDS
        while True:
            try:
                if self.buffer.asked.path is None:
                    await self._write(b"\n".join(batch) + b"\n")
                else:
                    await self._post(b"[" + b",".join(batch) + b"]")
                return
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, _Refused) as failure:
                self._hang_up()
                _log.debug("Telemetry was not taken.", failure=failure)
                await self._rest(pause)
                pause = min(2 * pause, _MAX_RETRY_SECONDS)
                await self._running.wait()

    async def _rest(self, seconds: float) -> None:
        """Before it is tried again; a flush has no time for long ones."""
        until = self._clock.monotonic() + seconds
        while True:
            await self._clock.sleep(_RETRY_SECONDS)
            if self._hurry.is_set() or self._clock.monotonic() >= until:
                return

    async def _write(self, data: bytes) -> None:
        writer = await self._connected()
        writer.write(data)
        await writer.drain()

    async def _post(self, body: bytes) -> None:
        asked = self.buffer.asked
        writer = await self._connected()
        assert self._reader is not None
        writer.write(
            f"{asked.method} {asked.path} HTTP/1.1\r\nhost: {asked.host}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()
        status, headers = await self._head(self._reader)
        while status == 100:
            status, headers = await self._head(self._reader)
        length = headers.get("content-length")
        keeps = headers.get("connection", "").lower() != "close" and length is not None
        if keeps and headers["version"] == "HTTP/1.1" and int(str(length)) <= _BODY:
            await self._reader.readexactly(int(str(length)))
        else:
            self._hang_up()
        if not 200 <= status < 300:
            raise _Refused(f"HTTP status {status}")

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        """Status, and headers by lower-case name, with the version as "version"."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        headers = {"version": version}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        return int(status), headers

    async def _connected(self) -> asyncio.StreamWriter:
        if self._writer is not None and self._reader is not None and not self._reader.at_eof():
            return self._writer
        self._hang_up()
        if not self._spare:
            self._spare = list(await self._sockets(_SOCKETS))
        one = self._spare.pop()
        try:
            await asyncio.get_running_loop().sock_connect(one, (_INSIDE, self.buffer.asked.port))
            self._reader, self._writer = await asyncio.open_connection(sock=one, limit=_HEAD)
        except BaseException:
            one.close()
            raise
        return self._writer

    def _hang_up(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()
