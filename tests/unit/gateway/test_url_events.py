import base64
import json
from typing import Any

import pytest

from lambent.gateway import url_cors, url_events
from lambent.gateway.url_events import Malformed, Prelude, Request
from lambent.gateway.url_names import Asked, address_of, asked_of
from lambent.kernel.models import Cors
from lambent.kernel.settings import Settings

ID = "a" * 32


def request(body: bytes = b"", *headers: tuple[bytes, bytes], query: str = "") -> Request:
    return Request("POST", "/a%20b", query, headers, body, "203.0.113.5", "http", 9000, "HTTP/1.1")


def event(asked: Request) -> Any:
    return url_events.event(asked, url_id=ID, request_id="r-1", trace_id="Root=1", now=1769860800.25)


def test_an_event_has_all_of_a_request() -> None:
    made = event(
        request(
            b'{"a": 1}',
            (b"host", b"abc.lambda-url.us-east-1.localhost:9000"),
            (b"Content-Type", b"application/json; charset=utf-8"),
            (b"x-more", b"1"),
            (b"x-more", b"2"),
            (b"cookie", b"a=b; c=d"),
            (b"user-agent", b"curl/8"),
            query="a=1&a=2&b=x%20y&c=",
        )
    )
    assert made == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b",
        "rawQueryString": "a=1&a=2&b=x%20y&c=",
        "cookies": ["a=b", "c=d"],
        "headers": {
            "host": "abc.lambda-url.us-east-1.localhost:9000",
            "content-type": "application/json; charset=utf-8",
            "x-more": "1,2",
            "user-agent": "curl/8",
            "x-forwarded-for": "203.0.113.5",
            "x-forwarded-proto": "http",
            "x-forwarded-port": "9000",
            "x-amzn-trace-id": "Root=1",
        },
        "queryStringParameters": {"a": "1,2", "b": "x y", "c": ""},
        "requestContext": {
            "authentication": None,
            "accountId": "anonymous",
            "apiId": ID,
            "domainName": "abc.lambda-url.us-east-1.localhost:9000",
            "domainPrefix": ID,
            "http": {
                "method": "POST",
                "path": "/a%20b",
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.5",
                "userAgent": "curl/8",
            },
            "requestId": "r-1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "31/Jan/2026:12:00:00 +0000",
            "timeEpoch": 1769860800250,
        },
        "body": '{"a": 1}',
        "isBase64Encoded": False,
    }


def test_an_event_of_little_has_no_empty_members() -> None:
    made = event(request())
    assert not {"cookies", "queryStringParameters", "body"} & made.keys()
    assert made["isBase64Encoded"] is False


@pytest.mark.parametrize(
    "content_type, body, encoded",
    [
        (b"text/plain", b"a", False),
        (b"application/vnd.api+json", b"{}", False),
        (b"application/octet-stream", b"a", True),
        (b"application/x-www-form-urlencoded", b"a=b", True),
        (b"image/png", b"a", True),
        (b"text/plain", b"\xff", True),
        (b"", b"a", False),
    ],
)
def test_what_is_no_text_goes_as_base64(content_type: bytes, body: bytes, encoded: bool) -> None:
    made = event(request(body, (b"content-type", content_type)))
    assert made["isBase64Encoded"] is encoded
    assert made["body"].encode() == (base64.b64encode(body) if encoded else body)


@pytest.mark.parametrize(
    "returned, status, headers, body",
    [
        ({"a": 1}, 200, [(b"content-type", b"application/json")], b'{"a": 1}'),
        ("text", 200, [(b"content-type", b"application/json")], b'"text"'),
        (None, 200, [(b"content-type", b"application/json")], b"null"),
        ({"statusCode": 204}, 204, [(b"content-type", b"application/json")], b""),
        ({"statusCode": "201", "body": "x"}, 201, [(b"content-type", b"application/json")], b"x"),
        (
            {"statusCode": 200, "headers": {"Content-Type": "text/html", "X-N": 1, "X-B": True}, "body": "ä"},
            200,
            [(b"content-type", b"text/html"), (b"x-n", b"1"), (b"x-b", b"true")],
            "ä".encode(),
        ),
        (
            {"statusCode": 200, "cookies": ["a=b", "c=d; Secure"], "body": {"c": 1}},
            200,
            [
                (b"content-type", b"application/json"),
                (b"set-cookie", b"a=b"),
                (b"set-cookie", b"c=d; Secure"),
            ],
            b'{"c": 1}',
        ),
        (
            {"statusCode": 200, "body": "/w==", "isBase64Encoded": True, "headers": {"content-length": "9"}},
            200,
            [(b"content-type", b"application/json")],
            b"\xff",
        ),
    ],
)
def test_what_a_function_returns_is_an_answer(
    returned: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    made = url_events.answer(json.dumps(returned).encode())
    assert (made.status, made.headers, made.body) == (status, headers, body)


@pytest.mark.parametrize(
    "returned",
    [
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": "abc"},
        {"statusCode": True},
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"a": "b\r\nset-cookie: c"}},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "headers": {"a": "\ud800"}},
        {"statusCode": 200, "cookies": ["a\nb"]},
        {"statusCode": 200, "cookies": "a"},
        {"statusCode": 200, "body": "ä", "isBase64Encoded": True},
        {"statusCode": 200, "body": "\ud800"},
    ],
)
def test_what_http_cannot_say_is_malformed(returned: Any) -> None:
    with pytest.raises(Malformed):
        url_events.answer(json.dumps(returned).encode())


