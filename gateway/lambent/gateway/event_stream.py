"""The answer to InvokeWithResponseStream: AWS's event stream of what the function has made so far, and then how
it ended. AWS: "InvokeWithResponseStream"; the binary form is the SDKs' vnd.amazon.eventstream.
"""

import base64
import binascii
import json
import struct
from collections.abc import AsyncGenerator, Mapping

from lambent.gateway.invoke import Invoked
from lambent.kernel.errors import LambdaError

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
_STRING = 7  # the type of a header's value
_PRELUDE = struct.Struct("!II")
_CRC = struct.Struct("!I")


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of the binary form: lengths, their checksum, headers, payload, the checksum of it all."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    total = _PRELUDE.size + _CRC.size + len(head) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(total, len(head))
    body = b"".join((prelude, _CRC.pack(binascii.crc32(prelude)), head, payload))
    return body + _CRC.pack(binascii.crc32(body))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(f"!B{len(key)}sBH{len(text)}s", len(key), key, _STRING, len(text), text)


_CHUNK = {
    ":event-type": "PayloadChunk",
    ":content-type": "application/octet-stream",
    ":message-type": "event",
}
_COMPLETE = {":event-type": "InvokeComplete", ":content-type": "application/json", ":message-type": "event"}


async def messages(invoked: Invoked) -> AsyncGenerator[bytes]:
    """All messages of one answer, as they can be sent. Of a function that does not stream: its whole payload,
    and the end."""
    stream = invoked.stream
    if stream is None:
        if invoked.function_error is None:
            yield message(_CHUNK, invoked.payload)
        yield _complete(invoked)
        return
    try:
        while data := await stream.read():
            yield message(_CHUNK, data)
        try:
            end = _complete(await stream.end())
        except LambdaError as failure:
            end = _end({"ErrorCode": failure.code, "ErrorDetails": failure.message})
        yield end
    finally:
        stream.abandon()


def _complete(ended: Invoked) -> bytes:
    members: dict[str, str] = {}
    if ended.function_error is not None:
        members["ErrorCode"] = ended.error_type or ended.function_error
        members["ErrorDetails"] = ended.payload.decode("utf-8", "replace")
    if ended.log_result is not None:
        members["LogResult"] = base64.b64encode(ended.log_result).decode()
    return _end(members)


def _end(members: Mapping[str, str]) -> bytes:
    return message(_COMPLETE, json.dumps(members).encode())
