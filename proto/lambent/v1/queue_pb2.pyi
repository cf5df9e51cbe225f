import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Line(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINE_UNSPECIFIED: _ClassVar[Line]
    LINE_LANE: _ClassVar[Line]
    LINE_OUTCOMES: _ClassVar[Line]
    LINE_DEAD: _ClassVar[Line]

class Condition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONDITION_UNSPECIFIED: _ClassVar[Condition]
    CONDITION_SUCCESS: _ClassVar[Condition]
    CONDITION_RETRIES_EXHAUSTED: _ClassVar[Condition]
    CONDITION_EVENT_AGE_EXCEEDED: _ClassVar[Condition]
    CONDITION_ZERO_RESERVED_CONCURRENCY: _ClassVar[Condition]
    CONDITION_RECURSION_DETECTED: _ClassVar[Condition]
LINE_UNSPECIFIED: Line
LINE_LANE: Line
LINE_OUTCOMES: Line
LINE_DEAD: Line
CONDITION_UNSPECIFIED: Condition
CONDITION_SUCCESS: Condition
CONDITION_RETRIES_EXHAUSTED: Condition
CONDITION_EVENT_AGE_EXCEEDED: Condition
CONDITION_ZERO_RESERVED_CONCURRENCY: Condition
CONDITION_RECURSION_DETECTED: Condition

class GetDepthsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDepthsResponse(_message.Message):
    __slots__ = ("functions", "targets")
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    functions: _containers.RepeatedCompositeFieldContainer[FunctionDepth]
    targets: _containers.RepeatedCompositeFieldContainer[FailingTarget]
    def __init__(self, functions: _Optional[_Iterable[_Union[FunctionDepth, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[FailingTarget, _Mapping]]] = ...) -> None: ...

class FunctionDepth(_message.Message):
    __slots__ = ("function_name", "lane", "ready", "in_flight", "delayed", "oldest_age", "outcomes", "dead")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    OLDEST_AGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    lane: str
    ready: int
    in_flight: int
    delayed: int
    oldest_age: _duration_pb2.Duration
    outcomes: int
    dead: int
    def __init__(self, function_name: _Optional[str] = ..., lane: _Optional[str] = ..., ready: _Optional[int] = ..., in_flight: _Optional[int] = ..., delayed: _Optional[int] = ..., oldest_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., outcomes: _Optional[int] = ..., dead: _Optional[int] = ...) -> None: ...

class FailingTarget(_message.Message):
    __slots__ = ("arn", "since", "failures", "error")
    ARN_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    arn: str
    since: _timestamp_pb2.Timestamp
    failures: int
    error: str
    def __init__(self, arn: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failures: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class PeekRequest(_message.Message):
    __slots__ = ("function_name", "line", "limit")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    line: Line
    limit: int
    def __init__(self, function_name: _Optional[str] = ..., line: _Optional[_Union[Line, str]] = ..., limit: _Optional[int] = ...) -> None: ...

class PeekResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[QueueItem]
    def __init__(self, items: _Optional[_Iterable[_Union[QueueItem, _Mapping]]] = ...) -> None: ...

class QueueItem(_message.Message):
    __slots__ = ("request_id", "source", "accepted", "age", "attempt", "size", "payload", "due", "condition", "ended", "attempts", "error", "target", "dead_letter", "tries", "why")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    source: str
    accepted: _timestamp_pb2.Timestamp
    age: _duration_pb2.Duration
    attempt: int
    size: int
    payload: str
    due: _timestamp_pb2.Timestamp
    condition: Condition
    ended: _timestamp_pb2.Timestamp
    attempts: int
    error: str
    target: str
    dead_letter: bool
    tries: int
    why: str
    def __init__(self, request_id: _Optional[str] = ..., source: _Optional[str] = ..., accepted: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., attempt: _Optional[int] = ..., size: _Optional[int] = ..., payload: _Optional[str] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., condition: _Optional[_Union[Condition, str]] = ..., ended: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempts: _Optional[int] = ..., error: _Optional[str] = ..., target: _Optional[str] = ..., dead_letter: _Optional[bool] = ..., tries: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class RedriveRequest(_message.Message):
    __slots__ = ("function_name", "limit", "from_dead_letter_queue")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FROM_DEAD_LETTER_QUEUE_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    limit: int
    from_dead_letter_queue: bool
    def __init__(self, function_name: _Optional[str] = ..., limit: _Optional[int] = ..., from_dead_letter_queue: _Optional[bool] = ...) -> None: ...

class RedriveResponse(_message.Message):
    __slots__ = ("moved",)
    MOVED_FIELD_NUMBER: _ClassVar[int]
    moved: int
    def __init__(self, moved: _Optional[int] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("function_name", "line")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    line: Line
    def __init__(self, function_name: _Optional[str] = ..., line: _Optional[_Union[Line, str]] = ...) -> None: ...

class PurgeResponse(_message.Message):
    __slots__ = ("dropped",)
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    dropped: int
    def __init__(self, dropped: _Optional[int] = ...) -> None: ...

class ReplayRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ReplayResponse(_message.Message):
    __slots__ = ("replayed",)
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    replayed: int
    def __init__(self, replayed: _Optional[int] = ...) -> None: ...
