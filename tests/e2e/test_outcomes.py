"""What becomes of asynchronous events on a running server: retries, age, dead-letter queues, destinations; with
real clients, moto's SQS, SNS and EventBridge, and the bundled S3. Retries wait 1 and 2 s instead of minutes.

AWS: "How Lambda handles errors and retries with asynchronous invocation".
"""

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto_aws import MotoServer
from running import Functions, Server, request
from traces import until

from lambent.cli.s3_server import OwnS3

ACCOUNT = "arn:aws:lambda:us-east-1:000000000000:function"
# Answers what it is told to, and says how often it ran.
CODE = """
    import json
    def handler(event, context):
        print("RAN", context.aws_request_id, flush=True)
        if event.get("fail"):
            raise ValueError(event["fail"])
        return {"echo": event}
"""


@dataclass(frozen=True)
class World:
    server: Server
    functions: Functions
    aws: MotoServer

    def function(self, *, destinations: dict[str, str] | None = None, **members: Any) -> str:
        """A function; `destinations`: ARNs by OnSuccess and OnFailure; other members of the configuration
        too."""
        settings = {
            key: members.pop(key)
            for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")
            if key in members
        }
        name = self.functions.create(CODE, **members)
        if destinations or settings:
            config = {which: {"Destination": arn} for which, arn in (destinations or {}).items()}
            self.functions.aws.put_function_event_invoke_config(
                FunctionName=name, DestinationConfig=config, **settings
            )
        return name

    def send(self, name: str, event: Any) -> str:
        """An asynchronous invocation; its request id."""
        answer = self.functions.aws.invoke(
            FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode()
        )
        assert answer["StatusCode"] == 202
        return str(answer["ResponseMetadata"]["RequestId"])

    def runs(self, name: str, request_id: str) -> int:
        return sum(line.startswith(f"RAN {request_id}") for line in self.functions.logged(name))

    def depth(self, name: str) -> dict[str, Any]:
        rows = json.loads(request(self.server, "GET", "/_lambent/queue")[2])["functions"]
        found: dict[str, Any] = next((row for row in rows if row["function"] == name), {})
        return found

    def metric(self, metric: str, name: str) -> float:
        text = request(self.server, "GET", "/metrics")[2].decode()
        found = re.search(rf'^{metric}{{function="{name}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@dataclass(frozen=True)
class HeldUp:
    """An event that may be a minute old at most, AWS's least, and whose function is busy for longer."""

    function: str
    request_id: str
    target: str
    since: float


@pytest.fixture(scope="module", autouse=True)
def held_up(world: World) -> Iterator[HeldUp]:
    """Begins with the first test, so that the minute passes while the others run."""
    name = world.functions.create(
        """
        import time
        def handler(event, context):
            time.sleep(event.get("seconds", 0))
        """,
        Timeout=100,
    )
    aws, target = world.functions.aws, world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    aws.put_function_event_invoke_config(
        FunctionName=name,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": target}},
    )
    client = Functions(world.server)
    busy = threading.Thread(target=lambda: client.invoke(name, {"seconds": 64}))
    busy.start()
    until(lambda: world.metric("lambent_concurrent_executions", name) == 1, 20, "the function is busy")
    since = time.monotonic()
    yield HeldUp(name, world.send(name, {}), target, since)
    busy.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("outcomes")
    aws = MotoServer(folder / "moto.log").start()
    environment = {f"AWS_ENDPOINT_URL_{service}": aws.url for service in ("SQS", "SNS", "EVENTBRIDGE")} | {
        "LAMBENT_ASYNC_RETRY_BASE_SECONDS": "1"
    }
    server = Server(folder / "data", environment=environment).start()
    yield World(server, Functions(server), aws)
    assert server.stop() == 0
    assert "Traceback" not in server.output()
    aws.kill()


def test_retries_are_as_many_as_configured(world: World) -> None:
    dead = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    names = {
        retries: world.function(DeadLetterConfig={"TargetArn": dead}, MaximumRetryAttempts=retries)
        for retries in (0, 1, 2)
    }
    sent = {world.send(name, {"fail": f"boom {retries}"}): retries for retries, name in names.items()}
    messages = world.aws.messages(dead, 3)
    for message in messages:
        request_id = message["MessageAttributes"]["RequestID"]["StringValue"]
        retries = sent[request_id]
        until(lambda: world.runs(names[retries], request_id) == retries + 1, 10, "its runs are in the log")  # noqa: B023
    assert len({message["MessageAttributes"]["RequestID"]["StringValue"] for message in messages}) == 3


def test_a_failed_event_goes_to_the_dead_letter_queue(world: World) -> None:
    dead = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    name = world.function(DeadLetterConfig={"TargetArn": dead}, MaximumRetryAttempts=0)
    event = {"fail": "x" * 2000, "number": 1.0, "text": "ü"}
    request_id = world.send(name, event)
    [message] = world.aws.messages(dead, 1)
    assert message["Body"] == json.dumps(event)
    attributes = {
        key: (each["DataType"], each["StringValue"]) for key, each in message["MessageAttributes"].items()
    }
    assert attributes == {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "x" * 1024),
    }
    world.functions.aws.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": ""})
    world.functions.active(name)
    world.send(name, event)
    until(lambda: world.depth(name).get("dead") == 1, 20, "without a queue it is kept here")


