"""`make bench`: warm invokes and cold starts of Lambent, side by side with baselines in one run, as ratios,
because this kind of machine is noisy and only ratios of one run mean anything.

Baselines: (a) `chain`, unmodified awslambdaric processes behind the smallest possible gateway, no isolation;
(b) `asgi`, a bare ASGI application on uvicorn; for cold starts a plain `python -m awslambdaric`.
"""

import argparse
import contextlib
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.baselines import HANDLER, runtime_environment
from rich.console import Console
from rich.table import Table

console = Console()
CLIENTS = (1, 8, 64)
PATH = "/2015-03-31/functions/bench-{clients}/invocations"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def baseline(*arguments: str) -> Iterator[int]:
    port = free_port()
    kind, *rest = arguments
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.baselines", kind, str(port), *rest],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield port
    finally:
        process.stdin.close()
        process.wait(20)


@contextlib.contextmanager
def lambent(folder: Path) -> Iterator[tuple[int, int]]:
    """(port, pid) of a server with everything on but S3, which takes no part."""
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lambent.cli", "up", "--port", "0", "--no-s3"]
            + ["--data-dir", str(folder / "data")],
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "200"},
        )
    try:
        while "Stop with" not in (text := log.read_text()):
            if process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{text}")
            time.sleep(0.05)
        yield int(re.findall(r"serves at http://127.0.0.1:(\d+)", text)[0]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(port: int, path: str, clients: int, seconds: float) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", str(port), path, str(clients), str(seconds)],
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        entry = zipfile.ZipInfo("app.py")
        entry.external_attr = 0o644 << 16
        made.writestr(entry, HANDLER)
    return buffer.getvalue()


def api(port: int) -> Any:
    import boto3

    return boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


def create(aws: Any, name: str, memory: int = 1769) -> None:
    """1769 MB is one whole vCPU: less would measure the CPU share, which is the function's and not ours."""
    role = "arn:aws:iam::000000000000:role/bench"
    aws.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Handler="app.handler",
        Role=role,
        Code={"ZipFile": archive()},
        MemorySize=memory,
    )
    while aws.get_function_configuration(FunctionName=name)["State"] != "Active":
        time.sleep(0.02)


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


def plain_start(folder: Path) -> float:
    (folder / "app.py").write_text(HANDLER)
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
    parser.add_argument("--seconds", type=float, default=5.0, help="of each warm load")
    parser.add_argument("--cold", type=int, default=30, help="cold starts")
    given = parser.parse_args()
    console.print(f"Load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    show_warm(warm(given.seconds))
    show_cold(cold(given.cold))


if __name__ == "__main__":
    main()