@pytest.mark.parametrize("payload", [b"", b"{", b"[" * 100_000])
def test_what_is_no_json_is_malformed(payload: bytes) -> None:
    with pytest.raises(Malformed):
        url_events.answer(payload)


def test_a_prelude_is_read_whatever_its_pieces() -> None:
    whole = b'{"statusCode": 201, "headers": {"x-a": "b"}, "cookies": ["c=d"]}' + bytes(8) + b"\0rest"
    for size in (1, 7, len(whole)):
        prelude = Prelude()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        found = None
        rest = b""
        for piece in pieces:
            if found is None:
                found = prelude.feed(piece)
                rest = found[1] if found is not None else b""
            else:
                rest += piece
        assert found is not None
        assert found[0].status == 201
        assert (b"x-a", b"b") in found[0].headers and (b"set-cookie", b"c=d") in found[0].headers
        assert rest == b"\0rest"


@pytest.mark.parametrize(
    "data", [b"x" * 70_000, b"no json" + bytes(8), b"[1]" + bytes(8), b'{"statusCode": 9}' + bytes(8)]
)
def test_a_prelude_that_is_none_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Prelude().feed(data)


def test_a_host_or_a_path_names_a_url() -> None:
    host = (b"host", f"{ID}.lambda-url.us-east-1.localhost:9000".encode())
    assert asked_of(b"/a", [(b"x", b"y"), host]) == Asked(ID, b"/a")
    assert asked_of(f"/_lambent/url/{ID}/a/b".encode(), []) == Asked(ID, b"/a/b")
    assert asked_of(f"/_lambent/url/{ID}".encode(), []) == Asked(ID, b"/")
    assert asked_of(f"/_lambent/url/{'b' * 32}/".encode(), [host]) == Asked(
        ID, f"/_lambent/url/{'b' * 32}/".encode()
    )
    upper = (b"host", f"{ID}.LAMBDA-URL.us-east-1.localhost".upper().encode())
    assert asked_of(b"/a", [upper]) == Asked(ID, b"/a")
    for other in (b"127.0.0.1:9000", b"lambda-url.localhost", ID.encode(), b""):
        assert asked_of(b"/", [(b"host", other)]) is None


@pytest.mark.parametrize(
    "base, url_base, expected",
    [
        ("http://127.0.0.1:9000", None, f"http://{ID}.lambda-url.us-east-1.localhost:9000/"),
        ("http://localhost", None, f"http://{ID}.lambda-url.us-east-1.localhost/"),
        ("http://[::1]:9000", None, f"http://{ID}.lambda-url.us-east-1.localhost:9000/"),
        ("http://10.0.0.5:9000", None, f"http://10.0.0.5:9000/_lambent/url/{ID}/"),
        (
            "http://10.0.0.5:9000",
            "https://x.example:8443",
            f"https://{ID}.lambda-url.us-east-1.x.example:8443/",
        ),
    ],
)
def test_the_address_of_a_url(base: str, url_base: str | None, expected: str) -> None:
    assert address_of(ID, Settings(url_base=url_base), base) == expected


CORS = Cors(True, ("x-one", "x-two"), ("GET", "PUT"), ("https://a.example",), ("x-three",), 60)
ORIGIN = (b"origin", b"https://a.example")
ASKS = (b"access-control-request-method", b"PUT")


def test_a_preflight_is_answered_for_an_origin_that_is_allowed() -> None:
    assert url_cors.preflight(CORS, "OPTIONS", [ORIGIN, ASKS]) == [
        (b"access-control-allow-origin", b"https://a.example"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"GET,PUT"),
        (b"access-control-allow-headers", b"x-one,x-two"),
        (b"access-control-max-age", b"60"),
    ]
    assert url_cors.preflight(CORS, "OPTIONS", [(b"origin", b"https://b.example"), ASKS]) == []
    for method, headers in (("GET", [ORIGIN, ASKS]), ("OPTIONS", [ORIGIN]), ("OPTIONS", [ASKS])):
        assert url_cors.preflight(CORS, method, headers) is None


def test_the_configurations_headers_take_the_place_of_the_functions() -> None:
    own = [(b"access-control-allow-origin", b"https://evil.example"), (b"x", b"y")]
    assert url_cors.added(CORS, [ORIGIN], own) == [
        (b"x", b"y"),
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", b"https://a.example"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"x-three"),
    ]
    assert url_cors.added(CORS, [], own) == [(b"x", b"y")]


@pytest.mark.parametrize("credentials, told", [(None, b"*"), (True, b"https://a.example")])
def test_every_origin_may_be_allowed(credentials: bool | None, told: bytes) -> None:
    made = url_cors.added(Cors(allow_credentials=credentials, allow_origins=("*",)), [ORIGIN], [])
    assert (b"access-control-allow-origin", told) in made
