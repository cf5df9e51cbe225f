"""UsageService, over `usage_report.py` as the HTTP route and `lambent usage` are."""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.rpc.calls import Calls, Context
from lambent.gateway.usage_report import UsageReport
from lambent.v1 import usage_pb2_grpc
from lambent.v1.usage_pb2 import GetUsageRequest, GetUsageResponse, Usage

_OTHER = {"cost_usd": "cost"}
_SUMS = frozenset(Usage.DESCRIPTOR.fields_by_name)


class UsageService(usage_pb2_grpc.UsageServiceServicer):
    """Holds nothing."""

    def __init__(self, report: UsageReport, calls: Calls) -> None:
        self._report = report
        self._calls = calls

    async def GetUsage(self, request: GetUsageRequest, context: Context) -> GetUsageResponse:
        rpc = self._calls.begin(context)
        by = request.by or "function"
        found = await rpc.run("GetUsage", lambda: self._report.report(by, request.start, request.end))
        response = GetUsageResponse(
            by=by,
            currency=found["currency"],
            prices=found["prices"],
            missing=found["missing"],
            total=_usage(found["total"]),
        )
        response.start.FromJsonString(found["from"])
        response.end.FromJsonString(found["to"])
        for row in found["rows"]:
            group = {name: text for name, text in row.items() if isinstance(text, str)}
            response.rows.add(group=group, usage=_usage(row))
        return response


def _usage(row: Mapping[str, Any]) -> Usage:
    named = {_OTHER.get(name, name): value for name, value in row.items()}
    return Usage(
        **{name: value for name, value in named.items() if name in _SUMS and not isinstance(value, str)}
    )
