"""The Telemetry API and the older Logs API of one environment: who has subscribed to what, and the batches that
are due. No I/O: a batch is taken by the launcher of the environment's extensions, which delivers it inside,
where the destination is.

Bounded: a subscriber that takes nothing loses the newest, and is told how many. AWS: "Lambda Telemetry API".
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lambent.executor import log_lines
from lambent.executor.extensions import Extension
from lambent.executor.runtime_api import Answer, refusal
from lambent.kernel.ports import Clock

TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
_SCHEMAS = {
    TELEMETRY: ("2022-07-01", "2022-12-13", "2025-01-29"),
    LOGS: ("2020-08-15", "2021-03-18"),
}
_TYPES = ("platform", "function", "extension")
# Name: (default, least, most). AWS: "Buffering configuration".
_BOUNDS = {
    "maxItems": (10_000, 1000, 10_000),
    "maxBytes": (262_144, 262_144, 1_048_576),
    "timeoutMs": (1000, 25, 30_000),
}
_EARLY = 1000
_WAITING_BATCHES = 4
_RUNTIME_API_PORT = 9001
_HOSTS = ("sandbox", "sandbox.localdomain")
# What the Logs API had; later events are the Telemetry API's.
_OF_LOGS = {
    "platform.start",
    "platform.report",
    "platform.extension",
    "platform.logsSubscription",
    "platform.logsDropped",
}


@dataclass(slots=True, eq=False)
class Subscription:
    """Of one extension. `api`: the path that it subscribed at; `items`: the batch that is being filled."""

    name: str
    api: str
    schema: str
    types: frozenset[str]
    buffering: Mapping[str, int]
    destination: Mapping[str, Any]
    items: list[Any] = field(default_factory=list)
    size: int = 0
    timer: asyncio.TimerHandle | None = None
    dropped: int = 0
    dropped_bytes: int = 0


class Telemetry:
    """`told`: logs a platform event that is about a subscription itself."""

    def __init__(self, clock: Clock, told: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._clock = clock
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[str, Subscription] = {}
        self._early: list[tuple[str, str, Any]] | None = []
        self._due: deque[tuple[Subscription, list[Any]]] = deque()
        self.ready: Callable[[], None] = lambda: None
        """Called when a batch is due."""

    # ---- subscribing ----------------------------------------------------------------------------------

    def subscribe(self, extension: Extension, api: str, document: Any, *, closed: bool) -> Answer:
        kind = "Telemetry" if api == TELEMETRY else "Logs"
        if closed:
            return refusal(403, f"{kind}.SubscriptionClosed", "Extensions can subscribe during init only.")
        try:
            made = _subscription(extension.name, api, document)
        except ValueError as problem:
            return refusal(400, "ValidationError", str(problem))
        before = self._subscriptions.pop(extension.id, None)
        if before is not None and before.timer is not None:
            before.timer.cancel()
        self._subscriptions[extension.id] = made
        for at, event, record in self._early or ():
            self._add_to(made, at, event, record)
        told = "platform.telemetrySubscription" if api == TELEMETRY else "platform.logsSubscription"
        self._told(told, {"name": extension.name, "state": "Subscribed", "types": sorted(made.types)})
        return Answer(200, b'"OK"')

    def initialised(self) -> None:
        """Nobody subscribes any more."""
        self._early = None

    # ---- events ---------------------------------------------------------------------------------------

    def add(self, kind: str, record: Any) -> None:
        """An event: its type and record, or "function" or "extension" and a line."""
        at = log_lines.stamp(self._clock.now())
        if self._early is not None and len(self._early) < _EARLY:
            self._early.append((at, kind, record))
        for each in self._subscriptions.values():
            self._add_to(each, at, kind, record)

    def _add_to(self, to: Subscription, at: str, kind: str, record: Any) -> None:
        if kind.partition(".")[0] not in to.types:
            return
        if to.api == LOGS and kind.startswith("platform."):
            if kind == "platform.runtimeDone" and to.schema >= "2021-03-18":
                record = {name: record[name] for name in ("requestId", "status")}
            elif kind not in _OF_LOGS:
                return
            elif kind == "platform.report":
                self._put(
                    to, {"time": at, "type": "platform.end", "record": {"requestId": record["requestId"]}}
                )
                record = {"requestId": record["requestId"], "metrics": record["metrics"]}
            elif kind == "platform.start":
                record = {name: record[name] for name in ("requestId", "version")}
        self._put(to, {"time": at, "type": kind, "record": record})

    def _put(self, to: Subscription, item: Any) -> None:
        size = len(json.dumps(item))
        if len(self._due) >= _WAITING_BATCHES * len(self._subscriptions):
            to.dropped += 1
            to.dropped_bytes += size
            return
        if to.dropped:
            record = {
                "droppedRecords": to.dropped,
                "droppedBytes": to.dropped_bytes,
                "reason": "The subscriber does not take what it subscribed to as fast as it comes.",
            }
            to.dropped = to.dropped_bytes = 0
            to.items.append({"time": item["time"], "type": "platform.logsDropped", "record": record})
        to.items.append(item)
        to.size += size
        if len(to.items) >= to.buffering["maxItems"] or to.size >= to.buffering["maxBytes"]:
            self._close(to)
        elif to.timer is None:
            to.timer = self._loop.call_later(to.buffering["timeoutMs"] / 1000, self._close, to)

    def _close(self, to: Subscription) -> None:
        if to.timer is not None:
            to.timer.cancel()
            to.timer = None
        if to.items:
            self._due.append((to, to.items))
            to.items, to.size = [], 0
            self.ready()

    def flush(self) -> None:
        """All that there is is due now."""
        for each in self._subscriptions.values():
            self._close(each)

    def stop(self) -> None:
        for each in self._subscriptions.values():
            if each.timer is not None:
                each.timer.cancel()
                each.timer = None

    # ---- delivery -------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        return bool(self._due)

    def take(self) -> bytes:
        """The next batch, for the launcher: {"destination", "items"}."""
        to, items = self._due.popleft()
        return json.dumps({"destination": to.destination, "items": items}).encode()


def _subscription(name: str, api: str, document: Any) -> Subscription:
    """Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError("The body must be a JSON object.")
    schema = document.get("schemaVersion", _SCHEMAS[api][0])
    if schema not in _SCHEMAS[api]:
        raise ValueError(f"schemaVersion must be one of {', '.join(_SCHEMAS[api])}.")
    types = document.get("types")
    if not isinstance(types, list) or not types or any(each not in _TYPES for each in types):
        raise ValueError(f"types must be a list of some of {', '.join(_TYPES)}.")
    given = document.get("buffering") or {}
    if not isinstance(given, dict):
        raise ValueError("buffering must be an object.")
    buffering = {}
    for bound, (default, least, most) in _BOUNDS.items():
        value = given.get(bound, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"buffering.{bound} must be from {least} to {most}.")
        buffering[bound] = value
    return Subscription(
        name, api, schema, frozenset(types), buffering, _destination(document.get("destination"))
    )


def _destination(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict) or given.get("protocol") not in ("HTTP", "TCP"):
        raise ValueError("destination must be an object with the protocol HTTP or TCP.")
    if given["protocol"] == "TCP":
        port = given.get("port")
        path = ""
    else:
        uri = given.get("URI")
        if not isinstance(uri, str) or not uri.startswith("http://"):
            raise ValueError("destination.URI must begin with http://sandbox.localdomain.")
        place, slash, rest = uri.removeprefix("http://").partition("/")
        host, _, text = place.partition(":")
        if host not in _HOSTS:
            raise ValueError("destination.URI must begin with http://sandbox.localdomain.")
        port = int(text) if text.isdecimal() and len(text) < 6 else 80 if not text else None
        path = slash + rest or "/"
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536 or port == _RUNTIME_API_PORT:
        raise ValueError("The port of the destination must be from 1 to 65535, and not the Runtime API's.")
    return {"protocol": given["protocol"], "port": port, "path": path}