def test_a_dead_letter_topic_gets_the_event_too(world: World) -> None:
    queue, topic = _subscribed(world)
    name = world.function(DeadLetterConfig={"TargetArn": topic}, MaximumRetryAttempts=0)
    request_id = world.send(name, {"fail": "boom"})
    [message] = world.aws.messages(queue, 1)
    envelope = json.loads(message["Body"])
    assert envelope["Message"] == '{"fail": "boom"}'
    assert envelope["MessageAttributes"]["RequestID"]["Value"] == request_id
    assert envelope["MessageAttributes"]["ErrorMessage"]["Value"] == "boom"


def _subscribed(world: World) -> tuple[str, str]:
    """A queue and a topic that it hears."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    queue, sns = world.aws.queue(name), world.aws.client("sns")
    topic = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    return queue, topic


def _record(name: str, request_id: str, event: Any, *, failed: bool) -> dict[str, Any]:
    """The record of an event without retries, but for its timestamp and what the function answered."""
    context: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST"}
    return {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{ACCOUNT}:{name}:$LATEST",
            "condition": "RetriesExhausted" if failed else "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": event,
        "responseContext": context | ({"functionError": "Unhandled"} if failed else {}),
    }


def _check(found: str, name: str, request_id: str, event: Any) -> None:
    record = json.loads(found)
    answer = record.pop("responsePayload")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("timestamp"))
    failed = "fail" in event
    assert record == _record(name, request_id, event, failed=failed)
    assert answer["errorMessage"] == event["fail"] if failed else answer == {"echo": event}


def test_outcomes_go_to_their_destinations(world: World) -> None:
    """SQS and SNS; success and failure, one and not the other."""
    good = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    bad, topic = _subscribed(world)
    name = world.function(destinations={"OnSuccess": good, "OnFailure": topic}, MaximumRetryAttempts=0)
    events = {world.send(name, event): event for event in ({"n": 1}, {"fail": "boom"})}
    [success] = world.aws.messages(good, 1)
    [failure] = world.aws.messages(bad, 1)
    for text in (success["Body"], json.loads(failure["Body"])["Message"]):
        request_id = json.loads(text)["requestContext"]["requestId"]
        _check(text, name, request_id, events[request_id])
    assert "MessageAttributes" not in success
    assert "Lineage=" in success["Attributes"]["AWSTraceHeader"]


def test_an_event_bus_gets_outcomes_as_events(world: World) -> None:
    queue, events = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}"), world.aws.client("events")
    bus = events.create_event_bus(Name=f"bus-{uuid.uuid4().hex[:8]}")["EventBusArn"]
    rule = {"Name": "all", "EventBusName": bus.rpartition("/")[2]}
    events.put_rule(**rule, EventPattern=json.dumps({"source": ["lambda"]}))
    events.put_targets(Rule="all", EventBusName=rule["EventBusName"], Targets=[{"Id": "q", "Arn": queue}])
    name = world.function(destinations={"OnSuccess": bus, "OnFailure": bus}, MaximumRetryAttempts=0)
    sent = {world.send(name, event): event for event in ({"n": 1}, {"fail": "boom"})}
    for message in world.aws.messages(queue, 2):
        event = json.loads(message["Body"])
        request_id = event["detail"]["requestContext"]["requestId"]
        how = "Failure" if "fail" in sent[request_id] else "Success"
        assert (event["source"], event["detail-type"]) == (
            "lambda",
            f"Lambda Function Invocation Result - {how}",
        )
        assert event["resources"] == [bus, f"{ACCOUNT}:{name}:$LATEST"]
        _check(json.dumps(event["detail"]), name, request_id, sent[request_id])


@pytest.mark.skipif(OwnS3.problem() is not None, reason=str(OwnS3.problem()))
def test_a_bucket_gets_failures_as_objects(world: World) -> None:
    s3, bucket = world.server.client("s3"), f"failures-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    name = world.function(destinations={"OnFailure": f"arn:aws:s3:::{bucket}"}, MaximumRetryAttempts=0)
    request_id = world.send(name, {"fail": "boom"})
    until(lambda: s3.list_objects_v2(Bucket=bucket).get("Contents"), 20, "an object is there")
    [entry] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    form = rf"aws/lambda/async/{name}/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\dT\d\d\.\d\d\.\d\d-[0-9a-f-]{{36}}"
    assert re.fullmatch(form, entry["Key"])
    body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().decode()
    _check(body, name, request_id, {"fail": "boom"})


def test_another_function_gets_outcomes_as_its_events(world: World) -> None:
    good = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    second = world.function(destinations={"OnSuccess": good})
    first = world.function(destinations={"OnSuccess": f"{ACCOUNT}:{second}"})
    request_id = world.send(first, {"n": 1})
    [message] = world.aws.messages(good, 1)
    record = json.loads(message["Body"])
    assert record["requestContext"]["functionArn"] == f"{ACCOUNT}:{second}:$LATEST"
    assert record["requestPayload"]["requestContext"]["requestId"] == request_id
    assert record["requestPayload"]["responsePayload"] == {"echo": {"n": 1}}
    assert record["requestContext"]["requestId"] != request_id


def test_versions_and_aliases_have_outcomes_of_their_own(world: World) -> None:
    """A record names the alias as it was invoked and the version that ran."""
    aws, good = world.functions.aws, world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    second = world.function(Publish=True)
    first = world.function(Publish=True)
    for name in (first, second):
        aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for name, target in ((first, f"{ACCOUNT}:{second}:live"), (second, good)):
        destinations = {"OnSuccess": {"Destination": target}}
        aws.put_function_event_invoke_config(
            FunctionName=name, Qualifier="live", DestinationConfig=destinations
        )
    aws.invoke(FunctionName=first, InvocationType="Event", Payload=b"{}")  # $LATEST has no destination
    aws.invoke(FunctionName=f"{first}:1", InvocationType="Event", Payload=b"{}")
    aws.invoke(FunctionName=f"{first}:live", InvocationType="Event", Payload=b'{"n": 1}')
    [message] = world.aws.messages(good, 1)
    last = json.loads(message["Body"])
    assert last["requestContext"]["functionArn"] == f"{ACCOUNT}:{second}:live"
    assert last["responseContext"] == {"statusCode": 200, "executedVersion": "1"}
    assert last["requestPayload"]["requestContext"]["functionArn"] == f"{ACCOUNT}:{first}:live"
    assert last["requestPayload"]["requestPayload"] == {"n": 1}


def test_an_event_whose_alias_is_deleted_is_kept_and_can_be_brought_back(world: World) -> None:
    aws, name = world.functions.aws, world.function(Publish=True)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    aws.put_function_event_invoke_config(FunctionName=name, Qualifier="live", MaximumRetryAttempts=2)
    aws.invoke(FunctionName=f"{name}:live", InvocationType="Event", Payload=b'{"fail": "once"}')
    until(lambda: world.depth(name).get("delayed") == 1, 20, "it waits for its retry")
    aws.delete_alias(FunctionName=name, Name="live")
    until(lambda: world.depth(name).get("dead") == 1, 20, "it is kept")
    shown = request(world.server, "GET", f"/_lambent/queue/items?function={name}&line=dead")[2]
    (kept,) = json.loads(shown)["items"]
    assert kept["error"] == f"Function not found: {ACCOUNT}:{name}:live"
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    body = json.dumps({"function": name}).encode()
    assert request(world.server, "POST", "/_lambent/queue/redrive", body)[0] == 200
    until(lambda: world.runs(name, kept["request_id"]) >= 2, 20, "it runs again")


def test_nothing_reserved_gives_events_up_at_once(world: World) -> None:
    bad = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    name = world.function(destinations={"OnFailure": bad})
    world.functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request_id = world.send(name, {"n": 1})
    [message] = world.aws.messages(bad, 1)
    record = json.loads(message["Body"])
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"{ACCOUNT}:{name}:$LATEST",
        "condition": "ZeroReservedConcurrency",
        "approximateInvokeCount": 0,
    }
    assert "responsePayload" not in record
    assert world.runs(name, request_id) == 0


def test_a_destination_that_is_down_is_tried_again_and_never_runs_the_function_twice(
    world: World, tmp_path: Path
) -> None:
    down = MotoServer(tmp_path / "moto.log").start()
    environment = {"AWS_ENDPOINT_URL_SQS": down.url}
    server = Server(tmp_path / "data", "--no-s3", environment=environment).start()
    here = World(server, Functions(server), down)
    try:
        good = down.queue("good")
        name = here.function(destinations={"OnSuccess": good})
        down.kill()
        sent = {here.send(name, {"n": n}) for n in range(3)}
        until(lambda: here.depth(name).get("outcomes") == 3, 20, "the outcomes wait")
        metric = "lambent_destination_delivery_failures_total"
        until(lambda: here.metric(metric, name) > 0, 20, "failures are counted")
        [target] = json.loads(request(server, "GET", "/_lambent/queue")[2])["targets"]
        assert target["arn"] == good and target["failures"] >= 1 and target["error"]
        # A crash may take the last lines of a log, and the log is what tells the runs.
        until(lambda: all(here.runs(name, each) == 1 for each in sent), 10, "the runs are in the log")
        server.kill()  # nor does a crash lose them
        server.start()
        down.start()
        down.queue("good")
        got = {json.loads(m["Body"])["requestContext"]["requestId"] for m in down.messages(good, 3)}
        assert got == sent
        assert all(here.runs(name, request_id) == 1 for request_id in sent)
        until(lambda: here.depth(name) == {}, 20, "nothing waits any more")
    finally:
        server.stop()
        down.kill()


def test_a_target_out_of_reach_is_refused_with_what_to_set(world: World, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--no-s3").start()
    try:
        functions = Functions(server)
        name = functions.create(CODE)
        arn = "arn:aws:sqs:us-east-1:000000000000:q"
        with pytest.raises(ClientError, match="AWS_ENDPOINT_URL_SQS") as caught:
            functions.aws.put_function_event_invoke_config(
                FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn}}
            )
        assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    finally:
        server.stop()


def test_a_loop_over_asynchronous_invocations_is_stopped(world: World) -> None:
    """boto3 in a function passes the trace header on, and with it how often each function was called."""
    bad = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    code = """
        import boto3, json
        def handler(event, context):
            print("ROUND", event["n"], flush=True)
            boto3.client("lambda").invoke(
                FunctionName=context.function_name, InvocationType="Event",
                Payload=json.dumps({"n": event["n"] + 1}))
    """
    name = world.functions.create(code, Timeout=60, MemorySize=512)
    world.functions.aws.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": bad}}
    )
    world.send(name, {"n": 1})
    [message] = world.aws.messages(bad, 1, seconds=90)
    record = json.loads(message["Body"])
    assert record["requestPayload"] == {"n": 17}
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert world.metric("lambent_recursive_invocations_dropped_total", name) == 1


def test_an_event_that_is_too_old_is_given_up(world: World, held_up: HeldUp) -> None:
    [message] = world.aws.messages(held_up.target, 1, seconds=90)
    assert time.monotonic() - held_up.since >= 60
    record = json.loads(message["Body"])
    assert record["requestContext"] == {
        "requestId": held_up.request_id,
        "functionArn": f"{ACCOUNT}:{held_up.function}:$LATEST",
        "condition": "EventAgeExceeded",
        "approximateInvokeCount": 0,
    }
    assert record["requestPayload"] == {}
