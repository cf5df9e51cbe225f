"""How an execution's end becomes AWS's error, as pure functions, because these texts are what users and their
alarms match on.

AWS: "Lambda runtime errors"; times with two decimals, as AWS writes them.
"""

import json
import math
import signal

from lambent.executor.drivers.base import Exit
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.models import Outcome, Report, Response
from lambent.kernel.response_stream import MAX_STREAMED

UNHANDLED = "Unhandled"
INIT_SECONDS = 10.0
# An environment of a provisioned allocation may take longer (AWS: no 10 s there); as long as an invocation may.
PROVISIONED_INIT_SECONDS = 900.0
_MAX_MESSAGE = 32 * 1024
_MAX_TYPE = 1024

_SIGNALS: dict[int, str] = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGKILL: "killed",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGILL: "illegal instruction",
    signal.SIGTERM: "terminated",
    signal.SIGSYS: "bad system call",
    signal.SIGINT: "interrupt",
    signal.SIGHUP: "hangup",
    signal.SIGPIPE: "broken pipe",
    signal.SIGQUIT: "quit",
}


def failure(error_type: str, message: str) -> Response:
    """An error that the platform answers for the function."""
    body = json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":"))
    return Response(body.encode(), UNHANDLED, error_type)


def timed_out(request_id: str, seconds: float) -> Response:
    """The answer when the function's timeout has passed."""
    return failure(
        "Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    )


def exit_text(end: Exit) -> str:
    """AWS's words for how the runtime process ended."""
    if end.signal is not None:
        name = _SIGNALS.get(end.signal, f"signal {end.signal}")  # real-time signals have no names
        return f"Runtime exited with error: signal: {name}"
    if end.code:
        return f"Runtime exited with error: exit status {end.code}"
    return "Runtime exited without providing a reason"


def exited(request_id: str, end: Exit) -> tuple[Outcome, Response]:
    """The answer when the runtime process ended by itself or was killed for memory."""
    text = f"RequestId: {request_id} Error: {exit_text(end)}"
    if end.oom:
        return Outcome.OUT_OF_MEMORY, failure("Runtime.OutOfMemory", text)
    return Outcome.CRASH, failure("Runtime.ExitError", text)


def not_startable(request_id: str, kind: str, why: str) -> Response:
    """The answer when there is nothing that can be started. `kind`: AWS's errorType."""
    return failure(kind, f"RequestId: {request_id} Error: {why}")


def response_too_large() -> Response:
    """The answer when the function's response is over 6 MB."""
    return failure(
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    )


def stream_too_large() -> Response:
    """The answer when a streamed response is over 200 MB."""
    return failure(
        "Function.ResponseSizeTooLarge",
        f"Response payload size exceeded maximum allowed payload size ({MAX_STREAMED} bytes).",
    )


def truncated(request_id: str) -> Response:
    """The answer when a runtime hangs up in the middle of its streamed response, and lives on."""
    return failure(
        "Runtime.TruncatedResponse", f"RequestId: {request_id} Error: The response ended before it was complete"
    )


def billed_ms(duration_ms: float, init_ms: float | None) -> int:
    """AWS since August 2025: init is billed with the cold invocation; rounded up to 1 ms, at least 1."""
    return max(1, math.ceil(round(duration_ms + (init_ms or 0.0), 6)))


def error_message(response: Response) -> str:
    """The errorMessage of an error answer, for the log; bounded, for a function may post anything."""
    try:
        body = json.loads(response.payload)
    except (ValueError, RecursionError):
        return response.payload[:1024].decode("utf-8", "replace")
    message = body.get("errorMessage") if isinstance(body, dict) else None
    text = str(message) if message is not None else response.payload[:1024].decode("utf-8", "replace")
    return text[:_MAX_MESSAGE].encode("utf-8", "replace").decode()


def error_type(body: bytes) -> str:
    """The errorType of what a runtime posted as an error without a header that says it."""
    try:
        posted = json.loads(body)
    except (ValueError, RecursionError):
        return "Runtime.Unknown"
    kind = posted.get("errorType") if isinstance(posted, dict) else None
    return kind[:_MAX_TYPE] if isinstance(kind, str) and kind.isprintable() and kind else "Runtime.Unknown"


def with_request(response: Response, request_id: str) -> Response:
    """An error of the platform with the request that it is told to, as AWS writes it."""
    text = f"RequestId: {request_id} Error: {error_message(response)}"
    return failure(response.error_type or "Extension.Crash", text)


def with_tail(report: Report, tail: bytes) -> Report:
    """The same report with the log's tail."""
    return report._replace(log_tail=tail)


def platform_error(failure: Exception) -> LambdaError:
    """What a caller is told when the platform, and not the function, failed."""
    if isinstance(failure, LambdaError):
        return failure
    return ServiceException(f"The execution environment could not be started: {failure}")


def stopped() -> LambdaError:
    """The error of an execution that was cut off because its executor stops."""
    return ServiceException("The execution was cut off: the executor was stopped. Try again.")
