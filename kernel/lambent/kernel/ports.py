"""The narrow ports where the roles meet; read this file first.

Each port has an in-process adapter now and a remote one later, and a twin in memory for tests; the contract
tests run every adapter of a port. All errors that cross a port are `kernel.errors`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lambent.kernel.models import (
    Archive,
    Enforcement,
    Event,
    Function,
    FunctionVersion,
    Invocation,
    LaneDepth,
    LayerVersion,
    LogLine,
    Report,
    Response,
    Trigger,
    VersionKey,
)


class Clock(Protocol):
    """Time as a parameter: the test clock jumps."""

    def now(self) -> float:
        """Seconds since the epoch; for people and records, never for a duration."""

    def monotonic(self) -> float:
        """Seconds that only grow; for every duration."""

    async def sleep(self, seconds: float) -> None: ...


class Lease(NamedTuple):
    """Slots to run one version on one executor, granted to one holder. `seconds` is a duration, counted by
    the holder from before it asked; `bucket` is "on-demand" or a qualifier's provisioned allocation."""

    id: str
    epoch: int
    key: VersionKey
    executor: str
    slots: int
    seconds: float
    bucket: str = "on-demand"


class Dispatcher(Protocol):
    """Scheduler: who may run where."""

    async def acquire(
        self, function: Function, target: FunctionVersion, *, holder: str, slots: int = 1
    ) -> Lease:
        """Slots for a version. Raises TooManyRequestsException with AWS's Reason when a limit is reached."""

    async def renew(self, holder: str, in_flight: Mapping[str, int]) -> Mapping[str, int]:
        """Keeps a holder's leases ({lease id: running}); answers {lease id: generation to hold now}."""

    def release(self, lease: Lease, *, slots: int = 1) -> None:
        """Gives slots back; called at the report, never at the response."""


class Run(Protocol):
    """One execution under way. `response` ends when the runtime has posted its answer; `report` when the
    environment is done with it, and only then is the slot free. Neither raises for a function's failure:
    that is a Response with `function_error`. A platform failure raises a LambdaError from both."""

    response: "asyncio.Future[Response]"
    report: "asyncio.Future[Report]"


class EnvironmentHost(Protocol):
    """Executor: owns environments."""

    def invoke(self, invocation: Invocation, lease: Lease) -> Run:
        """Runs the event in a warm environment, or starts one. A caller that goes away changes nothing."""

    async def prepare(self, target: FunctionVersion) -> None:
        """Fetches and unpacks the code and layers, so that the next start only mounts. Raises LambdaError."""

    async def stop_function(self, uid: str, *, keep: VersionKey | None = None) -> None:
        """Stops a function's environments but those of `keep`: idle ones now, busy ones when done."""

    def watch(self) -> AsyncIterator[Mapping[VersionKey, Mapping[str, int]]]:
        """Counts of environments by state, each time they change."""

    def enforcement(self) -> Sequence[Enforcement]:
        """What this host enforces and what it cannot, with advice."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event taken from its lane and not yet acknowledged. `tag` is the queue's own handle."""

    event: Event
    tag: str
    redelivered: bool = False


class EventQueue(Protocol):
    """Scheduler, over kombu. An event leaves a lane only by `ack`; at least once."""

    async def publish(self, event: Event) -> None:
        """Returns when the event is on disk. Raises EventQueueUnavailable when it was not accepted."""

    async def consume(self, room: Mapping[str, int], *, wait: float) -> Sequence[Delivery]:
        """Up to room[lane] events of each lane, after at most `wait` seconds; other lanes are not read."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """The events are done and go."""

    async def delay(self, delivery: Delivery, event: Event) -> None:
        """In one step: `event` (with its `due`, seconds since the epoch, or None: now) in the place of the
        delivered one."""

    async def redrive(self, source: str, lane: str, *, limit: int) -> int:
        """Moves up to `limit` events of a dead-letter line back to a lane; how many."""

    async def lanes(self) -> Sequence[LaneDepth]:
        """Every lane that has events."""

    async def drop_lane(self, lane: str) -> int:
        """Forgets a deleted function's lane and its events; how many."""

    def wake(self) -> None:
        """Interrupts a waiting `consume`, when a lane has got room."""


