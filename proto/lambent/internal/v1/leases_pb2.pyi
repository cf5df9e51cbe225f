from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VersionKey(_message.Message):
    __slots__ = ("uid", "version", "generation")
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    uid: str
    version: str
    generation: int
    def __init__(self, uid: _Optional[str] = ..., version: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class AskRequest(_message.Message):
    __slots__ = ("shard", "holder", "name", "key", "bucket", "memory_mb", "digest", "want", "avoid")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    AVOID_FIELD_NUMBER: _ClassVar[int]
    shard: int
    holder: str
    name: str
    key: VersionKey
    bucket: str
    memory_mb: int
    digest: str
    want: int
    avoid: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, shard: _Optional[int] = ..., holder: _Optional[str] = ..., name: _Optional[str] = ..., key: _Optional[_Union[VersionKey, _Mapping]] = ..., bucket: _Optional[str] = ..., memory_mb: _Optional[int] = ..., digest: _Optional[str] = ..., want: _Optional[int] = ..., avoid: _Optional[_Iterable[str]] = ...) -> None: ...

class AskResponse(_message.Message):
    __slots__ = ("grants", "refused")
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    refused: str
    def __init__(self, grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ..., refused: _Optional[str] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("lease", "epoch", "executor", "bucket", "slots", "added", "seconds")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    lease: str
    epoch: int
    executor: str
    bucket: str
    slots: int
    added: int
    seconds: float
    def __init__(self, lease: _Optional[str] = ..., epoch: _Optional[int] = ..., executor: _Optional[str] = ..., bucket: _Optional[str] = ..., slots: _Optional[int] = ..., added: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("holder", "shards")
    class ShardsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: HeldLeases
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[HeldLeases, _Mapping]] = ...) -> None: ...
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    holder: str
    shards: _containers.MessageMap[int, HeldLeases]
    def __init__(self, holder: _Optional[str] = ..., shards: _Optional[_Mapping[int, HeldLeases]] = ...) -> None: ...

class HeldLeases(_message.Message):
    __slots__ = ("leases",)
    class LeasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: HeldLease
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[HeldLease, _Mapping]] = ...) -> None: ...
    LEASES_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.MessageMap[str, HeldLease]
    def __init__(self, leases: _Optional[_Mapping[str, HeldLease]] = ...) -> None: ...

class HeldLease(_message.Message):
    __slots__ = ("running", "idle")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    running: int
    idle: int
    def __init__(self, running: _Optional[int] = ..., idle: _Optional[int] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("shards",)
    class ShardsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: RenewedLeases
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[RenewedLeases, _Mapping]] = ...) -> None: ...
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.MessageMap[int, RenewedLeases]
    def __init__(self, shards: _Optional[_Mapping[int, RenewedLeases]] = ...) -> None: ...

class RenewedLeases(_message.Message):
    __slots__ = ("leases", "stale", "freed", "wait")
    class LeasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: RenewedLease
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[RenewedLease, _Mapping]] = ...) -> None: ...
    LEASES_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    FREED_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.MessageMap[str, RenewedLease]
    stale: _containers.RepeatedScalarFieldContainer[str]
    freed: _containers.RepeatedScalarFieldContainer[str]
    wait: bool
    def __init__(self, leases: _Optional[_Mapping[str, RenewedLease]] = ..., stale: _Optional[_Iterable[str]] = ..., freed: _Optional[_Iterable[str]] = ..., wait: _Optional[bool] = ...) -> None: ...

