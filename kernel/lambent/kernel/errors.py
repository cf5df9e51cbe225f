"""One hierarchy of errors that become AWS's exceptions on the wire, because every role raises them and only
the gateway may know how they are written.

Each class is named as AWS names the exception; its docstring is the default message. `status` is the HTTP
status, `message_member` the spelling AWS's model gives the message ("Message" or "message").
Source: the Lambda service model's exception shapes, and AWS's Invoke/CreateFunction references.
"""

from collections.abc import Mapping, Sequence


class LambdaError(Exception):
    """An internal error occurred. Look in the server's log for the request id."""

    status: int = 500
    message_member: str = "Message"

    def __init__(self, message: str | None = None, **members: str) -> None:
        self.message = message if message is not None else (type(self).__doc__ or "").strip()
        self.members: Mapping[str, str] = members
        super().__init__(self.message)

    @property
    def code(self) -> str:
        """AWS's exception name, as in the header `x-amzn-ErrorType`."""
        return type(self).__name__

    @property
    def fault(self) -> str:
        """Who is at fault, in AWS's words: "User" (4xx) or "Service" (5xx)."""
        return "User" if self.status < 500 else "Service"


class ServiceException(LambdaError):
    """The service encountered an internal error. Try again; the server's log has the request id."""


class ResourceNotFoundException(LambdaError):
    """The resource you requested does not exist."""

    status = 404


class ProvisionedConcurrencyConfigNotFoundException(LambdaError):
    """No Provisioned Concurrency Config found for this function"""

    status = 404
    message_member = "message"


class ResourceConflictException(LambdaError):
    """The resource already exists, or another operation is in progress."""

    status = 409
    message_member = "message"


class ResourceInUseException(LambdaError):
    """The operation conflicts with the resource's availability."""

    status = 400


class ResourceNotReadyException(LambdaError):
    """The function is inactive and its environment is being made. Try again in a moment."""

    status = 502
    message_member = "message"


class InvalidParameterValueException(LambdaError):
    """One of the parameters in the request is not valid."""

    status = 400
    message_member = "message"


class InvalidRequestContentException(LambdaError):
    """The request body could not be parsed as JSON, or a request header is invalid."""

    status = 400
    message_member = "message"


class RequestEntityTooLargeException(LambdaError):
    """The request payload exceeded the Invoke request body size limit."""

    status = 413
    message_member = "message"


class RequestTooLargeException(RequestEntityTooLargeException):
    """The request payload exceeded the Invoke request body size limit."""


class UnsupportedMediaTypeException(LambdaError):
    """The content type of the Invoke request body is not JSON."""

    status = 415
    message_member = "message"


class TooManyRequestsException(LambdaError):
    """Rate Exceeded."""

    status = 429
    message_member = "message"

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(message, Reason=reason)
        self.reason = reason


class PreconditionFailedException(LambdaError):
    """The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"""  # noqa: E501

    status = 412
    message_member = "message"


class CodeStorageExceededException(LambdaError):
    """Code storage limit exceeded."""

    status = 400
    message_member = "message"


class InvalidZipFileException(LambdaError):
    """Lambda could not unzip the deployment package."""

    status = 502


class InvalidImage(ServiceException):
    """The function's container image cannot be had."""

    # AWS has StateReasonCodes of these names, and no exceptions.

    @property
    def code(self) -> str:
        return "ServiceException"


class ImageDeleted(InvalidImage):
    """The function's container image is not there any more."""


class ImageAccessDenied(InvalidImage):
    """The function's container image may not be fetched."""


class InvalidRuntimeException(LambdaError):
    """The runtime or runtime version specified is not on this machine any more."""

    status = 502


class SnapStartException(LambdaError):
    """The afterRestore() runtime hook encountered an error. For more information, check the function's log."""

    status = 400


class SnapStartNotReadyException(LambdaError):
    """Lambda is initializing your function. You can invoke the function when the function state becomes Active."""  # noqa: E501

    status = 409


class SnapStartTimeoutException(LambdaError):
    """Lambda couldn't restore the snapshot within the timeout limit."""

    status = 408


class RecursiveInvocationException(LambdaError):
    """Lambda has detected and stopped a recursive invocation."""

    status = 400


class AccessDeniedException(LambdaError):
    """You are not authorized to perform this operation."""

    status = 403


class ValidationException(LambdaError):
    """1 validation error detected"""

    status = 400
    message_member = "message"
    problems: Sequence[str] = ()
    """Each violated constraint; the message has them all."""


class SerializationException(LambdaError):
    """The request body is not valid JSON for this operation."""

    status = 400


class UnknownOperationException(LambdaError):
    """There is no operation at this method and path in the Lambda API."""

    status = 404
    message_member = "message"


class NotImplementedException(LambdaError):
    """This operation is in AWS's model and not built in Lambent yet."""

    status = 501
    message_member = "message"


class EventQueueUnavailable(ServiceException):
    """The event was not accepted: the event queue's server does not answer. Send it again; nothing was stored."""  # noqa: E501

    status = 503
    certain: bool = False  # nothing was stored; else it may have been, and only the answer was lost
    full: bool = False  # it is this function's queue alone that takes no more

    @property
    def code(self) -> str:
        return "ServiceException"


class NotStarted(ServiceException):
    """The executor did not take the invocation, and nothing of it ran. It may be tried again elsewhere."""

    def __init__(self, reason: str = "closed", message: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """What for: the lease is "closed", "full" or "expired", the executor "draining", "unreachable" or
        "unknown", the version "stale"."""
