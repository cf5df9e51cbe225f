"""What a runtime posts in answer to an invocation, as the outcome of its execution, and what the runtime is
told. Pure. AWS: "Using the Lambda runtime API", "Response streaming for custom runtimes".
"""

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from lambent.executor import limits
from lambent.executor.runtime_api import ACCEPTED, TOO_LARGE, Answer, Posted, refusal
from lambent.kernel.models import Outcome, Response

_MODE = b"lambda-runtime-function-response-mode"
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_ERROR_BODY = b"lambda-runtime-function-error-body"

NOT_RUNNING = refusal(400, "InvalidRequestID", "Invalid request ID")


class Read(NamedTuple):
    """How the execution ends, and the answer to whoever posted it."""

    outcome: Outcome
    response: Response
    answer: Answer = ACCEPTED


def streams(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the runtime posts its response as it makes it."""
    return headers.get(_MODE, b"").lower() == b"streaming"


def content_type(headers: Mapping[bytes, bytes]) -> str:
    """Of a streamed response."""
    return headers.get(b"content-type", b"application/octet-stream").decode("latin-1")


def response(posted: Posted) -> Read:
    """Of a POST to `response`. A runtime that streams and breaks off says so in its trailers; what it had
    streamed is the caller's by then."""
    headers = posted.headers
    mode = headers.get(_MODE)
    if mode is not None and mode.lower() != b"streaming":
        text = f"The response mode {mode[:64].decode('latin-1')!r} is unknown: leave it out, or say streaming."
        invalid = refusal(400, "InvalidFunctionResponseMode", text)
        return Read(Outcome.ERROR, limits.failure("Runtime.InvalidResponseModeHeader", text), invalid)
    if posted.too_large:
        too_large = limits.stream_too_large() if posted.streamed else limits.response_too_large()
        return Read(Outcome.ERROR, too_large, TOO_LARGE)
    error_type = headers.get(_ERROR_TYPE)
    if error_type is not None:
        body = _trailer_body(headers) or posted.body
        return Read(Outcome.ERROR, Response(body, limits.UNHANDLED, error_type.decode("latin-1")))
    if posted.streamed:
        return Read(Outcome.SUCCESS, Response(b"", content_type=content_type(headers)))
    return Read(Outcome.SUCCESS, Response(posted.body))


def error(posted: Posted) -> Read:
    """Of a POST to `error`, of an invocation or of init."""
    if posted.too_large:
        return Read(Outcome.ERROR, limits.response_too_large(), TOO_LARGE)
    header = posted.headers.get(_ERROR_TYPE)
    error_type = header.decode("latin-1") if header is not None else limits.error_type(posted.body)
    return Read(Outcome.ERROR, Response(posted.body, limits.UNHANDLED, error_type))


def _trailer_body(headers: Mapping[bytes, bytes]) -> bytes:
    text = headers.get(_ERROR_BODY, b"")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text  # its author's own form is better than nothing
