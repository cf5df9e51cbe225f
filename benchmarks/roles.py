"""One process against roles apart, in one run: warm synchronous invokes of `lambent up`, and of one gateway,
one scheduler and one executor as processes of their own on the same machine, each with its own Redis-compatible
server. On two cores the processes compete for what the one process has for itself: read the ratios."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.servers import CLIENTS, api, cpu_seconds, create, free_port, lambent, load
from rich.console import Console
from rich.table import Table

_PATH = "/2015-03-31/functions/roles-{clients}/invocations"
_REDIS_SECONDS = 10.0


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[int, Mapping[str, int]]]:
    """(the gateway's port, {role: pid})."""
    port, redis_port = free_port(), free_port()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COLUMNS": "200",
        "LAMBENT_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "LAMBENT_BLOBS": str(folder / "blobs"),
    }
    try:
        processes["redis"] = _redis(folder, redis_port)
        for role in ("scheduler", "executor", "gateway"):
            given = ["--port", str(port if role == "gateway" else 0), "--data-dir", str(folder / role)]
            log = folder / f"{role}.log"
            with open(log, "wb") as output:
                processes[role] = subprocess.Popen(
                    [sys.executable, "-m", "lambent.cli", role, *given],
                    stdout=output,
                    stderr=output,
                    env=environment,
                )
            while "Stop with" not in (text := log.read_text()):
                if processes[role].poll() is not None:
                    raise SystemExit(f"the {role} did not start:\n{text}")
                time.sleep(0.05)
        time.sleep(2.0)  # for the gateway to hear of the executor
        yield port, {role: process.pid for role, process in processes.items()}
    finally:
        for process in reversed(processes.values()):
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _redis(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    from lambent.cli.redis_server import engines

    binary = next(engines()).program
    data = folder / "redis"
    data.mkdir()
    process = subprocess.Popen(
        [str(binary), "--port", str(port), "--dir", str(data), "--appendonly", "yes", "--save", ""]
        + ["--appendfsync", "always", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1.0)
    return process


def measure(seconds: float) -> dict[str, dict[int, dict[str, float]]]:
    """{who: {clients: numbers}}."""
    results: dict[str, dict[int, dict[str, float]]] = {"one process": {}, "roles apart": {}}
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as other,
        lambent(Path(one)) as (port, pid),
        cluster(Path(other)) as (gateway, pids),
    ):
        places = {
            "one process": (port, [pid]),
            "roles apart": (gateway, [pids[each] for each in ("gateway", "scheduler", "executor")]),
        }
        for clients in CLIENTS:
            for who, (at, ids) in places.items():
                path = _PATH.format(clients=clients)
                create(api(at), f"roles-{clients}", 1769 if clients <= 8 else 256)
                load(at, path, clients, 3 if clients > 8 else 1)
                before, began = sum(map(cpu_seconds, ids)), time.monotonic()
                numbers = load(at, path, clients, seconds)
                count = numbers["per_second"] * (time.monotonic() - began)
                numbers["cpu_us"] = (sum(map(cpu_seconds, ids)) - before) / count * 1e6
                results[who][clients] = numbers
    return results


def run(console: Console, seconds: float) -> None:
    """Measures and shows."""
    results = measure(seconds)
    table = Table(
        "clients", "who", "p50 ms", "p99 ms", "per second", "p50 / one", "rate / one", "CPU us", "failed"
    )
    for clients in CLIENTS:
        one = results["one process"][clients]
        for who, found in results.items():
            numbers = found[clients]
            table.add_row(
                str(clients),
                who,
                f"{numbers['p50_ms']:.2f}",
                f"{numbers['p99_ms']:.2f}",
                f"{numbers['per_second']:.0f}",
                f"{numbers['p50_ms'] / one['p50_ms']:.2f}",
                f"{numbers['per_second'] / one['per_second']:.2f}",
                f"{numbers['cpu_us']:.0f}",
                f"{numbers['failures']:.0f}",
            )
    console.print("Warm synchronous invokes, one process and roles apart (CPU: of all roles together)")
    console.print(table)
