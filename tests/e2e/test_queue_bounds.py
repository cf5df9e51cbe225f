"""The queue's bounds on running servers: what is full refuses with an error that may be tried again, a flood
of one function delays no other, large payloads come and go with their events."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from collector import Collector, reporting, send
from running import Functions, Server, request
from traces import until

Start = Callable[..., Server]
SLEEPS = "import time\ndef handler(event, context):\n    time.sleep(600)\n"


def row(server: Server, name: str) -> dict[str, Any]:
    found = json.loads(request(server, "GET", "/_lambent/queue")[2])["functions"]
    nothing = dict.fromkeys(("ready", "in_flight", "delayed", "dead"), 0)
    return next((one for one in found if one["function"] == name), nothing)


def refusal(functions: Functions, name: str, payload: bytes = b"{}") -> tuple[int, str, str] | None:
    """Status, exception and message of an asynchronous invocation; None if it was accepted."""
    try:
        answer = functions.aws.invoke(FunctionName=name, InvocationType="Event", Payload=payload)
        answer["Payload"].read()
    except ClientError as failure:
        error = failure.response["Error"]
        return failure.response["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"]
    return None


def busy(functions: Functions) -> str:
    """A function that may run once at a time and is busy for long."""
    name = functions.create(SLEEPS, Timeout=900)
    functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert refusal(functions, name) is None
    until(lambda: row(functions.server, name)["in_flight"] == 1, 20, "it runs")
    return name


def test_a_full_lane_refuses_and_others_go_on(own_server: Start) -> None:
    environment = {"LAMBENT_QUEUE_MAX_EVENTS": "5", "LAMBENT_DRAIN_SECONDS": "0"}
    functions = Functions(own_server("--no-s3", environment=environment))
    name, other = busy(functions), functions.create("def handler(event, context):\n    return event\n")
    for _ in range(4):
        assert refusal(functions, name) is None
    assert refusal(functions, name) == (
        503,
        "ServiceException",
        "The event was not accepted: the function's queue is full (5 messages wait already, and 5 may). "
        "Send it again.",
    )
    assert refusal(functions, other) is None
    assert functions.invoke(other, 1).result == 1
    path = f"/_lambent/queue/items?function={name}&line=lane"
    assert json.loads(request(functions.server, "DELETE", path)[2]) == {"dropped": 4}
    assert refusal(functions, name) is None


def test_a_redis_without_memory_refuses_and_goes_on_when_there_is_some(own_server: Start) -> None:
    environment = {"LAMBENT_REDIS_MEMORY_MB": "64", "LAMBENT_DRAIN_SECONDS": "0"}
    functions = Functions(own_server("--no-s3", environment=environment))
    name, other = busy(functions), functions.create("def handler(event, context):\n    return event\n")
    payload = json.dumps("x" * 60_000).encode()
    refused: list[tuple[int, str, str]] = []

    def flood() -> None:
        client = Functions(functions.server)
        while not refused:
            found = refusal(client, name, payload)
            refused.extend([found] if found is not None else [])

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for status, code, message in refused:
        assert (status, code) == (503, "ServiceException")
        assert "The event was not accepted" in message and "maxmemory" in message
    assert row(functions.server, name)["ready"] > 100
    assert functions.invoke(other, 1).result == 1
    assert request(functions.server, "DELETE", f"/_lambent/queue/items?function={name}&line=lane")[0] == 200
    assert refusal(functions, other) is None
    assert refusal(functions, name, payload) is None


def test_a_flood_of_one_function_delays_no_other(own_server: Start, collector: Collector) -> None:
    server = own_server("--no-s3", environment={**collector.environment, "LAMBENT_DRAIN_SECONDS": "0"})
    functions = Functions(server)
    flooded = busy(functions)
    clients = [Functions(server) for _ in range(8)]

    def flood(client: Functions) -> None:
        for _ in range(250):
            assert refusal(client, flooded) is None

    threads = [threading.Thread(target=flood, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    quiet = reporting(functions, collector)
    for number in range(20):
        send(functions, quiet, {"id": f"during-{number}"})
    for thread in threads:
        thread.join()
    for number in range(20):
        send(functions, quiet, {"id": f"after-{number}"})
    until(lambda: len(collector.seen) == 40, 20, "the other function's events run")
    assert row(server, flooded)["ready"] == 2000
    assert row(server, flooded)["in_flight"] == 1


def test_a_large_payload_lies_beside_the_queue_until_its_event_is_done(
    own_server: Start, tmp_path: Path, collector: Collector
) -> None:
    server = own_server(
        "--no-s3", environment={**collector.environment, "LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.2"}
    )
    functions = Functions(server)
    name = reporting(functions, collector)
    blobs = server.data_dir / "blobs" / "named"

    def lying() -> list[Path]:
        # Beside the object by which roles find out that they share a store.
        return [file for file in blobs.glob("*/*") if file.is_file() and file.parent.name != "_lambent"]

    collector.open.clear()
    for number in range(3):
        send(functions, name, {"id": f"large-{number}", "more": "x" * 500_000})
    until(lambda: len(collector.seen) == 3, 20, "they run")
    assert len(lying()) == 3
    assert all(file.stat().st_size > 500_000 for file in lying())
    collector.open.set()
    until(lambda: not lying(), 20, "their payloads are gone with them")
    # A failing one keeps its payload through its retries, and as one that was given up.
    failing = functions.create("def handler(event, context):\n    raise ValueError(len(event['more']))\n")
    send(functions, failing, {"more": "x" * 500_000})
    until(lambda: row(server, failing)["dead"] == 1, 20, "it is given up")
    assert len(lying()) == 1
    found = json.loads(request(server, "GET", f"/_lambent/queue/items?function={failing}&line=dead")[2])
    [item] = found["items"]
    assert item["size"] > 500_000 and item["error"] == "500000"
    request(server, "DELETE", f"/_lambent/queue/items?function={failing}&line=dead")
    server.kill()  # what a purge or a crash leaves lying is swept once it is an hour old
    [orphan] = lying()
    os.utime(orphan, (0, 0))
    server.start()
    until(lambda: not lying(), 20, "the sweep finds it")
