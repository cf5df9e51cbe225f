"""The values that the roles pass each other: frozen, without I/O, so that they can be stored and sent.

Sizes are bytes, memory and ephemeral storage MB (AWS's MiB), times seconds since the epoch, durations
milliseconds, unless a name says otherwise. Names are AWS's. What each invocation makes is a tuple: a frozen
dataclass takes four times as long to make.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from lambent.kernel.arn import LATEST


class State(StrEnum):
    """AWS: FunctionConfiguration.State."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    FAILED = "Failed"


class UpdateStatus(StrEnum):
    """AWS: FunctionConfiguration.LastUpdateStatus."""

    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip in the blob store. `digest`: SHA-256 over the uploaded bytes, hex; sizes in bytes."""

    digest: str
    size: int
    unzipped: int

    @property
    def sha256(self) -> str:
        """AWS's CodeSha256: base64 of the digest."""
        return base64.b64encode(bytes.fromhex(self.digest)).decode()


@dataclass(frozen=True, slots=True)
class LayerUse:
    """A layer version that a function uses; kept whole, for it works on after the layer is deleted."""

    arn: str
    archive: Archive


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """AWS: LoggingConfig. Levels are None with the text format."""

    log_group: str
    log_format: str = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None


@dataclass(frozen=True, slots=True)
class FileSystem:
    """AWS: a FileSystemConfig. `path`: where the function has it."""

    arn: str
    path: str

    @property
    def access_point(self) -> str:
        """As fsap-0123456789abcdef0."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class ImageUse:
    """The container image that a function is. `uri` as it was given; `digest` of the manifest that it stood for
    then; the rest is AWS's ImageConfig, None: the image's own."""

    uri: str
    digest: str
    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_directory: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """One version's configuration and code: `$LATEST`, or a published number, which never changes but for its
    state.

    `uid` lives as long as the function: one created again under the old name has another. `generation` moves
    with each change of what runs (code or configuration), so (uid, version, generation) names what an
    environment was started from; `revision_id` is AWS's RevisionId and moves with each change of anything.
    """

    name: str
    uid: str
    version: str
    generation: int
    revision_id: str
    runtime: str
    handler: str
    role: str
    archive: Archive
    last_modified: float
    description: str = ""
    timeout: int = 3
    memory_size: int = 128
    ephemeral_storage: int = 512
    architectures: tuple[str, ...] = ("x86_64",)
    environment: Mapping[str, str] | None = None
    layers: tuple[LayerUse, ...] = ()
    logging: LoggingConfig = field(default_factory=lambda: LoggingConfig(log_group=""))
    dead_letter: str | None = None
    state: State = State.PENDING
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: UpdateStatus | None = None
    last_update_status_reason: str | None = None
    last_update_status_reason_code: str | None = None
    file_systems: tuple[FileSystem, ...] | None = None
    tracing: str | None = None  # AWS: TracingConfig.Mode; None: PassThrough
    snap_start: str | None = None  # AWS: SnapStart.ApplyOn; None: None
    image: ImageUse | None = None  # then there is no runtime and no handler, and `archive` has its digest

    @property
    def restores(self) -> bool:
        """Whether its environments are to be restored from a snapshot."""
        return self.snap_start == "PublishedVersions" and self.version != LATEST

    @property
    def key(self) -> "VersionKey":
        return VersionKey(self.uid, self.version, self.generation)


@dataclass(frozen=True, slots=True)
class VersionKey:
    """What an environment or a lease is of: exactly this code and configuration."""

    uid: str
    version: str
    generation: int


@dataclass(frozen=True, slots=True)
class Alias:
    """AWS: AliasConfiguration, a name for a version. `weights`: of a second version, the share of invocations
    that run it, 0.0 to 1.0; the rest runs `function_version`."""

    name: str
    function_version: str
    revision_id: str
    description: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def versions(self) -> tuple[str, ...]:
        """All that it may run."""
        return (self.function_version, *self.weights)


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """AWS: FunctionEventInvokeConfig of one qualifier. None: not set, and AWS's default holds (2 retries, 6 h).
    `on_success` and `on_failure` are ARNs; the age is in seconds."""

    last_modified: float
    maximum_retry_attempts: int | None = None
    maximum_event_age: int | None = None
    on_success: str | None = None
    on_failure: str | None = None


@dataclass(frozen=True, slots=True)
class Provisioned:
    """How far a provisioned allocation is (AWS: GetProvisionedConcurrencyConfig). `status`: "IN_PROGRESS",
    "READY" or "FAILED", and then the `reason`."""

    requested: int
    allocated: int
    available: int
    status: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ProvisionedConfig:
    """AWS: a provisioned concurrency configuration of one qualifier. `requested`: environments."""

    requested: int
    last_modified: float


@dataclass(frozen=True, slots=True)
class Cors:
    """AWS: Cors of a function URL. None: not given. `max_age`: seconds."""

    allow_credentials: bool | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_origins: tuple[str, ...] | None = None
    expose_headers: tuple[str, ...] | None = None
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """AWS: a function URL configuration. `id` is the first label of its host name, and never another
    function's; times in seconds since the epoch."""

    id: str
    created: float
    modified: float
    invoke_mode: str = "BUFFERED"
    cors: Cors | None = None
    auth_type: str = "NONE"


