"""The log of one environment: what the function writes, and what the platform says about it, as text or as JSON
and at the levels that the function is configured for.

Everything that happens in an environment passes here once, so that the log and whoever listens in the
environment (the Telemetry API) have the same records. AWS: "Lambda telemetry event schema", "System log level
event mapping"."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.executor import limits, log_lines
from lambent.executor.execution import Execution
from lambent.executor.log_lines import Tail
from lambent.kernel.models import FunctionVersion, Invocation, Outcome, Report, Response
from lambent.kernel.ports import Clock, LogStore

_LEVELS = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "WARNING": 3, "ERROR": 4, "FATAL": 5, "CRITICAL": 5}
_DEBUG, _INFO, _WARN = 1, 2, 3
_OF_INIT = {"initializationType", "phase"}  # what a restore does not tell
_MARK, _END_OF_MARK = "\x1e", "\x1f"
_STATUS = {
    Outcome.SUCCESS: "success",
    Outcome.TIMEOUT: "timeout",
}

Events = Callable[[str, Any], None]
"""Is given each event's type and record; of the function's own lines: "function" and the line."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an environment says about itself. `initialization`: AWS's type of it ("on-demand", ...)."""

    environment: str
    runtime_version: str
    runtime_arn: str
    initialization: str = "on-demand"


