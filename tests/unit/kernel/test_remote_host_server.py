"""The server of frames: bounded whatever its clients send, and no client disturbs another or its own runs by
going away."""

import asyncio
import itertools
import random
from collections.abc import Sequence

import pytest
import uvloop
from remote_hosts import LEASE, REPORT, TARGET, invocation, served
from remote_peer import Peer, connected

from lambent.internal.v1.host_pb2 import Chunk, Credit, DefineTarget, EnforcementRequest, Frame, Invoke, Prepare
from lambent.internal.v1.host_pb2 import Report as ReportFrame
from lambent.kernel.errors import NotStarted, ServiceException
from lambent.kernel.models import Enforcement, Report, Response
from lambent.kernel.remote import host_server, host_session, messages
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.frames import CHUNK, MAX_PAYLOAD, WINDOW
from lambent.kernel.remote.host_client import RemoteHost
from lambent.kernel.store import codec

NONE = Access()
SIX_MB = b"x" * (6 << 20)


def invoke(stream: int, payload: bytes = b"{}") -> Frame:
    return messages.invoke_frame(stream, 0, invocation(payload), LEASE)


async def answered(peer: Peer, stream: int) -> Frame:
    """The first answer on a stream, but for its Accepted."""
    while True:
        frame = await peer.read()
        if frame.stream == stream and not frame.HasField("accepted"):
            return frame


async def test_runs_go_on_when_their_client_is_gone() -> None:
    async with served() as place:
        place.host.hold = True
        async with connected(place.address, NONE) as peer:
            peer.define()
            peer.write(invoke(1))
            began = await place.host.began.get()
        while len(place.server):
            await asyncio.sleep(0)
        assert not began.cancelled.is_set()
        began.end(Response(SIX_MB))
        place.host.hold = False
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")


async def test_a_failure_of_a_run_whose_client_is_gone_is_read_by_nobody_and_harms_nobody() -> None:
    async with served() as place:
        place.host.hold = True
        async with connected(place.address, NONE) as peer:
            peer.define()
            peer.write(invoke(1))
            began = await place.host.began.get()
        while len(place.server):
            await asyncio.sleep(0)
        began.end(ServiceException("killed"))
        await place.client.prepare(TARGET)


async def test_accepted_is_said_where_the_answer_takes_a_while() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        peer.write(invoke(1))
        assert (await peer.read()).HasField("accepted")
        (await place.host.began.get()).end(Response(b"1"))
        assert (await peer.read()).response.payload == b"1"
        assert (await peer.read()).report == messages.report_frame(1, REPORT).report


async def test_accepted_is_left_out_where_the_answer_is_there_at_once() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        peer.define()
        peer.write(invoke(1))
        assert (await peer.read()).response.payload == b"{}"


async def test_a_client_that_asks_and_does_not_read_is_not_read() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.enforced = [Enforcement("name", True, "x" * 4000)] * 50
        (session,) = place.server._sessions
        for stream in itertools.count(1):
            peer.write(Frame(stream=stream, enforcement_request=EnforcementRequest()))
            await asyncio.sleep(0)
            if session.wire._deaf:
                break
        asked = stream
        for stream in range(1, asked + 1):
            assert (await peer.read()).stream == stream
        assert not session.wire._deaf


async def test_a_slow_client_stalls_nobody_else() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        for stream in range(1, 21):
            peer.write(invoke(stream))
        for _ in range(20):
            (await place.host.began.get()).end(Response(SIX_MB))  # and the peer reads nothing
        place.host.hold = False
        runs = [place.client.invoke(invocation(SIX_MB if n == 0 else b"1"), LEASE) for n in range(10)]
        assert [len((await run.response).payload) for run in runs] == [len(SIX_MB)] + [1] * 9


async def test_a_stream_without_credit_stalls_none_of_its_own_connection() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        peer.write(invoke(1))
        (await place.host.began.get()).end(Response(SIX_MB))
        place.host.hold = False
        for _ in range(WINDOW):
            await peer.read_kind("chunk")
        peer.write(invoke(2, b"small"))
        assert (await answered(peer, 2)).response.payload == b"small"
        peer.write(Frame(stream=1, credit=Credit(chunks=1)))
        chunk = await peer.read_kind("chunk")
        assert (chunk.stream, len(chunk.chunk.data)) == (1, CHUNK)


async def test_the_report_does_not_wait_for_a_slow_reader_of_the_response() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        peer.write(invoke(1))
        (await place.host.began.get()).end(Response(SIX_MB))
        assert (await peer.read_kind("report")).stream == 1  # and no credit was given