class RecursiveLoop(StrEnum):
    """AWS: RecursiveLoop, what becomes of a function that calls itself in a chain."""

    TERMINATE = "Terminate"
    ALLOW = "Allow"


@dataclass(frozen=True, slots=True)
class Function:
    """A function as stored. While an update is in progress `serving` holds what runs until it is done
    (AWS: invocations run the old code and configuration until LastUpdateStatus is Successful).
    `event_invoke` is by qualifier; asynchronous events of no qualifier have that of `$LATEST`. `provisioned`:
    allocations by qualifier, an alias or a published version. `urls`: by alias, or by $LATEST. `last_version`:
    the number of the last published version, also when that is deleted, and `last_description`: what $LATEST's
    description was then."""

    name: str
    uid: str
    latest: FunctionVersion
    serving: FunctionVersion | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    event_invoke: Mapping[str, EventInvokeConfig] = field(default_factory=dict)
    recursive_loop: RecursiveLoop = RecursiveLoop.TERMINATE
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    last_version: int = 0
    last_description: str = ""
    provisioned: Mapping[str, ProvisionedConfig] = field(default_factory=dict)
    urls: Mapping[str, FunctionUrl] = field(default_factory=dict)

    @property
    def to_run(self) -> FunctionVersion:
        return self.serving or self.latest

    @property
    def allocations(self) -> dict[str, int]:
        """Provisioned environments by qualifier."""
        return {qualifier: config.requested for qualifier, config in self.provisioned.items()}

    def bucket_of(self, target: FunctionVersion, alias: str) -> str:
        """The allocation that an invocation draws on: its alias's, else its version's own, else "on-demand"."""
        if alias in self.provisioned:
            return alias
        return target.version if target.version in self.provisioned else "on-demand"

    @property
    def carved(self) -> int | None:
        """Slots that are the function's own, outside of the account's pool; None: it has none."""
        if self.reserved_concurrency is not None:
            return self.reserved_concurrency
        return sum(self.allocations.values()) or None


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """AWS: LayerVersion. `created` in seconds since the epoch."""

    name: str
    version: int
    archive: Archive
    created: float
    description: str = ""
    license_info: str | None = None
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()


class Invocation(NamedTuple):
    """One execution asked of an executor. `deadline` is set by the executor when the event is handed over.

    `trigger` says for metering what caused it: "sync", "async" or an event source's name; `tags` are the
    function's, for the same reason. `streaming`: the caller takes the response as it is made.
    """

    request_id: str
    target: FunctionVersion
    invoked_arn: str
    payload: bytes
    trace_id: str
    client_context: bytes | None = None
    cognito_identity: bytes | None = None
    want_log_tail: bool = False
    trigger: str = "sync"
    tags: Mapping[str, str] = MappingProxyType({})
    alias: str = ""
    streaming: bool = False


class Outcome(StrEnum):
    """How an execution ended."""

    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    OUT_OF_MEMORY = "out_of_memory"
    INIT_ERROR = "init_error"
    LOST = "lost"


