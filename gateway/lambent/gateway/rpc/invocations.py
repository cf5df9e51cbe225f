"""InvocationService's Invoke and InvokeStream, over the same `invoke.py` as HTTP."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from lambent.gateway.fields import FieldChecker
from lambent.gateway.invoke import Invoked, Invoker
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.rpc.calls import Calls, Context, Rpc
from lambent.gateway.rpc.members import word
from lambent.gateway.rpc.publish import Publisher
from lambent.gateway.trace import answered
from lambent.kernel.errors import LambdaError
from lambent.kernel.ports import Run
from lambent.v1 import invocations_pb2, invocations_pb2_grpc
from lambent.v1.invocations_pb2 import (
    InvokeRequest,
    InvokeResponse,
    InvokeStreamComplete,
    InvokeStreamRequest,
    InvokeStreamResponse,
)

MAX_CHUNK = 65_536
_TYPE = invocations_pb2.InvocationType.DESCRIPTOR
_LOG = invocations_pb2.LogType.DESCRIPTOR


class _Stop:
    """Ends an execution when its client has gone, also one that is not begun yet."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._gone = False
        self._run: Run | None = None

    def started(self, run: Run) -> None:
        self._run = run
        if self._gone:
            run.cancel()

    def gone(self) -> None:
        self._gone = self._wanted
        if self._gone and self._run is not None:
            self._run.cancel()


class InvocationService(invocations_pb2_grpc.InvocationServiceServicer):
    """Serves until `close`, which ends the streams of PublishEvents."""

    def __init__(self, invoker: Invoker, protocol: LambdaProtocol, calls: Calls, publisher: Publisher) -> None:
        self._invoker = invoker
        self._protocol = protocol
        self._calls = calls
        self._publisher = publisher
        self._fields = FieldChecker()

    async def Invoke(self, request: InvokeRequest, context: Context) -> InvokeResponse:
        rpc = self._calls.begin(context)
        stop = _Stop(request.cancel_on_disconnect)
        found = await self._invoke(rpc, request, {"InvocationType": request.invocation_type}, stop=stop)
        return InvokeResponse(
            status_code=found.status,
            payload=found.payload,
            function_error=found.function_error or "",
            executed_version=found.executed_version or "",
            log_result=found.log_result or b"",
            request_id=rpc.request_id,
        )

    async def InvokeStream(
        self, request: InvokeStreamRequest, context: Context
    ) -> AsyncIterator[InvokeStreamResponse]:
        rpc = self._calls.begin(context)
        stop = _Stop(request.cancel_on_disconnect)
        found = await self._invoke(rpc, request, {}, stop=stop)
        details = b""
        if found.stream is None:
            for chunk in _chunks(found.payload):
                yield chunk
        else:
            try:
                while data := await found.stream.read():
                    for chunk in _chunks(data):
                        yield chunk
            except (asyncio.CancelledError, GeneratorExit):
                stop.gone()
                raise
            finally:
                found.stream.abandon()
            try:
                found = await found.stream.end()
            except LambdaError as failure:
                await rpc.refuse(failure, "InvokeStream")
            details = found.payload
        complete = InvokeStreamComplete(
            function_error=found.function_error or "",
            executed_version=found.executed_version or "",
            log_result=found.log_result or b"",
            request_id=rpc.request_id,
            error_details=details,
        )
        yield InvokeStreamResponse(complete=complete)

    async def PublishEvents(self, requests: object, context: Context) -> None:
        # Not by `requests` and `yield`: answers come while nothing is sent, and the other way round.
        await self._publisher.serve(self._calls.begin(context))

    async def _invoke(
        self, rpc: Rpc, request: InvokeRequest | InvokeStreamRequest, more: Mapping[str, int], *, stop: _Stop
    ) -> Invoked:
        async def work() -> Invoked:
            params = _params(request, more)
            self._protocol.check("Invoke", params)
            self._fields.check("Invoke", params)
            found = await self._invoker.invoke(
                params,
                request_id=rpc.request_id,
                trace_id=rpc.header("x-amzn-trace-id"),
                started=stop.started,
                streaming=isinstance(request, InvokeStreamRequest),
            )
            if found.trace_id is not None:
                rpc.trailing.append(("x-amzn-trace-id", answered(found.trace_id)))
            return found

        return await rpc.run("Invoke", work, gone=stop.gone)


def _chunks(data: bytes) -> Iterator[InvokeStreamResponse]:
    for start in range(0, len(data), MAX_CHUNK):
        yield InvokeStreamResponse(payload_chunk=data[start : start + MAX_CHUNK])


def _params(request: InvokeRequest | InvokeStreamRequest, more: Mapping[str, int]) -> dict[str, Any]:
    """By hand, since this path is hot."""
    params: dict[str, Any] = {}
    if request.function_name:
        params["FunctionName"] = request.function_name
    if request.HasField("qualifier"):
        params["Qualifier"] = request.qualifier
    if request.payload:
        params["Payload"] = request.payload
    kind = more.get("InvocationType")
    if kind:
        params["InvocationType"] = word(_TYPE, kind)
    if request.log_type:
        params["LogType"] = word(_LOG, request.log_type)
    if request.client_context:
        params["ClientContext"] = base64.b64encode(request.client_context).decode()
    return params
