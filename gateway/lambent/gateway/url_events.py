"""HTTP to a function URL's event and back, as pure functions. AWS: payload format version 2.0, "Request and
response payloads" of function URLs."""

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

Headers = Sequence[tuple[bytes, bytes]]

STREAMED_HTTP = "application/vnd.awslambda.http-integration-response"
PRELUDE_END = b"\0" * 8
MAX_PRELUDE = 64 * 1024
_TEXT = re.compile(r"text/.*|application/(json|xml|javascript|.*\+json|.*\+xml)")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Of the connection, and the server's own to say.
_NOT_THE_FUNCTIONS = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "date",
        "server",
        "x-amzn-requestid",
        "x-amzn-trace-id",
    }
)


class Malformed(Exception):
    """The function's response is none that HTTP can say: 502 on AWS."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came. `path` as it was sent; `peer`: the client's address; `scheme`, `port`: of the listener."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    peer: str
    scheme: str
    port: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; headers by lower-case name, without a length."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""


def event(request: Request, *, url_id: str, request_id: str, trace_id: str, now: float) -> dict[str, Any]:
    """The function's event. `now`: seconds since the epoch."""
    headers, cookies = _headers(request)
    headers.setdefault("x-amzn-trace-id", trace_id)
    domain = headers.get("host", "")
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    if cookies:
        made["cookies"] = cookies
    made["headers"] = headers
    if request.query:
        made["queryStringParameters"] = _query(request.query)
    made["requestContext"] = {
        "accountId": "anonymous",
        "apiId": url_id,
        "authentication": None,
        "domainName": domain,
        "domainPrefix": url_id,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "sourceIp": request.peer,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "timeEpoch": int(now * 1000),
    }
    text = _text(request.body, headers.get("content-type", ""))
    if text is None:
        made["body"] = base64.b64encode(request.body).decode()
    elif text:
        made["body"] = text
    made["isBase64Encoded"] = text is None
    return made


def _headers(request: Request) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    cookies: list[str] = []
    for raw_name, raw in request.headers:
        name, value = raw_name.decode("latin-1").lower(), _decoded(raw)
        if name == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";") if cookie.strip()]
        else:
            found[name] = f"{found[name]},{value}" if name in found else value
    before = found.get("x-forwarded-for")
    found["x-forwarded-for"] = f"{before}, {request.peer}" if before else request.peer
    found.setdefault("x-forwarded-proto", request.scheme)
    found.setdefault("x-forwarded-port", str(request.port))
    return found, cookies


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _text(body: bytes, content_type: str) -> str | None:
    """The body as text; None: it goes as base64."""
    kind = content_type.partition(";")[0].strip().lower()
    if body and kind and _TEXT.fullmatch(kind) is None:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def answer(payload: bytes) -> Answer:
    """Of what a function returned whole. Raises Malformed."""
    try:
        returned = json.loads(payload)
    except (ValueError, RecursionError):
        raise Malformed("The function's response is not JSON.") from None
    if not isinstance(returned, dict) or "statusCode" not in returned:
        return Answer(200, [(b"content-type", b"application/json")], payload)
    made = head(returned)
    return Answer(made.status, made.headers, _body(returned))


def head(returned: Mapping[str, Any]) -> Answer:
    """Status and headers of a response object, or of a stream's prelude. Raises Malformed."""
    status = returned.get("statusCode", 200)
    if isinstance(status, str) and status.isdecimal() and len(status) == 3:
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise Malformed(f"{status!r} is no statusCode.")
    given, cookies = returned.get("headers"), returned.get("cookies")
    headers: Any = {} if given is None else given
    cookies = [] if cookies is None else cookies
    if not isinstance(headers, dict) or not isinstance(cookies, list):
        raise Malformed("headers must be an object and cookies a list.")
    made = [_line(name, value) for name, value in headers.items() if name.lower() not in _NOT_THE_FUNCTIONS]
    if not any(name == b"content-type" for name, _ in made):
        made.append((b"content-type", b"application/json"))
    made += [_line("set-cookie", cookie) for cookie in cookies]
    return Answer(status, made)


def _line(name: str, value: Any) -> tuple[bytes, bytes]:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str) or _NAME.fullmatch(name) is None or any(c in value for c in "\r\n\0"):
        raise Malformed(f"The header {name[:100]!r} cannot be sent.")
    try:
        return name.lower().encode("ascii"), value.encode()
    except UnicodeEncodeError:
        raise Malformed(f"The header {name[:100]!r} cannot be sent.") from None


def _body(returned: Mapping[str, Any]) -> bytes:
    body = returned.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        return json.dumps(body).encode()
    try:
        return base64.b64decode(body, validate=True) if returned.get("isBase64Encoded") else body.encode()
    except (binascii.Error, ValueError):
        raise Malformed("The body cannot be sent: it is not base64, or not Unicode.") from None


class Prelude:
    """Reads the JSON before the body of a streamed HTTP response."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> tuple[Answer, bytes] | None:
        """Status and headers with the first of the body, once they are whole. Raises Malformed."""
        self._data += data
        text, end, rest = self._data.partition(PRELUDE_END)
        if not end:
            if len(self._data) > MAX_PRELUDE:
                raise Malformed(f"The response has no end of its prelude within {MAX_PRELUDE} bytes.")
            return None
        try:
            returned = json.loads(text)
        except (ValueError, RecursionError):
            raise Malformed("The prelude of the response is not JSON.") from None
        if not isinstance(returned, dict):
            raise Malformed("The prelude of the response is no object.")
        return head(returned), rest
