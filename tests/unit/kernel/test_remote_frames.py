"""The wire of frames: cut anywhere, bounded, and fair to every stream whoever reads slowly."""

import asyncio
from collections import Counter
from typing import cast

import pytest

from lambent.internal.v1.host_pb2 import Chunk, Failed, Frame, Ping
from lambent.kernel.remote.frames import CHUNK, MAX_FRAME, MAX_HELLO, WINDOW, BadFrame, Incoming, Parser, Wire


def written(*frames: Frame) -> bytes:
    parts = [frame.SerializeToString() for frame in frames]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Transport(asyncio.Transport):
    """Keeps what is written; `room` writes from now on it asks to pause."""

    def __init__(self) -> None:
        super().__init__()
        self.data: list[bytes] = []
        self.room: int | None = None
        self.wire: Wire | None = None
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.data.append(bytes(data))
        if self.room is not None:
            self.room -= 1
            if self.room == 0:
                cast(Wire, self.wire).pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def taken(self) -> list[Frame]:
        """The frames that were written, and forgets them."""
        data, self.data = b"".join(self.data), []
        return [Frame.FromString(part) for part in Parser(MAX_FRAME).feed(data)]


class Owner:
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.refuse = False
        self.why: list[Exception | None] = []

    def opened(self) -> None: ...

    def received(self, frame: Frame) -> None:
        if self.refuse:
            raise BadFrame("not now")
        self.frames.append(frame)

    def lost(self, why: Exception | None) -> None:
        self.why.append(why)


def made(*, backlog: int | None = None) -> tuple[Wire, Transport, Owner]:
    owner, transport = Owner(), Transport()
    wire = Wire(owner, backlog=backlog)
    transport.wire = wire
    wire.connection_made(transport)
    return wire, transport, owner


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def chunks(frames: list[Frame]) -> list[int]:
    return [frame.stream for frame in frames if frame.HasField("chunk")]


FRAMES = [Frame(stream=n, chunk=Chunk(data=b"x" * n, last=True)) for n in (1, 200, 0, 3)]


def test_frames_are_found_however_they_are_cut_in_two() -> None:
    data = written(*FRAMES)
    for cut in range(len(data) + 1):
        parser = Parser()
        parts = parser.feed(data[:cut]) + parser.feed(data[cut:])
        assert [Frame.FromString(part) for part in parts] == FRAMES


def test_frames_are_found_byte_by_byte() -> None:
    parser = Parser()
    parts = [part for byte in written(*FRAMES) for part in parser.feed(bytes([byte]))]
    assert [Frame.FromString(part) for part in parts] == FRAMES


