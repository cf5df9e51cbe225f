"""The client of an executor: a run ends whatever happens to the connection, and it is said not to have started
only where that is certain."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from remote_hosts import LEASE, REPORT, TARGET, MemoryHost, invocation, served, version
from remote_peer import Peer, executor
from support import free_port

from lambent.internal.v1.host_pb2 import Accepted, Chunk, Frame, GoAway, Ping, ResponseHead
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import InvalidParameterValueException, LambdaError, NotStarted, ServiceException
from lambent.kernel.models import Response
from lambent.kernel.ports import Run
from lambent.kernel.remote import messages
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.frames import CHUNK, MAX_PAYLOAD, WINDOW
from lambent.kernel.remote.host_client import Address, RemoteHost
from lambent.kernel.remote.host_server import HostServer

NONE = Access()


@asynccontextmanager
async def client_of(address: Address, clock: TestClock | None = None) -> AsyncIterator[RemoteHost]:
    client = RemoteHost(LEASE.executor, address, access=NONE, name="test", clock=clock or TestClock())
    try:
        yield client
    finally:
        await client.close()


async def ends(run: Run) -> list[BaseException | None]:
    """What both ends raise."""
    await asyncio.wait([run.response])
    await asyncio.wait([run.report])
    return [run.response.exception(), run.report.exception()]


async def reasons(run: Run) -> list[str]:
    """Why both ends say that it did not start; raises AssertionError if one says anything else."""
    errors = await ends(run)
    assert all(isinstance(error, NotStarted) for error in errors), errors
    return [error.reason for error in errors if isinstance(error, NotStarted)]


async def texts(run: Run) -> set[str]:
    """What both ends say of a run that may have been."""
    errors = await ends(run)
    assert all(type(error) is ServiceException for error in errors), errors
    return {str(error) for error in errors}


async def broken(act: Callable[[Peer], Awaitable[None]], payload: bytes = b"{}") -> Run:
    """The run of an invocation on an executor that does `act` and closes the connection."""
    async with executor(act) as address, client_of(address) as client:
        run = client.invoke(invocation(payload), LEASE)
        await asyncio.wait([run.response])
        await asyncio.wait([run.report])
        return run


# ---- the connection breaks at each stage --------------------------------------------------------------


async def test_nobody_listens() -> None:
    async with client_of(Address("127.0.0.1", free_port())) as client:
        run = client.invoke(invocation(), LEASE)
        assert await reasons(run) == ["unreachable", "unreachable"]


async def test_it_breaks_before_the_handshake_is_over() -> None:
    async def at_once(peer: Peer) -> None: ...

    async def at_hello(peer: Peer) -> None:
        await peer.read_kind("hello")

    for act in (at_once, at_hello):
        assert await reasons(await broken(act)) == ["unreachable", "unreachable"]


async def test_it_breaks_before_the_invocation_is_written() -> None:
    async with served() as place:
        await place.client.prepare(TARGET)
        run = place.client.invoke(invocation(), LEASE)
        await place.client.close()
        assert await reasons(run) == ["unreachable", "unreachable"]
        assert place.host.runs == []


async def test_it_breaks_while_the_payload_is_on_its_way() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        await peer.read_kind("invoke")
        for _ in range(WINDOW):  # and no credit for more
            await peer.read_kind("chunk")

    run = await broken(act, b"x" * CHUNK * (WINDOW + 1))
    assert await reasons(run) == ["unreachable", "unreachable"]


async def test_it_breaks_when_all_was_sent_and_nothing_was_said() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        await peer.read_kind("invoke")

    (text,) = await texts(await broken(act))
    assert "executor-1" in text and "may have run" in text


async def test_it_breaks_when_all_chunks_were_sent_and_nothing_was_said() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        while not (await peer.read_kind("chunk")).chunk.last:
            pass

    (text,) = await texts(await broken(act, b"x" * CHUNK * 3))
    assert "may have run" in text


async def test_it_breaks_while_the_function_runs() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        peer.write(Frame(stream=(await peer.read_kind("invoke")).stream, accepted=Accepted()))

    (text,) = await texts(await broken(act))
    assert "broke while the function ran" in text


async def test_it_breaks_in_the_middle_of_the_response() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        stream = (await peer.read_kind("invoke")).stream
        peer.write(Frame(stream=stream, response=ResponseHead(length=100_000)))
        peer.write(Frame(stream=stream, chunk=Chunk(data=b"x" * 1000)))

    (text,) = await texts(await broken(act))
    assert "broke while the function ran" in text


async def test_it_breaks_between_the_response_and_the_report() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        stream = (await peer.read_kind("invoke")).stream
        peer.write(messages.response_frame(stream, Response(b"1")))

    run = await broken(act)
    assert await run.response == Response(b"1")
    assert type(run.report.exception()) is ServiceException


async def test_nothing_breaks_after_the_report() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        stream = (await peer.read_kind("invoke")).stream
        peer.write(messages.report_frame(stream, REPORT))
        peer.write(messages.response_frame(stream, Response(b"1")))

    run = await broken(act)
    assert (await run.response, await run.report) == (Response(b"1"), REPORT)


async def test_the_executor_goes_away_without_having_read_it() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        await peer.read_kind("invoke")
        peer.write(Frame(go_away=GoAway(last_stream=0)))
        await peer.at_end()

    assert await reasons(await broken(act)) == ["draining", "draining"]


async def test_what_an_executor_that_goes_away_has_read_goes_on() -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        began = await place.host.began.get()
        closing = asyncio.create_task(place.server.close())
        late = place.client.invoke(invocation(), LEASE)
        assert await reasons(late) == ["draining", "draining"]
        assert not closing.done() and len(place.host.runs) == 1
        began.end(Response(b"1"))
        assert (await run.response, await run.report) == (Response(b"1"), REPORT)
        assert await closing == 0


async def test_what_the_executor_must_not_say_ends_the_connection() -> None:
    for frame in (
        Frame(stream=1, chunk=Chunk(data=b"x")),
        Frame(stream=1, response=ResponseHead(length=MAX_PAYLOAD + 1)),
        Frame(stream=1, response=ResponseHead(length=3, payload=b"12")),
        Frame(),
    ):

        async def act(peer: Peer, frame: Frame = frame) -> None:
            await peer.welcome(NONE)
            await peer.read_kind("invoke")
            peer.write(frame)
            await peer.at_end()

        await texts(await broken(act))


async def test_answers_that_nobody_waits_for_are_passed_over() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        stream = (await peer.read_kind("invoke")).stream
        for other in (
            Frame(accepted=Accepted()),
            Frame(chunk=Chunk(data=b"x")),
            messages.report_frame(0, REPORT),
            messages.response_frame(0, Response(b"2")),
            messages.failed_frame(0, ServiceException()),
        ):
            other.stream = 99
            peer.write(other)
        peer.write(messages.response_frame(stream, Response(b"1")))
        peer.write(messages.report_frame(stream, REPORT))
        await peer.at_end()

    run = await broken(act)
    assert await run.response == Response(b"1")


# ---- connections are made and made again --------------------------------------------------------------


async def test_many_invocations_share_the_connection_that_is_being_made() -> None:
    async with served() as place:
        runs = [place.client.invoke(invocation(b"%d" % n), LEASE) for n in range(50)]
        assert [(await run.response).payload for run in runs] == [b"%d" % n for n in range(50)]
        assert len(place.server) == 1


async def test_a_broken_connection_is_made_again() -> None:
    connections: list[Peer] = []

    async def act(peer: Peer) -> None:
        connections.append(peer)
        await peer.welcome(NONE)
        stream = (await peer.read_kind("invoke")).stream
        if len(connections) == 2:
            peer.write(messages.response_frame(stream, Response(b"1")))
            await peer.at_end()

    async with executor(act) as address, client_of(address) as client:
        await texts(client.invoke(invocation(), LEASE))
        assert await client.invoke(invocation(), LEASE).response == Response(b"1")


async def test_after_a_failure_nothing_is_tried_for_a_while_and_then_it_is() -> None:
    port = free_port()
    clock = TestClock()
    server = HostServer(MemoryHost(), executor=LEASE.executor, access=NONE, clock=clock)
    async with client_of(Address("127.0.0.1", port), clock) as client:
        await reasons(client.invoke(invocation(), LEASE))
        assert await server.open("127.0.0.1", port) == port
        at_once = client.invoke(invocation(), LEASE)
        assert at_once.response.done()
        assert await reasons(at_once) == ["unreachable", "unreachable"]
        await clock.advance(0.2)
        assert await client.invoke(invocation(), LEASE).response == Response(b"{}")
    await server.close()


async def test_pauses_grow_with_each_failure_up_to_a_bound() -> None:
    clock = TestClock()
    async with client_of(Address("127.0.0.1", free_port()), clock) as client:
        pauses = []
        for _ in range(9):
            await reasons(client.invoke(invocation(), LEASE))
            began = clock.monotonic()
            while client.invoke(invocation(), LEASE).response.done():
                await clock.advance(0.05)
            pauses.append(clock.monotonic() - began)
            await _settled(client)
        assert pauses == sorted(pauses) and pauses[0] < 0.2 and 4.9 < pauses[-1] < 5.2


async def _settled(client: RemoteHost) -> None:
    """The attempt under way has failed."""
    with pytest.raises(NotStarted):
        await client.prepare(TARGET)


async def test_a_connection_on_which_nothing_comes_is_given_up() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        peer.write(Frame(stream=(await peer.read_kind("invoke")).stream, accepted=Accepted()))
        await peer.at_end()  # no pong

    clock = TestClock()
    async with executor(act) as address, client_of(address, clock) as client:
        run = client.invoke(invocation(), LEASE)
        while not run.response.done():
            await clock.advance(1.0)
        await texts(run)
        assert clock.monotonic() >= 15


async def test_a_connection_on_which_pongs_come_is_kept() -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        began = await place.host.began.get()
        for _ in range(20):
            await place.clock.advance(5.0)
            await place.client.ask_enforcement()  # so the pong before it has come
        began.end(Response(b"1"))
        assert await run.response == Response(b"1")


async def test_a_ping_is_answered() -> None:
    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        stream = (await peer.read_kind("invoke")).stream
        peer.write(Frame(ping=Ping()))
        await peer.read_kind("pong")
        peer.write(messages.response_frame(stream, Response(b"1")))
        await peer.at_end()

    async with executor(act) as address, client_of(address) as client:
        assert await client.invoke(invocation(), LEASE).response == Response(b"1")


async def test_a_closed_client_starts_nothing() -> None:
    async with served() as place:
        waiting = place.client.invoke(invocation(), LEASE)
        await place.client.close()
        for run in (waiting, place.client.invoke(invocation(), LEASE)):
            assert await reasons(run) == ["unreachable", "unreachable"]
        with pytest.raises(NotStarted):
            await place.client.prepare(TARGET)


async def test_nothing_is_left_when_both_sides_are_closed() -> None:
    before = asyncio.all_tasks()
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        await place.host.began.get()
    await texts(run)
    assert asyncio.all_tasks() == before and len(place.server) == 0
    assert place.client.idle


# ---- runs ---------------------------------------------------------------------------------------------


async def test_a_caller_that_goes_away_changes_nothing() -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        run.response.cancel()
        began = await place.host.began.get()
        began.end(Response(b"1"))
        assert await run.report == REPORT
        assert not began.cancelled.is_set()


async def test_a_run_that_is_cancelled_before_there_is_a_connection_is_not_sent() -> None:
    async with served() as place:
        run = place.client.invoke(invocation(), LEASE)
        run.cancel()
        (text,) = await texts(run)
        assert "before it began" in text
        await place.client.prepare(TARGET)
        assert place.host.runs == []


async def test_a_run_that_is_cancelled_while_its_payload_is_sent_does_not_begin() -> None:
    async with served() as place:
        await place.client.prepare(TARGET)
        run = place.client.invoke(invocation(b"x" * (6 << 20)), LEASE)
        run.cancel()
        run.cancel()
        (text,) = await texts(run)
        assert "before it began" in text
        assert place.host.runs == []


async def test_no_more_of_a_payload_is_sent_after_the_cancel() -> None:
    kinds: list[str | None] = []

    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        while "pong" not in kinds:
            kinds.append((await peer.read()).WhichOneof("body"))
            if kinds[-1] == "cancel":
                peer.write(Frame(ping=Ping()))

    async with executor(act) as address, client_of(address) as client:
        run = client.invoke(invocation(b"x" * CHUNK * 3), LEASE)
        while run.link is None:
            await asyncio.sleep(0)
        run.cancel()
        assert await reasons(run) == ["unreachable", "unreachable"]
    assert kinds == ["define_target", "invoke", "cancel", "pong"]


async def test_an_answered_run_is_not_cancelled() -> None:
    async with served() as place:
        place.host.hold = True
        run = place.client.invoke(invocation(), LEASE)
        began = await place.host.began.get()
        began.response.set_result(Response(b"1"))
        await run.response
        run.cancel()
        await place.client.prepare(TARGET)  # what was sent before it has been read
        assert not began.cancelled.is_set()
        began.report.set_result(REPORT)
        await run.report


@pytest.mark.parametrize(
    "wrong",
    [
        invocation(b"x" * (MAX_PAYLOAD + 1)),
        invocation(tags={"k": "x" * 300_000}),
        invocation(alias="\ud800"),
    ],
    ids=["payload", "head", "surrogate"],
)
async def test_what_cannot_be_sent_is_refused_and_the_connection_goes_on(wrong: object) -> None:
    async with served() as place:
        run = place.client.invoke(wrong, LEASE)  # type: ignore[arg-type]
        with pytest.raises(InvalidParameterValueException):
            await run.response
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")


async def test_more_streams_than_the_executor_takes_are_refused_here() -> None:
    async with served(streams=3) as place:
        place.host.hold = True
        await place.client.prepare(TARGET)
        runs = [place.client.invoke(invocation(), LEASE) for _ in range(4)]
        assert await reasons(runs[3]) == ["full", "full"]
        for _ in range(3):
            (await place.host.began.get()).end(Response(b"1"))
        assert [await run.report for run in runs[:3]] == [REPORT] * 3
        place.host.hold = False
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")


# ---- versions -----------------------------------------------------------------------------------------


async def test_more_versions_than_have_numbers_run_all_the_same() -> None:
    async with served() as place:
        for _ in range(2):
            runs = [place.client.invoke(invocation(target=version(n)), LEASE) for n in range(1100)]
            for run in runs:
                await run.response
        assert [run.invocation.target for run in place.host.runs] == [version(n) for n in range(1100)] * 2


async def test_a_version_crosses_once_and_again_when_it_has_changed() -> None:
    defined: list[int] = []

    async def act(peer: Peer) -> None:
        await peer.welcome(NONE)
        while True:
            frame = await peer.read()
            if frame.HasField("define_target"):
                defined.append(frame.define_target.number)
            else:
                peer.write(messages.response_frame(frame.stream, Response(b"%d" % frame.invoke.target)))

    async with executor(act) as address, client_of(address) as client:
        again = version(1)
        answers = [
            (await client.invoke(invocation(target=target), LEASE).response).payload
            for target in (version(1), version(1), version(2), again, again, version(1))
        ]
    assert defined == [0, 1]
    assert answers == [b"0", b"0", b"1", b"0", b"0", b"0"]


async def test_errors_are_errors_of_the_kernel() -> None:
    async with served() as place:
        place.host.refuse = RuntimeError("a defect")
        with pytest.raises(LambdaError) as raised:
            await place.client.invoke(invocation(), LEASE).response
        assert "a defect" not in str(raised.value)
