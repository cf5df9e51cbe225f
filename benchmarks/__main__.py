"""`make bench`: Lambent side by side with baselines in one run, as ratios, because this kind of machine is
noisy and only ratios of one run mean anything.

Parts: `warm` and `cold` synchronous invokes (against `chain`, unmodified awslambdaric behind the smallest
possible gateway without isolation, `asgi`, a bare ASGI application, and a plain `python -m awslambdaric`),
`events` (asynchronous ones, end to end), `transport` (the kombu transport alone, against kombu's own for
Redis), `grpc` (the gRPC API against HTTP), `frames` (the hop between a gateway and an executor alone),
`roles` (one process against roles apart) and `cold_start` (environments alone: parked, plain, no isolation)."""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import cold_start, events, frames, roles, rpc, transport
from benchmarks.baselines import HANDLER, runtime_environment
from benchmarks.servers import CLIENTS, api, baseline, cpu_seconds, create, lambent, load
from rich.console import Console
from rich.table import Table

console = Console()
PATH = "/2015-03-31/functions/bench-{clients}/invocations"
PARTS = ("warm", "cold", "events", "transport", "grpc", "frames", "roles", "cold_start")


def warm(seconds: float) -> dict[str, dict[int, dict[str, float]]]:
    """{who: {clients: numbers}}; one environment, or runtime process, for each client on both sides."""
    results: dict[str, dict[int, dict[str, float]]] = {"asgi": {}, "chain": {}, "lambent": {}}
    with tempfile.TemporaryDirectory() as folder, lambent(Path(folder)) as (port, pid):
        for clients in CLIENTS:
            path = PATH.format(clients=clients)
            # 64 whole cores' worth of memory is more than the machine has; two cores shared by 64 give each
            # far less than the share of 256 MB, so that it limits nothing.
            create(api(port), f"bench-{clients}", 1769 if clients <= 8 else 256)
            load(port, path, clients, 3 if clients > 8 else 1)
            before, began = cpu_seconds(pid), time.monotonic()
            numbers = load(port, path, clients, seconds)
            used = cpu_seconds(pid) - before
            count = numbers["per_second"] * (time.monotonic() - began)
            numbers["cpu_us"] = used / count * 1e6
            results["lambent"][clients] = numbers
            with baseline("chain", str(clients)) as chain:
                load(chain, path, clients, 0.5)
                results["chain"][clients] = load(chain, path, clients, seconds)
            with baseline("asgi") as asgi:
                results["asgi"][clients] = load(asgi, "/", clients, seconds)
    return results


def cold(count: int) -> dict[str, list[float]]:
    """Milliseconds from a request that finds nothing warm to its answer, and of a plain start to its first
    `next`."""
    times: dict[str, list[float]] = {"plain": [], "lambent": [], "lambent init": []}
    with tempfile.TemporaryDirectory() as folder, lambent(Path(folder)) as (port, _):
        aws = api(port)
        for number in range(count):
            times["plain"].append(plain_start(Path(folder)))
            create(aws, f"cold-{number}")
            began = time.perf_counter()
            load_one(port, f"cold-{number}")
            times["lambent"].append((time.perf_counter() - began) * 1000)
    return times


def load_one(port: int, name: str) -> None:
    body = b"{}"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(
            b"POST /2015-03-31/functions/%b/invocations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (name.encode(), len(body), body)
        )
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200"), answer


def plain_start(folder: Path, code: str = HANDLER) -> float:
    (folder / "app.py").write_text(code)
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", "app.handler"],
            cwd=folder,
            env=runtime_environment(server.getsockname()[1], folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            connection, _ = server.accept()
            with connection:
                while b"/invocation/next" not in connection.recv(4096):
                    continue
                return (time.perf_counter() - began) * 1000
        finally:
            process.kill()
            process.wait()


def show_warm(results: Mapping[str, Mapping[int, Mapping[str, float]]]) -> None:
    table = Table("clients", "who", "p50 ms", "p99 ms", "per second", "p50 / chain", "rate / chain", "CPU us")
    for clients in CLIENTS:
        chain = results["chain"][clients]
        for who, numbers in ((who, results[who][clients]) for who in ("asgi", "chain", "lambent")):
            cpu = f"{numbers['cpu_us']:.0f}" if "cpu_us" in numbers else ""
            table.add_row(
                str(clients),
                who,
                f"{numbers['p50_ms']:.2f}",
                f"{numbers['p99_ms']:.2f}",
                f"{numbers['per_second']:.0f}",
                f"{numbers['p50_ms'] / chain['p50_ms']:.2f}",
                f"{numbers['per_second'] / chain['per_second']:.2f}",
                cpu + (f" ({numbers['failures']:.0f} failed)" if numbers["failures"] else ""),
            )
    console.print(
        "Warm synchronous invokes (budget: p50 <= 2 x chain; rate >= 0.6 x at 8 and 64; CPU <= 120 us)"
    )
    console.print(table)


def show_cold(times: Mapping[str, list[float]]) -> None:
    plain = statistics.median(times["plain"])
    table = Table("start", "median ms", "p99 ms", "/ plain")
    for who in ("plain", "lambent"):
        values = sorted(times[who])
        p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
        table.add_row(
            who,
            f"{statistics.median(values):.1f}",
            f"{p99:.1f}",
            f"{statistics.median(values) / plain:.2f}",
        )
    console.print("Cold starts (budget with forked environments, a later step: <= 1/12 of plain)")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="again for more; default: all")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--cold", type=int, default=30, help="cold starts")
    parser.add_argument(
        "--idle", type=int, default=100, help="idle environments to weigh; 1000 is the budget's"
    )
    parser.add_argument(
        "--runtimes", type=Path, help="a data folder with runtimes; their cold starts are measured too"
    )
    parser.add_argument(
        "--burst", type=int, default=100, help="environments started at once; 500 is the long form"
    )
    parser.add_argument("--flood", type=int, default=100_000, help="events of the flood")
    parser.add_argument("--broker", default="", help="of `events`: a RabbitMQ's URL instead of Redis")
    given = parser.parse_args()
    console.print(f"Load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    parts = given.part or PARTS
    if "warm" in parts:
        show_warm(warm(given.seconds))
    if "cold" in parts:
        show_cold(cold(given.cold))
    if "transport" in parts:
        transport.show(console, transport.measure())
    if "events" in parts:
        events.run(console, given.seconds, given.flood, given.broker)
    if "grpc" in parts:
        rpc.run(console, given.seconds)
    if "frames" in parts:
        frames.run(console, given.seconds)
    if "roles" in parts:
        roles.run(console, given.seconds)
    if "cold_start" in parts:
        cold_start.run(
            console,
            plain_start,
            starts=max(50, given.cold),
            idle=given.idle,
            burst=given.burst,
            data=given.runtimes,
        )


if __name__ == "__main__":
    main()
