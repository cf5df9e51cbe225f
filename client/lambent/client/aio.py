"""The asynchronous face of the client: `client.Client` with `await`; what each method does stands there."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import Message

from lambent.client.channel import OPTIONS, Tls, unary
from lambent.client.errors import of_rpc
from lambent.client.sync import line_of
from lambent.client.values import (
    Acknowledgement,
    Batch,
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
from lambent.v1.invocations_pb2 import PublishEventsRequest


class AsyncClient:
    """Of one server. Use it in the event loop that it was made in."""

    def __init__(self, target: str = "127.0.0.1:9090", *, tls: Tls | None = None) -> None:
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, tls.credentials(), (*OPTIONS, *tls.options()))
        # One stub for both kinds of channel; the types know the synchronous one.
        self._invocations: Any = invocations_pb2_grpc.InvocationServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def call(self, request: Message, *, timeout: float | None = None) -> Any:
        try:
            return await unary(self._channel, request)(request, timeout=timeout)
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure

    async def invoke(self, function: str, payload: Any = None, **options: Any) -> Invoked:
        given = Options(**options)
        request = invoke_request(function, payload, given)
        try:
            return invoked(
                await self._invocations.Invoke(request, timeout=given.timeout, metadata=given.metadata())
            )
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure

    def invoke_stream(self, function: str, payload: Any = None, **options: Any) -> "AsyncResponseStream":
        given = Options(**options)
        request = stream_request(function, payload, given)
        call = self._invocations.InvokeStream(request, timeout=given.timeout, metadata=given.metadata())
        return AsyncResponseStream(call)

    async def publish_events(
        self, events: AsyncIterable[Event] | Iterable[Event], *, batch: int = 1, in_flight: int = 1000
    ) -> AsyncIterator[Acknowledgement]:
        check_publish(batch, in_flight)
        failures: list[Exception] = []
        used, freed = 0, asyncio.Event()

        async def requests() -> AsyncIterator[Any]:
            nonlocal used
            try:
                async for message in _batches(events, batch):
                    while used and used + len(message.events) > in_flight:
                        freed.clear()
                        await freed.wait()
                    used += len(message.events)
                    yield message
            except Exception as failure:  # grpc would tell its log only
                failures.append(failure)

        call = self._invocations.PublishEvents(requests())
        try:
            async for response in call:
                used -= len(response.results)
                freed.set()
                for each in acknowledgements(response):
                    yield each
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure
        finally:
            call.cancel()
        if failures:
            raise failures[0]

    async def queue_depths(self) -> queue_pb2.GetDepthsResponse:
        response: queue_pb2.GetDepthsResponse = await self.call(queue_pb2.GetDepthsRequest())
        return response

    async def peek(self, function: str, line: str = "lane", limit: int = 10) -> queue_pb2.PeekResponse:
        request = queue_pb2.PeekRequest(function_name=function, line=line_of(line), limit=limit)
        response: queue_pb2.PeekResponse = await self.call(request)
        return response

    async def redrive(self, function: str, limit: int = 0, *, from_dead_letter_queue: bool = False) -> int:
        request = queue_pb2.RedriveRequest(
            function_name=function, limit=limit, from_dead_letter_queue=from_dead_letter_queue
        )
        moved: int = (await self.call(request)).moved
        return moved

    async def purge(self, function: str, line: str) -> int:
        request = queue_pb2.PurgeRequest(function_name=function, line=line_of(line))
        dropped: int = (await self.call(request)).dropped
        return dropped

    async def replay(self, request_id: str) -> int:
        replayed: int = (await self.call(queue_pb2.ReplayRequest(request_id=request_id))).replayed
        return replayed

    async def usage(self, by: str = "function", start: str = "", end: str = "") -> usage_pb2.GetUsageResponse:
        request = usage_pb2.GetUsageRequest(by=by, start=start, end=end)
        response: usage_pb2.GetUsageResponse = await self.call(request)
        return response


class AsyncResponseStream:
    """See `sync.ResponseStream`."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.result: Invoked | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for message in self._call:
                if message.HasField("complete"):
                    self.result = completed(message.complete)
                else:
                    yield message.payload_chunk
        except grpc.RpcError as failure:
            raise of_rpc(failure) from failure

    def cancel(self) -> None:
        self._call.cancel()


async def _batches(
    events: AsyncIterable[Event] | Iterable[Event], size: int
) -> AsyncIterator[PublishEventsRequest]:
    """`values.batches` of either kind of source."""
    if not isinstance(events, AsyncIterable):
        for message in batches(events, size):
            yield message
        return
    batch = Batch(size)
    failure: Exception | None = None
    try:
        async for event in events:
            if batch.add(event):
                yield batch.take()
    except Exception as error:
        failure = error
    if batch:
        yield batch.take()
    if failure is not None:
        raise failure
