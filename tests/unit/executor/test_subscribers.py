"""What is kept of an init for who subscribes in its course, and what is said of the rest."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from playing import TARGET

from lambent.executor.extensions import Extension
from lambent.executor.function_log import Facts, FunctionLog
from lambent.executor.subscribers import Subscribers
from lambent.executor.telemetry import LOGS, TELEMETRY
from lambent.kernel.clock import SystemClock
from lambent.kernel.store.memory_logs import MemoryLogs
from lambent.kernel.tasks import Tasks


class Listener:
    """Subscribers of one environment, each over TCP, and what they hear."""

    def __init__(self) -> None:
        self.tasks, clock = Tasks("test"), SystemClock()
        self.log = FunctionLog(TARGET, Facts("e1", "v", "arn:r"), logs=MemoryLogs(), stream="s", clock=clock)
        self.subscribers = Subscribers(self.log, self._sockets, clock=clock, tasks=self.tasks)
        self.servers: list[asyncio.Server] = []

    @staticmethod
    async def _sockets(count: int) -> Sequence[socket.socket]:
        made = [socket.socket() for _ in range(count)]
        for one in made:
            one.setblocking(False)
        return made

    async def hears(self, *types: str, api: str = TELEMETRY) -> list[Any]:
        """What a new subscriber has got when it has got all that there is."""
        heard = bytearray()

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 20):
                heard.extend(data)
                if heard.endswith(b'the last"}\n'):
                    all_heard.set()
            writer.close()

        all_heard = asyncio.Event()
        server = await asyncio.start_server(read, "127.0.0.1", 0)
        self.servers.append(server)
        port = server.sockets[0].getsockname()[1]
        asked = {"types": ["function", *types], "destination": {"protocol": "TCP", "port": port}}
        asked["buffering"] = {"timeoutMs": 25}
        extension = Extension("watcher", frozenset(), external=True)
        answer = self.subscribers.subscribe(extension, api, asked, closed=False)
        assert answer.status == 200, answer.body
        self.log.output("the last")
        async with asyncio.timeout(10):
            await all_heard.wait()
        return [json.loads(line) for line in heard.splitlines()]


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    yield made
    made.subscribers.close()
    await made.tasks.drain(1)
    for server in made.servers:
        server.close()


def _dropped(events: list[Any]) -> list[Any]:
    return [event["record"] for event in events if event["type"] == "platform.logsDropped"]


async def test_what_came_before_a_subscription_and_is_not_kept_is_told(listener: Listener) -> None:
    for number in range(1200):
        listener.log.output(f"line {number:04}")
    events = await listener.hears()
    lines = [event["record"] for event in events if event["type"] == "function"]
    missing = 1200 + 1 - len(lines)  # the last line is none of them
    assert missing > 0
    (told,) = _dropped(events)
    size = len(json.dumps(events[0], separators=(",", ":")))
    assert told == {
        "droppedBytes": missing * size,
        "droppedRecords": missing,
        "reason": "More than 1000 events or 262144 bytes came before this subscription.",
    }


async def test_what_is_too_large_to_keep_is_told_too(listener: Listener) -> None:
    listener.log.output("x" * (256 << 10))
    (told,) = _dropped(await listener.hears())
    assert told["droppedRecords"] == 1 and told["droppedBytes"] > 256 << 10


async def test_nothing_is_told_where_all_was_kept(listener: Listener) -> None:
    listener.log.output("first")
    assert _dropped(await listener.hears("platform", "extension")) == []


async def test_who_did_not_ask_for_what_was_dropped_is_told_nothing(listener: Listener) -> None:
    listener.log.output("\x1ewatcher\x1f" + "x" * (256 << 10))  # an extension's line, as its launcher marks it
    assert _dropped(await listener.hears("platform")) == []
    assert _dropped(await listener.hears("platform", api=LOGS)) == []
    assert len(_dropped(await listener.hears("extension"))) == 1
