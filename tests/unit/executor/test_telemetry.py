"""Subscriptions: what is refused, what waits, what is sent when, and in which form."""

import json
from typing import Any

import pytest

from lambent.executor.telemetry import LOGS, TELEMETRY, Buffer, Subscription, events_for, subscription

HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/x?y=1"}


def ask(api: str = TELEMETRY, **changes: Any) -> Subscription:
    asked = {"types": ["platform", "function"], "destination": HTTP, **changes}
    return subscription(api, asked)


def test_the_defaults_are_aws_own() -> None:
    asked = ask()
    assert (asked.schema, asked.max_items, asked.max_bytes, asked.timeout) == (
        "2022-07-01",
        10_000,
        262_144,
        1.0,
    )
    assert (asked.host, asked.port, asked.path, asked.method) == (
        "sandbox.localdomain:8080",
        8080,
        "/x?y=1",
        "POST",
    )
    tcp = ask(LOGS, destination={"protocol": "TCP", "port": 9000})
    assert (tcp.schema, tcp.port, tcp.path) == ("2020-08-15", 9000, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": "2020-08-15"},
        {"types": []},
        {"types": ["other"]},
        {"types": "platform"},
        {"destination": None},
        {"destination": {"protocol": "UDP", "port": 1}},
        {"destination": {"protocol": "TCP", "port": 9001}},
        {"destination": {"protocol": "TCP", "port": 0}},
        {"destination": {"protocol": "TCP", "port": True}},
        {"destination": {"protocol": "HTTP", "URI": "http://169.254.1.1:80"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox:9001"}},
        {"destination": {"protocol": "HTTP", "URI": "https://sandbox:90"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox:90/a b"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox:90/\r\nx: y"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox:x"}},
        {"destination": {**HTTP, "method": "GET"}},
        {"buffering": {"maxItems": 999}},
        {"buffering": {"maxBytes": 1_048_577}},
        {"buffering": {"timeoutMs": 24}},
        {"buffering": []},
    ],
)
def test_a_subscription_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Invalid subscription: "):
        ask(**changes)


def test_what_is_no_object_is_refused() -> None:
    nothing: list[object] = [None, [], "x"]
    for document in nothing:
        with pytest.raises(ValueError, match="must be a JSON object"):
            subscription(TELEMETRY, document)


def buffer(**buffering: int) -> Buffer:
    return Buffer(ask(buffering=buffering))


def test_a_delivery_is_due_when_its_first_event_has_waited_long_enough() -> None:
    made = buffer(timeoutMs=500)
    made.add(b"a", 10.0)
    made.add(b"b", 10.4)
    assert made.due(10.0) == pytest.approx(0.5)
    assert made.due(10.5) == 0
    assert made.take(0.0, 10.5) == [b"a", b"b"]
    assert made.empty


def test_a_delivery_is_due_when_it_is_full() -> None:
    by_count = buffer(maxItems=1000)
    for _ in range(1001):
        by_count.add(b"a", 0.0)
    assert by_count.due(0.0) == 0
    assert len(by_count.take(0.0, 0.0)) == 1000 and not by_count.empty
    by_size = buffer(maxBytes=262_144)
    for _ in range(3):
        by_size.add(b"a" * 100_000, 0.0)
    assert by_size.due(0.0) == 0
    assert len(by_size.take(0.0, 0.0)) == 2


def test_an_event_larger_than_a_delivery_goes_alone() -> None:
    made = buffer(maxBytes=262_144)
    made.add(b"a" * 300_000, 0.0)
    made.add(b"b", 0.0)
    assert [len(each) for each in made.take(0.0, 0.0)] == [300_000]


def test_what_is_too_much_is_dropped_and_told() -> None:
    made = buffer()
    for _ in range(12):
        made.add(b"a" * 100_000, 0.0)
    told = json.loads(made.take(1_769_860_800.0, 0.0)[0])
    assert told["type"] == "platform.logsDropped" and told["time"] == "2026-01-31T12:00:00.000Z"
    assert told["record"]["droppedRecords"] == 2 and told["record"]["droppedBytes"] == 200_000
    assert b"logsDropped" not in b"".join(made.take(0.0, 0.0))


START = {"requestId": "r", "version": "1", "tracing": {}}
DONE = {"requestId": "r", "status": "success", "metrics": {}}
REPORT = {"requestId": "r", "status": "success", "metrics": {"durationMs": 1}}


def test_only_the_types_asked_for_are_sent() -> None:
    asked = ask(types=["function"])
    assert events_for(asked, "function", "x") == (("function", "x"),)
    assert events_for(asked, "extension", "x") == () == events_for(asked, "platform.start", START)


def test_the_older_api_has_its_own_records() -> None:
    old, newer = ask(LOGS), ask(LOGS, schemaVersion="2021-03-18")
    assert events_for(old, "platform.initStart", {}) == ()
    assert events_for(old, "platform.start", START) == (("platform.start", {"requestId": "r", "version": "1"}),)
    assert events_for(old, "platform.runtimeDone", DONE) == ()
    assert events_for(newer, "platform.runtimeDone", DONE) == (
        ("platform.runtimeDone", {"requestId": "r", "status": "success"}),
    )
    assert events_for(old, "platform.report", REPORT) == (
        ("platform.end", {"requestId": "r"}),
        ("platform.report", {"requestId": "r", "metrics": {"durationMs": 1}}),
    )


def test_a_fault_is_told_by_the_older_api_only() -> None:
    assert events_for(ask(LOGS), "platform.fault", "died") == (("platform.fault", "died"),)
    assert events_for(ask(), "platform.fault", "died") == ()
