import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InvocationType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVOCATION_TYPE_UNSPECIFIED: _ClassVar[InvocationType]
    INVOCATION_TYPE_REQUEST_RESPONSE: _ClassVar[InvocationType]
    INVOCATION_TYPE_EVENT: _ClassVar[InvocationType]
    INVOCATION_TYPE_DRY_RUN: _ClassVar[InvocationType]

class LogType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_TYPE_UNSPECIFIED: _ClassVar[LogType]
    LOG_TYPE_NONE: _ClassVar[LogType]
    LOG_TYPE_TAIL: _ClassVar[LogType]
INVOCATION_TYPE_UNSPECIFIED: InvocationType
INVOCATION_TYPE_REQUEST_RESPONSE: InvocationType
INVOCATION_TYPE_EVENT: InvocationType
INVOCATION_TYPE_DRY_RUN: InvocationType
LOG_TYPE_UNSPECIFIED: LogType
LOG_TYPE_NONE: LogType
LOG_TYPE_TAIL: LogType

class InvokeRequest(_message.Message):
    __slots__ = ("function_name", "qualifier", "payload", "invocation_type", "log_type", "client_context", "cancel_on_disconnect")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    QUALIFIER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    INVOCATION_TYPE_FIELD_NUMBER: _ClassVar[int]
    LOG_TYPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    qualifier: str
    payload: bytes
    invocation_type: InvocationType
    log_type: LogType
    client_context: bytes
    cancel_on_disconnect: bool
    def __init__(self, function_name: _Optional[str] = ..., qualifier: _Optional[str] = ..., payload: _Optional[bytes] = ..., invocation_type: _Optional[_Union[InvocationType, str]] = ..., log_type: _Optional[_Union[LogType, str]] = ..., client_context: _Optional[bytes] = ..., cancel_on_disconnect: _Optional[bool] = ...) -> None: ...

class InvokeResponse(_message.Message):
    __slots__ = ("status_code", "payload", "function_error", "executed_version", "log_result", "request_id")
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_ERROR_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    LOG_RESULT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    status_code: int
    payload: bytes
    function_error: str
    executed_version: str
    log_result: bytes
    request_id: str
    def __init__(self, status_code: _Optional[int] = ..., payload: _Optional[bytes] = ..., function_error: _Optional[str] = ..., executed_version: _Optional[str] = ..., log_result: _Optional[bytes] = ..., request_id: _Optional[str] = ...) -> None: ...

class InvokeStreamRequest(_message.Message):
    __slots__ = ("function_name", "qualifier", "payload", "log_type", "client_context", "cancel_on_disconnect")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    QUALIFIER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    LOG_TYPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    qualifier: str
    payload: bytes
    log_type: LogType
    client_context: bytes
    cancel_on_disconnect: bool
    def __init__(self, function_name: _Optional[str] = ..., qualifier: _Optional[str] = ..., payload: _Optional[bytes] = ..., log_type: _Optional[_Union[LogType, str]] = ..., client_context: _Optional[bytes] = ..., cancel_on_disconnect: _Optional[bool] = ...) -> None: ...

class InvokeStreamResponse(_message.Message):
    __slots__ = ("payload_chunk", "complete")
    PAYLOAD_CHUNK_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    payload_chunk: bytes
    complete: InvokeStreamComplete
    def __init__(self, payload_chunk: _Optional[bytes] = ..., complete: _Optional[_Union[InvokeStreamComplete, _Mapping]] = ...) -> None: ...

class InvokeStreamComplete(_message.Message):
    __slots__ = ("function_error", "executed_version", "log_result", "request_id", "error_details")
    FUNCTION_ERROR_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    LOG_RESULT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_DETAILS_FIELD_NUMBER: _ClassVar[int]
    function_error: str
    executed_version: str
    log_result: bytes
    request_id: str
    error_details: bytes
    def __init__(self, function_error: _Optional[str] = ..., executed_version: _Optional[str] = ..., log_result: _Optional[bytes] = ..., request_id: _Optional[str] = ..., error_details: _Optional[bytes] = ...) -> None: ...

class PublishEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[PublishEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[PublishEvent, _Mapping]]] = ...) -> None: ...

class PublishEvent(_message.Message):
    __slots__ = ("id", "function_name", "qualifier", "payload", "trace_header")
    ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    QUALIFIER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TRACE_HEADER_FIELD_NUMBER: _ClassVar[int]
    id: str
    function_name: str
    qualifier: str
    payload: bytes
    trace_header: str
    def __init__(self, id: _Optional[str] = ..., function_name: _Optional[str] = ..., qualifier: _Optional[str] = ..., payload: _Optional[bytes] = ..., trace_header: _Optional[str] = ...) -> None: ...

class PublishEventsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[PublishResult]
    def __init__(self, results: _Optional[_Iterable[_Union[PublishResult, _Mapping]]] = ...) -> None: ...

class PublishResult(_message.Message):
    __slots__ = ("id", "accepted", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    accepted: PublishAccepted
    error: PublishError
    def __init__(self, id: _Optional[str] = ..., accepted: _Optional[_Union[PublishAccepted, _Mapping]] = ..., error: _Optional[_Union[PublishError, _Mapping]] = ...) -> None: ...

class PublishAccepted(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class PublishError(_message.Message):
    __slots__ = ("code", "reason", "message", "retry_delay")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    retry_delay: _duration_pb2.Duration
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retry_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
