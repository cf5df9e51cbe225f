"""The executor's side of one connection: its handshake, and the runs that came by it. A client that goes away
stops nothing: its runs go on, and what they say is dropped."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from lambent.internal.v1.host_pb2 import (
    Accepted,
    Done,
    Frame,
    GoAway,
    Invoke,
    Pong,
)
from lambent.kernel.errors import (
    AccessDeniedException,
    LambdaError,
    NotStarted,
    RequestEntityTooLargeException,
    ServiceException,
)
from lambent.kernel.log import Log
from lambent.kernel.models import FunctionVersion, Report, Response, VersionKey
from lambent.kernel.ports import EnvironmentHost, Run
from lambent.kernel.remote import messages
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.frames import MAX_PAYLOAD, BadFrame, Incoming, Wire
from lambent.kernel.remote.handshake import Refusal, ServerHandshake
from lambent.kernel.remote.targets import TARGETS
from lambent.kernel.response_stream import ResponseStream
from lambent.kernel.store import codec
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
STREAMS = 10_000
HANDSHAKE_SECONDS = 5.0
_BACKLOG = 8 << 20


class Server(Protocol):
    """What a session needs of its server. `room`: bytes of payloads that may yet come in chunks, of all
    sessions together."""

    host: EnvironmentHost
    executor: str
    access: Access
    tasks: Tasks
    streams: int
    room: int

    def changed(self, session: "Session") -> None:
        """A stream has ended, or the session itself has."""

    def admit(self, session: "Session") -> bool:
        """Whether there is room for one more connection."""


_T = TypeVar("_T")
_Target = tuple[FunctionVersion, VersionKey]


class _Serving:
    """A stream: an invocation that comes or runs."""

    __slots__ = ("incoming", "invoke", "reported", "responded", "run", "session", "stream", "target")

    def __init__(self, session: "Session", stream: int, invoke: Invoke, target: "_Target") -> None:
        self.session = session
        self.stream = stream
        self.invoke: Invoke | None = invoke
        self.target = target
        self.incoming: Incoming | None = None
        self.run: Run | None = None
        self.responded = self.reported = False

    def answered(self, response: "asyncio.Future[Response]") -> None:
        self._say(response, self.session.respond)

    def ended(self, report: "asyncio.Future[Report]") -> None:
        self._say(report, self.session.report)

    def _say(self, end: "asyncio.Future[_T]", say: Callable[["_Serving", _T], None]) -> None:
        """Or that it failed; each run ends for its client, even where it cannot be said how."""
        error = _error(end)
        if not self.session.has(self):
            return
        if error is None:
            try:
                say(self, end.result())
            except Exception as failure:
                error = _said(failure)
        if error is not None:
            self.session.fail(self, error)

    def sent(self) -> None:
        """The response is with the transport."""
        self.responded = True
        self.session.end_if_done(self)


def _error(future: "asyncio.Future[Any]") -> LambdaError | None:
    if future.cancelled():
        return ServiceException("The executor gave the invocation up.")
    failure = future.exception()
    return None if failure is None else _said(failure)


def _said(failure: BaseException) -> LambdaError:
    """A defect of ours is logged here; the other side is not told its inside."""
    if isinstance(failure, LambdaError):
        return failure
    _log.error("An executor's host failed.", failure=repr(failure), exc_info=failure)
    return ServiceException()


class Session:
    """One connection. Not to be used after `open` is False."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.wire = Wire(self, backlog=_BACKLOG)
        self.open = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handshake = ServerHandshake(
            server.access, server.executor, streams=server.streams, targets=TARGETS
        )
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._last = 0
        self._targets: dict[int, _Target] = {}
        self._streams: dict[int, _Serving | None] = {}
        self._silent = self._reads = 0
        self._handlers: Mapping[str, Callable[[Frame], None]] = {
            "define_target": self._define,
            "invoke": self._invoke,
            "chunk": self._chunk,
            "cancel": self._cancel,
            "credit": self._credit,
            "prepare": self._prepare,
            "stop_function": self._stop,
            "enforcement_request": self._enforce,
            "ping": lambda _: self._pong(),
            "pong": lambda _: None,
        }

    def __len__(self) -> int:
        """Streams that are not done."""
        return len(self._streams)

    # ---- the handshake --------------------------------------------------------------------------------

    def opened(self) -> None:
        self.open = True
        if not self._server.admit(self):
            self.wire.abort(ConnectionError("there are too many connections"))
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(
            HANDSHAKE_SECONDS, self.wire.abort, TimeoutError("the handshake was not done in time")
        )

    def _shake(self, kind: str | None, frame: Frame) -> None:
        try:
            answer = self._handshake.receive(kind, frame)
        except Refusal as refusal:
            self.wire.send(messages.failed_frame(0, AccessDeniedException(str(refusal))))
            raise
        self.wire.send(answer)
        if self._handshake.done:
            self.wire.unbounded()
            if self._timer is not None:
                self._timer.cancel()
            if self._draining:
                self.drain()

    # ---- what the client says -------------------------------------------------------------------------

    def received(self, frame: Frame) -> None:
        kind = frame.WhichOneof("body")
        if not self._handshake.done:
            self._shake(kind, frame)
            return
        handler = self._handlers.get(kind or "")
        if handler is None:
            raise BadFrame(f"a client does not say {kind}")
        handler(frame)

    def _define(self, frame: Frame) -> None:
        number = frame.define_target.number
        if number >= TARGETS:
            raise BadFrame(f"a version with the number {number}")
        try:
            target = codec.function_version(frame.define_target.version)
        except LambdaError as failure:
            raise BadFrame(failure.message) from failure
        self._targets[number] = target, target.key

    def _begin(self, stream: int) -> bool:
        """Whether a new request is taken. One that came after the GoAway is not answered: that has said it."""
        if stream <= self._last:
            raise BadFrame(f"stream {stream} after {self._last}")
        if self._draining:
            return False
        self._last = stream
        if len(self._streams) >= self._server.streams:
            self.wire.send(messages.failed_frame(stream, NotStarted("full")))
            return False
        return True

    def _target(self, number: int) -> _Target:
        target = self._targets.get(number)
        if target is None:
            raise BadFrame(f"no version has the number {number}")
        return target

    def _invoke(self, frame: Frame) -> None:
        stream, invoke = frame.stream, frame.invoke
        if not self._begin(stream):
            return
        serving = _Serving(self, stream, invoke, self._target(invoke.target))
        if invoke.length == len(invoke.payload):
            self._streams[stream] = serving
            self._start(serving, invoke.payload)
            return
        if invoke.payload:
            raise BadFrame("a part of a payload in its head")
        if invoke.length > MAX_PAYLOAD:
            self.wire.send(messages.failed_frame(stream, RequestEntityTooLargeException()))
        elif invoke.length > self._server.room:
            self.wire.send(messages.failed_frame(stream, NotStarted("full")))
        else:
            self._server.room -= invoke.length
            serving.incoming = Incoming(invoke.length)
            self._streams[stream] = serving

    def _chunk(self, frame: Frame) -> None:
        serving = self._streams.get(frame.stream)
        if serving is None:
            if frame.stream > self._last and not self._draining:
                raise BadFrame("a chunk of no stream")
            return  # it was refused, and what was on its way comes nevertheless
        if serving.incoming is None:
            raise BadFrame("a chunk after the last one")
        if serving.incoming.add(frame.chunk):
            payload = bytes(serving.incoming.data)
            self._forget_payload(serving)
            self._start(serving, payload)
            return
        credit = serving.incoming.credit(frame.stream)
        if credit is not None:
            self.wire.send(credit)

    def _forget_payload(self, serving: _Serving) -> None:
        if serving.incoming is not None:
            self._server.room += serving.incoming.length
            serving.incoming = None

    def _start(self, serving: _Serving, payload: bytes) -> None:
        invoke = serving.invoke
        assert invoke is not None
        serving.invoke = None
        target, key = serving.target
        invocation = messages.invocation_of(invoke, target, payload)
        lease = messages.lease_of(invoke.lease, key, self._server.executor)
        try:
            run = serving.run = self._server.host.invoke(invocation, lease)
        except Exception as failure:
            self.fail(serving, _said(failure))
            return
        if not run.response.done():
            self.wire.send(Frame(stream=serving.stream, accepted=Accepted()))
        if run.stream is None:
            run.response.add_done_callback(serving.answered)
        else:
            self._server.tasks.once("stream", self._stream(serving, run, run.stream))
        run.report.add_done_callback(serving.ended)

    def _cancel(self, frame: Frame) -> None:
        serving = self._streams.get(frame.stream)
        if serving is None:
            return
        if serving.run is not None:
            serving.run.cancel()
        else:
            self.fail(serving, ServiceException("The invocation was cancelled before it began."))

    def _credit(self, frame: Frame) -> None:
        self.wire.credit(frame.stream, frame.credit.chunks)

    def _pong(self) -> None:
        self.wire.send(Frame(pong=Pong()))

    # ---- requests that are no invocations -------------------------------------------------------------

    def _prepare(self, frame: Frame) -> None:
        if self._begin(frame.stream):
            target, _ = self._target(frame.prepare.target)
            self._do(frame.stream, "prepare", self._server.host.prepare(target))

    def _stop(self, frame: Frame) -> None:
        if not self._begin(frame.stream):
            return
        stop = frame.stop_function
        keep = None
        if stop.HasField("keep"):
            keep = VersionKey(stop.keep.uid, stop.keep.version, stop.keep.generation)
        version = stop.version if stop.HasField("version") else None
        self._do(
            frame.stream, "stop function", self._server.host.stop_function(stop.uid, version=version, keep=keep)
        )

    def _do(self, stream: int, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._streams[stream] = None
        self._server.tasks.once(name, self._doing(stream, work))

    async def _doing(self, stream: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            answer = Frame(stream=stream, done=Done())
        except Exception as failure:
            answer = messages.failed_frame(stream, _said(failure))
        self._over(stream, answer)

    def _enforce(self, frame: Frame) -> None:
        if not self._begin(frame.stream):
            return
        try:
            self.wire.send(messages.enforcement_frame(frame.stream, self._server.host.enforcement()))
        except Exception as failure:
            self.wire.send(messages.failed_frame(frame.stream, _said(failure)))

    def has(self, serving: _Serving) -> bool:
        """Whether the client still waits for it."""
        return self._streams.get(serving.stream) is serving

    # ---- what runs say --------------------------------------------------------------------------------

    def respond(self, serving: _Serving, response: Response) -> None:
        if len(response.payload) > MAX_PAYLOAD:
            self.fail(serving, ServiceException(f"The response has more than {MAX_PAYLOAD} bytes."))
            return
        frame = messages.response_frame(serving.stream, response)
        self.wire.send(frame)
        if response.payload and not frame.response.payload:
            self.wire.send_data(serving.stream, response.payload, serving.sent)
        else:
            serving.sent()

    async def _stream(self, serving: _Serving, run: Run, stream: ResponseStream) -> None:
        """Passes a response on as it is made, and how it ended after that."""
        if await stream.begun() and self.has(serving):
            self.wire.send(messages.stream_frame(serving.stream, stream.content_type or ""))
            feed = self.wire.feed(serving.stream)
            while self.has(serving) and (data := await stream.read()):
                if self.has(serving):
                    self.wire.put(feed, data)
                    await feed.room()
            self.wire.end_feed(feed)  # of one that failed too: that is said behind it
            if self.has(serving):
                await feed.done
        if self.has(serving):
            await asyncio.wait([run.response])
            serving.answered(run.response)
        else:
            stream.abandon()

    def report(self, serving: _Serving, report: Report) -> None:
        self.wire.send(messages.report_frame(serving.stream, report))
        serving.reported = True
        self.end_if_done(serving)

    def end_if_done(self, serving: _Serving) -> None:
        if serving.responded and serving.reported:
            self._over(serving.stream)

    def fail(self, serving: _Serving, error: LambdaError) -> None:
        """Both ends, or the one that is still open."""
        if not self.has(serving):
            return
        self._forget_payload(serving)
        self._over(serving.stream, messages.failed_frame(serving.stream, error))

    def _over(self, stream: int, answer: Frame | None = None) -> None:
        if stream not in self._streams:  # the client is gone
            return
        del self._streams[stream]
        if answer is not None:
            self.wire.send_after_data(answer)
        self._server.changed(self)

    # ---- the end --------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Takes nothing more; what has not come whole is not started. `Server.changed` says when a stream is
        done."""
        self._draining = True
        if not self.open or not self._handshake.done:
            return
        self.wire.send(Frame(go_away=GoAway(last_stream=self._last)))
        for serving in list(self._streams.values()):
            if serving is not None and serving.run is None:
                self.fail(serving, NotStarted("draining"))

    def check(self, *, most_silent: int) -> None:
        """To be called now and then: ends a connection on which nothing has come for so many calls."""
        if self.wire.reads != self._reads:
            self._reads, self._silent = self.wire.reads, 0
        elif self._silent >= most_silent:
            self.wire.abort(TimeoutError("it is silent"))
        self._silent += 1

    def lost(self, why: Exception | None) -> None:
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
        if why is not None:
            _log.warning(
                "A connection of frames ended.",
                peer=self.wire.peer,
                client=self._handshake.client,
                why=str(why),
            )
        for serving in self._streams.values():
            if serving is not None:
                self._forget_payload(serving)
        self._streams.clear()
        self.ended.set_result(None)
        self._server.changed(self)
