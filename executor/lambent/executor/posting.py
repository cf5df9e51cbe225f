"""The part of an environment that takes what its runtime posts about an invocation, whole or as it is made."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

from lambent.executor import limits, responses
from lambent.executor.execution import Execution
from lambent.executor.runtime_api import Answer, Posted
from lambent.kernel import metrics
from lambent.kernel.models import FunctionVersion, Outcome, Response
from lambent.kernel.ports import Clock
from lambent.kernel.response_stream import ResponseStream

# A process that hung up has ended by then, if that is why.
_EXIT_SECONDS = 0.5


class Posting(ABC):
    """See `runtime_api.RuntimeCalls`."""

    target: FunctionVersion
    _loop: asyncio.AbstractEventLoop
    _clock: Clock

    @abstractmethod
    def _running(self, request_id: str) -> Execution | None:
        """The execution of that request, if it is under way and not answered."""

    @abstractmethod
    def _answer(self, execution: Execution, outcome: Outcome, response: Response, at: float) -> None: ...

    def response_begun(self, request_id: str, headers: Mapping[bytes, bytes]) -> ResponseStream | None:
        execution = self._running(request_id)
        stream = execution.stream if execution is not None else None
        if execution is None or stream is None or stream.content_type is not None:
            return None
        if not responses.streams(headers):
            return None
        stream.begin(responses.content_type(headers))
        metrics.first_byte.labels(metrics.function_label(self.target.name)).observe(
            self._clock.monotonic() - execution.begun
        )
        return stream

    def response_posted(self, request_id: str, posted: Posted) -> Answer:
        execution = self._running(request_id)
        if execution is None:
            return responses.NOT_RUNNING
        if not posted.streamed and execution.stream is not None and execution.stream.content_type is not None:
            return responses.NOT_RUNNING  # a second response, while the first one is under way
        return self._answer_read(execution, responses.response(posted))

    def response_broken(self, request_id: str) -> None:
        """A runtime that dies hangs up first: what its exit says, within moments, is the better reason."""
        execution = self._running(request_id)
        if execution is not None:
            self._loop.call_later(_EXIT_SECONDS, self._truncated, execution)

    def _truncated(self, execution: Execution) -> None:
        if self._running(execution.invocation.request_id) is execution:
            response = limits.truncated(execution.invocation.request_id)
            self._answer(execution, Outcome.ERROR, response, self._clock.monotonic())

    def error_posted(self, request_id: str, posted: Posted) -> Answer:
        execution = self._running(request_id)
        if execution is None:
            return responses.NOT_RUNNING
        return self._answer_read(execution, responses.error(posted))

    def _answer_read(self, execution: Execution, read: responses.Read) -> Answer:
        self._answer(execution, read.outcome, read.response, self._clock.monotonic())
        return read.answer
