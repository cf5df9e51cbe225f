"""AWS's errors as google.rpc has them: a code that gRPC's own tools and retries understand, and details that
name AWS's exception, so that neither kind of client has to read a text.

Pure. Details: ErrorInfo always; BadRequest for what the model's constraints refuse; RetryInfo where the same
request may be taken later.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lambent.kernel.errors import EventQueueUnavailable, LambdaError, ValidationException

DOMAIN = "lambent"
DETAILS = "grpc-status-details-bin"
"""The trailing metadata that carries the whole google.rpc.Status."""

_C = grpc.StatusCode
_BY_NAME: Mapping[str, grpc.StatusCode] = {
    "ResourceNotFoundException": _C.NOT_FOUND,
    "ResourceConflictException": _C.ABORTED,
    "PreconditionFailedException": _C.ABORTED,  # read it again, then change it
    "ResourceInUseException": _C.FAILED_PRECONDITION,
    "RecursiveInvocationException": _C.FAILED_PRECONDITION,
    "InvalidRuntimeException": _C.FAILED_PRECONDITION,
    "InvalidZipFileException": _C.INVALID_ARGUMENT,
    "ResourceNotReadyException": _C.UNAVAILABLE,
    "TooManyRequestsException": _C.RESOURCE_EXHAUSTED,
    "CodeStorageExceededException": _C.RESOURCE_EXHAUSTED,
    "AccessDeniedException": _C.PERMISSION_DENIED,
    "NotImplementedException": _C.UNIMPLEMENTED,
}
_CREATES = frozenset({"CreateFunction", "CreateAlias"})
# Until when the same request is worth another try, in seconds.
_RETRY = {"TooManyRequestsException": 0.5, "ResourceNotReadyException": 0.5}
_QUEUE_RETRY = 1.0
_VIOLATION = re.compile(r".* at '([^']+)' failed to satisfy constraint: (.*)", re.DOTALL)


class Refusal(NamedTuple):
    """A failed RPC. `retry`: seconds, None: the same request is of no use again."""

    code: grpc.StatusCode
    reason: str
    message: str
    retry: float | None
    status: bytes


def refusal(failure: LambdaError, operation: str) -> Refusal:
    """`operation`: AWS's name of what failed; a conflict means another thing for one that creates."""
    code = code_of(failure, operation)
    retry = retry_of(failure)
    status = Status(code=code.value[0], message=failure.message)
    info = ErrorInfo(reason=failure.code, domain=DOMAIN, metadata=_metadata(failure))
    _pack(status.details.add(), info)
    violations = _violations(failure)
    if violations is not None:
        _pack(status.details.add(), violations)
    if retry is not None:
        _pack(status.details.add(), RetryInfo(retry_delay=duration(retry)))
    return Refusal(code, failure.code, failure.message, retry, status.SerializeToString())


def code_of(failure: LambdaError, operation: str) -> grpc.StatusCode:
    """The code of an AWS error."""
    if isinstance(failure, EventQueueUnavailable):
        return _C.UNAVAILABLE
    if failure.code == "ResourceConflictException" and operation in _CREATES:
        return _C.ALREADY_EXISTS
    known = _BY_NAME.get(failure.code)
    if known is not None:
        return known
    # 413 too: RESOURCE_EXHAUSTED would make clients send the same again.
    return _C.INVALID_ARGUMENT if failure.status < 500 else _C.INTERNAL


def retry_of(failure: LambdaError) -> float | None:
    """Seconds after which the same request may be taken."""
    return _QUEUE_RETRY if isinstance(failure, EventQueueUnavailable) else _RETRY.get(failure.code)


def duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


def _metadata(failure: LambdaError) -> dict[str, str]:
    members = {name[:1].lower() + name[1:]: value for name, value in failure.members.items()}
    return {**members, "httpStatus": str(failure.status), "fault": failure.fault}


def _violations(failure: LambdaError) -> BadRequest | None:
    if not isinstance(failure, ValidationException):
        return None
    found = BadRequest()
    for problem in failure.problems or (failure.message,):
        if match := _VIOLATION.fullmatch(problem):
            found.field_violations.add(field=_field(match[1]), description=match[2])
    return found if found.field_violations else None


def _field(path: str) -> str:
    """`environment.variables` as the messages spell it: `functionName` is function_name."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", path).lower()


def _pack(into: Any, detail: BadRequest | ErrorInfo | RetryInfo) -> None:
    into.Pack(detail)
