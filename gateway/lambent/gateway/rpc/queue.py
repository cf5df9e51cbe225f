"""QueueService, over `queue_admin.py` as the HTTP routes and the commands are."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lambent.gateway import queue_admin
from lambent.gateway.rpc.calls import Calls, Context
from lambent.gateway.rpc.members import number, word
from lambent.gateway.services import Services
from lambent.kernel.errors import InvalidParameterValueException
from lambent.v1 import queue_pb2, queue_pb2_grpc
from lambent.v1.queue_pb2 import (
    GetDepthsRequest,
    GetDepthsResponse,
    PeekRequest,
    PeekResponse,
    PurgeRequest,
    PurgeResponse,
    QueueItem,
    RedriveRequest,
    RedriveResponse,
    ReplayRequest,
    ReplayResponse,
)

_DEFAULT_PEEK = 10
_LINE = queue_pb2.Line.DESCRIPTOR
_CONDITION = queue_pb2.Condition.DESCRIPTOR


class QueueService(queue_pb2_grpc.QueueServiceServicer):
    """Holds nothing."""

    def __init__(self, services: Services, calls: Calls) -> None:
        self._services = services
        self._calls = calls

    async def GetDepths(self, request: GetDepthsRequest, context: Context) -> GetDepthsResponse:
        found = await self._calls.begin(context).run("GetDepths", lambda: queue_admin.depths(self._services))
        response = GetDepthsResponse()
        for row in found["functions"]:
            values = {**row, "function_name": row["function"] or ""}
            age = values.pop("oldest_age_seconds")
            del values["function"]
            response.functions.add(**values, oldest_age=None if age is None else _duration(age))
        for row in found["targets"]:
            response.targets.add(**{**row, "since": _timestamp(row["since"])})
        return response

    async def Peek(self, request: PeekRequest, context: Context) -> PeekResponse:
        async def work() -> Mapping[str, Any]:
            line = _line(request.line or queue_pb2.LINE_LANE)
            return await queue_admin.peek(
                self._services, request.function_name, line, request.limit or _DEFAULT_PEEK
            )

        found = await self._calls.begin(context).run("Peek", work)
        return PeekResponse(items=[_item(item) for item in found["items"]])

    async def Redrive(self, request: RedriveRequest, context: Context) -> RedriveResponse:
        async def work() -> Mapping[str, Any]:
            limit = request.limit or queue_admin.MAX_MOVED
            from_queue = request.from_dead_letter_queue
            return await queue_admin.redrive(
                self._services, request.function_name, limit, from_queue=from_queue
            )

        return RedriveResponse(**await self._calls.begin(context).run("Redrive", work))

    async def Purge(self, request: PurgeRequest, context: Context) -> PurgeResponse:
        async def work() -> Mapping[str, Any]:
            return await queue_admin.purge(self._services, request.function_name, _line(request.line))

        return PurgeResponse(**await self._calls.begin(context).run("Purge", work))

    async def Replay(self, request: ReplayRequest, context: Context) -> ReplayResponse:
        rpc = self._calls.begin(context)
        found = await rpc.run("Replay", lambda: queue_admin.replay(self._services, request.request_id))
        return ReplayResponse(**found)


def _line(line: int) -> str:
    if not line:
        raise InvalidParameterValueException("line must be named: what is dropped is gone for good.")
    return word(_LINE, line).lower()


def _item(item: Mapping[str, Any]) -> QueueItem:
    values = dict(item)
    for name in ("accepted", "due", "ended"):
        moment = values.pop(name, None)
        if moment is not None:
            values[name] = _timestamp(moment)
    values["age"] = _duration(values.pop("age_seconds"))
    if "condition" in values:
        values["condition"] = number(_CONDITION, values["condition"])
    return QueueItem(**{name: value for name, value in values.items() if value is not None})


def _timestamp(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made
