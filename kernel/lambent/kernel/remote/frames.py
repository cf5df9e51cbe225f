"""The wire between processes: protobuf frames, each after its length, many streams on one socket, because a
connection per call would cost more than the call.

Small frames go out in their order, all that one turn of the event loop has made in one write. What is larger
goes in chunks, in fair turns with the other streams' and with the small frames, and never more of one stream
than its reader has given credit for: so one slow reader, or one large payload, stalls nobody.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from google.protobuf.message import DecodeError

from lambent.internal.v1.host_pb2 import Chunk, Credit, Frame

CHUNK = 64 << 10
"""Bytes of data in one frame, at most."""
INLINE = 16 << 10
"""Data of so many bytes goes with its head, without chunks."""
MAX_FRAME = 256 << 10
"""A chunk, or a head with a function's tags or configuration."""
MAX_HELLO = 4 << 10
"""Of whoever has not yet proved anything."""
MAX_PAYLOAD = (6 << 20) + (64 << 10)
"""Data of one stream: AWS's limit and a margin; who counts exactly is the gateway, and the Runtime API."""
WINDOW = 16
"""Chunks that may be sent before the first credit."""
_HEADER = 4
_TURN = 64 << 10  # of small frames, before a chunk has its turn
_BURST = 1 << 20  # in one go, before the event loop has its turn
_HIGH_WATER = 256 << 10


class BadFrame(Exception):
    """What came is no frame, or one that must not come now: the connection is closed."""


