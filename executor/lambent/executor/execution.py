"""One execution on its way: what was asked, and the two ends that others wait for."""

import asyncio

from lambent.executor.log_lines import Tail
from lambent.kernel.errors import LambdaError
from lambent.kernel.models import Invocation, Outcome, Report, Response
from lambent.kernel.ports import Lease


class Execution:
    """A `ports.Run`. Times are of the monotonic clock, in seconds."""

    __slots__ = (
        "asked",
        "begun",
        "ended",
        "error_type",
        "init_ms",
        "invocation",
        "lease",
        "outcome",
        "report",
        "response",
        "tail",
    )

    def __init__(self, invocation: Invocation, lease: Lease, *, asked: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.asked = asked
        self.invocation = invocation
        self.lease = lease
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.begun = 0.0
        self.ended: float | None = None
        self.init_ms: float | None = None
        self.outcome: Outcome | None = None
        self.error_type: str | None = None
        self.tail = Tail() if invocation.want_log_tail else None

    @property
    def answered(self) -> bool:
        return self.outcome is not None

    def answer(self, outcome: Outcome, response: Response, at: float) -> None:
        """The response is known; the caller gets it now, whether it still waits or not."""
        self.outcome = outcome
        self.error_type = response.error_type
        self.ended = at
        if not self.response.done():
            self.response.set_result(response)

    def close(self, report: Report) -> None:
        """The environment is done with it: the slot is free."""
        if not self.report.done():
            self.report.set_result(report)

    def fail(self, error: LambdaError) -> None:
        """The platform could not run it: both ends raise."""
        for end in (self.response, self.report):
            if not end.done():
                end.set_exception(error)
                end.exception()  # read here: a caller that hung up never will
