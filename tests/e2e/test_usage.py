"""What the ledger says of executions on a running server: each is in it, once, with the numbers of its REPORT
line."""

import csv
import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from commands import Command
from running import Functions, Server, request
from traces import processes, until

Start = Callable[..., Server]
REPORT = re.compile(r"Duration: ([0-9.]+) ms\tBilled Duration: ([0-9]+) ms\tMemory Size: ([0-9]+) MB")
CODE = """
    import time
    def handler(event, context):
        if event.get("fail"):
            raise ValueError("as asked")
        written = b"x" * (event.get("write_mb", 0) << 20)
        until = time.process_time() + event.get("spin", 0)
        while time.process_time() < until:
            pass
        time.sleep(event.get("sleep", 0))
        return event
    """


def redis_of(server: Server) -> int:
    """The pid of its Redis server; 0 while there is none."""
    return next((pid for pid, line in processes(server.data_dir).items() if "redis.sock" in line), 0)


def usage(server: Server, **query: str) -> dict[str, Any]:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    status, _, body = request(server, "GET", f"/_lambent/usage?{text}")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def row(server: Server, name: str) -> dict[str, Any]:
    rows = [row for row in usage(server)["rows"] if row["function"] == name]
    return rows[0] if rows else {"invocations": 0, "failed_inits": 0}


def metered(server: Server, name: str, count: int) -> dict[str, Any]:
    """The function's row once so many executions are in the ledger."""
    until(lambda: row(server, name)["invocations"] >= count, 10, f"{count} executions are in the ledger")
    return row(server, name)


def test_the_sums_are_those_of_the_report_lines(server: Server, functions: Functions) -> None:
    name = functions.create(CODE, MemorySize=256, Timeout=2, EphemeralStorage={"Size": 1024})
    events: list[dict[str, Any]] = [{}, {"spin": 0.1}, {"fail": True}, {"sleep": 4}, {"write_mb": 30}]
    for event in events:
        functions.invoke(name, event)
    found = metered(server, name, 5)

    def lines() -> list[str]:
        return [line for line in functions.logged(name) if line.startswith("REPORT")]

    until(lambda: len(lines()) == 5, 10, "the log has them all")
    reports = [REPORT.search(line) for line in lines()]
    numbers = [(float(match[1]), int(match[2]), int(match[3])) for match in reports if match]
    assert len(numbers) == 5
    assert found["billed_ms"] == sum(billed for _, billed, _ in numbers)
    assert found["duration_ms"] == pytest.approx(sum(took for took, _, _ in numbers), abs=0.05)
    assert found["gb_seconds"] == pytest.approx(found["billed_ms"] * 256 / 1024 / 1000)
    price = found["gb_seconds"] * 0.0000166667 + 5 * 0.0000002 + found["billed_ms"] / 2000 * 0.0000000309
    assert found["cost_usd"] == pytest.approx(price)
    assert (found["invocations"], found["errors"], found["timeouts"]) == (5, 2, 1)
    assert found["cold_starts"] == 2, "the timeout's environment was replaced"
    assert found["cpu_ms"] >= 100, "the kernel counts what the function spins"
    assert 30 << 20 < found["peak_memory_bytes"] < 256 << 20, "what it wrote to, whether it was forked or not"
    assert found["bytes_in"] == sum(len(json.dumps(event)) for event in events)


def test_each_attempt_counts_and_an_init_that_fails_is_billed(own_server: Start) -> None:
    server = own_server("--no-s3", environment={"LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.1"})
    functions = Functions(server)
    failing, broken = functions.create(CODE), functions.create("raise RuntimeError('no init')\n")
    functions.aws.invoke(FunctionName=failing, InvocationType="Event", Payload=b'{"fail": true}')
    functions.invoke(broken, {})
    assert metered(server, failing, 3)["errors"] == 3
    found = metered(server, broken, 1)
    assert (found["invocations"], found["errors"], found["failed_inits"]) == (1, 1, 1)
    init = next(line for line in functions.logged(broken) if line.startswith("INIT_REPORT"))
    took = re.search(r"Init Duration: ([0-9.]+) ms\tPhase: init", init)
    assert took is not None and found["init_ms"] == pytest.approx(float(took[1]), abs=2)
    assert found["billed_ms"] >= float(took[1])


def test_every_answered_execution_is_counted_once_though_the_server_is_killed(own_server: Start) -> None:
    clients, kills = 4, 3
    server = own_server("--no-s3")
    functions = Functions(server)
    name = functions.create(CODE)
    answered: list[int] = []

    def call(stop: threading.Event) -> None:
        mine = Functions(server)
        while not stop.is_set():
            try:
                answered.append(mine.invoke(name, {}).result == {})
            except Exception:  # killed: the caller has no answer
                return

    for kill in range(kills):
        stop = threading.Event()
        threads = [threading.Thread(target=call, args=(stop,)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        before = len(answered)
        try:
            until(lambda before=before: len(answered) > before + 100, 20, "answers come")  # type: ignore[misc]
            time.sleep(0.3 * kill)  # at other points of the shipping's second
            server.kill()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        server.start()
    assert all(answered)
    found = metered(server, name, len(answered))
    time.sleep(1.5)  # nothing more may come
    found = row(server, name)
    assert len(answered) <= found["invocations"] <= len(answered) + clients * kills
    assert usage(server)["missing"] == 0
    assert len(list((server.data_dir / "usage").iterdir())) == 1, "what killed runs left is removed"


def test_usage_is_counted_though_redis_is_killed(own_server: Start) -> None:
    server = own_server("--no-s3")
    functions = Functions(server)
    name = functions.create(CODE)
    functions.invoke(name, {})
    answered = 1
    for _ in range(2):
        os.kill(redis_of(server), signal.SIGKILL)
        for _ in range(20):
            try:
                functions.invoke(name, {})
                answered += 1
            except ClientError:
                time.sleep(0.05)
        until(lambda: redis_of(server) != 0, 20, "Redis is back")
        functions.invoke(name, {})
        answered += 1
    assert metered(server, name, answered)["invocations"] == answered
    assert usage(server)["missing"] == 0


def test_the_command_shows_and_exports(server: Server, functions: Functions, tmp_path: Path) -> None:
    red = functions.create(CODE, Tags={"team": "red", "stage": "dev"})
    plain = functions.create(CODE)
    for name in (red, red, plain):
        functions.invoke(name, {})
    metered(server, red, 2)
    metered(server, plain, 1)
    lambent = Command(tmp_path, LAMBENT_ENDPOINT=server.url)
    table = lambent("usage").out
    assert re.search(rf"^{red} +2 +0 +1 +[0-9]+ ", table, re.MULTILINE), table
    assert "Cost: AWS Lambda's public prices of us-east-1" in table
    rows = list(csv.DictReader(io.StringIO(lambent("usage", "--by", "tag:team", "--csv").out)))
    [team] = [row for row in rows if row["tag:team"] == "red"]
    assert (team["invocations"], team["errors"]) == ("2", "0")
    assert float(team["cost_usd"]) > 0
    shown = json.loads(lambent("usage", "--by", "version", "--from", "1h", "--json").out)
    assert {"function": red, "version": "$LATEST"}.items() <= next(
        row for row in shown["rows"] if row["function"] == red
    ).items()
    refused = lambent("usage", "--by", "colour", code=1)
    assert "by must be function, version, alias, architecture or tag:KEY" in refused.err
    assert "Nothing ran." in lambent("usage", "--from", "2025-01-01", "--to", "2025-01-02").out
