"""Asynchronous invocations on a whole server: how many are accepted on disk a second, how many run, how long
one waits for its handler, and what a flood of one function does to another."""

import http.client
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.servers import CLIENTS, api, cpu_seconds, create, lambent, load
from rich.console import Console
from rich.table import Table

_SLEEPS = "import time\ndef handler(event, context):\n    time.sleep(600)\n"
_NAPS = "import time\ndef handler(event, context):\n    time.sleep(1)\n"


class Ask:
    """Lambent's own API over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return json.loads(text) if text else None


def _path(name: str) -> str:
    return f"/2015-03-31/functions/{name}/invocations"


def _waiting(ask: Ask, name: str) -> int:
    rows = ask("GET", "/_lambent/queue")["functions"]
    return sum(row["ready"] + row["in_flight"] + row["delayed"] for row in rows if row["function"] == name)


def accepts(port: int, seconds: float) -> dict[int, dict[str, float]]:
    """{clients: numbers of 202s}; the function is busy with one event, so that only the queue works."""
    aws, ask, results = api(port), Ask(port), {}
    create(aws, "accept", code=_SLEEPS, timeout=900)
    aws.put_function_concurrency(FunctionName="accept", ReservedConcurrentExecutions=1)
    load(port, _path("accept"), 8, 1, event=True)
    for clients in CLIENTS:
        results[clients] = load(port, _path("accept"), clients, seconds, event=True)
        ask("DELETE", "/_lambent/queue/items?function=accept&line=lane")
    aws.delete_function(FunctionName="accept")
    return results


def end_to_end(port: int, seconds: float) -> dict[str, float]:
    """Events that ran a second, and synchronous invocations a second of the same function, 64 clients each."""
    aws, ask = api(port), Ask(port)
    create(aws, "echo", 256)
    load(port, _path("echo"), 64, 3)
    sync = load(port, _path("echo"), 64, seconds)
    began = time.perf_counter()
    sent = load(port, _path("echo"), 64, seconds, event=True)
    while _waiting(ask, "echo"):
        time.sleep(0.05)
    events = sent["count"] / (time.perf_counter() - began)
    return {"sync": sync["per_second"], "events": events, "accepted": sent["per_second"]}


def start_latencies(port: int, name: str, count: int, pause: float) -> list[float]:
    """Milliseconds from the request of each of some events to its START line, at a rate that loads nobody. (The
    START of a warm function comes about as soon as the 202 does.)"""
    ask, sent = Ask(port), dict[str, float]()
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
        at = time.time() * 1000
        connection.request("POST", _path(name), b"{}", {"X-Amz-Invocation-Type": "Event"})
        answer = connection.getresponse()
        answer.read()
        sent[answer.headers["x-amzn-requestid"]] = at
        connection.close()
        time.sleep(pause)
    started: dict[str, float] = {}
    cursor = ""
    while len(started) < count:
        page = ask("GET", f"/_lambent/logs?function={name}&wait=5{cursor}")
        for line in page["lines"]:
            words = line["message"].split()
            if words[:2] == ["START", "RequestId:"] and words[2] in sent:
                started[words[2]] = line["at"] + 0.5  # the line's time is cut to the millisecond
        cursor = f"&after={page['cursor']}" if page["cursor"] else ""
    return sorted(started[request] - sent[request] for request in sent)


def flood(port: int, pid: int, count: int) -> dict[str, float]:
    """What a flood of a function that may run once at a time does to another one's events, and to the CPU."""
    aws, ask = api(port), Ask(port)
    create(aws, "quiet")
    create(aws, "flood", code=_NAPS, timeout=10)
    aws.put_function_concurrency(FunctionName="flood", ReservedConcurrentExecutions=1)
    start_latencies(port, "quiet", 50, 0.02)
    before = start_latencies(port, "quiet", 200, 0.02)
    idle_cpu = _cpu_share(pid, 5)
    sent = 0.0
    while sent < count:
        sent += load(port, _path("flood"), 64, 5, event=True)["count"]
    during = start_latencies(port, "quiet", 200, 0.02)
    waiting = float(_waiting(ask, "flood"))
    cpu = _cpu_share(pid, 5)
    ask("DELETE", "/_lambent/queue/items?function=flood&line=lane")
    return {
        "flood": waiting,
        "before": statistics.median(before),
        "during": statistics.median(during),
        "p99 before": _p99(before),
        "p99 during": _p99(during),
        "idle cpu": idle_cpu,
        "cpu": cpu,
    }


def _cpu_share(pid: int, seconds: float) -> float:
    began, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


def _p99(values: list[float]) -> float:
    return values[min(len(values) - 1, int(len(values) * 0.99))]


def run(console: Console, seconds: float, count: int, broker: str = "") -> None:
    """Everything, on one server; `broker`: its LAMBENT_BROKER_URL."""
    with tempfile.TemporaryDirectory() as folder, lambent(Path(folder), broker=broker) as (port, pid):
        accepted = accepts(port, seconds)
        table = Table("clients", "accepted / s", "p50 ms", "p99 ms", "refused")
        for clients, numbers in accepted.items():
            table.add_row(
                str(clients),
                f"{numbers['per_second']:.0f}",
                f"{numbers['p50_ms']:.2f}",
                f"{numbers['p99_ms']:.2f}",
                f"{numbers['failures']:.0f}",
            )
        console.print("Events accepted, on disk before 202 (budget: >= 4,000/s at 64 clients)")
        console.print(table)
        whole = end_to_end(port, seconds)
        console.print(
            f"Events end to end: {whole['events']:.0f}/s, synchronous {whole['sync']:.0f}/s, ratio "
            f"{whole['events'] / whole['sync']:.2f} (budget: >= 0.6)"
        )
        create(api(port), "latency")
        start_latencies(port, "latency", 50, 0.02)
        waits = start_latencies(port, "latency", 300, 0.02)
        console.print(
            f"From the request to START, warm, 50/s: p50 {statistics.median(waits):.1f} ms, "
            f"p99 {_p99(waits):.1f} ms"
        )
        found = flood(port, pid, count)
        console.print(
            f"A flood of {found['flood']:.0f} events of a function with one slot: another one's events start "
            f"p50 {found['during']:.1f} ms after their request instead of {found['before']:.1f}, p99 "
            f"{found['p99 during']:.1f} instead of {found['p99 before']:.1f} (budget: a factor of two); CPU of "
            f"the server while they wait {found['cpu']:.1%}, idle {found['idle cpu']:.1%}"
        )
