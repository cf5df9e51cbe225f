"""AWS's own lines in a function's log, and the cutting of its output into lines, because people and tools parse
REPORT.

AWS: text format of the Lambda system log; fields are separated by tabs, and REPORT ends with one.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from lambent.kernel.models import FunctionVersion, Outcome, Report

_STATUS = {
    Outcome.TIMEOUT: "\tStatus: timeout",
    Outcome.CRASH: "\tStatus: error",
    Outcome.OUT_OF_MEMORY: "\tStatus: error",
    Outcome.INIT_ERROR: "\tStatus: error",
}
MAX_LINE = 256 * 1024
MAX_LINES = 512  # of one read
TAIL = 4096


def stamp(at: float) -> str:
    """2026-01-31T12:00:00.123Z of seconds since the epoch."""
    ms = round(at * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"


def stream_name(target: FunctionVersion, environment_id: str, at: float) -> str:
    """The log stream of an environment that is made now; in a log group of one's own choice with the function's
    name, since functions may share it."""
    own = f"/aws/lambda/{target.name}"
    name = "" if target.logging.log_group == own else target.name
    return f"{time.strftime('%Y/%m/%d', time.gmtime(at))}/{name}[{target.version}]{environment_id}"


def init_start(version_text: str, arn: str) -> str:
    return f"INIT_START Runtime Version: {version_text}\tRuntime Version ARN: {arn}"


def init_report(ms: float, *, phase: str, status: str, error_type: str | None) -> str:
    """The line of a failed init. `phase`: init, or invoke for a suppressed one."""
    error = f"\tError Type: {error_type}" if error_type else ""
    return f"INIT_REPORT Init Duration: {ms:.2f} ms\tPhase: {phase}\tStatus: {status}{error}"


def restore_start(runtime_version: str, runtime_arn: str) -> str:
    return f"RESTORE_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_arn}"


def restore_report(ms: float) -> str:
    return f"RESTORE_REPORT Restore Duration: {ms:.2f} ms"


def start(request_id: str, version: str) -> str:
    return f"START RequestId: {request_id} Version: {version}"


def end(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def report(request_id: str, numbers: Report, error_type: str | None, trace: str = "") -> str:
    """The REPORT line; with a second one where its trace (an X-Ray header) is sampled."""
    init = f"\tInit Duration: {numbers.init_ms:.2f} ms" if numbers.init_ms is not None else ""
    if numbers.restore_ms is not None:
        billed = math.ceil(numbers.restore_ms)
        init += f"\tRestore Duration: {numbers.restore_ms:.2f} ms\tBilled Restore Duration: {billed} ms"
    status = _STATUS.get(numbers.outcome, "")
    if status.endswith("error") and error_type:
        status += f"\tError Type: {error_type}"
    return (
        f"REPORT RequestId: {request_id}\tDuration: {numbers.duration_ms:.2f} ms"
        f"\tBilled Duration: {numbers.billed_ms} ms\tMemory Size: {numbers.memory_size} MB"
        f"\tMax Memory Used: {round(numbers.max_memory_used / (1 << 20))} MB{init}{status}\t{_xray(trace)}"
    )


def _xray(trace: str) -> str:
    if "Sampled=1" not in trace:
        return ""
    named = dict(part.split("=", 1) for part in trace.split(";") if "=" in part)
    return f"\nXRAY TraceId: {named.get('Root', '')}\tSegmentId: {named.get('Parent', '')}\tSampled: true\t"


class LineCutter:
    """Bytes of a runtime's output in, whole lines out; a line without end is cut at 256 KB."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n", MAX_LINES)
        if b"\n" in self._rest:
            # More lines at once than anybody reads: the rest stays together, or a function that prints nothing
            # but line ends would keep the server busy for all others.
            together, _, self._rest = self._rest.rpartition(b"\n")
            lines.append(together)
        for line in lines:
            self._emit(line.decode("utf-8", "replace"))
        while len(self._rest) > MAX_LINE:
            self._emit(self._rest[:MAX_LINE].decode("utf-8", "replace"))
            self._rest = self._rest[MAX_LINE:]

    def flush(self) -> None:
        """The last line may have no end: the process died in it."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._emit(rest.decode("utf-8", "replace"))


class Tail:
    """The last 4096 bytes of one invocation's log (AWS: X-Amz-Log-Result)."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        encoded = line.encode("utf-8", "replace") + b"\n"
        self._lines.append(encoded)
        self._size += len(encoded)
        while self._size - len(self._lines[0]) >= TAIL:
            self._size -= len(self._lines.popleft())

    def value(self) -> bytes:
        return b"".join(self._lines)[-TAIL:]
