"""A full disk: what cannot be stored is refused in words, what was accepted stays, and room brings everything
back without a restart."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import disks
import pytest
from botocore.exceptions import ClientError
from collector import Collector, reporting
from disks import fill
from running import ROLE, RUNTIME, Functions, Server, zipped
from support import require
from traces import left_behind, until

Start = Callable[..., Server]
HELLO = "def handler(event, context):\n    return event\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    require("root", os.geteuid() == 0, "mounts a small filesystem, which root alone may: run it as root")
    with disks.small_disk(tmp_path) as disk:
        yield disk


def refusal(functions: Functions, operation: str, **members: object) -> tuple[int, str, str] | None:
    """Status, exception and message of a call, which must not take long; None if it succeeded."""
    began = time.monotonic()
    with closing(functions.server.client()) as aws:
        try:
            answer = getattr(aws, operation)(**members)
            if "Payload" in answer:
                answer["Payload"].read()
        except ClientError as failure:
            error = failure.response["Error"]
            return failure.response["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"]
        finally:
            assert time.monotonic() - began < 10
    return None


def test_a_full_disk_refuses_what_it_cannot_keep_and_recovers_when_there_is_room(
    small_disk: Path, own_server: Start, collector: Collector
) -> None:
    server = own_server("--no-s3", data_dir=small_disk / "data", environment=collector.environment)
    functions = Functions(server)
    assert "uid separation" not in server.output()
    name = functions.create(HELLO)
    assert functions.invoke(name, 1).result == 1
    reports = reporting(functions, collector, Timeout=60)
    big = zipped({"app.py": HELLO, "noise": os.urandom(2 << 20)})
    create = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": big}}
    accepted: list[str] = []

    def publish() -> tuple[int, str, str] | None:
        event = {"id": f"event {len(accepted)}", "padding": "x" * 65_536}
        refused = refusal(
            functions, "invoke", FunctionName=reports, InvocationType="Event", Payload=json.dumps(event)
        )
        if refused is None:
            accepted.append(event["id"])
        return refused

    collector.open.clear()
    assert publish() is None
    until(lambda: collector.seen, 20, "an event runs that was accepted while there was room")
    ballast = fill(small_disk)
    full = (
        f"The disk of {server.data_dir}/blobs is full: nothing was stored. Free some space there and try again."
    )
    refused = refusal(functions, "create_function", FunctionName="late", **create)
    assert refused == (500, "ServiceException", full)
    collector.open.set()  # it ends, and that cannot be written down
    # Redis may still have some room of its own: it is full soon.
    while (refused := publish()) is None:
        assert len(accepted) < 500, "events are accepted for ever on a full disk"
    status, code, message = refused
    assert (status, code) == (503, "ServiceException")
    assert message.startswith("The event was not accepted: ") and message.endswith(" Send it again."), message
    # What is warm goes on; what is there can be read.
    assert functions.invoke(name, 2).result == 2

    ballast.unlink()
    until(lambda: publish() is None, 20, "events are accepted again")
    until(
        lambda: refusal(functions, "create_function", FunctionName="late", **create) is None, 20, "creates too"
    )
    functions.active("late")
    assert functions.invoke("late", 3).result == 3
    assert functions.invoke(name, 4).result == 4
    assert health_is_back(server)
    assert "Traceback" not in server.output()
    until(lambda: not set(accepted) - set(collector.seen), 40, "every accepted event has run")
    server.kill()
    server.start()
    assert functions.invoke("late", 5).result == 5
    assert server.stop() == 0
    assert left_behind(server.data_dir) == []


def health_is_back(server: Server) -> bool:
    from urllib.request import urlopen

    with urlopen(f"{server.url}/healthz", timeout=10) as answer:
        return bool(answer.status == 200)
