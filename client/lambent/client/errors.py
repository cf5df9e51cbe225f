"""What goes wrong, as exceptions with AWS's names: `except ResourceNotFoundException`, as with boto3.

A name that this client does not know is a LambentError with that `reason`. What no server answered (nobody
listens, the deadline passed) is one too, with an empty reason; `code` tells them apart.
"""

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lambent.v1.invocations_pb2 import PublishError

_DETAILS = "grpc-status-details-bin"


class LambentError(Exception):
    """An RPC, or one event of a stream, that failed.

    `reason`: AWS's exception name; `code`: gRPC's; `retry_after`: seconds after which the same may be taken,
    None: don't send it again as it is; `violations`: {field: what is wrong}; `metadata`: more of it, as AWS's
    Reason.
    """

    def __init__(self, message: str, code: grpc.StatusCode, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.request_id: str | None = None
        self.retry_after: float | None = None
        self.violations: dict[str, str] = {}
        self.metadata: dict[str, str] = {}


class AccessDeniedException(LambentError):
    """Not allowed."""


class CodeStorageExceededException(LambentError):
    """No room for more code."""


class InvalidParameterValueException(LambentError):
    """A value is not valid."""


class InvalidRequestContentException(LambentError):
    """The payload is not JSON."""


class InvalidRuntimeException(LambentError):
    """The runtime is not there any more."""


class InvalidZipFileException(LambentError):
    """The archive can't be read."""


class NotImplementedException(LambentError):
    """In AWS's API, and not built."""


class PreconditionFailedException(LambentError):
    """It was changed meanwhile."""


class RecursiveInvocationException(LambentError):
    """The function calls itself in a loop."""


class RequestEntityTooLargeException(LambentError):
    """The payload is too large."""


class ResourceConflictException(LambentError):
    """It exists already, or is being changed."""


class ResourceNotFoundException(LambentError):
    """It does not exist."""


class ResourceNotReadyException(LambentError):
    """It is being woken."""


class ServiceException(LambentError):
    """The server's fault."""


class TooManyRequestsException(LambentError):
    """A limit is reached; `metadata["reason"]` says which."""


class ValidationException(LambentError):
    """Constraints are violated; `violations` says which."""


_KNOWN = {each.__name__: each for each in LambentError.__subclasses__()}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def of_rpc(failure: grpc.RpcError) -> LambentError:
    """The exception of an RPC that failed; grpc's own becomes its cause."""
    assert isinstance(failure, grpc.Call | grpc.aio.AioRpcError)
    message = failure.details() or ""
    trailing = {name: value for name, value in failure.trailing_metadata() or ()}
    error = LambentError(message, failure.code())
    details = trailing.get(_DETAILS)
    if isinstance(details, bytes):
        error = _with_details(message, failure.code(), Status.FromString(details))
    request_id = trailing.get("x-amzn-requestid")
    error.request_id = request_id if isinstance(request_id, str) else None
    return error


def of_event(failure: PublishError) -> LambentError:
    """The exception of an event that was refused."""
    error = _made(failure.message, _CODES.get(failure.code, grpc.StatusCode.UNKNOWN), failure.reason)
    if failure.HasField("retry_delay"):
        error.retry_after = failure.retry_delay.ToTimedelta().total_seconds()
    return error


def _with_details(message: str, code: grpc.StatusCode, status: Status) -> LambentError:
    info, retry, bad = ErrorInfo(), RetryInfo(), BadRequest()
    for detail in status.details:
        for kind in (info, retry, bad):
            detail.Unpack(kind)
    error = _made(message, code, info.reason)
    error.metadata = dict(info.metadata)
    if retry.HasField("retry_delay"):
        error.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    error.violations = {each.field: each.description for each in bad.field_violations}
    return error


def _made(message: str, code: grpc.StatusCode, reason: str) -> LambentError:
    return _KNOWN.get(reason, LambentError)(message, code, reason)
