"""What executions used, and how it is added up: pure values, so that the executor, the ledger and the reports
count in the same way. Whole numbers throughout: a bill must not depend on the order of its sums.

AWS bills GB-seconds (memory size times billed duration, by 1 ms), requests, and ephemeral storage over 512 MB.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple

from lambent.kernel.models import Outcome

FREE_EPHEMERAL_MB = 512
INIT = "init"  # the trigger of a record that is no execution but an init that failed, and is billed

Tags = tuple[tuple[str, str], ...]


class UsageRecord(NamedTuple):
    """One execution (each attempt of an event is one), or one failed init. `executor` and `sequence` are its
    identity: retries and replays keep their request id. `at`: its end, in ms since the epoch; `peak_memory`
    and the payloads' sizes in bytes; `tags`: the function's, when it was invoked."""

    executor: str
    sequence: int
    at: int
    function: str
    uid: str
    version: str
    alias: str
    request_id: str
    trigger: str
    outcome: Outcome
    architecture: str
    memory_mb: int
    ephemeral_mb: int
    init_us: int
    duration_us: int
    billed_ms: int
    cpu_us: int
    peak_memory: int
    bytes_in: int
    bytes_out: int
    tags: Tags


def to_line(record: UsageRecord) -> bytes:
    """A record as one line of JSON, without the executor, whose file it stands in."""
    return json.dumps(record[1:], separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes, executor: str) -> UsageRecord:
    """Raises ValueError for what `to_line` did not write."""
    values = json.loads(line)
    if not isinstance(values, list) or len(values) != len(UsageRecord._fields) - 1:
        raise ValueError(f"not a usage record: {line[:100]!r}")
    record = UsageRecord(executor, *values)
    tags = tuple((str(name), str(value)) for name, value in record.tags)
    return record._replace(outcome=Outcome(record.outcome), tags=tags)


class UsageKey(NamedTuple):
    """What usage is told apart by. A function created again under an old name has another `uid`."""

    function: str
    uid: str
    version: str
    alias: str
    architecture: str
    tags: Tags


@dataclass(slots=True)
class Usage:
    """Sums over executions. `cold`: those with an init; `failed_inits`: inits that failed and were billed, no
    executions; `mb_ms`: memory size times billed time; `ephemeral_mb_ms`: of the storage over 512 MB;
    `peak_memory`: the largest, in bytes."""

    invocations: int = 0
    errors: int = 0
    timeouts: int = 0
    cold: int = 0
    failed_inits: int = 0
    billed_ms: int = 0
    duration_us: int = 0
    init_us: int = 0
    mb_ms: int = 0
    ephemeral_mb_ms: int = 0
    cpu_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    peak_memory: int = 0

    def add(self, other: "Usage") -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.peak_memory = max(self.peak_memory, other.peak_memory)


SUMS = tuple(field.name for field in fields(Usage) if field.name != "peak_memory")


def key_of(record: UsageRecord) -> UsageKey:
    return UsageKey(record.function, record.uid, record.version, record.alias, record.architecture, record.tags)


def used(record: UsageRecord) -> Usage:
    """What one record adds."""
    executed = record.trigger != INIT
    return Usage(
        invocations=int(executed),
        errors=int(executed and record.outcome is not Outcome.SUCCESS),
        timeouts=int(record.outcome is Outcome.TIMEOUT),
        cold=int(executed and record.init_us > 0),
        failed_inits=int(not executed),
        billed_ms=record.billed_ms,
        duration_us=record.duration_us,
        init_us=record.init_us,
        mb_ms=record.memory_mb * record.billed_ms,
        ephemeral_mb_ms=max(0, record.ephemeral_mb - FREE_EPHEMERAL_MB) * record.billed_ms,
        cpu_us=record.cpu_us,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        peak_memory=record.peak_memory,
    )


class Period(StrEnum):
    """The length of a rollup."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> int:
        return _SECONDS[self]

    @property
    def kept(self) -> int:
        """How long it is kept after its start, in seconds."""
        return _KEPT[self]


_SECONDS = {Period.MINUTE: 60, Period.HOUR: 3600, Period.DAY: 86_400}
_KEPT = {Period.MINUTE: 8 * 86_400, Period.HOUR: 100 * 86_400, Period.DAY: 5 * 366 * 86_400}
_LONGEST_FIRST = (Period.DAY, Period.HOUR, Period.MINUTE)


class Rollup(NamedTuple):
    """One period: its length, and its start in seconds since the epoch (UTC)."""

    period: Period
    start: int


Minutes = dict[int, dict[UsageKey, Usage]]  # by the minute's start, in seconds since the epoch


class UsageBatch(NamedTuple):
    """What one executor's records from `first` to `last`, without a gap, add up to."""

    executor: str
    first: int
    last: int
    minutes: Minutes


def add_to(minutes: Minutes, record: UsageRecord) -> None:
    """Adds one record to the minute of its end."""
    minute = record.at // 60_000 * 60
    rows = minutes.setdefault(minute, {})
    key = key_of(record)
    row = rows.get(key)
    if row is None:
        rows[key] = used(record)
    else:
        row.add(used(record))


def batch_of(records: Sequence[UsageRecord]) -> UsageBatch:
    """A batch of records of one executor whose sequences follow each other; at least one."""
    minutes: Minutes = {}
    for record in records:
        add_to(minutes, record)
    return UsageBatch(records[0].executor, records[0].sequence, records[-1].sequence, minutes)


def rolled_up(minutes: Mapping[int, Mapping[UsageKey, Usage]]) -> Mapping[Rollup, Mapping[UsageKey, Usage]]:
    """What minutes add to each rollup."""
    found: dict[Rollup, dict[UsageKey, Usage]] = {}
    for minute, rows in minutes.items():
        for period in Period:
            sums = found.setdefault(Rollup(period, minute - minute % period.seconds), {})
            for key, use in rows.items():
                sums.setdefault(key, Usage()).add(use)
    return found


def widened(start: float, end: float, *, now: float) -> tuple[int, int]:
    """The time that can be told for what was asked, in seconds since the epoch: whole minutes, or, where
    those are not kept any more, whole hours or days. Never less than was asked."""
    first, last = int(start // 60 * 60), int(-(-end // 60) * 60)
    for finer, coarser in ((Period.MINUTE, Period.HOUR), (Period.HOUR, Period.DAY)):
        kept_since = now - finer.kept + coarser.seconds
        if first < kept_since:
            first -= first % coarser.seconds
        if last < kept_since:
            last = -(-last // coarser.seconds) * coarser.seconds
    return first, last


def cover(start: int, end: int) -> Iterator[Rollup]:
    """The fewest rollups that make up a time of whole minutes."""
    at = start
    while at < end:
        for period in _LONGEST_FIRST:
            if at % period.seconds == 0 and at + period.seconds <= end:
                yield Rollup(period, at)
                at += period.seconds
                break
        else:
            raise ValueError(f"{start} to {end} is no time of whole minutes")
