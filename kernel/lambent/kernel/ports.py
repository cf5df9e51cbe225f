"""The narrow ports where the roles meet; read this file first.

Each port has an in-process adapter, some a remote one (`kernel/remote`), and a twin in memory for tests; the
contract tests run every adapter of a port. All errors that cross a port are `kernel.errors`."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lambent.kernel.events import Item, LaneDepth, Line, OutcomeRecord, Room
from lambent.kernel.models import (
    Alias,
    Archive,
    Block,
    Enforcement,
    Event,
    EventInvokeConfig,
    Function,
    FunctionUrl,
    FunctionVersion,
    Invocation,
    LayerVersion,
    LogGroupInfo,
    LogLine,
    LogStreamInfo,
    Member,
    Provisioned,
    ProvisionedConfig,
    RecursiveLoop,
    Report,
    Response,
    ShardOwner,
    Trigger,
    VersionKey,
)
from lambent.kernel.response_stream import ResponseStream
from lambent.kernel.usage import Usage, UsageBatch, UsageKey


class Clock(Protocol):
    """Time as a parameter: the test clock jumps."""

    def now(self) -> float:
        """Seconds since the epoch; for people and records, never for a duration."""

    def monotonic(self) -> float:
        """Seconds that only grow; for every duration."""

    async def sleep(self, seconds: float) -> None: ...


class Lease(NamedTuple):
    """Slots to run one version on one executor, granted to one holder. `seconds` is a duration, counted by
    the holder from before it asked; `bucket` is "on-demand" or a qualifier's provisioned allocation; `epoch` is
    of the owner of `shard`."""

    id: str
    epoch: int
    key: VersionKey
    executor: str
    slots: int
    seconds: float
    bucket: str = "on-demand"
    shard: int = 0
    holder: str = ""


class Kept(NamedTuple):
    """Environments of an allocation on a host: `started` are there or being made, `ready` of them are
    initialised; `failed`: why one could not be, "" if the last one could."""

    key: VersionKey
    bucket: str
    wanted: int
    started: int
    ready: int
    failed: str = ""


class Dispatcher(Protocol):
    """Scheduler: who may run where."""

    async def acquire(
        self, function: Function, target: FunctionVersion, *, holder: str, slots: int = 1, alias: str = ""
    ) -> Lease:
        """Slots for a version, out of the provisioned allocation of the alias or of the version where there is
        one with room, else on demand. Raises TooManyRequestsException with AWS's Reason when a limit is
        reached, NotStarted when the version is not what runs now."""

    def release(self, lease: Lease, *, slots: int = 1) -> None:
        """Gives slots back; called at the report, never at the response."""

    def not_taken(self, lease: Lease, reason: str) -> None:
        """In the place of `release`: the executor has not taken the invocation, for a reason of NotStarted."""

    async def configure(self, function: Function) -> None:
        """The function's limits are as it has them from now on. Raises LambdaError: nobody could be told."""

    async def provisioned(self, function: Function) -> Mapping[str, Provisioned]:
        """How far the function's allocations are, by qualifier. Raises LambdaError."""

    async def supersede(self, function: Function) -> None:
        """Returns once nothing older than what `function` runs starts any more. Raises LambdaError: that is not
        certain yet."""

    async def forget(self, function: Function) -> None:
        """The function is deleted: nothing of it starts any more. Raises LambdaError: nobody could be told."""


class Run(Protocol):
    """One execution under way. `response` ends when the runtime has posted its answer; `report` when the
    environment is done with it, and only then is the slot free. Neither raises for a function's failure:
    that is a Response with `function_error`. A platform failure raises a LambdaError from both.

    `stream` is there if the invocation is `streaming`. Where it begins, it carries the response's bytes as they
    are made, and `response` follows the last of them, with no payload but an error's; where it ends without
    having begun, the function did not stream: `response` has it all."""

    response: "asyncio.Future[Response]"
    report: "asyncio.Future[Report]"
    stream: ResponseStream | None

    def cancel(self) -> None:
        """Ends it where nobody wants its answer any more: its environment is killed and not used again. Nothing
        once it is answered."""