# ---- limits -------------------------------------------------------------------------------------------


async def test_a_payload_beyond_the_limit_is_refused_by_its_length() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        peer.define()
        peer.write(Frame(stream=1, invoke=Invoke(length=MAX_PAYLOAD + 1)))
        assert (await answered(peer, 1)).failed.code == "RequestEntityTooLargeException"
        peer.write(Frame(stream=1, chunk=Chunk(data=b"x")))  # was on its way
        peer.write(invoke(2))
        assert (await answered(peer, 2)).HasField("response")


async def test_more_streams_than_said_are_refused_and_not_started() -> None:
    async with served(streams=2) as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        for stream in (1, 2, 3):
            peer.write(invoke(stream))
        failed = (await answered(peer, 3)).failed
        assert (failed.code, failed.reason) == ("NotStarted", "full")
        assert len(place.host.runs) == 2


async def test_payloads_on_their_way_have_so_much_room_together_and_give_it_back() -> None:
    async with served(room=100_000) as place, connected(place.address, NONE) as peer:
        peer.define()
        peer.write(Frame(stream=1, invoke=Invoke(length=60_000)))
        peer.write(Frame(stream=2, invoke=Invoke(length=60_000)))
        assert (await answered(peer, 2)).failed.reason == "full"
        peer.write(Frame(stream=1, chunk=Chunk(data=b"x" * 60_000, last=True)))
        assert (await answered(peer, 1)).response.length == 60_000
        peer.write(Frame(stream=3, invoke=Invoke(length=100_000)))
        async with connected(place.address, NONE) as other:
            other.define()
            other.write(Frame(stream=1, invoke=Invoke(length=60_000)))
            assert (await answered(other, 1)).failed.reason == "full"
            await peer.close()
            while len(place.server) > 1:
                await asyncio.sleep(0)
            other.write(Frame(stream=2, invoke=Invoke(length=100_000)))
            other.write(Frame(stream=2, chunk=Chunk(data=b"x" * 100_000, last=True)))
            assert (await answered(other, 2)).response.length == 100_000


async def test_more_connections_than_the_limit_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_server, "CONNECTIONS", 1)
    monkeypatch.setattr(host_session, "HANDSHAKE_SECONDS", 3600.0)
    async with served() as place, connected(place.address, NONE):
        async with connected(place.address) as other:
            assert await other.at_end()


WRONG: Sequence[tuple[str, Sequence[Frame]]] = [
    ("a number too high", [Frame(define_target=DefineTarget(number=1024, version=codec.encode(TARGET)))]),
    ("a version that is none", [Frame(define_target=DefineTarget(number=1, version=b"{}"))]),
    ("an unknown version", [Frame(stream=1, invoke=Invoke(target=9))]),
    ("an unknown version to prepare", [Frame(stream=1, prepare=Prepare(target=9))]),
    ("a stream twice", [invoke(1), invoke(1)]),
    ("a stream from before", [invoke(2), invoke(1)]),
    ("no stream", [invoke(0)]),
    ("a chunk of nothing", [Frame(stream=1, chunk=Chunk(data=b"x"))]),
    ("a chunk too many", [invoke(1), Frame(stream=1, chunk=Chunk(data=b"x"))]),
    ("less than a payload", [Frame(stream=1, invoke=Invoke(length=3, payload=b"12"))]),
    ("more than a payload", [Frame(stream=1, invoke=Invoke(length=1, payload=b"12"))]),
    (
        "chunks of another length",
        [Frame(stream=1, invoke=Invoke(length=9)), Frame(stream=1, chunk=Chunk(data=b"12", last=True))],
    ),
    ("what only executors say", [Frame(stream=1, report=ReportFrame())]),
    ("nothing", [Frame()]),
]


