"""Clocks and kernel numbers of an execution to its usage record; knows no price.

AWS: what is billed is the time from the event to the answer (and init with the first one), by 1 ms.
"""

import math
from collections.abc import Mapping
from typing import Protocol

from lambent.executor import limits
from lambent.executor.execution import Execution
from lambent.kernel.models import FunctionVersion, Outcome
from lambent.kernel.ports import Clock
from lambent.kernel.usage import INIT, Tags, UsageRecord


class Records(Protocol):
    """Where records go. Never raises."""

    executor: str

    def append(self, record: UsageRecord) -> None: ...


def tags_of(tags: Mapping[str, str]) -> Tags:
    return tuple(sorted(tags.items())) if tags else ()


class Meter:
    """Makes records and hands them on."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def executed(self, target: FunctionVersion, execution: Execution, *, cpu_us: int) -> None:
        """An execution whose outcome and end are known."""
        invocation = execution.invocation
        assert execution.outcome is not None
        duration_ms = execution.duration_ms
        self._records.append(
            UsageRecord(
                executor=self._records.executor,
                sequence=0,  # the spool's
                at=int(self._clock.now() * 1000),
                function=target.name,
                uid=target.uid,
                version=target.version,
                alias=invocation.alias,
                request_id=invocation.request_id,
                trigger=invocation.trigger,
                outcome=execution.outcome,
                architecture=target.architectures[0],
                memory_mb=target.memory_size,
                ephemeral_mb=target.ephemeral_storage,
                init_us=round((execution.init_ms or execution.restore_ms or 0) * 1000),
                duration_us=round(duration_ms * 1000),
                billed_ms=limits.billed_ms(duration_ms, execution.init_ms)
                + math.ceil(execution.restore_ms or 0),
                cpu_us=cpu_us,
                peak_memory=execution.peak_memory,
                bytes_in=len(invocation.payload),
                bytes_out=execution.sent,
                tags=tags_of(invocation.tags),
            )
        )

    def init_failed(
        self, target: FunctionVersion, tags: Mapping[str, str], *, init_ms: float, peak_memory: int, cpu_us: int
    ) -> None:
        """An init that failed outside of an invocation; AWS bills it, and it is no invocation."""
        self._records.append(
            UsageRecord(
                executor=self._records.executor,
                sequence=0,
                at=int(self._clock.now() * 1000),
                function=target.name,
                uid=target.uid,
                version=target.version,
                alias="",
                request_id="",
                trigger=INIT,
                outcome=Outcome.INIT_ERROR,
                architecture=target.architectures[0],
                memory_mb=target.memory_size,
                ephemeral_mb=target.ephemeral_storage,
                init_us=round(init_ms * 1000),
                duration_us=0,
                billed_ms=limits.billed_ms(0.0, init_ms),
                cpu_us=cpu_us,
                peak_memory=peak_memory,
                bytes_in=0,
                bytes_out=0,
                tags=tags_of(tags),
            )
        )
