"""The HTTP port of a scheduler or an executor: /healthz and /metrics, for probes and Prometheus."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lambent.kernel import metrics

Facts = Callable[[], Mapping[str, Any]]


class HealthApp:
    """A bare ASGI application. `facts()`: what /healthz shows; "status" is "ok", or what is wrong (503)."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        status, kind, body = await self._reply(scope["method"], scope["path"])
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, method: str, path: str) -> tuple[int, bytes, bytes]:
        if method in ("GET", "HEAD") and path == "/metrics":
            page = await asyncio.to_thread(metrics.exposition)
            return 200, b"text/plain; version=0.0.4; charset=utf-8", page
        if method in ("GET", "HEAD") and path == "/healthz":
            facts = self._facts()
            status = 200 if facts.get("status") == "ok" else 503
            return status, b"application/json", json.dumps(facts).encode() + b"\n"
        nothing = {"message": "There is /healthz and /metrics; the API is a gateway's."}
        return 404, b"application/json", json.dumps(nothing).encode() + b"\n"
