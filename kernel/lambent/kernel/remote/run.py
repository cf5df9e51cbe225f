"""A `ports.Run` in another process: its two ends, and how far it has got."""

import asyncio
from typing import Protocol

from lambent.internal.v1.host_pb2 import ResponseHead
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.models import Report, Response
from lambent.kernel.remote.frames import Incoming, Outgoing
from lambent.kernel.response_stream import ResponseStream


class Canceller(Protocol):
    """The connection that a run is on."""

    def cancel(self, run: "RemoteRun") -> None: ...


class RemoteRun:
    """A `ports.Run` in another process. `stream_id`: its number on the link; `unpaid`: chunks of `stream` that
    the other side has no credit for yet."""

    __slots__ = (
        "accepted",
        "answered",
        "cancelled",
        "head",
        "incoming",
        "link",
        "number",
        "outgoing",
        "over",
        "report",
        "reported",
        "response",
        "stream",
        "stream_id",
        "unpaid",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, streaming: bool = False) -> None:
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.stream = ResponseStream(loop) if streaming else None
        self.link: Canceller | None = None
        self.stream_id = self.number = self.unpaid = 0
        self.outgoing: Outgoing | None = None
        self.head: ResponseHead | None = None
        self.incoming: Incoming | None = None
        self.accepted = self.answered = self.reported = self.cancelled = self.over = False

    def cancel(self) -> None:
        """See `ports.Run`."""
        if self.answered or self.over or self.cancelled:
            return
        self.cancelled = True
        if self.link is None:
            self.fail(ServiceException("The invocation was cancelled before it began."))
        else:
            self.link.cancel(self)

    def answer(self, response: Response) -> None:
        self.answered = True
        self.head = self.incoming = None
        if not self.response.done():
            self.response.set_result(response)
        if self.stream is not None:
            self.stream.end()

    def close(self, report: Report) -> None:
        self.reported = True
        if not self.report.done():
            self.report.set_result(report)

    def fail(self, error: LambdaError) -> None:
        """Both ends raise, as far as they are open."""
        self.over = True
        self.link = None
        for end in (self.response, self.report):
            if not end.done():
                end.set_exception(error)
                end.exception()  # read here: a caller that hung up never will
        if self.stream is not None:
            self.stream.end()
