"""`ports.EnvironmentHost` as its callers have it, in the process and over a socket: whatever the adapter, a run
has two ends, and what an invocation says arrives whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from remote_hosts import ENFORCED, LEASE, REPORT, TARGET, MemoryHost, invocation, served

from lambent.kernel.errors import (
    InvalidRuntimeException,
    LambdaError,
    NotStarted,
    ServiceException,
    TooManyRequestsException,
)
from lambent.kernel.models import Outcome, Report, Response, VersionKey
from lambent.kernel.ports import EnvironmentHost

LARGE = bytes(range(256)) * (6 << 12)  # 6 MB


@dataclass
class Subject:
    """`host` is asked, `inner` does it."""

    host: EnvironmentHost
    inner: MemoryHost


@asynccontextmanager
async def _subject(kind: str) -> AsyncIterator[Subject]:
    if kind == "memory":
        inner = MemoryHost()
        yield Subject(inner, inner)
    else:
        async with served() as place:
            await place.client.ask_enforcement()
            yield Subject(place.client, place.host)


@pytest.fixture(params=["memory", "frames"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with _subject(request.param) as made:
        yield made


async def test_an_invocation_arrives_whole_with_its_lease(subject: Subject) -> None:
    asked = invocation(
        b'{"a": 1}',
        client_context=b"{}",
        cognito_identity=b"",
        want_log_tail=True,
        trigger="async",
        tags={"team": "käse"},
        alias="live",
    )
    run = subject.host.invoke(asked, LEASE)
    await run.response
    (began,) = subject.inner.runs
    assert (began.invocation, began.lease) == (asked, LEASE)


async def test_one_that_says_little_arrives_as_little(subject: Subject) -> None:
    asked = invocation(b"")
    await subject.host.invoke(asked, LEASE).response
    assert subject.inner.runs[0].invocation == asked


@pytest.mark.parametrize(
    "response",
    [
        Response(b"1"),
        Response(b""),
        Response(b'{"errorType": "E"}', "Unhandled", "E"),
        Response(b"x", None, "", "text/plain"),
        Response(LARGE),
    ],
    ids=["small", "empty", "error", "text", "large"],
)
async def test_a_response_arrives_whole(subject: Subject, response: Response) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(), LEASE)
    (await subject.inner.began.get()).end(response)
    assert await run.response == response
    assert await run.report == REPORT


@pytest.mark.parametrize("outcome", Outcome)
async def test_a_report_arrives_whole(subject: Subject, outcome: Outcome) -> None:
    subject.inner.hold = True
    report = Report(outcome, 0.25, 1, 250.5, 10240, 9000 << 20, b"\x00END of the log\n" * 200)
    run = subject.host.invoke(invocation(), LEASE)
    (await subject.inner.began.get()).end(Response(b"1"), report)
    assert await run.report == report


async def test_the_response_comes_before_the_report(subject: Subject) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(), LEASE)
    began = await subject.inner.began.get()
    began.response.set_result(Response(b"1"))
    assert await run.response == Response(b"1")
    assert not run.report.done()
    began.report.set_result(REPORT)
    assert await run.report == REPORT


@pytest.mark.parametrize(
    "error",
    [
        ServiceException("no"),
        NotStarted("draining"),
        NotStarted("closed", "The lease is closed."),
        TooManyRequestsException("ConcurrentInvocationLimitExceeded", "Rate Exceeded."),
        InvalidRuntimeException("no python", Type="User"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_of_the_platform_keeps_its_class_and_members(
    subject: Subject, error: LambdaError
) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(), LEASE)
    (await subject.inner.began.get()).end(error)
    for end in (run.response, run.report):
        with pytest.raises(LambdaError) as raised:
            await end
        got = raised.value
        assert type(got) is type(error)
        assert (got.code, got.message, got.members) == (error.code, error.message, error.members)
        assert getattr(got, "reason", None) == getattr(error, "reason", None)


async def test_an_error_after_the_response_ends_the_report_alone(subject: Subject) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(), LEASE)
    began = await subject.inner.began.get()
    began.response.set_result(Response(LARGE))
    began.report.set_exception(ServiceException("killed"))
    assert await run.response == Response(LARGE)
    with pytest.raises(ServiceException, match="killed"):
        await run.report


async def test_cancel_reaches_the_run(subject: Subject) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(), LEASE)
    began = await subject.inner.began.get()
    run.cancel()
    await began.cancelled.wait()
    began.end(ServiceException("killed"))
    with pytest.raises(ServiceException, match="killed"):
        await run.response


async def test_large_payloads_go_both_ways_beside_small_ones(subject: Subject) -> None:
    runs = [subject.host.invoke(invocation(LARGE if n % 4 == 0 else b"%d" % n), LEASE) for n in range(20)]
    answers = [(await run.response).payload for run in runs]
    assert answers == [LARGE if n % 4 == 0 else b"%d" % n for n in range(20)]


async def test_code_is_prepared(subject: Subject) -> None:
    await subject.host.prepare(TARGET)
    assert subject.inner.prepared == [TARGET]


async def test_an_error_of_prepare_is_raised(subject: Subject) -> None:
    subject.inner.refuse = InvalidRuntimeException("no python")
    with pytest.raises(InvalidRuntimeException, match="no python"):
        await subject.host.prepare(TARGET)


async def test_a_function_is_stopped(subject: Subject) -> None:
    keep = VersionKey("u-1", "$LATEST", 8)
    await subject.host.stop_function("u-1")
    await subject.host.stop_function("u-1", version="2", keep=keep)
    assert subject.inner.stopped == [("u-1", None, None), ("u-1", "2", keep)]


async def test_what_is_enforced_is_said(subject: Subject) -> None:
    assert subject.host.enforcement() == ENFORCED


async def test_a_streamed_response_arrives_as_it_is_made(subject: Subject) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(streaming=True), LEASE)
    began = await subject.inner.began.get()
    assert began.invocation.streaming
    assert run.stream is not None and began.stream is not None
    began.stream.begin("text/html")
    assert await run.stream.begun()
    assert run.stream.content_type == "text/html"
    for part in (b"one", b"x" * 100_000, b"three"):
        began.stream.write(part)
        got = b""
        while len(got) < len(part):
            got += await run.stream.read()
        assert got == part
    assert not run.response.done()
    ended = Response(b"", content_type="text/html")
    began.end(ended)
    assert await run.stream.read() == b""
    assert await run.response == ended
    assert await run.report == REPORT


@pytest.mark.parametrize(
    "response",
    [Response(b"whole"), Response(LARGE), Response(b"{}", "Unhandled", "E")],
    ids=["small", "large", "error"],
)
async def test_one_that_is_not_streamed_is_whole_where_a_stream_was_asked_for(
    subject: Subject, response: Response
) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(streaming=True), LEASE)
    (await subject.inner.began.get()).end(response)
    assert run.stream is not None
    assert not await run.stream.begun()
    assert await run.response == response


@pytest.mark.parametrize("size", [10, len(LARGE)])
async def test_the_error_of_a_broken_stream_follows_what_was_sent(subject: Subject, size: int) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(streaming=True), LEASE)
    began = await subject.inner.began.get()
    assert run.stream is not None and began.stream is not None
    began.stream.begin("a/b")
    began.stream.write(b"before")
    error = Response(b"e" * size, "Unhandled", "Runtime.StreamError")
    began.end(error)
    assert await run.stream.begun()
    assert await run.stream.read() == b"before"
    assert await run.stream.read() == b""
    assert await run.response == error


async def test_a_failure_of_the_platform_ends_the_stream(subject: Subject) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(streaming=True), LEASE)
    began = await subject.inner.began.get()
    assert run.stream is not None and began.stream is not None
    began.stream.begin("a/b")
    assert await run.stream.begun()
    began.end(ServiceException("no"))
    assert await run.stream.read() == b""
    for end in (run.response, run.report):
        with pytest.raises(ServiceException):
            await end


async def test_a_reader_that_does_not_read_holds_the_writer_back_and_one_that_is_gone_does_not(
    subject: Subject,
) -> None:
    subject.inner.hold = True
    run = subject.host.invoke(invocation(streaming=True), LEASE)
    began = await subject.inner.began.get()
    assert run.stream is not None and began.stream is not None
    began.stream.begin("a/b")
    room = asyncio.Event()
    part, written = b"x" * 65536, 0
    while began.stream.write(part):
        written += len(part)
        assert written < 64 << 20, "the writer is never held back"
        await asyncio.sleep(0)
    began.stream.room = room.set
    assert not run.response.done()
    run.stream.abandon()
    await room.wait()
    began.end(Response(b""))
    assert (await run.response).payload == b""
