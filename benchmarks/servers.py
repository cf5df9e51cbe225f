"""What the benchmarks share: servers and loads as processes of their own, and functions to invoke."""

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.baselines import HANDLER

CLIENTS = (1, 8, 64)


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
def lambent(folder: Path, *arguments: str, broker: str = "") -> Iterator[tuple[int, int]]:
    """(port, pid) of a server with everything on but S3, which takes no part. `arguments`: more of `up`;
    `broker`: LAMBENT_BROKER_URL."""
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lambent.cli", "up", "--port", "0", "--no-s3"]
            + ["--data-dir", str(folder / "data"), *arguments],
            stdout=output,
            stderr=output,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "COLUMNS": "200",
                "LAMBENT_BROKER_URL": broker,
            },
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


def load(
    port: int, path: str, clients: int, seconds: float, *, event: bool = False, body: str = '{"a":1}'
) -> dict[str, float]:
    """Numbers of a load by a process of its own; `event`: of asynchronous invocations."""
    more = ["--body", body, *(["--event"] if event else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", str(port), path, str(clients), str(seconds), *more],
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def archive(code: str = HANDLER) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        entry = zipfile.ZipInfo("app.py")
        entry.external_attr = 0o644 << 16
        made.writestr(entry, code)
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


def create(aws: Any, name: str, memory: int = 1769, code: str = HANDLER, timeout: int = 3) -> None:
    """1769 MB is one whole vCPU: less would measure the CPU share, which is the function's and not ours."""
    role = "arn:aws:iam::000000000000:role/bench"
    aws.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Handler="app.handler",
        Role=role,
        Code={"ZipFile": archive(code)},
        MemorySize=memory,
        Timeout=timeout,
    )
    while aws.get_function_configuration(FunctionName=name)["State"] != "Active":
        time.sleep(0.02)
