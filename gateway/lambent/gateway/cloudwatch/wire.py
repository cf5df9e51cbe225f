"""CloudWatch Logs' wire format (AWS JSON 1.1) from botocore's own model: an operation is named by a header, its
input and output are JSON objects.
"""

from collections.abc import Mapping
from typing import Any

from lambent.gateway.cloudwatch.errors import (
    InvalidParameterException,
    LogsError,
    SerializationException,
    ServiceUnavailableException,
)
from lambent.gateway.protocol import json_service
from lambent.gateway.protocol.reply import Reply, to_json
from lambent.kernel import errors

TARGET = b"x-amz-target"
PREFIX = b"Logs_20140328."
_TYPE = (b"content-type", b"application/x-amz-json-1.1")


class LogsWire:
    """Parses inputs and writes outputs and errors; nothing changes after the constructor. `operations`: those
    that are built."""

    def __init__(self, operations: frozenset[str]) -> None:
        self._model = json_service.JsonService("logs", "2014-03-28", operations)

    @property
    def known(self) -> frozenset[str]:
        """Every operation of AWS's model."""
        return self._model.known

    def parse(self, operation: str, body: bytes) -> dict[str, Any]:
        """Input members by their names in the model. Raises LogsError."""
        try:
            return self._model.parse(operation, body)
        except errors.ValidationException as failure:
            raise InvalidParameterException(failure.message) from None
        except errors.SerializationException as failure:
            raise SerializationException(failure.message) from None

    def serialise(self, operation: str, output: Mapping[str, Any] | None) -> Reply:
        return Reply(200, [_TYPE], to_json(self._model.serialise(operation, output)))

    def error(self, failure: errors.LambdaError) -> Reply:
        if not isinstance(failure, LogsError):  # a store that does not answer
            failure = ServiceUnavailableException(failure.message)
        body = {"__type": failure.code, "message": failure.message}
        return Reply(failure.status, [(b"x-amzn-errortype", failure.code.encode()), _TYPE], to_json(body))
