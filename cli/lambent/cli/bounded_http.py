"""uvicorn's HTTP with a bound on what comes before a body: it keeps a request line and headers of any length,
so that one connection, a function's too, could take the server's memory.
"""

import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 65_536
# The client may still be sending: closed at once, the connection would be reset and the answer be lost.
_LINGER_SECONDS = 1.0
_BODY = json.dumps(
    {
        "Type": "User",
        "message": f"The request line and the headers are larger than {MAX_HEAD} bytes together. Send fewer.",
    }
).encode()
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"x-amzn-errortype: RequestHeaderFieldsTooLargeException\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class BoundedHttp(HttpToolsProtocol):
    """Refuses with 431 what has more than MAX_HEAD bytes of head, or of trailers."""

    _head = 0  # bytes of the request line and of whole headers
    _pending = 0  # bytes since the parser last came to the end of something: an endless header is one of these
    _refused = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_HEAD and not self._refused and not self.transport.is_closing():
            self._refuse()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        self._refused = True
        self.transport.write(_REFUSAL)
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _count(self, more: int) -> None:
        self._head += more
        if self._head > MAX_HEAD and not self._refused:
            self._refuse()
        if self._refused:
            raise ValueError("the head is too large")  # ends the parsing

    # ---- the parser's callbacks -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._pending = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending = 0
        super().on_message_complete()