@pytest.mark.parametrize("frames", [case[1] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_whoever_breaks_the_protocol_is_cut_off(frames: Sequence[Frame]) -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        for frame in frames:
            peer.write(frame)
        assert await peer.at_end()
        assert len(place.host.runs) <= 1


async def test_frames_with_wrong_bytes_harm_nobody() -> None:
    """Each is taken, refused or the end of its connection; the server and the others go on."""
    chance = random.Random(7)
    good = [invoke(1), Frame(stream=2, prepare=Prepare()), Frame(stream=3, credit=Credit(chunks=1))]
    async with served() as place:
        for _ in range(150):
            async with connected(place.address, NONE) as peer:
                peer.define()
                for frame in good:
                    data = bytearray(frame.SerializeToString())
                    for _ in range(chance.randint(0, 3)):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                    peer.writer.write(len(data).to_bytes(4, "big") + data)
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")


async def test_garbage_in_a_connection_leaves_the_others_alone() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        peer.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await peer.at_end()
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")


async def test_a_connection_that_is_silent_for_long_is_ended() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        await place.clock.advance(60.0)
        assert await peer.at_end()


# ---- the host fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("refuse", [NotStarted("closed"), RuntimeError("a defect")], ids=["error", "defect"])
async def test_what_the_host_raises_is_said(refuse: Exception) -> None:
    async with served() as place:
        place.host.refuse = refuse
        run = place.client.invoke(invocation(), LEASE)
        with pytest.raises(ServiceException) as raised:
            await run.response
        assert type(raised.value) is (NotStarted if isinstance(refuse, NotStarted) else ServiceException)
        assert getattr(raised.value, "reason", "closed") == "closed"


@pytest.mark.parametrize(
    ("response", "report"),
    [
        (Response(b"1", content_type="x" * 300_000), REPORT),
        (Response(b"1", "\ud800", "\ud800" * 300_000), REPORT),
        (Response(b"1"), REPORT._replace(billed_ms=-1)),
        (Response(b"1"), REPORT._replace(log_tail=b"x" * 300_000)),
        (Response(b"x" * (MAX_PAYLOAD + 1)), REPORT),
    ],
    ids=["content type", "surrogate", "billed", "log", "payload"],
)
async def test_a_run_ends_though_its_end_cannot_be_said(response: Response, report: Report) -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        (await place.host.began.get()).end(response, report)
        await asyncio.wait([run.response])
        await asyncio.wait([run.report])
        place.host.hold = False
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")
        assert place.client.idle and len(place.server) == 1


async def test_a_run_that_the_host_gives_up_is_an_error() -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        began = await place.host.began.get()
        began.response.cancel()
        began.report.cancel()
        with pytest.raises(ServiceException):
            await run.report


# ---- closing ------------------------------------------------------------------------------------------


async def test_close_waits_for_what_runs_and_its_response() -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        began = await place.host.began.get()
        closing = asyncio.create_task(place.server.close())
        began.end(Response(SIX_MB))
        assert await closing == 0
        assert (await run.response).payload == SIX_MB


async def test_close_says_how_many_it_cut_off() -> None:
    async with served() as place:
        place.host.hold = True
        runs = [place.client.invoke(invocation(), LEASE) for _ in range(3)]
        for _ in runs:
            began = await place.host.began.get()
        assert await place.server.close(0.0) == 3
        assert not began.cancelled.is_set()
        for run in runs:
            with pytest.raises(ServiceException, match="while the function ran"):
                await run.report


async def test_close_does_not_start_what_has_not_come_whole() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        peer.define()
        peer.write(Frame(stream=1, invoke=Invoke(length=3)))
        peer.write(Frame(stream=2, prepare=Prepare()))
        await peer.read_kind("done")
        closing = asyncio.create_task(place.server.close())
        failed = (await answered(peer, 1)).failed
        assert (failed.code, failed.reason) == ("NotStarted", "draining")
        assert await closing == 0
        assert await peer.at_end() and place.host.runs == []


async def test_close_is_not_held_up_by_who_does_not_read() -> None:
    async with served() as place, connected(place.address, NONE) as peer:
        place.host.hold = True
        peer.define()
        for stream in range(1, 5):
            peer.write(invoke(stream))
        for _ in range(4):
            (await place.host.began.get()).end(Response(SIX_MB))
        assert await place.server.close(0.0) == 4


def test_it_is_the_same_on_uvloop() -> None:
    async def act() -> None:
        async with served() as place:
            payloads = [SIX_MB, b"1", b"", SIX_MB, b"2" * 100_000]
            runs = [place.client.invoke(invocation(payload), LEASE) for payload in payloads]
            assert [(await run.response).payload for run in runs] == payloads
            assert [await run.report for run in runs] == [REPORT] * len(runs)
            place.host.hold = True
            run = place.client.invoke(invocation(), LEASE)
            await place.host.began.get()
            other = RemoteHost(LEASE.executor, place.address, access=NONE, name="o", clock=place.clock)
            await other.prepare(TARGET)
            await other.close()
        with pytest.raises(ServiceException):
            await run.response
        assert asyncio.all_tasks() == {asyncio.current_task()}

    uvloop.run(act())
