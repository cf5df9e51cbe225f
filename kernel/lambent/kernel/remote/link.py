"""The client's side of one connection to an executor: the runs and requests on it, and what becomes of them
when it breaks.

An invocation may be tried elsewhere only if it is certain that it did not run and will not: its last byte was
never handed to the transport, or the executor has said so. Of everything else a caller is told that it may have
run.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

from lambent.internal.v1.host_pb2 import Cancel, Chunk, Credit, DefineTarget, Frame, Ping, Pong, Prepare
from lambent.kernel.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    LambdaError,
    NotStarted,
    ServiceException,
)
from lambent.kernel.models import FunctionVersion, Invocation
from lambent.kernel.ports import Lease
from lambent.kernel.remote import messages
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.frames import MAX_PAYLOAD, WINDOW, BadFrame, Incoming, Wire
from lambent.kernel.remote.handshake import ClientHandshake
from lambent.kernel.remote.run import RemoteRun
from lambent.kernel.remote.targets import TARGETS, Numbers
from lambent.kernel.response_stream import ResponseStream
from lambent.kernel.store import codec


class Link:
    """One connection, from its first frame to its end. `name`: the client's, for the executor's log; `gone` is
    called at its end."""

    def __init__(
        self, executor: str, access: Access, *, name: str, gone: Callable[["Link", Exception | None], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._handshake = ClientHandshake(access, executor, name)
        self._welcomed = False
        self._gone = gone
        self.wire = Wire(self)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._numbers = Numbers()
        self._most = 0
        self._stream = 0
        self._streams: dict[int, RemoteRun | asyncio.Future[Any]] = {}
        self.draining = False
        self._pings = 0
        self._reads = 0
        self._handlers: Mapping[str, Callable[[Frame], None]] = {
            "accepted": self._accepted,
            "response": self._response,
            "stream_head": self._stream_head,
            "chunk": self._chunk,
            "report": self._report,
            "failed": self._failed,
            "done": self._done,
            "enforcement_answer": self._enforcement,
            "credit": self._credit,
            "ping": self._ping,
            "pong": lambda _: None,
            "go_away": self._go_away,
        }

    def __len__(self) -> int:
        """Streams that are not done."""
        return len(self._streams)

    # ---- what the host asks ---------------------------------------------------------------------------

    def invoke(self, run: RemoteRun, invocation: Invocation, lease: Lease) -> None:
        """Sends it; the run is told in every case."""
        if self.draining or self.wire.closing:
            run.fail(self._refusal())
            return
        if len(self._streams) >= self._most:
            run.fail(NotStarted("full", f"{self._text()} has too many requests."))
            return
        payload = invocation.payload
        if len(payload) > MAX_PAYLOAD:
            run.fail(InvalidParameterValueException(f"A payload has at most {MAX_PAYLOAD} bytes."))
            return
        stream = self._stream = self._stream + 1
        try:
            frame = messages.invoke_frame(stream, self._number(invocation.target), invocation, lease)
            run.number = self.wire.send(frame)
        except LambdaError as failure:
            run.fail(failure)
            return
        except ValueError as failure:
            run.fail(InvalidParameterValueException(f"The invocation cannot be sent: {failure}."))
            return
        run.link, run.stream_id = self, stream
        self._streams[stream] = run
        if not frame.invoke.payload and payload:
            run.outgoing = self.wire.send_data(stream, payload)

    def _refusal(self) -> NotStarted:
        if self.draining:
            return NotStarted("draining")
        return NotStarted("unreachable", f"{self._text()} is at its end.")

    def _number(self, target: FunctionVersion) -> int:
        number, new = self._numbers.of(target)
        if new:
            try:
                self.wire.send(Frame(define_target=DefineTarget(number=number, version=codec.encode(target))))
            except (ValueError, LambdaError):
                self._numbers.forget(target)
                raise
        return number

    def cancel(self, run: RemoteRun) -> None:
        if run.outgoing is not None and not run.outgoing.handed:
            self.wire.drop_data(run.stream_id)
        self.wire.send(Frame(stream=run.stream_id, cancel=Cancel()))

    async def prepare(self, target: FunctionVersion) -> None:
        try:
            number = self._number(target)
        except ValueError as failure:
            raise InvalidParameterValueException(f"The version cannot be sent: {failure}.") from failure
        await self.ask(Frame(prepare=Prepare(target=number)))

    async def ask(self, frame: Frame) -> Any:
        """The answer: None for a Done. Raises LambdaError; NotStarted if there is none, or never will be: what
        is asked this way can be asked again."""
        if self.draining or self.wire.closing or self.ended.done():
            raise self._refusal()
        if len(self._streams) >= self._most:
            raise NotStarted("full", f"{self._text()} has too many requests.")
        self._stream += 1
        frame.stream = self._stream
        self.wire.send(frame)
        answer = self._streams[frame.stream] = self._loop.create_future()
        try:
            return await answer
        finally:
            self._streams.pop(frame.stream, None)

    def check(self, *, most_pings: int) -> None:
        """To be called now and then: ends a connection on which nothing has come for so many calls."""
        if not self.ready.done():
            return
        if self.wire.reads != self._reads:
            self._reads, self._pings = self.wire.reads, 0
        if self._pings >= most_pings:
            self.wire.abort(TimeoutError("it does not answer"))
            return
        self._pings += 1
        self.wire.send(Frame(ping=Ping()))

    # ---- the handshake --------------------------------------------------------------------------------

    def opened(self) -> None:
        self.wire.send(self._handshake.hello())

    def _shake(self, kind: str | None, frame: Frame) -> None:
        answer = self._handshake.receive(kind, frame)
        if isinstance(answer, Frame):
            self.wire.send(answer)
            return
        self._welcomed = True
        self._most = answer.streams
        self._numbers = Numbers(max(1, min(answer.targets, TARGETS)))
        self.wire.unbounded()
        if not self.ready.done():
            self.ready.set_result(None)

    # ---- what the executor says -----------------------------------------------------------------------

    def received(self, frame: Frame) -> None:
        kind = frame.WhichOneof("body")
        if not self._welcomed:
            self._shake(kind, frame)
            return
        handler = self._handlers.get(kind or "")
        if handler is None:
            raise BadFrame(f"an executor does not say {kind}")
        handler(frame)

    def _run(self, stream: int) -> RemoteRun | None:
        run = self._streams.get(stream)
        return run if isinstance(run, RemoteRun) else None

    def _accepted(self, frame: Frame) -> None:
        run = self._run(frame.stream)
        if run is not None:
            run.accepted = True

    def _response(self, frame: Frame) -> None:
        run = self._run(frame.stream)
        if run is None:
            return
        head = frame.response
        run.accepted = True
        if head.length == len(head.payload):
            run.answer(messages.response_of(head, head.payload))
            self._end_if_done(run)
            return
        if head.payload or head.length > MAX_PAYLOAD:
            raise BadFrame(f"a response of {head.length} bytes")
        run.head, run.incoming = head, Incoming(head.length)

    def _stream_head(self, frame: Frame) -> None:
        run = self._run(frame.stream)
        if run is None:
            return
        if run.stream is None or run.stream.content_type is not None:
            raise BadFrame("a stream that was not asked for")
        run.accepted = True
        run.stream.begin(frame.stream_head.content_type)

    def _streamed(self, run: RemoteRun, stream: ResponseStream, chunk: Chunk) -> None:
        """Credit only for what the reader has taken, so that a slow one holds the function back."""
        if chunk.last:
            return
        run.unpaid += 1
        if run.unpaid > WINDOW:
            raise BadFrame("more chunks than there was credit for")
        if not stream.write(chunk.data):
            stream.room = functools.partial(self._pay, run)
        elif run.unpaid >= WINDOW // 2:
            self._pay(run)

    def _pay(self, run: RemoteRun) -> None:
        if not run.answered and not run.over and run.unpaid:
            chunks, run.unpaid = run.unpaid, 0
            self.wire.send(Frame(stream=run.stream_id, credit=Credit(chunks=chunks)))

    def _chunk(self, frame: Frame) -> None:
        run = self._run(frame.stream)
        if run is None:
            return
        head, incoming = run.head, run.incoming
        if head is None or incoming is None:
            if run.stream is None or run.stream.content_type is None or run.answered:
                raise BadFrame("a chunk of no response")
            self._streamed(run, run.stream, frame.chunk)
            return
        if incoming.add(frame.chunk):
            run.answer(messages.response_of(head, bytes(incoming.data)))
            self._end_if_done(run)
            return
        credit = incoming.credit(frame.stream)
        if credit is not None:
            self.wire.send(credit)

    def _report(self, frame: Frame) -> None:
        run = self._run(frame.stream)
        if run is not None:
            run.close(messages.report_of(frame.report))
            self._end_if_done(run)

    def _end_if_done(self, run: RemoteRun) -> None:
        if run.answered and run.reported:
            run.over = True
            run.link = None
            del self._streams[run.stream_id]

    def _failed(self, frame: Frame) -> None:
        error = messages.error_of(frame.failed)
        if frame.stream == 0:
            raise BadFrame(f"it refuses: {error.message}")
        self._fail(frame.stream, error)

    def _fail(self, stream: int, error: LambdaError) -> None:
        whose = self._streams.pop(stream, None)
        if isinstance(whose, RemoteRun):
            self.wire.drop_data(stream)
            whose.fail(error)
        elif whose is not None and not whose.done():
            whose.set_exception(error)

    def _done(self, frame: Frame) -> None:
        self._give(frame.stream, None)

    def _enforcement(self, frame: Frame) -> None:
        self._give(frame.stream, messages.enforcement_of(frame.enforcement_answer))

    def _give(self, stream: int, answer: object) -> None:
        whose = self._streams.get(stream)
        if isinstance(whose, asyncio.Future) and not whose.done():
            whose.set_result(answer)

    def _credit(self, frame: Frame) -> None:
        self.wire.credit(frame.stream, frame.credit.chunks)

    def _ping(self, _: Frame) -> None:
        self.wire.send(Frame(pong=Pong()))

    def _go_away(self, frame: Frame) -> None:
        self.draining = True
        for stream in [each for each in self._streams if each > frame.go_away.last_stream]:
            self._fail(stream, NotStarted("draining"))

    # ---- the end --------------------------------------------------------------------------------------

    def lost(self, why: Exception | None) -> None:
        streams, self._streams = self._streams, {}
        if not self.ready.done():
            refused = why or ConnectionError("it closed the connection")
            self.ready.set_exception(
                AccessDeniedException(str(refused)) if isinstance(refused, BadFrame) else refused
            )
            self.ready.exception()
        for whose in streams.values():
            if isinstance(whose, RemoteRun):
                whose.fail(self._broke(whose))
            elif not whose.done():
                whose.set_exception(NotStarted("unreachable", f"{self._text()} broke."))
        self.ended.set_result(None)
        self._gone(self, why)

    def _broke(self, run: RemoteRun) -> LambdaError:
        if run.number > self.wire.written or (run.outgoing is not None and not run.outgoing.handed):
            return NotStarted("unreachable", f"{self._text()} broke before the invocation was sent.")
        if run.accepted:
            return ServiceException(f"{self._text()} broke while the function ran. It may have run to its end.")
        return ServiceException(
            f"{self._text()} broke before it said whether the function was started. It may have run."
        )

    def _text(self) -> str:
        return f"The connection to the executor {self._executor}"