class Response(NamedTuple):
    """What the caller gets. `function_error` is AWS's X-Amz-Function-Error ("Unhandled") or None."""

    payload: bytes
    function_error: str | None = None
    error_type: str | None = None
    content_type: str = "application/json"


class Report(NamedTuple):
    """The numbers of one execution, made once its slot is free. `log_tail`: the last 4096 bytes of its log,
    only if asked for."""

    outcome: Outcome
    duration_ms: float
    billed_ms: int
    init_ms: float | None
    memory_size: int
    max_memory_used: int
    log_tail: bytes = b""
    restore_ms: float | None = None


class Tried(NamedTuple):
    """How the last try of an event went that was not its last. `status`: AWS's HTTP status, 200 also for a
    function's error; `message`: what a person should read."""

    status: int | None
    function_error: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Event:
    """An accepted asynchronous event. `lane` is the function's uid: a function created again under an old
    name gets none of the old one's events. `accepted` in seconds since the epoch; `attempt` counts from 1;
    `tried`: None before the first try."""

    request_id: str
    lane: str
    function: str
    payload: bytes
    accepted: float
    qualifier: str | None = None
    trace_id: str = ""
    source: str = "async"
    attempt: int = 1
    due: float | None = None
    tried: Tried | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """Objects of a bucket invoke a function asynchronously (AWS: a bucket's LambdaFunctionConfiguration).

    `events` are S3 event names without or with wildcard, as "s3:ObjectCreated:*"; `qualifier`: a version or
    alias of the function."""

    id: str
    bucket: str
    function: str
    events: tuple[str, ...] = ("s3:ObjectCreated:*",)
    prefix: str = ""
    suffix: str = ""
    qualifier: str | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a function's log. `at` in milliseconds since the epoch, as CloudWatch has it; `id` is the
    store's own, rises, and begins with the ms of its ingestion."""

    at: int
    stream: str
    message: str
    id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class LogStreamInfo:
    """CloudWatch: LogStream. Times in ms since the epoch; None: it has no events."""

    name: str
    created: int
    first: int | None = None
    last: int | None = None
    ingested: int | None = None


@dataclass(frozen=True, slots=True)
class LogGroupInfo:
    """CloudWatch: LogGroup. `created` in ms since the epoch; `retention` in days, None: for ever."""

    name: str
    created: int
    retention: int | None = None


@dataclass(frozen=True, slots=True)
class Enforcement:
    """One thing a host can or cannot enforce, for `lambent doctor`, /healthz and the start-up lines."""

    name: str
    enforced: bool
    how: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the cluster, as it says of itself. `role`: "gateway", "scheduler" or "executor";
    `addresses`: {"invoke": "127.0.0.1:1234", ...}. What a listing adds: `age`, seconds since its last
    registration by the server's clock, and `live`, whether that registration still stands."""

    id: str
    role: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    age: float = 0.0
    live: bool = True


@dataclass(frozen=True, slots=True)
class ShardOwner:
    """The scheduler that holds a shard: its member id, where it answers, and the fence of its tenure."""

    owner: str
    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Block:
    """A shard's part of the account's unreserved slots. `size`: all that it has now; `granted`: what this call
    added; `pool_free`: what nobody has, negative when blocks are to be given back; `fenced`: the epoch is not
    the shard's, and nothing was changed; `wanted`: another shard lately got less than it asked for."""

    size: int
    granted: int
    pool_free: int
    fenced: bool = False
    wanted: bool = False


__all__ = [
    "LATEST",
    "Alias",
    "Archive",
    "Block",
    "Enforcement",
    "Event",
    "EventInvokeConfig",
    "Function",
    "FunctionVersion",
    "Invocation",
    "LayerUse",
    "LayerVersion",
    "LogGroupInfo",
    "LogLine",
    "LogStreamInfo",
    "LoggingConfig",
    "Member",
    "Outcome",
    "Provisioned",
    "ProvisionedConfig",
    "RecursiveLoop",
    "Report",
    "Response",
    "ShardOwner",
    "State",
    "Trigger",
    "UpdateStatus",
    "VersionKey",
]
