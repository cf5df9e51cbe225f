"""Lambent's own routes beside AWS's API: health, metrics, logs, triggers, parity, code downloads.

`/healthz` and `/metrics` stand where tools look for them; the rest lives under `/_lambent/`.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

from lambent.gateway import fields, parity, queue_admin, triggers
from lambent.gateway.protocol.api import Reply
from lambent.gateway.s3_events import S3Events
from lambent.gateway.services import Services
from lambent.gateway.usage_report import UsageReport
from lambent.kernel import metrics
from lambent.kernel.arn import parse_function
from lambent.kernel.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    LambdaError,
    ResourceNotFoundException,
    UnknownOperationException,
)
from lambent.kernel.models import LogLine

PLAIN = frozenset({b"/healthz", b"/metrics"})
Headers = Sequence[tuple[bytes, bytes]]
Query = Mapping[str, str]
_JSON = [(b"content-type", b"application/json")]
_LOG_WAIT = 20.0
_LOG_PAGE = 1000
# A stop ends a wait within so long.
_LOG_STEP = 1.0
# Not str.isdigit, which takes what int and float do not ("\u00b2").
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_COUNT = re.compile(r"[0-9]{1,6}")
_EPOCH = re.compile(r"[0-9]{1,15}")


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, list(_JSON), json.dumps(value).encode() + b"\n")


def _object(body: bytes) -> Any:
    """Raises InvalidParameterValueException for what is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidParameterValueException("The body must be a JSON object.") from None


