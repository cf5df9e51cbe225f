"""Who listens to an environment's telemetry and what each one is sent when, apart from sockets, because memory
must stay bounded and nothing may be lost unsaid, whatever a subscriber does.

AWS: "Lambda Telemetry API reference" and "Using the Lambda Logs API" (the older one, whose records differ).
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lambent.executor.log_lines import stamp

TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
_SCHEMAS = {TELEMETRY: ("2022-07-01", "2022-12-13", "2025-01-29"), LOGS: ("2020-08-15", "2021-03-18")}
_TYPES = ("platform", "function", "extension")
_HOSTS = ("sandbox", "sandbox.localdomain")
_RUNTIME_API = 9001
# AWS: least, most, default.
_BOUNDS = {
    "maxItems": (1000, 10_000, 10_000),
    "maxBytes": (262_144, 1_048_576, 262_144),
    "timeoutMs": (25, 30_000, 1000),
}
# What waits at most for a subscriber that takes nothing, as a multiple of one delivery.
_BACKLOG = 4
_FALLEN_BEHIND = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."


@dataclass(frozen=True, slots=True)
class Subscription:
    """What was asked for. `api`: the path it was asked at; `path` None: TCP; `timeout` in seconds."""

    api: str
    schema: str
    types: tuple[str, ...]
    port: int
    path: str | None
    host: str = "sandbox.localdomain"
    method: str = "POST"
    max_items: int = 10_000
    max_bytes: int = 262_144
    timeout: float = 1.0


def subscription(api: str, asked: object) -> Subscription:
    """Of the document of a PUT. Raises ValueError with what is wrong."""
    if not isinstance(asked, dict):
        raise _invalid("the body must be a JSON object")
    schema = asked.get("schemaVersion", _SCHEMAS[api][0])
    if schema not in _SCHEMAS[api]:
        raise _invalid(f"schemaVersion must be one of {', '.join(_SCHEMAS[api])}")
    types = asked.get("types")
    if not isinstance(types, list) or not types or any(one not in _TYPES for one in types):
        raise _invalid(f"types must be some of {', '.join(_TYPES)}")
    host, port, path, method = _destination(asked.get("destination"))
    buffering = _buffering(asked.get("buffering"))
    return Subscription(
        api,
        schema,
        tuple(dict.fromkeys(types)),
        port,
        path,
        host,
        method,
        buffering["maxItems"],
        buffering["maxBytes"],
        buffering["timeoutMs"] / 1000,
    )


def _invalid(text: str) -> ValueError:
    return ValueError(f"Invalid subscription: {text}.")


def _destination(asked: object) -> tuple[str, int, str | None, str]:
    if not isinstance(asked, dict) or asked.get("protocol") not in ("HTTP", "TCP"):
        raise _invalid("destination.protocol must be HTTP or TCP")
    if asked["protocol"] == "TCP":
        return "sandbox.localdomain", _port(asked.get("port")), None, ""
    if asked.get("encoding", "JSON") != "JSON" or asked.get("method", "POST") not in ("POST", "PUT"):
        raise _invalid("destination.encoding must be JSON, and destination.method POST or PUT")
    uri = asked.get("URI")
    try:
        parts = urlsplit(uri if isinstance(uri, str) and uri.isascii() and uri.isprintable() else "")
        port = parts.port if parts.port is not None else 80
    except ValueError:
        raise _invalid("destination.URI is no URI") from None
    if parts.scheme != "http" or parts.hostname not in _HOSTS or " " in str(uri):
        raise _invalid(f"destination.URI must be of http and of one of the hosts {', '.join(_HOSTS)}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return f"{parts.hostname}:{port}", _port(port), path, asked.get("method", "POST")


def _port(asked: object) -> int:
    if not isinstance(asked, int) or isinstance(asked, bool) or not 0 < asked < 65536 or asked == _RUNTIME_API:
        raise _invalid(f"the destination's port must be 1 to 65535, and not {_RUNTIME_API}")
    return asked


def _buffering(asked: object) -> dict[str, int]:
    given = {} if asked is None else asked
    if not isinstance(given, dict):
        raise _invalid("buffering must be an object")
    found = {}
    for name, (least, most, default) in _BOUNDS.items():
        value = given.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _invalid(f"buffering.{name} must be {least} to {most}")
        found[name] = value
    return found


@dataclass(slots=True)
class Dropped:
    """How much a subscriber does not get; nothing if it gets all. `size` in bytes."""

    size: int = 0
    records: int = 0

    def __bool__(self) -> bool:
        return self.records > 0

    def add(self, size: int, records: int = 1) -> None:
        """`size`: of all of them."""
        self.size += size
        self.records += records

    def encoded(self, at: float, reason: str) -> bytes:
        """The event that tells it."""
        record = {"droppedBytes": self.size, "droppedRecords": self.records, "reason": reason}
        return encoded(at, "platform.logsDropped", record)


class Buffer:
    """What waits for one subscriber. Times are of a monotonic clock, in seconds; `at` of the wall clock."""

    def __init__(self, asked: Subscription) -> None:
        self.asked = asked
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._since = 0.0
        self._dropped = Dropped()

    def add(self, event: bytes, now: float) -> None:
        """One that is over what may wait is dropped, and counted."""
        asked = self.asked
        if (
            self._bytes + len(event) > _BACKLOG * asked.max_bytes
            or len(self._waiting) >= _BACKLOG * asked.max_items
        ):
            self._dropped.add(len(event))
            return
        if not self._waiting:
            self._since = now
        self._waiting.append(event)
        self._bytes += len(event)

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._dropped

    def due(self, now: float) -> float:
        """In how many seconds the next delivery is to be made; 0: now."""
        if len(self._waiting) >= self.asked.max_items or self._bytes >= self.asked.max_bytes:
            return 0.0
        return max(0.0, self._since + self.asked.timeout - now)

    def take(self, at: float, now: float) -> list[bytes]:
        """The next delivery: as many as fit, at least one."""
        taken: list[bytes] = []
        size = 0
        if self._dropped:
            taken.append(self._dropped.encoded(at, _FALLEN_BEHIND))
            self._dropped = Dropped()
        while self._waiting and len(taken) < self.asked.max_items:
            if taken and size + len(self._waiting[0]) > self.asked.max_bytes:
                break
            event = self._waiting.popleft()
            size += len(event)
            taken.append(event)
        self._bytes -= size
        self._since = now
        return taken


def encoded(at: float, kind: str, record: Any) -> bytes:
    """One event as it is sent."""
    return json.dumps(
        {"time": stamp(at), "type": kind, "record": record}, separators=(",", ":"), ensure_ascii=False
    ).encode("utf-8", "replace")


def events_for(asked: Subscription, kind: str, record: Any) -> Sequence[tuple[str, Any]]:
    """What a subscriber is sent of an event: nothing, itself, or what its API has in its place."""
    if kind.partition(".")[0] not in asked.types:
        return ()
    if asked.api == TELEMETRY:
        return () if kind == "platform.fault" else ((kind, record),)
    return _as_logs(asked.schema, kind, record)


def _as_logs(schema: str, kind: str, record: Any) -> Sequence[tuple[str, Any]]:
    if kind in ("function", "extension", "platform.fault", "platform.extension", "platform.logsSubscription"):
        return ((kind, record),)
    if kind == "platform.start":
        return ((kind, _only(record, "requestId", "version")),)
    if kind == "platform.runtimeDone" and schema != _SCHEMAS[LOGS][0]:
        return ((kind, _only(record, "requestId", "status")),)
    if kind == "platform.report":
        return (
            ("platform.end", _only(record, "requestId")),
            (kind, _only(record, "requestId", "metrics")),
        )
    return ()


def _only(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: record[name] for name in names if name in record}
