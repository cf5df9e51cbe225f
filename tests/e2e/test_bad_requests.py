"""Requests that no client of AWS's would send: what is no HTTP, no operation, no JSON, or has no end."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from refusals import INVOKE, raw
from running import ROLE, RUNTIME, Server, request

pytestmark = pytest.mark.usefixtures("unharmed")


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/2015-03-31/functions/{}/policy", "AddPermission"),
        ("GET", "/2015-03-31/functions/{}/policy", "GetPolicy"),
        ("GET", "/2015-03-31/event-source-mappings", "ListEventSourceMappings"),
        ("GET", "/2021-07-20/functions/{}/runtime-management-config", "GetRuntimeManagementConfig"),
    ],
)
def test_what_is_in_the_model_and_not_built_is_named(
    server: Server, canary: str, method: str, path: str, operation: str
) -> None:
    status, _, said = raw(server, method, path.format(canary), b"{}" if method == "POST" else None)
    assert status == 501
    assert said.startswith(f"{operation} is in AWS's Lambda API and not built in Lambent yet."), said


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/favicon.ico"),
        ("PATCH", "/2015-03-31/functions/x"),
        ("GET", "/2015-03-31/functions/../../etc/passwd"),
        ("POST", "/2014-11-13/nothing"),
        ("OPTIONS", "/2015-03-31/functions"),
        ("GET", "/_lambent/nothing"),
    ],
)
def test_a_path_that_is_none(server: Server, method: str, path: str) -> None:
    status, code, _ = raw(server, method, path)
    assert (status, code) == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b"[]", b'"text"', b"\xff\xfe", b"\x00", b'{"FunctionName":"a"}x', b'{"a":' * 50_000],
    ids=["open", "words", "list", "string", "no UTF-8", "zero", "more behind", "deep"],
)
def test_a_body_that_is_no_json_object(server: Server, body: bytes) -> None:
    status, code, said = raw(server, "POST", "/2015-03-31/functions", body)
    assert (status, code) == (400, "SerializationException")
    assert len(said) < 500


@pytest.mark.parametrize(
    "members",
    [
        {"Timeout": "soon"},
        {"Timeout": 1.5},
        {"Timeout": True},
        {"FunctionName": 7},
        {"Code": []},
        {"Code": {"ZipFile": 7}},
        {"Code": {"ZipFile": "no base64!"}},
        {"Layers": "one"},
        {"Environment": {"Variables": {"AB": 1}}},
        {"Environment": {"Variables": ["AB"]}},
    ],
    ids=str,
)
def test_a_member_of_the_wrong_type(server: Server, members: dict[str, Any]) -> None:
    body = {"FunctionName": "bad-one", "Role": ROLE, "Runtime": RUNTIME, "Handler": "a.b", **members}
    status, code, _ = raw(server, "POST", "/2015-03-31/functions", json.dumps(body))
    assert (status, code) == (400, "SerializationException")


@pytest.mark.parametrize("wait", ["%C2%B2", "-1", "1e3", ".", "", "9" * 5000])
def test_seconds_that_are_none(server: Server, canary: str, wait: str) -> None:
    status, code, _ = raw(server, "GET", f"/_lambent/logs?function={canary}&wait={wait}")
    assert (status, code) == (400, "InvalidParameterValueException")


@pytest.mark.parametrize("expires", ["", "soon", "%C2%B2", "9" * 5000, "9999999999"])
@pytest.mark.parametrize("signature", ["", "00", "%C3%A4"])
def test_a_download_link_that_is_none(server: Server, expires: str, signature: str) -> None:
    path = f"/_lambent/code/{'a' * 64}?expires={expires}&signature={signature}"
    status, code, _ = raw(server, "GET", path)
    assert (status, code) == (403, "AccessDeniedException")


@pytest.mark.parametrize(
    "query",
    ["MaxItems=x", "MaxItems=0", "MaxItems=10001", "MaxItems=" + "9" * 5000, "Marker=garbage", "Marker=%00"],
)
def test_a_page_that_is_none(server: Server, query: str) -> None:
    status, code, _ = raw(server, "GET", f"/2015-03-31/functions?{query}")
    assert status == 400
    assert code in ("SerializationException", "ValidationException", "InvalidParameterValueException")


@pytest.mark.parametrize("name", ["%00", "%ff", "a%zz", "a%0d%0ab", "x" * 200, "%2e%2e"])
def test_a_name_that_is_none(server: Server, name: str) -> None:
    """Refused by its form, or not found; AWS's pattern lets dots pass."""
    assert raw(server, "POST", INVOKE.format(name), b"1")[:2] in (
        (400, "ValidationException"),
        (404, "ResourceNotFoundException"),
    )


def test_a_package_beyond_the_http_limit_is_refused_before_it_is_read(server: Server) -> None:
    head = b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70167212\r\n\r\n"
    status, answer = sent_raw(server, head)
    assert status.startswith(b"HTTP/1.1 413 "), status
    assert b"x-amzn-errortype: RequestEntityTooLargeException" in answer
    assert b'"Request must be smaller than 70167211 bytes for the CreateFunction operation"' in answer


def sent_raw(server: Server, *parts: bytes) -> tuple[bytes, bytes]:
    """The first line and the rest of what comes back until the server closes, or has nothing more to say."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        for part in parts:
            caller.sendall(part)
        caller.shutdown(socket.SHUT_WR)
        answer = b""
        while more := caller.recv(65536):
            answer += more
    return answer.partition(b"\r\n")[0], answer


TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large"
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "path": (b"GET /", b"x" * 65_536),
    "header": (HEAD + b"X-Endless: ", b"x" * 65_536),
    "header name": (HEAD, b"x" * 65_536),
    "headers": (HEAD, b"X-Many: %s\r\n" % (b"x" * 1000) * 66),
    "trailers": (
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"X-Many: %s\r\n" % (b"x" * 1000) * 66,
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_head_without_end_is_refused(server: Server, what: str) -> None:
    begin, block = ENDLESS[what]
    status, answer = sent_raw(server, begin, block, block)
    assert status == TOO_LARGE, answer
    assert b"larger than 65536 bytes together" in answer and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("what", ENDLESS)
def test_a_head_without_end_takes_no_memory(server: Server, what: str) -> None:
    """The server may hang up, or read on and forget."""
    begin, block = ENDLESS[what]
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = peak_mb(server)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(begin)
        with contextlib.suppress(ConnectionError):
            for _ in range((64 << 20) // len(block)):
                caller.sendall(block)
    assert peak_mb(server) - before < 16


def peak_mb(server: Server) -> float:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def test_heads_up_to_the_limit_are_served(server: Server) -> None:
    many = {f"X-Header-{at}": "x" * 4000 for at in range(15)}
    assert request(server, "GET", "/healthz", None, many)[0] == 200
    assert request(server, "GET", "/2015-03-31/functions/" + "x" * 60_000)[0] == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a plain port
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\n{}",
        b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    ],
)
def test_what_is_no_http_is_hung_up_on(server: Server, sent: bytes) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(sent)
        answer = caller.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert b"Traceback" not in answer