class FunctionLog:
    """Writes to the log stream of one environment; `tail` also has the lines of the invocation that runs."""

    def __init__(
        self, target: FunctionVersion, facts: Facts, *, logs: LogStore, stream: str, clock: Clock
    ) -> None:
        self._target = target
        self._facts = facts
        self._logs = logs
        self._group = target.logging.log_group
        self._stream = stream
        self._clock = clock
        self._json = target.logging.log_format == "JSON"
        self._system = _LEVELS[target.logging.system_log_level or "INFO"]
        self._application = _LEVELS[target.logging.application_log_level or "INFO"] if self._json else 0
        self._phase = "init"
        self.tail: Tail | None = None
        self.events: Events | None = None

    # ---- what the function writes ---------------------------------------------------------------------

    def output(self, line: str) -> None:
        """A line of the function's stdout or stderr, or of an extension's, as the launcher marks them."""
        if _MARK in line:
            self._marked(line)
            return
        if self.events is not None:
            self.events("function", _record(line) if self._json else line)
        if self._application and _level(line) < self._application:
            return
        self._write(line)

    def _marked(self, line: str) -> None:
        before, _, rest = line.partition(_MARK)
        if before:
            self.output(before)
        text = rest.partition(_END_OF_MARK)[2]
        if self.events is not None:
            self.events("extension", text)
        self._write(text)

    # ---- what the platform says -----------------------------------------------------------------------

    def init_started(self, phase: str) -> None:
        """`phase`: init, or invoke for a suppressed one, which the text form does not have."""
        facts = self._facts
        if not self._json and phase == "init":
            self._write(log_lines.init_start(facts.runtime_version, facts.runtime_arn))
        self._phase = phase
        if self._told:
            self._event("platform.initStart", self.init_record, _INFO)

    @property
    def init_record(self) -> Mapping[str, Any]:
        """Of the init that began last."""
        facts = self._facts
        return {
            "initializationType": facts.initialization,
            "phase": self._phase,
            "functionName": self._target.name,
            "functionVersion": self._target.version,
            "instanceId": facts.environment,
            "instanceMaxMemory": self._target.memory_size << 20,
            "runtimeVersion": facts.runtime_version,
            "runtimeVersionArn": facts.runtime_arn,
        }

    def init_ended(
        self, ms: float, *, phase: str, status: str = "success", error_type: str | None = None
    ) -> None:
        """`status`: success, error or timeout; the text form has only the last two."""
        good = status == "success"
        if not self._json and not good:
            self._write(log_lines.init_report(ms, phase=phase, status=status, error_type=error_type))
        if self._told:
            record = {"initializationType": self._facts.initialization, "phase": phase, "status": status}
            if error_type:
                record["errorType"] = error_type
            self._event("platform.initRuntimeDone", record, _DEBUG if good else _WARN)
            quiet = good and self._facts.initialization == "on-demand"
            level = _DEBUG if quiet else _INFO if good else _WARN
            self._event("platform.initReport", {**record, "metrics": {"durationMs": round(ms, 3)}}, level)

    def not_launched(self, line: str) -> None:
        """Of an image that says wrongly how it is started. AWS writes it before the end of the init."""
        if self._json:
            self._remark("ERROR", line, None)
        else:
            self._write(line)

    def restore_started(self) -> None:
        """Instead of an init."""
        facts = self._facts
        if not self._json:
            self._write(log_lines.restore_start(facts.runtime_version, facts.runtime_arn))
        if self._told:
            record = {name: value for name, value in self.init_record.items() if name not in _OF_INIT}
            self._event("platform.restoreStart", record, _INFO)

    def restore_ended(self, ms: float, *, status: str = "success", error_type: str | None = None) -> None:
        good = status == "success"
        if not self._json:
            self._write(log_lines.restore_report(ms))
        if self._told:
            record = {"status": status, **({"errorType": error_type} if error_type else {})}
            self._event("platform.restoreRuntimeDone", record, _DEBUG if good else _WARN)
            metrics = {"metrics": {"durationMs": round(ms, 3)}}
            self._event("platform.restoreReport", {**record, **metrics}, _INFO if good else _WARN)

    def no_snapshot(self, why: str) -> None:
        """Of a version whose environments will not be restored."""
        text = f"SnapStart: no snapshot of this version could be kept ({why}); its environments are started."
        if self._json:
            self._remark("WARN", text, None)
        else:
            self._write(text)

    def started(self, invocation: Invocation) -> None:
        if not self._json:
            self._write(log_lines.start(invocation.request_id, self._target.version))
        if self._told:
            record = {"requestId": invocation.request_id, "version": self._target.version}
            self._event("platform.start", {**record, **_tracing(invocation.trace_id)}, _INFO)

    def timed_out(self, request_id: str, seconds: float) -> None:
        at = log_lines.stamp(self._clock.now())
        text = f"Task timed out after {seconds:.2f} seconds"
        if self._json:
            self._remark("ERROR", text, request_id)
        else:
            self._write(f"{at} {request_id} {text}\n")

    def failed(self, request_id: str, response: Response) -> None:
        """An end that the function did not say itself: a crash, an init that failed in the invocation."""
        text = limits.error_message(response)
        if self._json:
            self._remark("ERROR", text, request_id, errorType=response.error_type)
        else:
            self._write(f"{text}\n{response.error_type}")

    def answered(self, execution: Execution) -> None:
        """The runtime is done with the invocation, or gone."""
        if self._told and execution.outcome is not None:
            good = execution.outcome is Outcome.SUCCESS
            record: dict[str, Any] = {
                "requestId": execution.invocation.request_id,
                "status": _STATUS.get(execution.outcome, "error"),
                "metrics": {"durationMs": round(execution.duration_ms, 3), "producedBytes": execution.sent},
            }
            if execution.error_type:
                record["errorType"] = execution.error_type
            record |= _tracing(execution.invocation.trace_id)
            self._event("platform.runtimeDone", record, _DEBUG if good else _WARN)

    def reported(self, invocation: Invocation, report: Report, error_type: str | None) -> None:
        """The invocation is over."""
        request_id = invocation.request_id
        if not self._json:
            line = log_lines.report(request_id, report, error_type, invocation.trace_id)
            self._write(log_lines.end(request_id), line)
        if self._told:
            good = report.outcome is Outcome.SUCCESS
            record: dict[str, Any] = {
                "requestId": request_id,
                "status": _STATUS.get(report.outcome, "error"),
                "metrics": _metrics(report),
            }
            if error_type:
                record["errorType"] = error_type
            record |= _tracing(invocation.trace_id)
            self._event("platform.report", record, _INFO if good else _WARN)

    def extension(self, name: str, state: str, events: Sequence[str], error: str = "") -> None:
        """`state`: Ready, or what went wrong with it: LaunchError, InitError, ExitError, Crash."""
        if not self._json:
            more = f"\tError Type: {error}" if error else ""
            self._write(f"EXTENSION\tName: {name}\tState: {state}\tEvents: [{', '.join(events)}]{more}")
        if self._told:
            record: dict[str, Any] = {"name": name, "state": state, "events": list(events)}
            if error:
                record["errorType"] = error
            self._event("platform.extension", record, _WARN if error else _INFO)

    def subscription(self, kind: str, record: Mapping[str, Any]) -> None:
        """An extension has subscribed to telemetry."""
        if not self._json:
            label = "TELEMETRY" if kind == "platform.telemetrySubscription" else "LOGS"
            types = ", ".join(record["types"])
            self._write(f"{label}\tName: {record['name']}\tState: {record['state']}\tTypes: [{types}]")
        if self._told:
            self._event(kind, record, _INFO)

    def cancelled(self) -> None:
        text = "The caller has gone and asked for the invocation to be cancelled."
        if self._json:
            self._remark("WARN", text, None)
        else:
            self._write(text)

    # ---- how it is written ----------------------------------------------------------------------------

    @property
    def _told(self) -> bool:
        """Whether anybody wants records."""
        return self._json or self.events is not None

    def _event(self, kind: str, record: Mapping[str, Any], level: int) -> None:
        if self.events is not None:
            self.events(kind, record)
        if self._json and level >= self._system:
            at = log_lines.stamp(self._clock.now())
            self._write(_compact({"time": at, "type": kind, "record": record}))

    def _remark(self, level: str, text: str, request_id: str | None, **more: str | None) -> None:
        """Of the platform, in the form of an application's record."""
        record: dict[str, Any] = {
            "timestamp": log_lines.stamp(self._clock.now()),
            "level": level,
            "message": text,
        }
        if request_id is not None:
            record["requestId"] = request_id
        record |= {name: value for name, value in more.items() if value is not None}
        self._write(_compact(record))

    def _write(self, *texts: str) -> None:
        if self.tail is not None:
            for text in texts:
                self.tail.add(text)
        at = int(self._clock.now() * 1000)
        self._logs.append(self._group, self._stream, [(at, text) for text in texts])


