"""Waiting for log lines: it ends with lines, with its time, and with the server."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from samples import function

from lambent.gateway.internal import Routes
from lambent.gateway.services import Services
from lambent.kernel.clock import SystemClock
from lambent.kernel.models import LoggingConfig
from lambent.kernel.settings import Settings
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.memory_logs import MemoryLogs


class World:
    def __init__(self) -> None:
        self.store, self.logs = MemoryStore(), MemoryLogs()
        services = cast(
            Services,
            SimpleNamespace(store=self.store, logs=self.logs, clock=SystemClock(), settings=Settings()),
        )
        none = cast(Any, None)
        self.routes = Routes(services, s3_events=none, facts={}, runtimes=none, durability=none, usage=none)

    async def wait(self, seconds: float) -> list[str]:
        reply = await self.routes.serve("GET", "/_lambent/logs", f"function=f&wait={seconds}", [], b"")
        return [line["message"] for line in json.loads(reply.body)["lines"]]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.store.create(function("f", logging=LoggingConfig("/aws/lambda/f")))
    return made


async def test_a_wait_ends_with_the_first_lines(world: World) -> None:
    waiting = asyncio.ensure_future(world.wait(20))
    await asyncio.sleep(0)
    world.logs.append("/aws/lambda/f", "s", [(1, "here")])
    assert await asyncio.wait_for(waiting, 5) == ["here"]


async def test_a_wait_is_as_long_as_asked(world: World) -> None:
    began = time.monotonic()
    assert await world.wait(1.2) == []
    assert 1.2 <= time.monotonic() - began < 3


async def test_a_stop_gives_those_who_wait_back(world: World) -> None:
    waiting = asyncio.ensure_future(world.wait(20))
    await asyncio.sleep(0)
    world.routes.close()
    assert await asyncio.wait_for(waiting, 5) == []
