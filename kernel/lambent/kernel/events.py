"""What becomes of an asynchronous event, as values: how it ended, its records on the way to destinations and
dead-letter queues, and what is given up. Frozen, without I/O; the event itself is in `models`.

AWS: "Asynchronous invocation", "Invocation record".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lambent.kernel.models import Event


class Condition(StrEnum):
    """Why an event ended. AWS: `requestContext.condition` of an invocation record."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    RECURSION_DETECTED = "RecursionDetected"


class Ending(NamedTuple):
    """How an event ended, whatever becomes of that. `at` in seconds since the epoch; `attempts`: executions
    made for it. Of the last try: `status` (AWS's HTTP status: 200 also for a function's error, 429, 5xx; None
    where there was none), `executed_version`, `function_error`, the function's answer, and `message`, what a
    person should read."""

    condition: Condition
    at: float
    attempts: int
    status: int | None = None
    executed_version: str | None = None
    function_error: str | None = None
    response: bytes | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """What became of an event, on its way to one target (an ARN). `dead_letter`: as a message of a dead-letter
    queue, else as an invocation record. `tries` that failed so far; `due` as of an event."""

    event: Event
    ending: Ending
    target: str
    dead_letter: bool
    tries: int = 0
    due: float | None = None


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that was given up and that no dead-letter queue or destination took: kept for a redrive.
    `target` and `why` tell of one that could not be reached."""

    event: Event
    ending: Ending
    target: str | None = None
    why: str = ""


Item = Event | OutcomeRecord | DeadEvent


class Line(StrEnum):
    """The three lines of a function in the queue, and what lies there: events, outcome records, dead events."""

    LANE = "lane"
    OUTCOMES = "outcomes"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class LaneDepth:
    """A lane's numbers for operators; `oldest_age` in seconds, None when empty. `outcomes`: records on their
    way to destinations and dead-letter queues; `dead`: events that were given up and lie here."""

    lane: str
    ready: int
    in_flight: int
    delayed: int
    oldest_age: float | None
    outcomes: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """How many more items a reader can take, by lane: a snapshot. `other_lanes` and `other_outcomes` hold for
    lanes that are not in the mapping. Dead events are never read so."""

    lanes: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    other_lanes: int = 0
    other_outcomes: int = 0

    def of(self, line: Line, lane: str) -> int:
        if line is Line.LANE:
            return self.lanes.get(lane, self.other_lanes)
        return self.outcomes.get(lane, self.other_outcomes) if line is Line.OUTCOMES else 0


@dataclass(frozen=True, slots=True)
class FailingTarget:
    """A target that does not take what it is sent. `since`: seconds since the epoch; `error`: what it said
    last."""

    arn: str
    since: float
    failures: int
    error: str
