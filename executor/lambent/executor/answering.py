"""The part of an environment that ends an execution: its answer, its record in the ledger, its log lines."""

import asyncio
from abc import abstractmethod

from lambent.executor import limits
from lambent.executor.attached import Attached
from lambent.executor.drivers.base import Sandbox
from lambent.executor.execution import Execution
from lambent.executor.function_log import FunctionLog
from lambent.executor.meter import Meter
from lambent.executor.posting import Posting
from lambent.kernel.log import Log
from lambent.kernel.models import Outcome, Report, Response

_log = Log(__name__)


class Answering(Posting):
    """See `Environment`."""

    id: str
    log: FunctionLog
    _attached: Attached | None
    _execution: Execution | None
    _meter: Meter
    _sandbox: Sandbox | None
    _timer: asyncio.TimerHandle | None
    _peak: int
    _cpu_us: int

    @abstractmethod
    def _answer_is_out(self) -> None:
        """The host is told."""

    @abstractmethod
    def _execution_is_over(self, execution: Execution, numbers: Report) -> None:
        """The host is told."""

    @abstractmethod
    def _drain_output(self) -> None:
        """What was written by now belongs to this invocation's log; it may still be in the pipe."""

    def _answer(self, execution: Execution, outcome: Outcome, response: Response, at: float) -> None:
        """Metered first: no caller may have an answer whose execution a `kill -9` could take out of the
        bill."""
        execution.end(outcome, response.error_type, at)
        streamed = execution.stream.size if execution.stream is not None else 0
        execution.sent = streamed + len(response.payload)
        if not self._goes_on:
            self._metered(execution)
        execution.answer(response)
        self._answer_is_out()

    @property
    def _goes_on(self) -> bool:
        """Whether extensions have a part in the execution after its answer, which AWS bills too. It is metered
        when they are done, then."""
        return self._attached is not None and self._attached.extensions.invoked

    def _metered(self, execution: Execution) -> None:
        execution.metered = True
        execution.peak_memory, cpu_us = self._used()
        self._meter.executed(self.target, execution, cpu_us=cpu_us)

    def _answer_timeout(self, execution: Execution) -> None:
        request_id, seconds = execution.invocation.request_id, float(self.target.timeout)
        self.log.timed_out(request_id, seconds)
        self._answer(
            execution,
            Outcome.TIMEOUT,
            limits.timed_out(request_id, seconds),
            execution.begun + self.target.timeout,
        )

    def _answer_crash(self, execution: Execution, outcome: Outcome, response: Response) -> None:
        self.log.failed(execution.invocation.request_id, response)
        self._answer(execution, outcome, response, self._clock.monotonic())

    def _complete(self, execution: Execution) -> None:
        """END, REPORT, numbers; after this the slot is free, whatever else fails."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if execution.outcome is None:
            raise RuntimeError("an execution ended without an answer")
        if not execution.metered:
            if execution.outcome is Outcome.SUCCESS or execution.outcome is Outcome.ERROR:
                execution.ended = self._clock.monotonic()
            self._metered(execution)
        numbers = execution.numbers(self.target)
        try:
            self._drain_output()
            self.log.answered(execution)
            self.log.reported(execution.invocation, numbers, execution.error_type)
        finally:
            self._execution = None
            self.log.tail = None
            if execution.tail is not None:
                numbers = limits.with_tail(numbers, execution.tail.value())
            execution.close(numbers)
            self._execution_is_over(execution, numbers)

    def _used(self) -> tuple[int, int]:
        """(peak memory so far; CPU time, in us, that was not counted yet). An init's CPU time is its first
        execution's."""
        counted = self._cpu_us
        if self._sandbox is not None:
            try:
                self._peak, self._cpu_us = self._sandbox.used()
            except OSError as failure:
                # Out of descriptors: the numbers are less true, the execution no less over.
                _log.warning("What is used could not be read.", environment=self.id, failure=failure)
        return self._peak, max(0, self._cpu_us - counted)
