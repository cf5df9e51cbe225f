import asyncio
import json
from collections.abc import Mapping
from typing import Any

from lambent.executor.extensions import Extension
from lambent.executor.telemetry import LOGS, TELEMETRY, Telemetry
from lambent.kernel.clock import TestClock

HTTP = {"protocol": "HTTP", "URI": "http://sandbox:8080/here"}


class World:
    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.telemetry = Telemetry(TestClock(), lambda kind, record: self.told.append((kind, record)))
        self.ready = asyncio.Event()
        self.telemetry.ready = self.ready.set
        self.extension = Extension("one", frozenset(), external=True)

    def subscribe(self, api: str = TELEMETRY, closed: bool = False, **members: Any) -> int:
        document = {"types": ["platform", "function"], "destination": HTTP, **members}
        return self.telemetry.subscribe(self.extension, api, document, closed=closed).status

    def taken(self) -> list[Any]:
        batch = json.loads(self.telemetry.take())
        assert batch["destination"] == {"protocol": "HTTP", "port": 8080, "path": "/here"}
        items: list[Any] = batch["items"]
        return items


async def test_what_was_before_the_subscription_is_delivered_too() -> None:
    world = World()
    world.telemetry.add("platform.initStart", {"phase": "init"})
    world.telemetry.add("extension", "not wanted")
    assert world.subscribe() == 200
    assert world.told == [
        (
            "platform.telemetrySubscription",
            {"name": "one", "state": "Subscribed", "types": ["function", "platform"]},
        )
    ]
    world.telemetry.add("function", "a line")
    assert not world.telemetry.due
    world.telemetry.flush()
    items = world.taken()
    assert [(item["type"], item["record"]) for item in items] == [
        ("platform.initStart", {"phase": "init"}),
        ("function", "a line"),
    ]
    assert items[0]["time"].endswith("Z")
    assert not world.telemetry.due
    world.telemetry.stop()


async def test_a_batch_is_due_when_it_is_old_or_full() -> None:
    world = World()
    world.subscribe(buffering={"timeoutMs": 25, "maxItems": 1000})
    world.telemetry.add("function", "one")
    await world.ready.wait()
    assert len(world.taken()) == 1
    for number in range(1000):
        assert not world.telemetry.due
        world.telemetry.add("function", str(number))
    assert len(world.taken()) == 1000
    world.telemetry.add("function", "x" * 300_000)
    assert len(world.taken()) == 1
    world.telemetry.stop()


async def test_a_subscriber_that_takes_nothing_loses_and_is_told() -> None:
    world = World()
    world.subscribe(buffering={"timeoutMs": 30_000})
    for _ in range(10):
        world.telemetry.add("function", "x" * 300_000)
    assert [len(world.taken()) for _ in range(4)] == [1, 1, 1, 1]
    world.telemetry.add("function", "again")
    world.telemetry.flush()
    dropped, again = world.taken()
    assert dropped["type"] == "platform.logsDropped"
    assert dropped["record"]["droppedRecords"] == 6 and dropped["record"]["droppedBytes"] > 1_800_000
    assert again["record"] == "again"
    world.telemetry.stop()


async def test_a_second_subscription_takes_the_place_of_the_first() -> None:
    world = World()
    world.subscribe(types=["function"])
    world.subscribe(types=["platform"])
    world.telemetry.initialised()
    world.telemetry.add("function", "a line")
    world.telemetry.add("platform.start", {})
    world.telemetry.flush()
    assert [item["type"] for item in world.taken()] == ["platform.start"]
    assert not world.telemetry.due


async def test_nobody_subscribes_after_init() -> None:
    world = World()
    assert world.subscribe(closed=True) == 403


async def test_the_logs_api_has_what_it_had() -> None:
    world = World()
    world.subscribe(LOGS, schemaVersion="2021-03-18", types=["platform"])
    for kind, record in (
        ("platform.initStart", {}),
        ("platform.start", {"requestId": "r", "version": "1", "tracing": {}}),
        ("platform.runtimeDone", {"requestId": "r", "status": "success", "metrics": {}}),
        ("platform.report", {"requestId": "r", "status": "success", "metrics": {"durationMs": 1}}),
    ):
        world.telemetry.add(kind, record)
    world.telemetry.flush()
    assert [(item["type"], item["record"]) for item in world.taken()] == [
        ("platform.start", {"requestId": "r", "version": "1"}),
        ("platform.runtimeDone", {"requestId": "r", "status": "success"}),
        ("platform.end", {"requestId": "r"}),
        ("platform.report", {"requestId": "r", "metrics": {"durationMs": 1}}),
    ]
