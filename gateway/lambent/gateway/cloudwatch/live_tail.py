"""StartLiveTail: what is logged from now on, once a second, until the reader goes. AWS: "StartLiveTail"."""

import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from lambent.gateway import event_stream
from lambent.gateway.cloudwatch.errors import InvalidParameterException, no_group
from lambent.gateway.cloudwatch.filters import compile_filter
from lambent.gateway.cloudwatch.handlers import Logs
from lambent.kernel.errors import LambdaError
from lambent.kernel.models import LogLine

NAME = "StartLiveTail"
MEMBERS = frozenset({"logGroupIdentifiers", "logStreamNames", "logStreamNamePrefixes", "logEventFilterPattern"})
SESSION_SECONDS = 3 * 3600
MOST_LINES = 500
"""In one second; of more only the last are sent, and the update says that it is a sample."""
_READ = 2000
_SECOND = 1.0

Gone = Callable[[float], Awaitable[bool]]
"""Whether the reader goes within so many seconds."""


class LiveTail:
    """One session. Raises LogsError in `open`; `messages` are those of AWS's event stream then."""

    def __init__(self, logs: Logs, params: Mapping[str, Any]) -> None:
        self._logs = logs
        self._params = params
        self._names = frozenset(params.get("logStreamNames") or ())
        self._prefixes = tuple(params.get("logStreamNamePrefixes") or ())
        self._test = compile_filter(params.get("logEventFilterPattern") or "")
        self._groups: dict[str, str] = {}
        self._after: dict[str, str | None] = {}

    async def open(self) -> None:
        identifiers: Sequence[str] = self._params["logGroupIdentifiers"]
        if self._names and self._prefixes:
            raise InvalidParameterException(
                "logStreamNames and logStreamNamePrefixes are mutually exclusive parameters."
            )
        if len(identifiers) > 1 and (self._names or self._prefixes):
            raise InvalidParameterException("Log streams can be named for one log group only.")
        for identifier in identifiers:
            name = identifier.partition(":log-group:")[2]
            if not identifier.startswith("arn:") or not name or ":" in name:
                raise InvalidParameterException(
                    f"{identifier} is no log group's ARN (without :* at its end), as StartLiveTail takes it."
                )
            if await self._logs.store.group(name) is None:
                raise no_group()
            self._groups[name] = identifier
            self._after[name] = await self._logs.store.end(name)

    async def messages(self, request_id: str, gone: Gone) -> AsyncGenerator[bytes]:
        yield _event("initial-response", {})
        asked = {name: self._params[name] for name in sorted(MEMBERS & self._params.keys())}
        yield _event("sessionStart", {"requestId": request_id, "sessionId": str(uuid.uuid4()), **asked})
        for _ in range(SESSION_SECONDS):
            if await gone(_SECOND):
                return
            try:
                lines = await self._new()
            except LambdaError as failure:
                yield _exception("SessionStreamingException", failure.message)
                return
            results = [self._result(group, line) for group, line in lines[-MOST_LINES:]]
            metadata = {"sampled": len(lines) > MOST_LINES}
            yield _event("sessionUpdate", {"sessionMetadata": metadata, "sessionResults": results})
        yield _exception(
            "SessionTimeoutException", "The session has reached its three hours. Start another one."
        )

    async def _new(self) -> list[tuple[str, LogLine]]:
        found: list[tuple[str, LogLine]] = []
        for group in self._groups:
            lines, self._after[group] = await self._logs.store.read(
                group, after=self._after[group], limit=_READ
            )
            found += [(group, line) for line in lines if self._wanted(line)]
        return sorted(found, key=lambda pair: pair[1].at)

    def _wanted(self, line: LogLine) -> bool:
        if self._names and line.stream not in self._names:
            return False
        if self._prefixes and not line.stream.startswith(self._prefixes):
            return False
        return self._test(line.message)

    def _result(self, group: str, line: LogLine) -> dict[str, Any]:
        return {
            "logStreamName": line.stream,
            "logGroupIdentifier": self._groups[group],
            "message": line.message,
            "timestamp": line.at,
            "ingestionTime": int(line.id.partition("-")[0]),
        }


def _event(kind: str, payload: Mapping[str, Any]) -> bytes:
    headers = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    return event_stream.message(headers, json.dumps(payload).encode())


def _exception(kind: str, text: str) -> bytes:
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    return event_stream.message(headers, json.dumps({"message": text}).encode())
