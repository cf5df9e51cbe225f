"""LoggingConfig: what the platform and the function write as JSON, and at which levels."""

import json
from collections.abc import Mapping
from typing import Any

from running import Functions

CODE = """
import logging, time

logger = logging.getLogger()


def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    if event.get("fail"):
        raise ValueError("boom")
    logger.debug("a detail")
    logger.info("all is well", extra={"more": 1})
    logger.error("it is not")
    print("printed")
    print('{"level": "warn", "own": 1}')
    return 1
"""


def _create(functions: Functions, **config: str) -> str:
    return functions.create(CODE, LoggingConfig={"LogFormat": "JSON", **config}, Timeout=2)


def _lines(functions: Functions, name: str, event: Any = None) -> tuple[str, list[Any]]:
    """The request id, and the invocation's log: records, and lines that are none as they are."""
    answer = functions.invoke(name, event)
    return answer.request_id, [
        json.loads(line) if line.startswith("{") else line for line in answer.log.splitlines() if line
    ]


def _types(lines: list[Any]) -> list[str]:
    return [line["type"] for line in lines if isinstance(line, Mapping) and "type" in line]


def test_the_platform_and_the_function_log_json(functions: Functions) -> None:
    name = _create(functions)
    request_id, lines = _lines(functions, name)
    assert _types(lines) == ["platform.start", "platform.report"]
    start, report = lines[0], lines[-1]
    assert start["record"] == {"requestId": request_id, "version": "$LATEST"}
    assert start["time"].endswith("Z")
    assert report["record"]["status"] == "success"
    metrics = report["record"]["metrics"]
    assert metrics["billedDurationMs"] >= metrics["durationMs"] > 0
    assert metrics["memorySizeMB"] == 128 and metrics["initDurationMs"] > 0
    said = [line for line in lines if isinstance(line, Mapping) and "message" in line]
    assert [(line["level"], line["message"]) for line in said] == [
        ("INFO", "all is well"),
        ("ERROR", "it is not"),
    ]
    assert said[0]["requestId"] == request_id and said[0]["more"] == 1
    assert "printed" in lines and {"level": "warn", "own": 1} in lines
    first = json.loads(functions.logged(name, until='{"time":')[0])
    assert first["type"] == "platform.initStart"
    assert first["record"]["functionName"] == name
    assert first["record"]["runtimeVersion"].startswith("python:")


def test_records_below_the_applications_level_are_left_out(functions: Functions) -> None:
    _, lines = _lines(functions, _create(functions, ApplicationLogLevel="DEBUG"))
    assert [line["message"] for line in lines if isinstance(line, Mapping) and "message" in line] == [
        "a detail",
        "all is well",
        "it is not",
    ]
    _, lines = _lines(functions, _create(functions, ApplicationLogLevel="WARN"))
    rest = [line for line in lines if not isinstance(line, Mapping) or "type" not in line]
    assert [line.get("message") or line for line in rest] == ["it is not", {"level": "warn", "own": 1}]


def test_events_below_the_systems_level_are_left_out(functions: Functions) -> None:
    name = _create(functions, SystemLogLevel="DEBUG")
    _, lines = _lines(functions, name)
    assert _types(lines) == ["platform.start", "platform.runtimeDone", "platform.report"]
    found = functions.server.client("logs").filter_log_events(
        logGroupName=f"/aws/lambda/{name}", filterPattern='{ $.type = "platform.init*" }'
    )["events"]
    events = [json.loads(event["message"])["type"] for event in found]
    assert events[:3] == ["platform.initStart", "platform.initRuntimeDone", "platform.initReport"]
    name = _create(functions, SystemLogLevel="WARN")
    assert _types(_lines(functions, name)[1]) == []
    assert _types(_lines(functions, name, {"fail": True})[1]) == ["platform.runtimeDone", "platform.report"]


def test_what_ends_badly_says_how(functions: Functions) -> None:
    name = _create(functions)
    _, lines = _lines(functions, name, {"fail": True})
    assert any(isinstance(line, Mapping) and line.get("errorType") == "ValueError" for line in lines)
    report = lines[-1]["record"]
    assert (report["status"], report["errorType"]) == ("error", "ValueError")
    request_id, lines = _lines(functions, name, {"sleep": 10})
    assert lines[-1]["record"]["status"] == "timeout"
    (told,) = [
        line for line in lines if isinstance(line, Mapping) and "Task timed out" in line.get("message", "")
    ]
    assert (told["level"], told["requestId"]) == ("ERROR", request_id)


def test_functions_that_share_a_group_have_their_names_in_its_streams(functions: Functions) -> None:
    name = functions.create(
        "def handler(event, context):\n    return context.log_stream_name\n",
        LoggingConfig={"LogGroup": "/shared/by-many"},
    )
    stream = functions.invoke(name).result
    assert f"/{name}[$LATEST]" in stream
    logs = functions.server.client("logs")
    assert logs.get_log_events(logGroupName="/shared/by-many", logStreamName=stream)["events"]


def test_active_tracing_is_seen_by_the_function_and_named_in_the_log(functions: Functions) -> None:
    code = "import os\ndef handler(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n"
    active = functions.create(code, TracingConfig={"Mode": "Active"})
    answer = functions.invoke(active)
    header = dict(part.split("=", 1) for part in answer.result.split(";"))
    assert header["Sampled"] == "1"
    assert f"XRAY TraceId: {header['Root']}\tSegmentId: {header['Parent']}\tSampled: true" in answer.log
    configuration = functions.aws.get_function_configuration(FunctionName=active)
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    functions.aws.update_function_configuration(FunctionName=active, TracingConfig={"Mode": "PassThrough"})
    functions.active(active)
    answer = functions.invoke(active)
    assert "Sampled=0" in answer.result and "XRAY" not in answer.log
