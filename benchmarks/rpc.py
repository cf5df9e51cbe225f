"""gRPC against HTTP on one server, in one run: warm synchronous invocations, and events accepted on disk."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.events import Ask
from benchmarks.servers import CLIENTS, api, cpu_seconds, create, free_port, lambent, load
from rich.console import Console
from rich.table import Table

Numbers = dict[str, float]
_SLEEPS = "import time\ndef handler(event, context):\n    time.sleep(600)\n"


def rpc_load(target: str, function: str, clients: int, seconds: float, *more: str) -> Numbers:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.grpc_load", target, function, str(clients), str(seconds), *more],
        capture_output=True,
        text=True,
        check=True,
    )
    result: Numbers = json.loads(done.stdout)
    return result


def _path(name: str) -> str:
    return f"/2015-03-31/functions/{name}/invocations"


def run(console: Console, seconds: float) -> None:
    grpc_port = free_port()
    target = f"127.0.0.1:{grpc_port}"
    with tempfile.TemporaryDirectory() as folder:
        with lambent(Path(folder), "--grpc-port", str(grpc_port)) as (port, pid):
            _invokes(console, port, pid, target, seconds)
            _events(console, port, pid, target, seconds)


def _invokes(console: Console, port: int, pid: int, target: str, seconds: float) -> None:
    table = Table("clients", "how", "p50 ms", "p99 ms", "per second", "rate / HTTP", "server's CPU us")
    for clients in CLIENTS:
        name = f"bench-{clients}"
        create(api(port), name, 1769 if clients <= 8 else 256)
        load(port, _path(name), clients, 3 if clients > 8 else 1)
        http = _measured(pid, lambda c=clients, n=name: load(port, _path(n), c, seconds))
        rpc_load(target, name, clients, 0.5)
        rpc = _measured(pid, lambda c=clients, n=name: rpc_load(target, n, c, seconds))
        for how, numbers in (("HTTP", http), ("gRPC", rpc)):
            _row(table, clients, how, numbers, http)
    console.print(
        "Warm synchronous invokes (the gRPC load is Python's own client, which costs more than the HTTP one)"
    )
    console.print(table)


def _events(console: Console, port: int, pid: int, target: str, seconds: float) -> None:
    aws = api(port)
    create(aws, "accept", code=_SLEEPS, timeout=900)
    aws.put_function_concurrency(FunctionName="accept", ReservedConcurrentExecutions=1)
    table = Table("clients", "how", "p50 ms", "p99 ms", "per second", "rate / HTTP", "server's CPU us")
    for clients in (1, 8, 64):
        http = _measured(pid, lambda c=clients: load(port, _path("accept"), c, seconds, event=True))
        _row(table, clients, "HTTP Event", http, http)
        for batch in (1, 100):
            _purge(port)
            more = ("--batch", str(batch))
            rpc = _measured(pid, lambda c=clients, m=more: rpc_load(target, "accept", c, seconds, *m))
            _row(table, clients, f"stream, by {batch}", rpc, http)
        _purge(port)
    console.print(
        "Events accepted, on disk before the answer (PublishEvents: up to 1000 under way; HTTP: one a client)"
    )
    console.print(table)


def _purge(port: int) -> None:
    Ask(port)("DELETE", "/_lambent/queue/items?function=accept&line=lane")


def _measured(pid: int, work: Callable[[], Numbers]) -> Numbers:
    before = cpu_seconds(pid)
    numbers = work()
    numbers["cpu_us"] = (cpu_seconds(pid) - before) / max(numbers["count"], 1) * 1e6
    return numbers


def _row(table: Table, clients: int, how: str, numbers: Numbers, http: Numbers) -> None:
    table.add_row(
        str(clients),
        how,
        f"{numbers['p50_ms']:.2f}",
        f"{numbers['p99_ms']:.2f}",
        f"{numbers['per_second']:.0f}",
        f"{numbers['per_second'] / http['per_second']:.2f}",
        f"{numbers['cpu_us']:.0f}" + (f" ({numbers['failures']:.0f} failed)" if numbers["failures"] else ""),
    )