class RenewedLease(_message.Message):
    __slots__ = ("slots", "seconds")
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    seconds: float
    def __init__(self, slots: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class FunctionChangedRequest(_message.Message):
    __slots__ = ("name", "uid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class FunctionChangedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SupersedeRequest(_message.Message):
    __slots__ = ("name", "uid", "generation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    generation: int
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class SupersedeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetProvisionedRequest(_message.Message):
    __slots__ = ("name", "uid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class GetProvisionedResponse(_message.Message):
    __slots__ = ("allocations",)
    class AllocationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Provisioned
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Provisioned, _Mapping]] = ...) -> None: ...
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    allocations: _containers.MessageMap[str, Provisioned]
    def __init__(self, allocations: _Optional[_Mapping[str, Provisioned]] = ...) -> None: ...

class Provisioned(_message.Message):
    __slots__ = ("requested", "allocated", "available", "status", "reason")
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    requested: int
    allocated: int
    available: int
    status: str
    reason: str
    def __init__(self, requested: _Optional[int] = ..., allocated: _Optional[int] = ..., available: _Optional[int] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("beat", "done", "bye")
    BEAT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    beat: Beat
    done: LeaseDone
    bye: Bye
    def __init__(self, beat: _Optional[_Union[Beat, _Mapping]] = ..., done: _Optional[_Union[LeaseDone, _Mapping]] = ..., bye: _Optional[_Union[Bye, _Mapping]] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("claim", "answer", "open", "resize", "close", "keep")
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    claim: Claim
    answer: BeatAnswer
    open: OpenLease
    resize: ResizeLease
    close: CloseLease
    keep: KeepEnvironments
    def __init__(self, claim: _Optional[_Union[Claim, _Mapping]] = ..., answer: _Optional[_Union[BeatAnswer, _Mapping]] = ..., open: _Optional[_Union[OpenLease, _Mapping]] = ..., resize: _Optional[_Union[ResizeLease, _Mapping]] = ..., close: _Optional[_Union[CloseLease, _Mapping]] = ..., keep: _Optional[_Union[KeepEnvironments, _Mapping]] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("executor", "number", "seen", "epochs", "leases", "memory_mb", "granted_mb", "warm", "cached", "kept", "draining", "replaces")
    class EpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    GRANTED_MB_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    executor: str
    number: int
    seen: int
    epochs: _containers.ScalarMap[int, int]
    leases: _containers.RepeatedCompositeFieldContainer[LeaseState]
    memory_mb: int
    granted_mb: int
    warm: _containers.RepeatedCompositeFieldContainer[WarmEnvironments]
    cached: _containers.RepeatedScalarFieldContainer[str]
    kept: _containers.RepeatedCompositeFieldContainer[KeptEnvironments]
    draining: bool
    replaces: str
    def __init__(self, executor: _Optional[str] = ..., number: _Optional[int] = ..., seen: _Optional[int] = ..., epochs: _Optional[_Mapping[int, int]] = ..., leases: _Optional[_Iterable[_Union[LeaseState, _Mapping]]] = ..., memory_mb: _Optional[int] = ..., granted_mb: _Optional[int] = ..., warm: _Optional[_Iterable[_Union[WarmEnvironments, _Mapping]]] = ..., cached: _Optional[_Iterable[str]] = ..., kept: _Optional[_Iterable[_Union[KeptEnvironments, _Mapping]]] = ..., draining: _Optional[bool] = ..., replaces: _Optional[str] = ...) -> None: ...

class LeaseState(_message.Message):
    __slots__ = ("id", "shard", "key", "bucket", "holder", "memory_mb", "slots", "running", "open")
    ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    shard: int
    key: VersionKey
    bucket: str
    holder: str
    memory_mb: int
    slots: int
    running: int
    open: bool
    def __init__(self, id: _Optional[str] = ..., shard: _Optional[int] = ..., key: _Optional[_Union[VersionKey, _Mapping]] = ..., bucket: _Optional[str] = ..., holder: _Optional[str] = ..., memory_mb: _Optional[int] = ..., slots: _Optional[int] = ..., running: _Optional[int] = ..., open: _Optional[bool] = ...) -> None: ...

class WarmEnvironments(_message.Message):
    __slots__ = ("key", "count")
    KEY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    key: VersionKey
    count: int
    def __init__(self, key: _Optional[_Union[VersionKey, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class KeptEnvironments(_message.Message):
    __slots__ = ("key", "bucket", "started", "ready", "failed", "wanted")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    key: VersionKey
    bucket: str
    started: int
    ready: int
    failed: str
    wanted: int
    def __init__(self, key: _Optional[_Union[VersionKey, _Mapping]] = ..., bucket: _Optional[str] = ..., started: _Optional[int] = ..., ready: _Optional[int] = ..., failed: _Optional[str] = ..., wanted: _Optional[int] = ...) -> None: ...

class LeaseDone(_message.Message):
    __slots__ = ("request", "lease", "state", "reason")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request: int
    lease: str
    state: LeaseState
    reason: str
    def __init__(self, request: _Optional[int] = ..., lease: _Optional[str] = ..., state: _Optional[_Union[LeaseState, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Bye(_message.Message):
    __slots__ = ("executor",)
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    executor: str
    def __init__(self, executor: _Optional[str] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("request", "shard", "epoch")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    request: int
    shard: int
    epoch: int
    def __init__(self, request: _Optional[int] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class BeatAnswer(_message.Message):
    __slots__ = ("number", "epochs", "renew")
    class EpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class RenewEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    number: int
    epochs: _containers.ScalarMap[int, int]
    renew: _containers.ScalarMap[str, float]
    def __init__(self, number: _Optional[int] = ..., epochs: _Optional[_Mapping[int, int]] = ..., renew: _Optional[_Mapping[str, float]] = ...) -> None: ...

class OpenLease(_message.Message):
    __slots__ = ("request", "shard", "epoch", "lease", "key", "bucket", "holder", "memory_mb", "slots", "seconds")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    request: int
    shard: int
    epoch: int
    lease: str
    key: VersionKey
    bucket: str
    holder: str
    memory_mb: int
    slots: int
    seconds: float
    def __init__(self, request: _Optional[int] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., lease: _Optional[str] = ..., key: _Optional[_Union[VersionKey, _Mapping]] = ..., bucket: _Optional[str] = ..., holder: _Optional[str] = ..., memory_mb: _Optional[int] = ..., slots: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class ResizeLease(_message.Message):
    __slots__ = ("request", "shard", "epoch", "lease", "slots")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    request: int
    shard: int
    epoch: int
    lease: str
    slots: int
    def __init__(self, request: _Optional[int] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., lease: _Optional[str] = ..., slots: _Optional[int] = ...) -> None: ...

class CloseLease(_message.Message):
    __slots__ = ("request", "shard", "epoch", "lease")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    request: int
    shard: int
    epoch: int
    lease: str
    def __init__(self, request: _Optional[int] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., lease: _Optional[str] = ...) -> None: ...

class KeepEnvironments(_message.Message):
    __slots__ = ("request", "shard", "epoch", "key", "bucket", "wanted", "target", "tags")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    request: int
    shard: int
    epoch: int
    key: VersionKey
    bucket: str
    wanted: int
    target: bytes
    tags: _containers.ScalarMap[str, str]
    def __init__(self, request: _Optional[int] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., key: _Optional[_Union[VersionKey, _Mapping]] = ..., bucket: _Optional[str] = ..., wanted: _Optional[int] = ..., target: _Optional[bytes] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...
