"""Functions' logs by the tools that people have: boto3, and `aws logs tail` of the official CLI's version 2."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from running import Functions, Server
from support import require
from traces import until

CODE = """
    def handler(event, context):
        print("hello", event.get("n"))
        if event.get("fail"):
            raise ValueError("as asked")
    """
WRITES = """
    import time
    import boto3
    def handler(event, context):
        logs = boto3.client("logs")
        logs.create_log_group(logGroupName=event["group"])
        logs.create_log_stream(logGroupName=event["group"], logStreamName="s")
        logs.put_log_events(logGroupName=event["group"], logStreamName="s", logEvents=[
            {"timestamp": int(time.time() * 1000), "message": "from inside"}])
        try:
            logs.filter_log_events(logGroupName=event["group"])
        except Exception as refused:
            return str(refused)
    """


@pytest.fixture(scope="module")
def aws() -> str:
    """The CLI's version 2: Debian's package; PyPI has version 1 only, without `logs tail`."""
    found = Path("/usr/bin/aws")
    require("aws v2", found.exists(), "as root: apt-get install awscli")
    return str(found)


@pytest.fixture(scope="module")
def name(functions: Functions) -> Iterator[str]:
    yield functions.create(CODE)


def test_boto3_finds_what_a_function_printed(server: Server, functions: Functions, name: str) -> None:
    logs = server.client("logs")
    group = f"/aws/lambda/{name}"
    for n in range(3):
        functions.invoke(name, {"n": n})
    functions.invoke(name, {"fail": True})
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, filterPattern="hello", PaginationConfig={"PageSize": 2}
    )
    found = [event for page in pages for event in page["events"]]
    assert [event["message"].rstrip() for event in found] == ["hello 0", "hello 1", "hello 2", "hello None"]
    assert len({event["eventId"] for event in found}) == 4
    [found_group] = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found_group["logGroupName"] == group
    [stream] = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime")["logStreams"]
    assert "[$LATEST]" in stream["logStreamName"]
    asked = {"logGroupName": group, "logStreamName": stream["logStreamName"]}
    events = logs.get_log_events(**asked, startFromHead=True)["events"]
    assert events[0]["message"].startswith("INIT_START")
    assert any("REPORT RequestId" in event["message"] for event in events)
    error = logs.filter_log_events(logGroupName=group, filterPattern="?ERROR ?Traceback")["events"]
    assert "as asked" in error[0]["message"]


def test_a_log_written_by_boto3_is_read_by_boto3(server: Server) -> None:
    logs = server.client("logs")
    with pytest.raises(ClientError) as refused:
        logs.put_log_events(
            logGroupName="mine", logStreamName="s", logEvents=[{"timestamp": 1, "message": "m"}]
        )
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
    logs.create_log_group(logGroupName="mine")
    logs.create_log_stream(logGroupName="mine", logStreamName="s")
    now = int(time.time() * 1000)
    events = [{"timestamp": now + n, "message": f"line {n} é"} for n in range(10)]
    logs.put_log_events(logGroupName="mine", logStreamName="s", logEvents=events)
    logs.put_retention_policy(logGroupName="mine", retentionInDays=1)
    found = logs.filter_log_events(logGroupName="mine", startTime=now + 4, endTime=now + 6)["events"]
    assert [event["message"] for event in found] == ["line 4 é", "line 5 é"]
    logs.delete_log_group(logGroupName="mine")
    assert logs.describe_log_groups(logGroupNamePrefix="mine")["logGroups"] == []


def test_a_function_writes_with_boto3_and_reads_nothing(server: Server, functions: Functions) -> None:
    writer = functions.create(WRITES, Timeout=30)
    answer = functions.invoke(writer, {"group": "from-a-function"})
    assert answer.error is None
    assert "Functions can't call FilterLogEvents on this endpoint until IAM is enforced" in answer.result
    refused = functions.invoke(writer, {"group": f"/aws/lambda/{writer}"})
    assert refused.error == "Unhandled" and b"AccessDeniedException" in refused.payload
    events = server.client("logs").filter_log_events(logGroupName="from-a-function")["events"]
    assert [event["message"] for event in events] == ["from inside"]


def test_a_live_tail_by_boto3(server: Server, functions: Functions, name: str) -> None:
    functions.invoke(name, {"n": "before"})
    logs = server.client("logs", inject_host_prefix=False)  # else boto3 asks stream-127.0.0.1
    (group,) = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    answer = logs.start_live_tail(logGroupIdentifiers=[group["logGroupArn"]], logEventFilterPattern="hello")
    lines: list[str] = []
    for event in answer["responseStream"]:
        if "sessionStart" in event:
            functions.invoke(name, {"n": "after"})
        lines += [line["message"].strip() for line in event.get("sessionUpdate", {}).get("sessionResults", ())]
        if lines:
            break
    answer["responseStream"].close()
    assert lines == ["hello after"]


def test_aws_logs_tail_follows(
    server: Server, functions: Functions, name: str, aws: str, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **server.exports()}
    environment["PYTHONUNBUFFERED"] = "1"  # its output is a file here
    functions.invoke(name, {"n": "before"})
    # Debian's release is older than the variables AWS_ENDPOINT_URL_*.
    command = [aws, "--endpoint-url", server.url, "logs", "tail", f"/aws/lambda/{name}", "--follow"]
    output = tmp_path / "out"
    with output.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out) as tail:
        try:
            until(lambda: "hello before" in output.read_text(), 30, "what was there is shown")
            functions.invoke(name, {"n": "after"})
            until(lambda: "hello after" in output.read_text(), 30, "what comes is shown")
        finally:
            tail.terminate()
    text = output.read_text()
    assert text.count("hello after") == 1 and "REPORT RequestId" in text