class EnvironmentHost(Protocol):
    """Executor: owns environments."""

    def invoke(self, invocation: Invocation, lease: Lease) -> Run:
        """Runs the event in a warm environment, or starts one. A caller that goes away changes nothing."""

    async def prepare(self, target: FunctionVersion) -> None:
        """Fetches and unpacks the code and layers, so that the next start only mounts. Raises LambdaError."""

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        """Stops a function's environments, or only those of one `version`, but not those of `keep`: idle ones
        now, busy ones when done."""

    def enforcement(self) -> Sequence[Enforcement]:
        """What this host enforces and what it cannot, with advice."""


class Keeper(Protocol):
    """Executor: keeps environments of provisioned allocations initialised."""

    def provision(self, target: FunctionVersion, bucket: str, wanted: int, tags: Mapping[str, str]) -> None:
        """From now on so many environments of the version are kept initialised for an allocation (`bucket`);
        0: none."""

    def provisioned(self) -> Sequence[Kept]:
        """What is kept."""

    def warm(self) -> Mapping[VersionKey, int]:
        """Idle on-demand environments."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event, or the record of one's outcome, taken from its line and not yet acknowledged. `tag` is the
    queue's own handle."""

    event: Event
    tag: str
    redelivered: bool = False
    outcome: OutcomeRecord | None = None


class EventQueue(Protocol):
    """Scheduler, over kombu. Each function has a lane of events, a line of outcome records and one of dead
    events, named by its uid. Nothing leaves a line but by `ack`, `replace` or somebody's order; at least
    once."""

    async def publish(self, event: Event) -> None:
        """Returns when the event is on disk. Raises EventQueueUnavailable when it was not accepted."""

    async def consume(self, room: Room, *, wait: float) -> Sequence[Delivery]:
        """What is there, of each line as much as there is room for, after at most `wait` seconds; lines without
        room are not read."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """They are done and go."""

    async def replace(self, delivery: Delivery, items: Sequence[Item]) -> None:
        """In one step where the broker has one, else added before ended: `items`, each on its own line of the
        same lane, in the place of the delivered one. One with a `due` (seconds since the epoch) waits until
        then."""

    async def lanes(self) -> Sequence[LaneDepth]:
        """Every lane that has anything in one of its lines."""

    async def peek(self, lane: str, line: Line, *, limit: int) -> Sequence[Item]:
        """The oldest items, without taking them; delayed ones follow the ready ones, with their `due`."""

    async def redrive(self, lane: str, *, limit: int, request_id: str | None = None) -> int:
        """Moves dead events, all or those of one request, back to the lane as new ones; how many. Of one whose
        run succeeded the record goes to its destination again."""

    async def hasten(self, lane: str, request_id: str) -> int:
        """Makes the request's events that wait for a later attempt ready now; how many."""

    async def purge(self, lane: str, line: Line) -> int:
        """Drops what waits on a line, but nothing that is in flight; how many."""

    async def trim_dead(self, lane: str, *, keep: int) -> int:
        """Drops the oldest dead events beyond `keep`; how many."""

    async def drop_lane(self, lane: str) -> int:
        """Forgets a deleted function's events, dead ones too; how many would have run. Its outcomes are still
        carried to their targets: they are of what has ended."""

    async def sweep(self) -> int:
        """Deletes payloads that are kept outside of the broker and whose events are gone; how many."""

    def wake(self) -> None:
        """Interrupts a waiting `consume`, when a line has got room."""


class UsageLedger(Protocol):
    """What executions used, each added up exactly once: by a high-water mark of each executor, which moves in
    the step that adds. Raises ServiceException when it does not answer."""

    async def mark(self, executor: str) -> int:
        """The sequence of an executor's last record that is added up; 0: none yet."""

    async def add(self, batch: UsageBatch, *, after: int) -> int:
        """Adds a batch if its executor's mark is `after`; the mark then. What lies between the mark and the
        batch's first record is counted as missing. Safe to repeat."""

    async def read(self, start: int, end: int) -> Mapping[UsageKey, Usage]:
        """Sums over a time of whole minutes, in seconds since the epoch; of hours or days where minutes are not
        kept any more (`usage.widened`)."""

    async def missing(self) -> int:
        """Records that were made and never came: their disk was lost, or full for too long."""


class Members(Protocol):
    """The processes of the cluster. Time is the server's. Raises ServiceException when it does not answer."""

    async def register(self, member: Member, ttl: float) -> None:
        """Stands for `ttl` seconds (at most 60); called again each second, in one round trip. An id is one
        process's, and so of one role. Raises InvalidParameterValueException when it is too large."""

    async def remove(self, id: str) -> None:
        """Nothing to remove is no error."""

    async def list(self, role: str | None = None) -> Sequence[Member]:
        """By id; also those that fell silent, for 60 s after their last registration."""


