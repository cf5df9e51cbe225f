"""CloudWatch Logs at the Lambda endpoint: one POST to `/` with the operation in a header."""

from collections.abc import Mapping, Sequence
from typing import Any

from lambent.gateway import event_stream
from lambent.gateway.cloudwatch import live_tail
from lambent.gateway.cloudwatch.errors import (
    AccessDeniedException,
    InvalidParameterException,
    NotImplementedException,
    UnknownOperationException,
)
from lambent.gateway.cloudwatch.handlers import OPERATIONS, Logs
from lambent.gateway.cloudwatch.live_tail import Gone
from lambent.gateway.cloudwatch.wire import PREFIX, TARGET, LogsWire
from lambent.gateway.protocol.reply import Reply, Streamed
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log

_log = Log(__name__)
# What AWS's basic execution role allows, and what boto3's log handlers ask for besides; reading is for IAM to
# allow.
_FUNCTIONS_MAY = frozenset({"CreateLogGroup", "CreateLogStream", "PutLogEvents"})
_FUNCTIONS_OWN = "/aws/lambda/"
_MEMBERS: Mapping[str, frozenset[str]] = {
    **{name: each.members | each.harmless for name, each in OPERATIONS.items()},
    live_tail.NAME: live_tail.MEMBERS,
}


def target_of(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The operation of a CloudWatch Logs request; None: it is none."""
    for name, value in headers:
        if name == TARGET and value.startswith(PREFIX):
            return value.removeprefix(PREFIX).decode("latin-1")
    return None


class LogsApi:
    """Serves requests. `serve` raises nothing: every failure is an answer of CloudWatch's form."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._wire = LogsWire(frozenset(_MEMBERS))
        self._closing = False

    def close(self) -> None:
        """Ends live tails within a second."""
        self._closing = True

    async def serve(
        self, operation: str, body: bytes, *, restricted: bool, request_id: str, gone: Gone
    ) -> Reply | Streamed:
        try:
            params = self._params(operation, body, restricted)
            if operation == live_tail.NAME:
                tail = live_tail.LiveTail(self._logs, params)
                await tail.open()
                content_type = (b"content-type", event_stream.CONTENT_TYPE)

                async def over(seconds: float) -> bool:
                    return await gone(seconds) or self._closing

                return Streamed(200, [content_type], tail.messages(request_id, over))
            return self._wire.serialise(operation, await OPERATIONS[operation].handler(self._logs, params))
        except LambdaError as failure:
            return self._wire.error(failure)
        except Exception as failure:
            _log.error("A request failed.", request_id=request_id, operation=operation, exc_info=failure)
            return self._wire.error(
                LambdaError(f"The server failed. Its log has the reason under request id {request_id}.")
            )

    def _params(self, operation: str, body: bytes, restricted: bool) -> dict[str, Any]:
        """Raises LogsError for what may not be asked."""
        if operation not in self._wire.known:
            raise UnknownOperationException(f"{operation[:100]} is no operation of CloudWatch Logs.")
        if restricted and operation not in _FUNCTIONS_MAY:
            raise AccessDeniedException(
                f"Functions can't call {operation} on this endpoint until IAM is enforced; only "
                f"{', '.join(sorted(_FUNCTIONS_MAY))}."
            )
        members = _MEMBERS.get(operation)
        if members is None:
            raise NotImplementedException(
                f"{operation} is in AWS's CloudWatch Logs API and not built in Lambent. Built are "
                f"{', '.join(sorted(_MEMBERS))}."
            )
        params = self._wire.parse(operation, body)
        idle = params.keys() - members
        if idle:
            raise InvalidParameterException(
                f"{', '.join(sorted(idle))} of {operation} is not built in Lambent; leave it out."
            )
        if restricted and params["logGroupName"].startswith(_FUNCTIONS_OWN):
            raise AccessDeniedException(
                f"Functions can't write to {_FUNCTIONS_OWN}* on this endpoint until IAM is enforced: what they "
                "print is there already. Use a log group of another name."
            )
        return params