@pytest.mark.parametrize("limit", [MAX_HELLO, MAX_FRAME])
def test_a_frame_beyond_the_limit_is_refused_by_its_length_alone(limit: int) -> None:
    assert Parser(limit).feed(limit.to_bytes(4, "big")) == []
    with pytest.raises(BadFrame, match=str(limit + 1)):
        Parser(limit).feed((limit + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x05\xff\xff\xff\xff\xff"], ids=["http", "no message"]
)
async def test_garbage_closes_the_connection(garbage: bytes) -> None:
    wire, transport, owner = made()
    wire.data_received(garbage)
    assert transport.closed and owner.frames == []
    wire.connection_lost(None)
    assert [type(why) for why in owner.why] != [type(None)]


async def test_a_close_waits_for_what_is_queued_and_no_longer() -> None:
    wire, transport, owner = made()
    wire.pause_writing()
    wire.send(Frame(ping=Ping()))
    wire.send_data(1, b"x" * CHUNK * 2)
    wire.send_data(2, b"y" * CHUNK * (WINDOW + 1))  # more than its reader takes
    wire.close()
    await turn()
    assert not transport.closed
    wire.data_received(written(Frame(ping=Ping())))
    assert owner.frames == [] and wire.reads == 0
    wire.resume_writing()
    await turn()
    assert Counter(chunks(transport.taken())) == {1: 2, 2: WINDOW} and transport.closed


async def test_who_breaks_the_protocol_gets_what_is_said_and_no_data() -> None:
    wire, transport, _ = made()
    wire.send_data(1, b"x" * CHUNK)
    wire.send(Frame(failed=Failed(message="no")))
    wire.close(BadFrame("no"))
    assert [frame.WhichOneof("body") for frame in transport.taken()] == ["failed"] and transport.closed


async def test_nothing_is_given_to_an_owner_after_what_it_refused() -> None:
    wire, transport, owner = made()
    owner.refuse = True
    wire.data_received(written(Frame(ping=Ping()))[:3])
    assert not transport.closed
    wire.data_received(written(Frame(ping=Ping()))[3:] + written(Frame(ping=Ping())))
    assert transport.closed and str(wire.why) == "not now"


async def test_small_frames_of_one_turn_go_out_in_one_write_and_in_order() -> None:
    wire, transport, _ = made()
    numbers = [wire.send(Frame(stream=n, ping=Ping())) for n in range(1, 6)]
    assert transport.data == [] and wire.written == 0
    await turn()
    assert len(transport.data) == 1 and wire.written == numbers[-1]
    assert [frame.stream for frame in transport.taken()] == [1, 2, 3, 4, 5]


async def test_a_frame_that_the_other_side_would_not_take_is_not_sent() -> None:
    wire, transport, _ = made()
    with pytest.raises(ValueError, match="at most"):
        wire.send(Frame(failed=Failed(message="x" * MAX_FRAME)))
    await turn()
    assert transport.data == []


async def test_data_goes_in_chunks_that_make_it_up() -> None:
    wire, transport, _ = made()
    data = bytes(range(256)) * 1000
    done: list[str] = []
    outgoing = wire.send_data(7, data, lambda: done.append("done"))
    await turn()
    frames = transport.taken()
    assert b"".join(frame.chunk.data for frame in frames) == data
    assert max(len(frame.chunk.data) for frame in frames) == CHUNK
    assert [frame.chunk.last for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert outgoing.handed and done == ["done"]


async def test_no_more_chunks_go_out_than_there_is_credit_for() -> None:
    wire, transport, _ = made()
    outgoing = wire.send_data(1, b"x" * CHUNK * (WINDOW + 5))
    await turn()
    assert len(transport.taken()) == WINDOW and not outgoing.handed
    await turn()
    assert transport.taken() == []
    wire.credit(1, 3)
    await turn()
    assert len(transport.taken()) == 3
    wire.credit(1, 8)
    await turn()
    assert len(transport.taken()) == 2 and outgoing.handed


async def test_a_reader_that_gives_no_credit_stalls_only_its_own_stream() -> None:
    wire, transport, _ = made()
    wire.send_data(1, b"x" * CHUNK * (WINDOW + 1))
    await turn()
    transport.taken()
    wire.send_data(2, b"y" * CHUNK * 3)
    wire.send(Frame(stream=3, ping=Ping()))
    await turn()
    frames = transport.taken()
    assert chunks(frames) == [2, 2, 2]
    assert [frame.stream for frame in frames if frame.HasField("ping")] == [3]


async def test_streams_take_turns_chunk_by_chunk() -> None:
    wire, transport, _ = made()
    for stream in (1, 2, 3):
        wire.send_data(stream, b"x" * CHUNK * 4)
    await turn()
    assert chunks(transport.taken()) == [1, 2, 3] * 4


async def test_neither_small_frames_nor_chunks_wait_for_all_of_the_others() -> None:
    wire, transport, _ = made()
    wire.pause_writing()
    for _ in range(4):
        wire.send(Frame(stream=9, failed=Failed(message="x" * 60_000)))
    wire.send_data(1, b"x" * CHUNK * 4)
    transport.room = 2
    wire.resume_writing()
    await turn()
    kinds = [frame.WhichOneof("body") for frame in transport.taken()]
    assert kinds == ["failed", "failed", "chunk", "failed", "failed", "chunk"]


async def test_nothing_is_written_while_the_transport_is_full() -> None:
    wire, transport, _ = made()
    transport.room = 1
    wire.send_data(1, b"x" * CHUNK * 3)
    await turn()
    assert len(transport.taken()) == 1
    number = wire.send(Frame(ping=Ping()))
    await turn()
    assert transport.taken() == [] and wire.written < number
    wire.resume_writing()
    await turn()
    frames = transport.taken()
    assert len(chunks(frames)) == 2 and frames[0].HasField("ping") and wire.written == number


async def test_what_a_closing_transport_did_not_get_does_not_count_as_written() -> None:
    wire, transport, _ = made()
    number = wire.send(Frame(ping=Ping()))
    outgoing = wire.send_data(1, b"x" * CHUNK)
    transport.close()
    await turn()
    assert wire.written < number and not outgoing.handed and transport.data == []


async def test_data_that_nobody_wants_ends_at_once() -> None:
    wire, transport, _ = made()
    transport.room = 1
    wire.send_data(1, b"x" * CHUNK * 3)
    wire.send_data(2, b"y" * CHUNK)
    await turn()
    transport.taken()
    wire.drop_data(1)
    wire.resume_writing()
    await turn()
    assert chunks(transport.taken()) == [2]
    wire.credit(1, 1)  # was on its way
    await turn()
    assert transport.taken() == []


async def test_a_frame_after_data_follows_the_last_chunk() -> None:
    wire, transport, _ = made()
    wire.send_data(1, b"x" * CHUNK * 2)
    wire.send_after_data(Frame(stream=1, failed=Failed()))
    wire.send_after_data(Frame(stream=2, failed=Failed()))
    await turn()
    assert [(frame.stream, frame.WhichOneof("body")) for frame in transport.taken()] == [
        (2, "failed"),
        (1, "chunk"),
        (1, "chunk"),
        (1, "failed"),
    ]


async def test_credit_for_what_was_not_sent_is_refused() -> None:
    wire, _, _ = made()
    wire.send_data(1, b"x" * CHUNK * 30)
    await turn()
    wire.credit(1, WINDOW)
    with pytest.raises(BadFrame, match="credit"):
        wire.credit(1, 1)


async def test_who_does_not_read_is_not_read_until_he_does() -> None:
    wire, transport, _ = made(backlog=1000)
    wire.pause_writing()
    for _ in range(20):
        wire.send(Frame(stream=1, failed=Failed(message="x" * 100)))
    assert not transport.reading
    transport.room = None
    wire.resume_writing()
    await turn()
    assert transport.reading


async def test_a_client_is_read_though_it_does_not_read() -> None:
    wire, transport, _ = made()
    wire.pause_writing()
    for _ in range(100):
        wire.send(Frame(stream=1, failed=Failed(message="x" * 60_000)))
    assert transport.reading


def test_a_reader_gives_credit_before_the_window_is_used_up() -> None:
    incoming = Incoming(WINDOW * 10)
    given = 0
    for read in range(1, WINDOW + 1):
        assert not incoming.add(Chunk(data=b"x"))
        credit = incoming.credit(5)
        if credit is not None:
            assert credit.stream == 5
            given += credit.credit.chunks
        assert read - given < WINDOW
    assert given == WINDOW


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(data=b"12345"),
        Chunk(data=b"1234"),
        Chunk(data=b"123", last=True),
        Chunk(data=b"12345", last=True),
        Chunk(),
    ],
)
def test_chunks_that_are_not_what_was_announced_are_refused(chunk: Chunk) -> None:
    with pytest.raises(BadFrame):
        Incoming(4).add(chunk)
