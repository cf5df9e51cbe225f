"""One execution on its way: what was asked, and the two ends that others wait for."""

import asyncio
from collections.abc import Callable

from lambent.executor import limits
from lambent.executor.log_lines import Tail
from lambent.kernel.errors import LambdaError
from lambent.kernel.models import FunctionVersion, Invocation, Outcome, Report, Response
from lambent.kernel.ports import Lease
from lambent.kernel.response_stream import ResponseStream


class Execution:
    """A `ports.Run`. Times are of the monotonic clock, in seconds."""

    __slots__ = (
        "asked",
        "begun",
        "cancelled",
        "ended",
        "error_type",
        "init_ms",
        "invocation",
        "lease",
        "metered",
        "outcome",
        "peak_memory",
        "report",
        "restore_ms",
        "response",
        "sent",
        "stream",
        "tail",
    )

    def __init__(self, invocation: Invocation, lease: Lease, *, asked: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.asked = asked
        self.invocation = invocation
        self.lease = lease
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.stream = ResponseStream(loop) if invocation.streaming else None
        self.begun = 0.0
        self.ended: float | None = None
        self.init_ms: float | None = None
        self.restore_ms: float | None = None
        self.outcome: Outcome | None = None
        self.error_type: str | None = None
        self.peak_memory = 0  # bytes, as the answer was known
        self.metered = False
        self.sent = 0  # bytes of the response
        self.tail = Tail() if invocation.want_log_tail else None
        self.cancelled: Callable[[], None] | None = None

    @property
    def answered(self) -> bool:
        return self.outcome is not None

    @property
    def duration_ms(self) -> float:
        """From the event to the answer."""
        if self.ended is None:
            raise RuntimeError("an execution has no duration before its answer")
        return (self.ended - self.begun) * 1000

    def numbers(self, target: FunctionVersion) -> Report:
        """Of an execution that is over. Raises RuntimeError for one that is not."""
        if self.outcome is None:
            raise RuntimeError("an execution ended without an answer")
        duration = self.duration_ms
        return Report(
            outcome=self.outcome,
            duration_ms=duration,
            billed_ms=limits.billed_ms(duration, self.init_ms),
            init_ms=self.init_ms,
            memory_size=target.memory_size,
            max_memory_used=self.peak_memory,
            restore_ms=self.restore_ms,
        )

    def end(self, outcome: Outcome, error_type: str | None, at: float) -> None:
        """The outcome is known."""
        self.outcome, self.error_type, self.ended = outcome, error_type, at

    def answer(self, response: Response) -> None:
        """The caller gets it now, whether it still waits or not."""
        if not self.response.done():
            self.response.set_result(response)
        if self.stream is not None:
            self.stream.end()

    def close(self, report: Report) -> None:
        """The environment is done with it: the slot is free."""
        self.cancelled = None  # it leads back here: a cycle would be left for the collector
        if not self.report.done():
            self.report.set_result(report)

    def cancel(self) -> None:
        """See `ports.Run`."""
        if not self.answered and self.cancelled is not None:
            self.cancelled()

    def fail(self, error: LambdaError) -> None:
        """The platform could not run it: both ends raise."""
        self.cancelled = None
        for end in (self.response, self.report):
            if not end.done():
                end.set_exception(error)
                end.exception()  # read here: a caller that hung up never will
        if self.stream is not None:
            self.stream.end()
