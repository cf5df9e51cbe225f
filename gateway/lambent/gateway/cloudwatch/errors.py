"""CloudWatch Logs' exceptions, which have Lambda's names with other texts and statuses."""

from lambent.kernel.errors import LambdaError


class LogsError(LambdaError):
    """The request is wrong."""

    status = 400
    message_member = "message"


class ResourceNotFoundException(LogsError):
    """The specified resource does not exist."""


class ResourceAlreadyExistsException(LogsError):
    """The specified resource already exists."""


class InvalidParameterException(LogsError):
    """A parameter is specified incorrectly."""


class UnknownOperationException(LogsError):
    """The operation is not known."""


class SerializationException(LogsError):
    """The request body is not JSON."""


class AccessDeniedException(LogsError):
    """You are not allowed to do this."""


class NotImplementedException(LogsError):
    """It is not built yet."""

    status = 501


class ServiceUnavailableException(LogsError):
    """The service cannot complete the request. Try again."""

    status = 500


def no_group() -> ResourceNotFoundException:
    return ResourceNotFoundException("The specified log group does not exist.")


def no_stream() -> ResourceNotFoundException:
    return ResourceNotFoundException("The specified log stream does not exist.")