class Routes:
    """`facts` are what the wiring knows and /healthz shows: endpoints, data folder, version. `durability`: what
    an accepted event is worth, {"durable": true, false, or null while it is not known, "how": a text}.
    `runtimes` answers `lambent deploy`."""

    def __init__(
        self,
        services: Services,
        *,
        s3_events: S3Events,
        facts: Mapping[str, Any],
        runtimes: Callable[[], Awaitable[Sequence[Any]]],
        durability: Callable[[], Mapping[str, Any]],
        usage: UsageReport,
    ) -> None:
        self._services = services
        self._s3_events = s3_events
        self._facts = facts
        self._runtimes = runtimes
        self._durability = durability
        self._usage_report = usage
        self._closing = False
        self._table: dict[tuple[str, str], Callable[[Query, bytes], Awaitable[Reply]]] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/_lambent/parity"): self._parity,
            ("GET", "/_lambent/logs"): self._logs,
            ("GET", "/_lambent/runtimes"): self._list_runtimes,
            ("GET", "/_lambent/queue"): self._queue,
            ("GET", "/_lambent/queue/items"): self._peek,
            ("DELETE", "/_lambent/queue/items"): self._purge,
            ("POST", "/_lambent/queue/redrive"): self._redrive,
            ("POST", "/_lambent/queue/replay"): self._replay,
            ("GET", "/_lambent/usage"): self._usage,
            ("GET", "/_lambent/triggers"): self._list_triggers,
            ("POST", "/_lambent/triggers"): self._add_trigger,
            ("DELETE", "/_lambent/triggers"): self._remove_trigger,
        }

    def close(self) -> None:
        """Gives those who wait for log lines back within a second."""
        self._closing = True

    async def serve(self, method: str, path: str, query: str, headers: Headers, body: bytes) -> Reply:
        """Raises LambdaError."""
        if method == "POST" and path == "/_lambent/s3-events":
            token = next((v.decode("latin-1") for n, v in headers if n == b"authorization"), None)
            return _json({}, await self._s3_events.handle(body, token))
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        if method in ("GET", "HEAD") and path.startswith("/_lambent/code/"):
            return await self._code(path.removeprefix("/_lambent/code/"), parameters)
        # HEAD as GET: the listener leaves the body out. Monitors ask so.
        route = self._table.get(("GET" if method == "HEAD" else method, path))
        if route is None:
            raise UnknownOperationException(f"There is nothing at {method} {path}.")
        return await route(parameters, body)

    async def _health(self, query: Query, body: bytes) -> Reply:
        try:
            async with asyncio.timeout(5):
                await self._services.store.ping()
        except (LambdaError, TimeoutError) as failure:
            return _json({"status": "unavailable", "reason": str(failure) or "The store is slow."}, 503)
        enforcement = [asdict(entry) for entry in self._services.host.enforcement()]
        answer = {"status": "ok", **self._facts, "durability": self._durability(), "enforcement": enforcement}
        return _json(answer)

    async def _metrics(self, query: Query, body: bytes) -> Reply:
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        return Reply(200, [(b"content-type", kind)], await asyncio.to_thread(metrics.exposition))

    async def _parity(self, query: Query, body: bytes) -> Reply:
        return _json(parity.parity(fields.BUILT))

    async def _list_runtimes(self, query: Query, body: bytes) -> Reply:
        return _json({"runtimes": [asdict(entry) for entry in await self._runtimes()]})

    async def _logs(self, query: Query, body: bytes) -> Reply:
        asked, wait = query.get("function", ""), query.get("wait", "0")
        if not asked or not _SECONDS.fullmatch(wait):
            raise InvalidParameterValueException("Give function=NAME, and wait=SECONDS as a number.")
        settings = self._services.settings
        name = parse_function(asked, region=settings.region, account=settings.account_id).name
        function = await self._services.store.get(name)
        group = function.latest.logging.log_group if function is not None else f"/aws/lambda/{name}"
        lines, cursor = await self._read_logs(group, query.get("after"), min(float(wait), _LOG_WAIT))
        if function is None and not lines:
            raise ResourceNotFoundException(f"Function {name} does not exist and has left no log.")
        return _json({"lines": [asdict(line) for line in lines], "cursor": cursor})

    async def _read_logs(
        self, group: str, after: str | None, wait: float
    ) -> tuple[Sequence[LogLine], str | None]:
        clock = self._services.clock
        until = clock.monotonic() + wait
        while True:
            left = 0.0 if self._closing else until - clock.monotonic()
            lines, cursor = await self._services.logs.read(
                group, after=after, limit=_LOG_PAGE, wait=max(0.0, min(left, _LOG_STEP))
            )
            if lines or left <= _LOG_STEP:
                return lines, cursor

    async def _queue(self, query: Query, body: bytes) -> Reply:
        return _json(await queue_admin.depths(self._services))

    async def _peek(self, query: Query, body: bytes) -> Reply:
        limit = query.get("limit", "10")
        if not _COUNT.fullmatch(limit):
            raise InvalidParameterValueException("limit must be a number.")
        line = query.get("line", "lane")
        return _json(await queue_admin.peek(self._services, query.get("function", ""), line, int(limit)))

    async def _purge(self, query: Query, body: bytes) -> Reply:
        if "line" not in query:
            raise InvalidParameterValueException("Say what to drop: line=lane, line=outcomes or line=dead.")
        return _json(await queue_admin.purge(self._services, query.get("function", ""), query["line"]))

    async def _redrive(self, query: Query, body: bytes) -> Reply:
        asked = queue_admin.members(
            _object(body), {"function": str, "limit": int, "from_dead_letter_queue": bool}
        )
        moved = await queue_admin.redrive(
            self._services,
            asked.get("function", ""),
            asked.get("limit", queue_admin.MAX_MOVED),
            from_queue=asked.get("from_dead_letter_queue", False),
        )
        return _json(moved)

    async def _replay(self, query: Query, body: bytes) -> Reply:
        asked = queue_admin.members(_object(body), {"request_id": str})
        return _json(await queue_admin.replay(self._services, asked.get("request_id", "")))

    async def _usage(self, query: Query, body: bytes) -> Reply:
        by, start, end = query.get("by", "function"), query.get("from", ""), query.get("to", "")
        return _json(await self._usage_report.report(by, start, end))

    async def _list_triggers(self, query: Query, body: bytes) -> Reply:
        return _json({"triggers": await triggers.list_triggers(self._services)})

    async def _add_trigger(self, query: Query, body: bytes) -> Reply:
        return _json(await triggers.add_trigger(self._services, _object(body)), 201)

    async def _remove_trigger(self, query: Query, body: bytes) -> Reply:
        return _json(await triggers.remove_trigger(self._services, query.get("id", "")))

    async def _code(self, digest: str, query: Query) -> Reply:
        expires, signature = query.get("expires", ""), query.get("signature", "")
        # Ours are ASCII throughout; comparing signatures raises for anything else.
        ours = _EPOCH.fullmatch(expires) is not None and (digest + signature).isascii()
        if not ours or not self._services.code_urls.valid(digest, expires, signature):
            raise AccessDeniedException("This download URL is wrong or has expired. Call GetFunction again.")
        return Reply(200, [(b"content-type", b"application/zip")], await self._services.blobs.get(digest))