class Parser:
    """Cuts what a socket gives into frames. `limit`: bytes of one, without its length."""

    def __init__(self, limit: int = MAX_HELLO) -> None:
        self.limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now. Raises BadFrame for a length beyond the limit."""
        if not self._rest:
            frames, used = self._cut(memoryview(data))
            if used < len(data):
                self._rest += memoryview(data)[used:]
            return frames
        self._rest += data
        with memoryview(self._rest) as view:
            frames, used = self._cut(view)
        del self._rest[:used]
        return frames

    def _cut(self, view: memoryview) -> tuple[list[bytes], int]:
        frames: list[bytes] = []
        at, end = 0, len(view)
        while end - at >= _HEADER:
            size = int.from_bytes(view[at : at + _HEADER], "big")
            if size > self.limit:
                raise BadFrame(f"a frame of {size} bytes, and at most {self.limit} may come")
            start = at + _HEADER
            if end - start < size:
                break
            at = start + size
            frames.append(bytes(view[start:at]))
        return frames, at


class Outgoing:
    """Data on its way in chunks. `handed`: its last byte is with the transport; `after` follows it then."""

    __slots__ = ("after", "at", "credit", "finished", "handed", "queued", "stream", "view")

    def __init__(self, stream: int, data: bytes, finished: Callable[[], None] | None) -> None:
        self.stream = stream
        self.view = memoryview(data)
        self.at = 0
        self.credit = WINDOW
        self.handed = self.queued = False
        self.after: list[Frame] = []
        self.finished = finished

    @property
    def ready(self) -> bool:
        """Whether a chunk may be sent now."""
        return self.credit > 0

    def chunk(self) -> Frame:
        data = self.view[self.at : self.at + CHUNK]
        self.at += len(data)
        self.credit -= 1
        self.handed = self.at >= len(self.view)
        return Frame(stream=self.stream, chunk=Chunk(data=bytes(data), last=self.handed))


class Feed:
    """As Outgoing, of data that is still being made; see `Wire.feed`. Its last chunk is empty. `done`: nothing
    more of it will be sent."""

    __slots__ = (
        "_data",
        "_ended",
        "_room",
        "after",
        "credit",
        "done",
        "finished",
        "handed",
        "queued",
        "stream",
    )

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.credit = WINDOW
        self.handed = self.queued = False
        self.after: list[Frame] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.finished: Callable[[], None] | None = self.close
        self._data = bytearray()
        self._ended = False
        self._room: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        return self.credit > 0 and bool(self._data or self._ended)

    def put(self, data: bytes) -> None:
        self._data += data

    def end(self) -> None:
        self._ended = True

    def chunk(self) -> Frame:
        data = bytes(self._data[:CHUNK])
        del self._data[:CHUNK]
        self.credit -= 1
        self.handed = not data
        if len(self._data) <= CHUNK:
            self._give_room()
        return Frame(stream=self.stream, chunk=Chunk(data=data, last=self.handed))

    async def room(self) -> None:
        """Waits until little of it is left, or until it is closed."""
        if len(self._data) > CHUNK and not self.done.done():
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def close(self) -> None:
        """All of it is sent, or nobody wants the rest."""
        if not self.done.done():
            self.done.set_result(None)
        self._give_room()

    def _give_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


class Incoming:
    """Data that comes in chunks, of a length that was said before; the credit for it."""

    __slots__ = ("data", "length", "unpaid")

    def __init__(self, length: int) -> None:
        self.length = length
        self.data = bytearray()
        self.unpaid = 0

    def add(self, chunk: Chunk) -> bool:
        """Whether that was all. Raises BadFrame if it is more or less than was said."""
        self.data += chunk.data
        self.unpaid += 1
        complete = len(self.data) == self.length
        if len(self.data) > self.length or complete != chunk.last or not chunk.data:
            raise BadFrame("the chunks of a stream are not as long as its head said")
        return complete

    def credit(self, stream: int) -> Frame | None:
        """What to send to the sender now, if anything: half a window at once."""
        if self.unpaid < WINDOW // 2:
            return None
        chunks, self.unpaid = self.unpaid, 0
        return Frame(stream=stream, credit=Credit(chunks=chunks))


class Owner(Protocol):
    """Whose connection it is. Called by the wire, never within `Wire.send`."""

    def opened(self) -> None: ...

    def received(self, frame: Frame) -> None:
        """Raises BadFrame; the wire closes the connection then."""

    def lost(self, why: Exception | None) -> None:
        """The connection is gone; last call."""


class Wire(asyncio.Protocol):
    """One connection. `backlog`: bytes of small frames that may wait for a reader who does not read; beyond
    them nothing more is read from him (None: unbounded, where something else bounds what is asked)."""

    def __init__(self, owner: Owner, *, backlog: int | None = None) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = Parser()
        self._small: deque[bytes] = deque()
        self._turns: deque[Outgoing | Feed] = deque()
        self._outgoing: dict[int, Outgoing | Feed] = {}
        self._scheduled = self._paused = self._deaf = False
        self._waiting = 0
        self._backlog = backlog
        self._queued = 0
        self.written = 0
        """Number of the last small frame that was handed to the transport, as `send` numbers them."""
        self.reads = 0
        """How often something came."""
        self.closing = False
        """This side has closed it."""
        self.why: Exception | None = None
        """What for."""

    # ---- sending --------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> int:
        """Queues a small frame; its number. Raises ValueError for one that the other side would not take."""
        data = frame.SerializeToString()
        if len(data) > MAX_FRAME:
            raise ValueError(f"a frame of {len(data)} bytes, and at most {MAX_FRAME} may be sent")
        self._small.append(len(data).to_bytes(_HEADER, "big") + data)
        self._waiting += len(data) + _HEADER
        self._queued += 1
        if not self._scheduled:
            self._schedule()
        if self._backlog is not None and self._waiting > self._backlog:
            self._listen(False)
        return self._queued

    def send_data(self, stream: int, data: bytes, finished: Callable[[], None] | None = None) -> Outgoing:
        """Queues data for chunks; `finished` is called when the last one is with the transport."""
        outgoing = self._outgoing[stream] = Outgoing(stream, data, finished)
        self._take_turn(outgoing)
        return outgoing

    def feed(self, stream: int) -> Feed:
        """Opens data that is still being made, for `put` and `end_feed`."""
        feed = self._outgoing[stream] = Feed(stream)
        return feed

    def put(self, feed: Feed, data: bytes) -> None:
        """Queues more of it; wait for its `room` before the next."""
        feed.put(data)
        self._take_turn(feed)

    def end_feed(self, feed: Feed) -> None:
        """Nothing more comes of it."""
        feed.end()
        self._take_turn(feed)

    def _take_turn(self, outgoing: Outgoing | Feed) -> None:
        if outgoing.ready and not outgoing.queued:
            outgoing.queued = True
            self._turns.append(outgoing)
            self._schedule()

    def send_after_data(self, frame: Frame) -> None:
        """Queues a small frame behind its stream's data."""
        outgoing = self._outgoing.get(frame.stream)
        if outgoing is None:
            self.send(frame)
        else:
            outgoing.after.append(frame)

    def credit(self, stream: int, chunks: int) -> None:
        """The reader of a stream takes so many more chunks."""
        outgoing = self._outgoing.get(stream)
        if outgoing is None:
            return
        if outgoing.credit + chunks > WINDOW:
            raise BadFrame("credit for chunks that were not sent")
        outgoing.credit += chunks
        self._take_turn(outgoing)

    def drop_data(self, stream: int) -> None:
        """Nobody wants the rest of a stream's data any more, nor what was to follow it."""
        outgoing = self._outgoing.pop(stream, None)
        if outgoing is not None and outgoing.queued:
            self._turns.remove(outgoing)
        if isinstance(outgoing, Feed):
            outgoing.close()

    def _schedule(self) -> None:
        if not self._scheduled and not self._paused and self._transport is not None:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        sent = 0
        while (self._small or self._turns) and not self._paused:
            if transport is None or transport.is_closing():
                return  # so nothing counts as handed over
            if sent >= _BURST:
                self._schedule()
                return
            parts, size = self._next_small()
            outgoing: Outgoing | Feed | None = None
            if self._turns:
                outgoing = self._turns.popleft()
                outgoing.queued = False
                data = outgoing.chunk().SerializeToString()
                parts += (len(data).to_bytes(_HEADER, "big"), data)
                size += len(data)
            transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
            sent += size
            if outgoing is not None:
                self._after_chunk(outgoing)
        if self.closing and transport is not None and not (self._small or self._turns):
            transport.close()
        elif self._deaf and self._backlog is not None and self._waiting <= self._backlog // 2:
            self._listen(True)

    def _next_small(self) -> tuple[list[bytes], int]:
        parts: list[bytes] = []
        size = 0
        small = self._small
        while small and size < _TURN:
            part = small.popleft()
            parts.append(part)
            size += len(part)
        self.written += len(parts)
        self._waiting -= size
        return parts, size

    def _after_chunk(self, outgoing: Outgoing | Feed) -> None:
        if not outgoing.handed:
            self._take_turn(outgoing)
            return
        del self._outgoing[outgoing.stream]
        for frame in outgoing.after:
            self.send(frame)
        if outgoing.finished is not None:
            outgoing.finished()

    def _listen(self, on: bool) -> None:
        if self._transport is None or self._deaf is not on or self._transport.is_closing():
            return
        self._deaf = not on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # ---- the end --------------------------------------------------------------------------------------

    def unbounded(self) -> None:
        """The handshake is over: frames of the full size may come."""
        self._parser.limit = MAX_FRAME

    def close(self, why: Exception | None = None) -> None:
        """Takes nothing more, and ends when what is queued is written; with a `why`, which is the other side's
        fault, without the data. A reader who does not read can hold it up: whoever closes aborts in the end."""
        self.closing = True
        self.why = self.why or why
        if why is not None:
            self._drop_all()
        self._flush()

    def abort(self, why: Exception | None = None) -> None:
        """At once."""
        self.closing = True
        self.why = self.why or why
        if self._transport is not None:
            self._transport.abort()

    @property
    def peer(self) -> str:
        """Its address, for the log."""
        return str(self._transport.get_extra_info("peername")) if self._transport is not None else ""

    # ---- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._owner.opened()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.reads += 1
        try:
            for part in self._parser.feed(data):
                self._owner.received(Frame.FromString(part))
                if self.closing:
                    return
        except (BadFrame, DecodeError) as failure:
            self.close(failure)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._small or self._turns:
            self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self.why or exc)
        self._small.clear()
        self._drop_all()
        self._transport = None

    def _drop_all(self) -> None:
        self._turns.clear()
        dropped, self._outgoing = self._outgoing, {}
        for outgoing in dropped.values():
            if isinstance(outgoing, Feed):
                outgoing.close()