class ShardLocks(Protocol):
    """Who owns which shard, fenced by epochs that outlive the locks. Time is the server's: the owner counts
    its own from before it asked. Raises ServiceException when the server does not answer."""

    async def claim(self, shard: int, owner: str, address: str, ttl: float) -> int | None:
        """A new epoch, greater than all earlier ones of the shard; None: it is held, be it by `owner`."""

    async def renew(self, owner: str, held: Mapping[int, int], ttl: float) -> frozenset[int]:
        """{shard: epoch} in one round trip: those that still are the owner's at that epoch."""

    async def release(self, shard: int, owner: str, epoch: int) -> None:
        """Frees it if it still is the owner's at that epoch."""

    async def owners(self) -> Mapping[int, ShardOwner]:
        """Of each shard that is held."""


class AccountBlocks(Protocol):
    """The account's unreserved slots, shared by the shards in blocks. At each grow the sum of blocks is at most
    the limit less what is reserved; where a reservation or a lower limit takes more than is free, nothing grows
    until enough has come back. A block is its shard's: an owner's successor has it too. The epochs are those of
    `ShardLocks`. Raises ServiceException when the server does not answer."""

    async def grow(self, shard: int, epoch: int, by: int) -> Block:
        """Adds as much of `by` (0: only looks) as the pool has. Getting less is told to the others as
        `wanted`, for 3 s."""

    async def give_back(self, shard: int, epoch: int, to: int) -> Block:
        """Lowers the block to `to`; it is never raised by that."""

    async def reserve(self, uid: str, slots: int | None) -> None:
        """What a function has of its own, outside of the pool: its reserved concurrency, or its provisioned
        total when it has no reservation. None: nothing any more."""

    async def set_limit(self, limit: int) -> None:
        """The account's slots in all; nothing grows before it was set once."""

    async def reserved(self) -> Mapping[str, int]:
        """{uid: slots}, to be compared with the function store."""


