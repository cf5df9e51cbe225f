"""The Runtime API of one environment, served to its runtime client inside its own network, because every
official runtime client (awslambdaric, the Java RIC, Go's, Rust's) speaks exactly this and nothing else.

Knows no driver and no pool: it turns HTTP into calls on `RuntimeCalls` and writes what they answer. httptools
parses; the replies are a few fixed lines, made once. AWS: "Using the Lambda runtime API", 2018-06-01.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

import httptools

from lambent.kernel.models import Invocation
from lambent.kernel.response_stream import MAX_STREAMED, ResponseStream

_PREFIX = b"/2018-06-01/runtime/"
_NEXT = _PREFIX + b"invocation/next"
_INVOCATION = _PREFIX + b"invocation/"
_MODE = b"lambda-runtime-function-response-mode"
_INIT_ERROR, _RESTORE_ERROR = _PREFIX + b"init/error", _PREFIX + b"restore/error"

#: AWS: a buffered response may have 6 MB and 100 bytes.
MAX_RESPONSE = 6_291_556
_MAX_HEADERS = 64 * 1024


@dataclass(slots=True)
class Answer:
    """Status and JSON body for the runtime client; `head`: more header lines, each ended by CRLF."""

    status: int
    body: bytes = b'{"status":"OK"}\n'
    head: bytes = b""


ACCEPTED = Answer(202)


def refusal(status: int, error_type: str, message: str) -> Answer:
    """The Runtime API's error form."""
    return Answer(status, json.dumps({"errorMessage": message, "errorType": error_type}).encode())


TOO_LARGE = refusal(
    413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
)


@dataclass(slots=True)
class Posted:
    """What a runtime posted. `too_large`: the body went over `MAX_RESPONSE` and was thrown away.
    `headers` by lower-case name, trailers included. `streamed`: the body went its own way, as it came, and
    `too_large` is of `MAX_STREAMED`."""

    body: bytes
    headers: dict[bytes, bytes] = field(default_factory=dict)
    too_large: bool = False
    streamed: bool = False


def next_head(invocation: Invocation, deadline_ms: int) -> bytes:
    """The header lines of an answer to `next`."""
    head = (
        f"lambda-runtime-aws-request-id: {invocation.request_id}\r\n"
        f"lambda-runtime-deadline-ms: {deadline_ms}\r\n"
        f"lambda-runtime-invoked-function-arn: {invocation.invoked_arn}\r\n"
        f"lambda-runtime-trace-id: {invocation.trace_id}\r\n"
    ).encode()
    if invocation.client_context is not None:
        head += b"lambda-runtime-client-context: %b\r\n" % invocation.client_context
    if invocation.cognito_identity is not None:
        head += b"lambda-runtime-cognito-identity: %b\r\n" % invocation.cognito_identity
    return head


class Waiting(Protocol):
    """A runtime that waits in `next`."""

    def give(self, head: bytes, payload: bytes) -> None:
        """Answers `next`: `head` are the header lines after the status line, each ended by CRLF."""


class RuntimeCalls(Protocol):
    """What an environment does with its runtime's calls."""

    def next_called(self, waiting: Waiting) -> Answer | None:
        """None: the call waits. An Answer refuses it."""

    def response_begun(self, request_id: str, headers: Mapping[bytes, bytes]) -> ResponseStream | None:
        """A response in the streaming mode begins: where its bytes go as they come. None: they are collected
        for `response_posted`, as those of any other."""

    def response_posted(self, request_id: str, posted: Posted) -> Answer: ...

    def response_broken(self, request_id: str) -> None:
        """A runtime hung up in the middle of a response that it streamed."""

    def error_posted(self, request_id: str, posted: Posted) -> Answer: ...

    def init_error_posted(self, posted: Posted) -> Answer:
        """Init failed, or the restore did."""

    def other_called(
        self, method: str, path: str, posted: Posted, waiting: "RuntimeConnection"
    ) -> Answer | None:
        """A call of another API on the same address. None: it waits."""

    def broken(self, failure: Exception) -> None:
        """One of the calls above raised: the platform's fault, not the client's."""

    def hung_up(self, waiting: "RuntimeConnection") -> None:
        """A connection ended."""


_REASONS = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Payload Too Large",
    500: b"Internal Server Error",
}


class Budget:
    """What the connections of one environment may hold in the server's memory, together: what a function sends
    must never cost other functions anything. Bytes."""

    __slots__ = ("left",)

    def __init__(self, size: int = 2 * MAX_RESPONSE) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True


