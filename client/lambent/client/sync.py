"""The synchronous face of the client."""

import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import Message

from lambent.client.channel import OPTIONS, Tls, unary
from lambent.client.errors import of_rpc
from lambent.client.values import (
    Acknowledgement,
    Event,
    Invoked,
    Options,
    acknowledgements,
    batches,
    check_publish,
    completed,
    invoke_request,
    invoked,
    stream_request,
)
from lambent.v1 import invocations_pb2_grpc, queue_pb2, usage_pb2


class Client:
    """Of one server, as "127.0.0.1:9090". Thread-safe. Close it, or use it as a context manager. Everything
    raises LambentError."""

    def __init__(self, target: str = "127.0.0.1:9090", *, tls: Tls | None = None) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(target, OPTIONS)
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), (*OPTIONS, *tls.options()))
        self._invocations = invocations_pb2_grpc.InvocationServiceStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def call(self, request: Message, *, timeout: float | None = None) -> Any:
        """Any unary RPC, by its request message: `call(GetFunctionRequest(...))` is a GetFunctionResponse."""
        try:
            return unary(self._channel, request)(request, timeout=timeout)
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure

    def invoke(self, function: str, payload: Any = None, **options: Any) -> Invoked:
        """`payload`: bytes of JSON, or what `json` can write; `options`: of `values.Options`."""
        given = Options(**options)
        try:
            return invoked(
                self._invocations.Invoke(
                    invoke_request(function, payload, given), timeout=given.timeout, metadata=given.metadata()
                )
            )
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure

    def invoke_stream(self, function: str, payload: Any = None, **options: Any) -> "ResponseStream":
        """The response in chunks, as they come."""
        given = Options(**options)
        call = self._invocations.InvokeStream(
            stream_request(function, payload, given), timeout=given.timeout, metadata=given.metadata()
        )
        return ResponseStream(call)

    def publish_events(
        self, events: Iterable[Event], *, batch: int = 1, in_flight: int = 1000
    ) -> Iterator[Acknowledgement]:
        """Sends events as they come from `events`, which another thread reads, and gives what became of each,
        in any order. `batch`: events in one message, which costs less and makes an event wait for others. No
        more than `in_flight` are sent before their answers have come: so many are to be sent again if the
        server goes. An error of `events` is raised here, after the answers to those that came before it."""
        check_publish(batch, in_flight)
        failures: list[Exception] = []
        window = Window(in_flight)

        def requests() -> Iterator[Any]:
            try:
                for message in batches(events, batch):
                    if not window.take(len(message.events)):
                        return
                    yield message
            except Exception as failure:  # grpc would tell its log only
                failures.append(failure)

        call = self._invocations.PublishEvents(requests())
        try:
            for response in call:
                window.give_back(len(response.results))
                yield from acknowledgements(response)
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure
        finally:
            window.close()
            call.cancel()
        if failures:
            raise failures[0]

    def queue_depths(self) -> queue_pb2.GetDepthsResponse:
        response: queue_pb2.GetDepthsResponse = self.call(queue_pb2.GetDepthsRequest())
        return response

    def peek(self, function: str, line: str = "lane", limit: int = 10) -> queue_pb2.PeekResponse:
        """`line`: lane, outcomes or dead."""
        request = queue_pb2.PeekRequest(function_name=function, line=line_of(line), limit=limit)
        response: queue_pb2.PeekResponse = self.call(request)
        return response

    def redrive(self, function: str, limit: int = 0, *, from_dead_letter_queue: bool = False) -> int:
        """How many events were moved; `limit` 0: all."""
        request = queue_pb2.RedriveRequest(
            function_name=function, limit=limit, from_dead_letter_queue=from_dead_letter_queue
        )
        moved: int = self.call(request).moved
        return moved

    def purge(self, function: str, line: str) -> int:
        """How many items were dropped."""
        dropped: int = self.call(queue_pb2.PurgeRequest(function_name=function, line=line_of(line))).dropped
        return dropped

    def replay(self, request_id: str) -> int:
        """How many events run again."""
        replayed: int = self.call(queue_pb2.ReplayRequest(request_id=request_id)).replayed
        return replayed

    def usage(self, by: str = "function", start: str = "", end: str = "") -> usage_pb2.GetUsageResponse:
        response: usage_pb2.GetUsageResponse = self.call(usage_pb2.GetUsageRequest(by=by, start=start, end=end))
        return response


class Window:
    """Counts what is under way between the thread that sends and the one that reads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, count: int) -> bool:
        """Waits for room; one message may always go. False: nothing more is to be sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + count <= self._size)
            self._used += count
            return not self._closed

    def give_back(self, count: int) -> None:
        with self._changed:
            self._used -= count
            self._changed.notify()

    def close(self) -> None:
        """The sending thread must not wait for ever for answers that nobody reads."""
        with self._changed:
            self._closed = True
            self._changed.notify()


class ResponseStream:
    """Chunks of bytes; after the last one `result` says how it ended, without the payload."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.result: Invoked | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for message in self._call:
                if message.HasField("complete"):
                    self.result = completed(message.complete)
                else:
                    yield message.payload_chunk
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure

    def cancel(self) -> None:
        """Wants no more of it."""
        self._call.cancel()


def line_of(name: str) -> queue_pb2.Line:
    """Raises ValueError."""
    line: queue_pb2.Line | None = getattr(queue_pb2, f"LINE_{name.upper()}", None)
    if line is None:
        raise ValueError(f"{name!r} is no line: lane, outcomes or dead")
    return line
