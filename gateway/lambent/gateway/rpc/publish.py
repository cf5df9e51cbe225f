"""InvocationService.PublishEvents: events in, acknowledgements out, each once its event is on disk.

One reader takes messages while the events that wait for their answers are few enough, so that gRPC's own flow
control holds the client back; one writer sends what has been answered, in one message when there is more. An
event counts until its answer is written: a client that does not read its answers is read from no more.
"""

import asyncio
import contextlib
from typing import Any

import grpc

from lambent.gateway.fields import FieldChecker
from lambent.gateway.invoke import Invoker, new_request_id
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.rpc.calls import Rpc
from lambent.gateway.rpc.status import duration, refusal
from lambent.kernel.errors import InvalidParameterValueException, LambdaError
from lambent.kernel.tasks import Tasks
from lambent.v1.invocations_pb2 import (
    PublishAccepted,
    PublishError,
    PublishEvent,
    PublishEventsRequest,
    PublishEventsResponse,
    PublishResult,
)

MAX_EVENTS = 1000
"""Events of a message, and of a stream that wait for their answers before the next message is read."""
MAX_BYTES = 16 << 20
"""Payload bytes of a stream that wait so."""
MAX_ID = 128
_OPERATION = "Invoke"


class Publisher:
    """Serves the streams of one server."""

    def __init__(self, invoker: Invoker, protocol: LambdaProtocol, tasks: Tasks) -> None:
        self._invoker = invoker
        self._protocol = protocol
        self._tasks = tasks
        self._fields = FieldChecker()
        self._streams: set[_Stream] = set()
        self._none = asyncio.Event()
        self._closing = False

    async def serve(self, rpc: Rpc) -> None:
        """Until the client has ended its side and every event is answered, or the server stops."""
        stream = _Stream(rpc)
        try:
            rpc.check()
        except LambdaError as failure:
            await rpc.refuse(failure, _OPERATION)
        self._streams.add(stream)
        self._none.clear()
        stream.closed = self._closing
        stream.reader = self._tasks.once("publish reader", self._read(stream))
        try:
            await stream.write_all()
        finally:
            # The client's events that have come in go on to the queue; only their answers are dropped.
            stream.reader.cancel()
            self._streams.discard(stream)
            if not self._streams:
                self._none.set()
        if stream.failure is not None:
            await rpc.refuse(stream.failure, _OPERATION)
        rpc.context.set_trailing_metadata(tuple(rpc.trailing))
        if stream.closed:
            await rpc.context.abort(
                grpc.StatusCode.UNAVAILABLE,
                "The server is stopping. Send the events that were not answered again, in a moment.",
                tuple(rpc.trailing),
            )

    def close(self) -> bool:
        """Reads no more; what has come in is answered. Whether there are streams."""
        self._closing = True
        for stream in self._streams:
            stream.close()
        return bool(self._streams)

    async def ended(self, seconds: float) -> None:
        """Waits until the last stream has ended, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()

    async def _read(self, stream: "_Stream") -> None:
        try:
            while await stream.room():
                request = await stream.rpc.context.read()
                if not isinstance(request, PublishEventsRequest):
                    break  # the client has ended its side
                if len(request.events) > MAX_EVENTS:
                    stream.failure = InvalidParameterValueException(
                        f"A message may have {MAX_EVENTS} events, not {len(request.events)}."
                    )
                    break
                for event in request.events:
                    stream.taken(event)
                    self._tasks.once("publish", self._publish(stream, event))
        except Exception as failure:
            # The stream is broken: the writer learns it from gRPC itself, or ends with this.
            stream.failure = stream.failure or stream.rpc.unforeseen("PublishEvents", failure)
        finally:
            stream.read_all()

    async def _publish(self, stream: "_Stream", event: PublishEvent) -> None:
        result = PublishResult(id=event.id[:MAX_ID])
        request_id = new_request_id()
        try:
            params = _params(event)
            self._protocol.check(_OPERATION, params)
            self._fields.check(_OPERATION, params)
            trace = event.trace_header or None
            await self._invoker.invoke(params, request_id=request_id, trace_id=trace)
        except LambdaError as failure:
            result.error.CopyFrom(_error(failure))
        except Exception as failure:
            result.error.CopyFrom(_error(stream.rpc.unforeseen("PublishEvents", failure)))
        else:
            result.accepted.CopyFrom(PublishAccepted(request_id=request_id))
        stream.answer(event, result)


def _params(event: PublishEvent) -> dict[str, Any]:
    if not 1 <= len(event.id.encode()) <= MAX_ID:
        raise InvalidParameterValueException(f"An event's id must have from 1 to {MAX_ID} bytes.")
    params: dict[str, Any] = {"InvocationType": "Event", "Payload": event.payload}
    if event.function_name:
        params["FunctionName"] = event.function_name
    if event.HasField("qualifier"):
        params["Qualifier"] = event.qualifier
    return params


def _error(failure: LambdaError) -> PublishError:
    refused = refusal(failure, _OPERATION)
    error = PublishError(code=refused.code.value[0], reason=refused.reason, message=refused.message)
    if refused.retry is not None:
        error.retry_delay.CopyFrom(duration(refused.retry))
    return error


class _Stream:
    """One client's stream: what waits for an answer, and the answers that wait to be written."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self.failure: LambdaError | None = None
        self.closed = False
        self._whole = False  # nothing more will be read
        self._events = 0
        self._bytes = 0
        self._answers: list[tuple[int, PublishResult]] = []
        self._news = asyncio.Event()
        self._freed = asyncio.Event()
        self.reader: asyncio.Task[None] | None = None

    # ---- the reader's side ----------------------------------------------------------------------------

    async def room(self) -> bool:
        """Waits until more may be read; False: nothing more is to be."""
        while not self.closed and (self._events >= MAX_EVENTS or self._bytes >= MAX_BYTES):
            self._freed.clear()
            await self._freed.wait()
        return not self.closed

    def taken(self, event: PublishEvent) -> None:
        self._events += 1
        self._bytes += len(event.payload)

    def read_all(self) -> None:
        self._whole = True
        self._news.set()

    def close(self) -> None:
        """The server stops: reads no more."""
        self.closed = True
        if self.reader is not None:
            self.reader.cancel()

    # ---- the writer's side ----------------------------------------------------------------------------

    def answer(self, event: PublishEvent, result: PublishResult) -> None:
        self._answers.append((len(event.payload), result))
        self._news.set()

    async def write_all(self) -> None:
        """Until every event that was read is answered and nothing more is read."""
        while not (self._whole and self._events == 0):
            await self._news.wait()
            self._news.clear()
            while self._answers:
                ready, self._answers = self._answers[:MAX_EVENTS], self._answers[MAX_EVENTS:]
                response = PublishEventsResponse(results=[result for _, result in ready])
                await self.rpc.context.write(response)
                self._events -= len(ready)
                self._bytes -= sum(size for size, _ in ready)
                self._freed.set()
