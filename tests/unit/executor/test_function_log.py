import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from playing import TARGET

from lambent.executor.drivers.base import Exit
from lambent.executor.function_log import Facts, FunctionLog
from lambent.executor.limits import exited
from lambent.executor.log_lines import Tail, stream_name
from lambent.kernel.clock import TestClock
from lambent.kernel.models import Invocation, LoggingConfig, Outcome, Report
from lambent.kernel.store.memory_logs import MemoryLogs


class Logs(MemoryLogs):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        self.lines += [text for _, text in lines]


def _log(
    form: str = "JSON", application: str | None = None, system: str | None = None
) -> tuple[FunctionLog, Logs]:
    logs = Logs()
    target = replace(TARGET, logging=LoggingConfig("/aws/lambda/f", form, application, system))
    facts = Facts("e1", "python:3.11.7", "arn:r")
    return FunctionLog(target, facts, logs=logs, stream="s", clock=TestClock()), logs


def _types(logs: Logs) -> list[str]:
    return [json.loads(line)["type"] for line in logs.lines]


ASKED = Invocation("id-1", TARGET, "arn", b"{}", "Root=1-2-3;Parent=53995c3f42cd8ad8;Sampled=0")
REPORT = Report(Outcome.SUCCESS, 1.5, 2, None, 128, 30 << 20)


@pytest.mark.parametrize(
    "level, passed",
    [
        ("TRACE", ["plain", "trace", "debug", "warn"]),
        ("DEBUG", ["plain", "debug", "warn"]),
        ("INFO", ["plain", "warn"]),
        ("WARN", ["warn"]),
        ("ERROR", []),
    ],
)
def test_lines_pass_by_their_level_and_what_has_none_is_info(level: str, passed: list[str]) -> None:
    log, logs = _log(application=level)
    lines = {
        "plain": "text",
        "trace": '{"level": "trace"}',
        "debug": '{"level": "DEBUG", "a": [1]}',
        "warn": '{"level": "warning"}',
    }
    for line in lines.values():
        log.output(line)
    assert logs.lines == [lines[name] for name in passed]


@pytest.mark.parametrize(
    "line", ["{", '{"level": 1}', "[1]", '{"a": ' + "[" * 100_000, '{"level": "loud"}', ""]
)
def test_what_is_no_record_is_info(line: str) -> None:
    log, logs = _log(application="INFO")
    log.output(line)
    assert logs.lines == [line]


def test_text_has_no_levels() -> None:
    log, logs = _log("Text")
    log.output('{"level": "trace"}')
    assert logs.lines == ['{"level": "trace"}']


@pytest.mark.parametrize(
    "level, good, bad",
    [
        (
            "DEBUG",
            [
                "platform.initStart",
                "platform.initRuntimeDone",
                "platform.initReport",
                "platform.start",
                "platform.report",
            ],
            [
                "platform.initStart",
                "platform.initRuntimeDone",
                "platform.initReport",
                "platform.start",
                "platform.report",
            ],
        ),
        (
            "INFO",
            ["platform.initStart", "platform.start", "platform.report"],
            [
                "platform.initStart",
                "platform.initRuntimeDone",
                "platform.initReport",
                "platform.start",
                "platform.report",
            ],
        ),
        ("WARN", [], ["platform.initRuntimeDone", "platform.initReport", "platform.report"]),
    ],
)
def test_events_pass_by_their_level_which_rises_when_things_go_wrong(
    level: str, good: list[str], bad: list[str]
) -> None:
    for outcome, status, expected in ((Outcome.SUCCESS, "success", good), (Outcome.CRASH, "error", bad)):
        log, logs = _log(system=level)
        log.init_started("init")
        log.init_ended(2.0, phase="init", status=status)
        log.started(ASKED)
        log.reported(ASKED, REPORT._replace(outcome=outcome), None)
        assert _types(logs) == expected


def test_who_listens_has_everything_whatever_the_levels() -> None:
    log, logs = _log("Text")
    heard: list[tuple[str, Any]] = []
    log.events = lambda kind, record: heard.append((kind, record))
    log.init_started("invoke")
    log.output("hello")
    log.started(ASKED)
    log.reported(ASKED, REPORT._replace(init_ms=250.0), "E")
    assert [kind for kind, _ in heard] == [
        "platform.initStart",
        "function",
        "platform.start",
        "platform.report",
    ]
    assert heard[1][1] == "hello"
    assert heard[3][1]["metrics"] == {
        "durationMs": 1.5,
        "billedDurationMs": 2,
        "memorySizeMB": 128,
        "maxMemoryUsedMB": 30,
        "initDurationMs": 250.0,
    }
    assert logs.lines[0] == "hello", "the text form has no line of a suppressed init's start"


def test_the_tail_has_what_the_log_has() -> None:
    log, logs = _log()
    log.tail = Tail()
    log.started(ASKED)
    log.output("hello")
    _, response = exited("id-1", Exit(code=3))
    log.failed("id-1", response)
    assert log.tail.value().decode().splitlines() == logs.lines
    told = json.loads(logs.lines[-1])
    assert (told["level"], told["errorType"], told["requestId"]) == ("ERROR", "Runtime.ExitError", "id-1")
    assert "exit status 3" in told["message"]


def test_a_stream_has_the_functions_name_where_its_group_may_be_shared() -> None:
    assert stream_name(TARGET, "e1", 0.0) == "1970/01/01/[$LATEST]e1"
    shared = replace(TARGET, version="3", logging=LoggingConfig("/mine"))
    assert stream_name(shared, "e1", 0.0) == "1970/01/01/f[3]e1"


def test_a_sampled_trace_is_named_with_its_segment() -> None:
    header = "Root=1-67ae8b2c-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1"
    asked = ASKED._replace(trace_id=header)
    log, logs = _log("Text")
    log.reported(asked, REPORT, None)
    log.reported(ASKED, REPORT, None)
    first, second = logs.lines[1], logs.lines[3]
    assert first.endswith(
        "\t\nXRAY TraceId: 1-67ae8b2c-0123456789abcdef01234567\tSegmentId: 53995c3f42cd8ad8\tSampled: true\t"
    )
    assert "XRAY" not in second
    log, logs = _log()
    log.started(asked)
    log.reported(asked, REPORT, None)
    tracing = {"spanId": "53995c3f42cd8ad8", "type": "X-Amzn-Trace-Id", "value": header}
    assert [json.loads(line)["record"]["tracing"] for line in logs.lines] == [tracing, tracing]