class FunctionStore(Protocol):
    """Functions, layers, triggers. Changed only by compare-and-set on `revision_id`."""

    async def create(self, function: Function) -> None:
        """Raises ResourceConflictException if the name exists."""

    async def get(self, name: str) -> Function | None: ...

    async def replace(self, function: Function, *, expect_revision: str) -> None:
        """Writes if the stored latest.revision_id is `expect_revision`. Raises PreconditionFailedException
        (another change came first) or ResourceNotFoundException (deleted meanwhile)."""

    async def delete(self, name: str) -> Function | None:
        """Removes it with everything under it; what was there."""

    async def page(self, *, after: str | None, limit: int) -> Sequence[Function]:
        """Functions by name, after the name `after`."""

    async def set_tags(self, name: str, *, add: Mapping[str, str], remove: Iterable[str]) -> Mapping[str, str]:
        """Atomic; does not move the revision. Raises ResourceNotFoundException;
        InvalidParameterValueException beyond 50 tags."""

    async def usage(self) -> tuple[int, int]:
        """(bytes of archives counted once per function and layer version, number of functions)."""

    async def add_layer_version(self, layer: LayerVersion) -> LayerVersion:
        """Stores it under the next number of its name, never used before; `layer.version` is ignored."""

    async def get_layer_version(self, name: str, version: int) -> LayerVersion | None: ...

    async def delete_layer_version(self, name: str, version: int) -> LayerVersion | None: ...

    async def layer_versions(self, name: str) -> Sequence[LayerVersion]:
        """Newest first."""

    async def layers(self) -> Sequence[str]:
        """Names of layers that have a version, sorted."""

    async def put_trigger(self, trigger: Trigger) -> None: ...

    async def triggers(self) -> Sequence[Trigger]: ...

    async def delete_trigger(self, trigger_id: str) -> bool: ...

    async def mark_get(self, key: str) -> str | None:
        """A small durable mark of a background job (how far a sweep got)."""

    async def mark_set(self, key: str, value: str) -> None: ...

    async def ping(self) -> None:
        """Raises ServiceException when the store does not answer."""


class BlobStore(Protocol):
    """Bytes by SHA-256; written and fsynced before any metadata names them."""

    async def put(self, data: bytes) -> str:
        """The hex digest. Writing an existing digest touches it."""

    async def get(self, digest: str) -> bytes:
        """Raises ResourceNotFoundException."""

    async def exists(self, digest: str) -> bool: ...

    async def path(self, digest: str) -> str | None:
        """A local file with the bytes, if the store has one; saves a copy."""

    async def collect(self, keep: frozenset[str], *, untouched_seconds: float) -> int:
        """Deletes blobs that are not in `keep` and were not touched for so long; how many."""


class LogStore(Protocol):
    """Recent function logs, capped; what does not fit is dropped oldest first, and counted."""

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """Queues lines ((ms since the epoch, text)) for the next batch; never blocks."""

    async def read(
        self, group: str, *, after: str | None, limit: int, wait: float = 0
    ) -> tuple[Sequence[LogLine], str | None]:
        """Lines after a cursor (None: from the start), and the cursor to go on from; waits for one."""

    async def delete(self, group: str) -> None: ...


class CodeCheck(Protocol):
    """Executor: what the gateway asks before it accepts code, so that bad code fails at deploy time."""

    async def inspect(self, data: bytes, *, layer: bool) -> Archive:
        """Reads a zip's every entry within bounds. Raises InvalidParameterValueException with AWS's text."""

    def runtime_problem(self, runtime: str) -> tuple[str | None, str | None]:
        """(why this machine cannot run `runtime` and what to install, or None; a warning, or None)."""