class RuntimeConnection(asyncio.Protocol):
    """One connection of a runtime client, or of whatever else the function's code makes."""

    def __init__(self, calls: RuntimeCalls, budget: Budget, greeting: Answer | None = None) -> None:
        self._calls = calls
        self._greeting = greeting  # the answer to what was asked before this connection was made
        self._budget = budget
        self._held = 0
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._unfinished = 0
        self._advanced = False
        self._stream: ResponseStream | None = None
        self._held_back = self._choked = False
        self._reset()

    def _reset(self) -> None:
        self._budget.left += self._held
        self._held = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if self._greeting is not None:
            self._send(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        stream, self._stream = self._stream, None
        if stream is not None:
            self._calls.response_broken(self._invocation()[0])
        self._reset()
        self._calls.hung_up(self)

    def pause_writing(self) -> None:
        # A runtime that reads no answers is asked no more questions, or they would pile up here.
        self._choked = True
        self._listen(False)

    def resume_writing(self) -> None:
        self._choked = False
        self._listen(not self._held_back)

    def _reader_has_room(self) -> None:
        self._held_back = False
        self._listen(not self._choked)

    def _listen(self, on: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._advanced = False
        try:
            self._parser.feed_data(data)
            # The parser keeps an unfinished header whatever its length, and so do we the path.
            self._unfinished = 0 if self._advanced else self._unfinished + len(data)
            if self._unfinished > _MAX_HEADERS:
                raise httptools.HttpParserError("a path or header is too long")
        except httptools.HttpParserCallbackError as failure:
            cause = failure.__context__
            self._calls.broken(cause if isinstance(cause, Exception) else failure)
        except httptools.HttpParserError as failure:
            self._send(refusal(400, "InvalidRequest", f"The request is not HTTP: {failure}"))
            if self._transport is not None:
                self._transport.close()

    # httptools calls these

    def on_message_begin(self) -> None:
        self._reset()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._advanced = True
        # Of a dozen headers a client sends, those that say something begin with Lambda- or Content-, or are
        # Expect.
        if name[:1] in b"LlEeCc" and self._header_bytes <= _MAX_HEADERS:
            self._header_bytes += len(name) + len(value)
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._advanced = True
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if _MODE in self._headers and self._parser.get_method() == b"POST":
            request_id, what = self._invocation()
            if what == "response":
                self._stream = self._calls.response_begun(request_id, self._headers)

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        self._size += len(body)
        if self._stream is not None:
            if self._size <= MAX_STREAMED and not self._stream.write(body):
                self._stream.room = self._reader_has_room
                self._held_back = True
                self._listen(False)
        elif self._size <= MAX_RESPONSE and self._budget.take(len(body)):
            self._held += len(body)
            self._body.append(body)
        else:
            self._size = MAX_RESPONSE + 1
            self._body.clear()
            self._budget.left += self._held
            self._held = 0

    def on_message_complete(self) -> None:
        self._advanced = True
        method, path = self._parser.get_method(), self._url.partition(b"?")[0]
        if path == _NEXT and method == b"GET":
            answer = self._calls.next_called(self)
            if answer is None:
                return
        elif method == b"POST" and path.startswith(_PREFIX):
            answer = self._post(path)
        else:
            posted = Posted(b"".join(self._body), self._headers, too_large=self._size > MAX_RESPONSE)
            answer = self._calls.other_called(method.decode(), path.decode("latin-1"), posted, self)
            if answer is None:
                return
        self._send(answer)

    def _post(self, path: bytes) -> Answer:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        stream, self._stream = self._stream, None
        most = MAX_STREAMED if stream is not None else MAX_RESPONSE
        posted = Posted(body, self._headers, too_large=self._size > most, streamed=stream is not None)
        if path in (_INIT_ERROR, _RESTORE_ERROR):
            return self._calls.init_error_posted(posted)
        request_id, what = self._invocation()
        if what == "response":
            return self._calls.response_posted(request_id, posted)
        if what == "error":
            return self._calls.error_posted(request_id, posted)
        return refusal(404, "NotFound", f"There is no POST {path.decode('latin-1')}.")

    def _invocation(self) -> tuple[str, str]:
        """(the request id in the path, what is posted about it), or two empty texts."""
        path = self._url.partition(b"?")[0]
        if not path.startswith(_INVOCATION):
            return "", ""
        request_id, _, what = path[len(_INVOCATION) :].decode("latin-1").partition("/")
        return request_id, what

    def give(self, head: bytes, payload: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n%b\r\n%b" % (len(payload), head, payload)
            )

    def _send(self, answer: Answer) -> None:
        # The runtime may be gone by now (killed, or it hung up); that is found by its exit, not here.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
                % (answer.status, _REASONS[answer.status], len(answer.body), answer.head, answer.body)
            )

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.abort()