def _record(line: str) -> Any:
    """A line of a JSON log, as the Telemetry API has it: an object where it is one."""
    if not line.startswith("{"):
        return line
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line


def _level(line: str) -> int:
    """The level of an application's line: that of its JSON, else INFO, as on AWS."""
    if not line.startswith("{"):
        return _INFO
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return _INFO
    level = record.get("level")
    return _LEVELS.get(level.upper(), _INFO) if isinstance(level, str) else _INFO


def _tracing(header: str) -> dict[str, Any]:
    """Of an invocation that is sampled: which trace and segment it is of."""
    if "Sampled=1" not in header:
        return {}
    parent = header.partition("Parent=")[2].partition(";")[0]
    return {"tracing": {"spanId": parent, "type": "X-Amzn-Trace-Id", "value": header}}


def _metrics(report: Report) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "durationMs": round(report.duration_ms, 3),
        "billedDurationMs": report.billed_ms,
        "memorySizeMB": report.memory_size,
        "maxMemoryUsedMB": round(report.max_memory_used / (1 << 20)),
    }
    if report.restore_ms is not None:
        metrics["restoreDurationMs"] = round(report.restore_ms, 3)
        metrics["billedRestoreDurationMs"] = math.ceil(report.restore_ms)
    if report.init_ms is not None:
        metrics["initDurationMs"] = round(report.init_ms, 3)
    return metrics


def _compact(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))


__all__: Sequence[str] = ["Events", "Facts", "FunctionLog"]
