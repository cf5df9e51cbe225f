from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("stream", "hello", "challenge", "proof", "welcome", "define_target", "invoke", "chunk", "accepted", "response", "report", "failed", "cancel", "prepare", "stop_function", "done", "enforcement_request", "enforcement_answer", "credit", "ping", "pong", "go_away", "stream_head")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    DEFINE_TARGET_FIELD_NUMBER: _ClassVar[int]
    INVOKE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    STOP_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_ANSWER_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    STREAM_HEAD_FIELD_NUMBER: _ClassVar[int]
    stream: int
    hello: Hello
    challenge: Challenge
    proof: Proof
    welcome: Welcome
    define_target: DefineTarget
    invoke: Invoke
    chunk: Chunk
    accepted: Accepted
    response: ResponseHead
    report: Report
    failed: Failed
    cancel: Cancel
    prepare: Prepare
    stop_function: StopFunction
    done: Done
    enforcement_request: EnforcementRequest
    enforcement_answer: EnforcementAnswer
    credit: Credit
    ping: Ping
    pong: Pong
    go_away: GoAway
    stream_head: StreamHead
    def __init__(self, stream: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., challenge: _Optional[_Union[Challenge, _Mapping]] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., define_target: _Optional[_Union[DefineTarget, _Mapping]] = ..., invoke: _Optional[_Union[Invoke, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., response: _Optional[_Union[ResponseHead, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., prepare: _Optional[_Union[Prepare, _Mapping]] = ..., stop_function: _Optional[_Union[StopFunction, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., enforcement_request: _Optional[_Union[EnforcementRequest, _Mapping]] = ..., enforcement_answer: _Optional[_Union[EnforcementAnswer, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., stream_head: _Optional[_Union[StreamHead, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "nonce", "executor", "client")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    nonce: bytes
    executor: str
    client: str
    def __init__(self, protocol: _Optional[int] = ..., nonce: _Optional[bytes] = ..., executor: _Optional[str] = ..., client: _Optional[str] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("protocol", "nonce", "keyed")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    KEYED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    nonce: bytes
    keyed: bool
    def __init__(self, protocol: _Optional[int] = ..., nonce: _Optional[bytes] = ..., keyed: _Optional[bool] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("mac",)
    MAC_FIELD_NUMBER: _ClassVar[int]
    mac: bytes
    def __init__(self, mac: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("mac", "streams", "targets")
    MAC_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    mac: bytes
    streams: int
    targets: int
    def __init__(self, mac: _Optional[bytes] = ..., streams: _Optional[int] = ..., targets: _Optional[int] = ...) -> None: ...

class DefineTarget(_message.Message):
    __slots__ = ("number", "version")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    number: int
    version: bytes
    def __init__(self, number: _Optional[int] = ..., version: _Optional[bytes] = ...) -> None: ...

class Invoke(_message.Message):
    __slots__ = ("request_id", "target", "invoked_arn", "trace_id", "client_context", "cognito_identity", "want_log_tail", "trigger", "tags", "alias", "lease", "length", "payload", "streaming")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    INVOKED_ARN_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    COGNITO_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    WANT_LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    target: int
    invoked_arn: str
    trace_id: str
    client_context: bytes
    cognito_identity: bytes
    want_log_tail: bool
    trigger: str
    tags: _containers.ScalarMap[str, str]
    alias: str
    lease: LeaseMark
    length: int
    payload: bytes
    streaming: bool
    def __init__(self, request_id: _Optional[str] = ..., target: _Optional[int] = ..., invoked_arn: _Optional[str] = ..., trace_id: _Optional[str] = ..., client_context: _Optional[bytes] = ..., cognito_identity: _Optional[bytes] = ..., want_log_tail: _Optional[bool] = ..., trigger: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., alias: _Optional[str] = ..., lease: _Optional[_Union[LeaseMark, _Mapping]] = ..., length: _Optional[int] = ..., payload: _Optional[bytes] = ..., streaming: _Optional[bool] = ...) -> None: ...

class LeaseMark(_message.Message):
    __slots__ = ("id", "shard", "epoch", "holder", "bucket", "slots", "seconds")
    ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    shard: int
    epoch: int
    holder: str
    bucket: str
    slots: int
    seconds: float
    def __init__(self, id: _Optional[str] = ..., shard: _Optional[int] = ..., epoch: _Optional[int] = ..., holder: _Optional[str] = ..., bucket: _Optional[str] = ..., slots: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamHead(_message.Message):
    __slots__ = ("content_type",)
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    def __init__(self, content_type: _Optional[str] = ...) -> None: ...

class ResponseHead(_message.Message):
    __slots__ = ("function_error", "error_type", "content_type", "length", "payload")
    FUNCTION_ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function_error: str
    error_type: str
    content_type: str
    length: int
    payload: bytes
    def __init__(self, function_error: _Optional[str] = ..., error_type: _Optional[str] = ..., content_type: _Optional[str] = ..., length: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("outcome", "duration_ms", "billed_ms", "init_ms", "memory_size", "max_memory_used", "log_tail")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    BILLED_MS_FIELD_NUMBER: _ClassVar[int]
    INIT_MS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_MEMORY_USED_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    duration_ms: float
    billed_ms: int
    init_ms: float
    memory_size: int
    max_memory_used: int
    log_tail: bytes
    def __init__(self, outcome: _Optional[str] = ..., duration_ms: _Optional[float] = ..., billed_ms: _Optional[int] = ..., init_ms: _Optional[float] = ..., memory_size: _Optional[int] = ..., max_memory_used: _Optional[int] = ..., log_tail: _Optional[bytes] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("code", "message", "members", "reason")
    class MembersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    members: _containers.ScalarMap[str, str]
    reason: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., members: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: int
    def __init__(self, target: _Optional[int] = ...) -> None: ...

class StopFunction(_message.Message):
    __slots__ = ("uid", "version", "keep")
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    uid: str
    version: str
    keep: VersionMark
    def __init__(self, uid: _Optional[str] = ..., version: _Optional[str] = ..., keep: _Optional[_Union[VersionMark, _Mapping]] = ...) -> None: ...

class VersionMark(_message.Message):
    __slots__ = ("uid", "version", "generation")
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    uid: str
    version: str
    generation: int
    def __init__(self, uid: _Optional[str] = ..., version: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnforcementRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnforcementAnswer(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[EnforcementEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[EnforcementEntry, _Mapping]]] = ...) -> None: ...

class EnforcementEntry(_message.Message):
    __slots__ = ("name", "enforced", "how", "advice")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENFORCED_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    enforced: bool
    how: str
    advice: str
    def __init__(self, name: _Optional[str] = ..., enforced: _Optional[bool] = ..., how: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: int
    def __init__(self, chunks: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Pong(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("last_stream",)
    LAST_STREAM_FIELD_NUMBER: _ClassVar[int]
    last_stream: int
    def __init__(self, last_stream: _Optional[int] = ...) -> None: ...
