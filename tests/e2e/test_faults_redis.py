"""The Redis server killed under load: callers get answers or AWS's errors, never a hang; it comes back by
itself, and nothing that was acknowledged is lost."""

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ClientError
from collector import Collector, reporting, send
from running import ROLE, RUNTIME, Functions, Server, zipped
from traces import left_behind, processes, until

Start = Callable[..., Server]
ROUNDS = int(os.environ.get("LAMBENT_TEST_ROUNDS", "2"))
HELLO = "def handler(event, context):\n    return event\n"
SLOWEST = 8.0


def redis_of(server: Server) -> int:
    """The pid of its Redis server; 0 while there is none."""
    return next((pid for pid, line in processes(server.data_dir).items() if "redis.sock" in line), 0)


@dataclass
class Seen:
    """What one caller saw."""

    good: int = 0
    errors: list[ClientError] = field(default_factory=list)
    slowest: float = 0.0
    surprises: list[BaseException] = field(default_factory=list)


def call_until(stop: threading.Event, call: Callable[[], object], seen: Seen) -> None:
    while not stop.is_set():
        began = time.monotonic()
        try:
            call()
            seen.good += 1
        except ClientError as failure:
            seen.errors.append(failure)
        except Exception as failure:  # a hang-up, a timeout, an answer that is no AWS error: the test says it
            seen.surprises.append(failure)
        seen.slowest = max(seen.slowest, time.monotonic() - began)
        stop.wait(0.01)


def is_new(server: Server, old: int) -> bool:
    return redis_of(server) not in (0, old)


def all_went_on(seen: Iterable[Seen], past: list[int]) -> bool:
    return all(each.good > count for each, count in zip(seen, past, strict=True))


class TestRedisKilled:
    def test_callers_get_answers_or_aws_errors_and_everything_recovers(
        self, own_server: Start, collector: Collector
    ) -> None:
        server = own_server("--no-s3", environment=collector.environment)
        functions = Functions(server)
        name, reports = functions.create(HELLO), reporting(functions, collector)
        functions.invoke(name)
        created: list[str] = []
        accepted: list[str] = []
        made = zipped({"app.py": HELLO})
        stop = threading.Event()

        def create() -> None:
            with closing(server.client()) as aws:
                new = f"n{len(created)}-{time.monotonic_ns()}"
                aws.create_function(
                    FunctionName=new, Runtime=RUNTIME, Handler="app.handler", Role=ROLE, Code={"ZipFile": made}
                )
                created.append(new)

        def invoke() -> None:
            with closing(server.client()) as aws:
                answer = aws.invoke(FunctionName=name, Payload=b'{"a": 1}')
                assert json.loads(answer["Payload"].read()) == {"a": 1}

        def publish() -> None:
            event = uuid.uuid4().hex
            with closing(server.client()) as aws:
                answer = aws.invoke(
                    FunctionName=reports, InvocationType="Event", Payload=json.dumps({"id": event})
                )
                answer["Payload"].read()
                assert answer["StatusCode"] == 202
            accepted.append(event)

        seen = {kind: Seen() for kind in (create, invoke, publish)}
        threads = [threading.Thread(target=call_until, args=(stop, *pair)) for pair in seen.items()]
        for thread in threads:
            thread.start()
        try:
            for _ in range(ROUNDS):
                old = redis_of(server)
                os.kill(old, signal.SIGKILL)
                until(partial(is_new, server, old), 15, "Redis is started again")
                until(
                    partial(all_went_on, seen.values(), [each.good + 3 for each in seen.values()]),
                    20,
                    "creates, invokes and publishes work again",
                )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for kind, what in seen.items():
            assert what.surprises == [], kind.__name__
            assert what.slowest < SLOWEST, kind.__name__
            statuses = {e.response["ResponseMetadata"]["HTTPStatusCode"] for e in what.errors}
            assert statuses <= {500, 503}, kind.__name__
            assert all(e.response["Error"]["Code"] == "ServiceException" for e in what.errors), what.errors
            assert all(e.response["Error"]["Message"] for e in what.errors)
        for new in created:
            functions.active(new)  # acknowledged, so it is there
        assert len(accepted) == seen[publish].good > 0
        until(lambda: not set(accepted) - set(collector.seen), 40, "every accepted event has run")
        assert functions.invoke(created[-1], {"b": 2}).result == {"b": 2}
        assert server.stop() == 0
        assert "Traceback" not in server.output()
        assert left_behind(server.data_dir) == []

    def test_a_redis_that_hangs_makes_calls_fail_within_seconds(
        self, own_server: Start, collector: Collector
    ) -> None:
        server = own_server("--no-s3", environment=collector.environment)
        functions = Functions(server)
        name, reports = functions.create(HELLO), reporting(functions, collector)
        functions.invoke(name)
        send(functions, reports, {"id": "before"})
        redis = redis_of(server)
        os.kill(redis, signal.SIGSTOP)
        try:
            calls: tuple[tuple[str, dict[str, Any]], ...] = (
                ("list_functions", {}),
                ("delete_function", {"FunctionName": name}),
                ("invoke", {"FunctionName": name, "InvocationType": "Event", "Payload": b"{}"}),
            )
            for operation, members in calls:
                began = time.monotonic()
                with closing(server.client()) as aws:
                    try:
                        getattr(aws, operation)(**members)
                    except ClientError as failure:
                        assert failure.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503)
                        assert failure.response["Error"]["Message"]
                    else:
                        raise AssertionError("a call succeeded without a store")
                assert time.monotonic() - began < SLOWEST
            # A warm function needs no store.
            with closing(server.client()) as aws:
                assert aws.invoke(FunctionName=name, Payload=b"1")["Payload"].read() == b"1"
        finally:
            os.kill(redis, signal.SIGCONT)
        until(lambda: recovered(functions, name), 10, "the store answers again")
        send(functions, reports, {"id": "after"})
        until(lambda: {"before", "after"} <= set(collector.seen), 20, "every accepted event has run")
        assert server.stop() == 0
        assert "Traceback" not in server.output()
        assert left_behind(server.data_dir) == []


def recovered(functions: Functions, name: str) -> bool:
    try:
        functions.aws.get_function(FunctionName=name)
    except ClientError:
        return False
    return bool(functions.invoke(name, 2).result == 2)
