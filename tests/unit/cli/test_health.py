"""The small HTTP face of a scheduler or an executor."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from lambent.cli.health import HealthApp


async def ask(app: HealthApp, method: str, path: str) -> tuple[int, bytes]:
    sent: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> None:
        raise AssertionError("nothing is read")

    await app({"method": method, "path": path}, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(("said", "status"), [("ok", 200), ("draining", 503)])
async def test_health_says_what_is_and_whether_it_serves(said: str, status: int) -> None:
    app = HealthApp(lambda: {"status": said, "role": "executor"})
    found, body = await ask(app, "GET", "/healthz")
    assert (found, json.loads(body)) == (status, {"status": said, "role": "executor"})
    assert await ask(app, "HEAD", "/healthz") == (status, b"")


async def test_metrics_are_those_of_the_process() -> None:
    status, body = await ask(HealthApp(dict), "GET", "/metrics")
    assert status == 200
    assert b"lambent_lease_slots" in body


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthz"), ("GET", "/2015-03-31/functions")])
async def test_anything_else_is_not_here(method: str, path: str) -> None:
    status, body = await ask(HealthApp(dict), method, path)
    assert status == 404
    assert b"gateway" in body