class FunctionStore(Protocol):
    """Functions with their versions and aliases, layers, triggers. Changed only by compare-and-set on
    `revision_id`. Where a version is published, its own `version` is ignored: it gets the next number."""

    async def create(self, function: Function, *, publish: FunctionVersion | None = None) -> None:
        """With `publish` as version 1 in the same step. Raises ResourceConflictException if the name exists."""

    async def get(self, name: str) -> Function | None: ...

    async def replace(
        self, function: Function, *, expect_revision: str, publish: FunctionVersion | None = None
    ) -> int:
        """Writes latest and serving if the stored latest.revision_id is `expect_revision`. With `publish`: a
        version in the same step, if `last_version` is still the stored one; its number, else 0. Raises
        PreconditionFailedException (another change came first) or ResourceNotFoundException (deleted
        meanwhile)."""

    async def delete(self, name: str) -> Function | None:
        """Removes it with everything under it; what was there."""

    async def get_version(self, name: str, number: int) -> FunctionVersion | None:
        """A published version of the function that has the name now; compare its `uid`."""

    async def versions(self, name: str, *, after: int = 0, limit: int) -> Sequence[FunctionVersion]:
        """Published versions by number, after the number `after`."""

    async def replace_version(self, version: FunctionVersion, *, expect_revision: str) -> bool:
        """Writes a published version's new state if its stored revision_id is `expect_revision`; whether it
        stands there now."""

    async def delete_version(self, function: Function, number: int) -> Sequence[str]:
        """Removes it with its event-invoke configuration, unless aliases name it: they are answered then, by
        name. Nothing to remove is no error."""

    async def put_alias(self, function: Function, alias: Alias, *, expect_revision: str | None) -> str:
        """Writes if the stored revision_id is `expect_revision` (None: there is no such alias), and all
        versions that it names exist. Answers "", or the number of a version that is not there. Raises
        PreconditionFailedException (another change came first) or ResourceNotFoundException (the function is
        deleted)."""

    async def delete_alias(self, name: str, alias: str) -> None:
        """Removes it with its event-invoke configuration. Nothing to remove is no error."""

    async def page(self, *, after: str | None, limit: int) -> Sequence[Function]:
        """Functions by name, after the name `after`."""

    async def set_tags(self, name: str, *, add: Mapping[str, str], remove: Iterable[str]) -> Mapping[str, str]:
        """Atomic; does not move the revision. Raises ResourceNotFoundException;
        InvalidParameterValueException beyond 50 tags."""

    async def set_reserved_concurrency(self, name: str, slots: int | None) -> None:
        """None: no reservation. Does not move the revision. Raises ResourceNotFoundException."""

    async def set_event_invoke(
        self, name: str, qualifier: str, change: Callable[[EventInvokeConfig | None], EventInvokeConfig | None]
    ) -> EventInvokeConfig | None:
        """Atomic: `change` is given what is stored and answers what is to be (None: nothing); it may be called
        again. What is stored then. Raises ResourceNotFoundException, and what `change` raises."""

    async def set_provisioned(self, name: str, qualifier: str, config: ProvisionedConfig | None) -> None:
        """None: no allocation any more. Does not move the revision. Raises ResourceNotFoundException."""

    async def set_url(
        self, name: str, qualifier: str, url: FunctionUrl | None, *, before: FunctionUrl | None = None
    ) -> bool:
        """None: no URL any more. False: `before` is not what stands (None: nothing does), and that is left.
        Does not move the revision. Raises ResourceNotFoundException, also where an alias is to get a URL and is
        not there."""

    async def url(self, url_id: str) -> tuple[str, str] | None:
        """The function and the qualifier that a URL was made for; whether it still stands is in
        `Function.urls`."""

    async def set_recursive_loop(self, name: str, loop: RecursiveLoop) -> None:
        """Raises ResourceNotFoundException."""

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

    async def mark_first(self, key: str, value: str) -> str:
        """Atomic: sets it if there is none; the one that stands there then."""

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

    async def put_named(self, name: str, data: bytes) -> None:
        """Bytes under a name of the caller's (`FOLDER/FILE`), for what lives as long as something else does."""

    async def get_named(self, name: str) -> bytes:
        """Raises ResourceNotFoundException."""

    async def touch_named(self, name: str) -> None:
        """As if it were written now. Nothing to touch is no error."""

    async def delete_named(self, name: str, *, untouched_seconds: float = 0.0) -> None:
        """Unless it was written or touched within so long. Nothing to delete is no error."""

    async def named(self, *, untouched_seconds: float) -> Sequence[str]:
        """The names that were not written for so long."""


class LogStore(Protocol):
    """Recent function logs, capped; what does not fit is dropped oldest first, and counted."""

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """Queues lines ((ms since the epoch, text)) for the next batch; never blocks."""

    async def read(
        self, group: str, *, after: str | None, limit: int, wait: float = 0
    ) -> tuple[Sequence[LogLine], str | None]:
        """Lines after a cursor (None: from the start), and the cursor to go on from; waits for one."""

    async def end(self, group: str) -> str | None:
        """The cursor after the last line that is there now."""

    async def delete(self, group: str) -> bool:
        """Forgets a group and its lines; whether there was one."""

    async def flush(self) -> None:
        """Writes what waits, as far as the store takes it, so that what was appended can be read."""

    async def groups(self) -> Sequence[LogGroupInfo]:
        """By name."""

    async def group(self, name: str) -> LogGroupInfo | None: ...

    async def create_group(self, name: str) -> bool:
        """False: it exists."""

    async def set_retention(self, group: str, days: int | None) -> bool:
        """Lines older than that are not shown and go; False: there is no such group."""

    async def streams(self, group: str) -> Sequence[LogStreamInfo] | None:
        """By name; None: there is no such group."""

    async def create_stream(self, group: str, name: str) -> bool | None:
        """False: it exists; None: there is no such group."""

    async def delete_stream(self, group: str, name: str) -> bool | None:
        """With its lines. False: there is none; None: there is no such group."""

    async def scan(self, group: str, *, since: int, until: int) -> Sequence[LogLine]:
        """All lines whose time is from `since` to before `until` (ms), by time and then as they came."""


class CodeCheck(Protocol):
    """Executor: what the gateway asks before it accepts code, so that bad code fails at deploy time."""

    async def inspect(self, data: bytes, *, layer: bool) -> Archive:
        """Reads a zip's every entry within bounds. Raises InvalidParameterValueException with AWS's text."""

    def runtime_problem(self, runtime: str) -> tuple[str | None, str | None]:
        """(why this machine cannot run `runtime` and what to install, or None; a warning, or None)."""
