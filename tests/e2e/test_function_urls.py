"""Function URLs as their callers have them: a browser, curl, anybody."""

import base64
import http.client
import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from commands import Command
from residue import settle
from running import Functions, Server, request
from streamers import streamer
from support import require

CODE = """
import base64, os, time

def handler(event, context):
    body = event.get("body")
    if event["rawPath"] == "/return":
        import json
        return json.loads(body)
    if event["rawPath"] == "/fail":
        raise ValueError("no")
    if event["rawPath"] == "/sleep":
        time.sleep(30)
    if event["rawPath"] == "/which":
        return {"version": context.function_version, "arn": context.invoked_function_arn}
    if event["rawPath"] == "/binary":
        data = base64.b64decode(body)
        return {"statusCode": 201, "headers": {"content-type": "image/png"}, "cookies": ["a=b", "c=d"],
                "body": base64.b64encode(data[::-1]).decode(), "isBase64Encoded": True}
    return event
"""


class Url:
    """One function URL."""

    def __init__(self, functions: Functions, name: str, **members: Any) -> None:
        made = functions.aws.create_function_url_config(FunctionName=name, AuthType="NONE", **members)
        self.address: str = made["FunctionUrl"]
        self.host = urlsplit(self.address).netloc
        self.id = self.host.partition(".")[0]
        self.server = functions.server

    def ask(
        self,
        method: str = "GET",
        path: str = "/",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """By the server's address, as a client whose resolver knows *.localhost would."""
        return request(self.server, method, path, body, {"Host": self.host, **(headers or {})})

    def returned(self, value: Any) -> tuple[int, dict[str, str], bytes]:
        return self.ask("POST", "/return", json.dumps(value).encode(), {"content-type": "application/json"})


@pytest.fixture(scope="module")
def url(functions: Functions) -> Url:
    return Url(functions, functions.create(CODE, Timeout=2))


def test_a_request_is_an_event_and_its_result_the_answer(url: Url) -> None:
    status, headers, body = url.ask("GET", "/a%20b?x=1&x=2", headers={"Cookie": "k=v", "X-Own": "mine"})
    event = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/a%20b", "x=1&x=2")
    assert (event["cookies"], event["queryStringParameters"]) == (["k=v"], {"x": "1,2"})
    assert event["headers"]["x-own"] == "mine"
    context = event["requestContext"]
    assert (context["apiId"], context["domainName"]) == (url.id, url.host)
    assert context["requestId"] == headers["x-amzn-requestid"]
    assert context["http"]["sourceIp"] == "127.0.0.1"
    assert "x-amzn-trace-id" in headers


def test_curl_calls_it_as_it_is(url: Url) -> None:
    require("curl", shutil.which("curl"), "apt-get install curl")
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--fail",
            "-d",
            '{"statusCode": 200, "body": "hello"}',
            "-H",
            "content-type: text/plain",
        ]
        + [f"{url.address}return"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"hello"


def test_deploy_gives_a_function_its_url(server: Server, tmp_path: Path) -> None:
    lambent = Command(tmp_path, LAMBENT_ENDPOINT=server.url)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("def handler(event, context):\n    return event['rawPath']\n")
    name = f"url-{uuid.uuid4().hex[:12]}"
    said = [lambent("deploy", str(tmp_path / "code"), "--name", name, "--url").out for _ in range(2)]
    urls = [line.removeprefix("URL: ") for out in said for line in out.splitlines() if line.startswith("URL: ")]
    listed = lambent("functions", "--urls").out
    assert any(name in line and "BUFFERED" in line for line in listed.splitlines()), listed
    assert len(urls) == 2 and urls[0] == urls[1], "the one that it has is kept"
    status, _, body = request(server, "GET", "/there", headers={"Host": urlsplit(urls[0]).netloc})
    assert (status, body) == (200, b'"/there"')
    server.client().delete_function(FunctionName=name)


def test_a_path_of_the_server_reaches_it_too(url: Url) -> None:
    status, _, body = request(url.server, "GET", f"/_lambent/url/{url.id}/deep/er?q=1")
    assert (status, json.loads(body)["rawPath"]) == (200, "/deep/er")


def test_bytes_go_in_and_out_and_cookies_are_set(url: Url) -> None:
    data = bytes(range(256))
    connection = http.client.HTTPConnection(url.server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request("PUT", "/binary", data, {"Host": url.host, "content-type": "image/png"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (201, data[::-1])
        assert answer.headers.get_all("set-cookie") == ["a=b", "c=d"]
        assert answer.headers["content-type"] == "image/png"
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_reaches_the_function(url: Url, method: str) -> None:
    status, _, body = url.ask(method)
    assert status == 200
    if method == "HEAD":
        assert body == b""
    else:
        assert json.loads(body)["requestContext"]["http"]["method"] == method


@pytest.mark.parametrize(
    "returned, status, body",
    [
        ("text", 200, b'"text"'),
        ({"statusCode": 204, "body": "none"}, 204, b""),
        ({"statusCode": 304}, 304, b""),
        ({"statusCode": 404, "body": "no such thing"}, 404, b"no such thing"),
        ({"statusCode": 1000}, 502, b"Internal Server Error"),
        ({"statusCode": 200, "headers": {"a": "b\r\nc: d"}}, 502, b"Internal Server Error"),
    ],
)
def test_answers_are_as_on_aws(url: Url, returned: Any, status: int, body: bytes) -> None:
    assert url.returned(returned)[::2] == (status, body)
    assert url.ask()[0] == 200


@pytest.mark.parametrize("path", ["/fail", "/sleep"])
def test_a_function_that_fails_is_a_502(url: Url, path: str, unharmed: None) -> None:
    status, headers, body = url.ask("POST", path)
    assert (status, body) == (502, b"Internal Server Error")
    assert headers["x-amzn-errortype"] == "InternalServerErrorException"


def test_a_throttle_is_a_429(functions: Functions) -> None:
    name = functions.create(CODE)
    throttled = Url(functions, name)
    functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert throttled.ask()[0] == 429


def test_a_request_over_6_mb_is_a_413(url: Url) -> None:
    assert url.ask("POST", "/", b"x" * 6_291_457)[0] == 413
    assert url.ask("POST", "/", b"x" * 6_291_400)[0] == 413, "the event would be over 6 MB"


def test_text_of_other_alphabets_may_be_as_long(url: Url) -> None:
    body = "\u043f".encode() * 1_500_000  # 3 MB
    status, _, answer = url.ask("POST", "/which", body, {"content-type": "text/plain"})
    assert status == 200, answer[:200]


def test_an_alias_has_a_url_of_its_own(functions: Functions) -> None:
    name = functions.create(CODE)
    functions.aws.publish_version(FunctionName=name)
    functions.aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    plain, live = Url(functions, name), Url(functions, name, Qualifier="live")
    assert plain.id != live.id
    assert json.loads(plain.ask(path="/which")[2])["version"] == "$LATEST"
    which = json.loads(live.ask(path="/which")[2])
    assert which["version"] == "1" and which["arn"].endswith(f":{name}:live")
    for qualifier in ("$LATEST", "1"):
        with pytest.raises(ClientError, match="ValidationException"):
            Url(functions, name, Qualifier=qualifier)


def test_a_url_that_is_deleted_answers_nothing_more(functions: Functions) -> None:
    name = functions.create(CODE)
    first = Url(functions, name)
    assert first.ask()[0] == 200
    functions.aws.delete_function_url_config(FunctionName=name)
    assert first.ask()[::2] == (404, b'{"Message":null}')
    second = Url(functions, name)
    assert second.id != first.id
    assert second.ask()[0] == 200
    functions.aws.delete_function(FunctionName=name)
    assert second.ask()[0] == 404
    assert request(functions.server, "GET", "/_lambent/url/nobody/")[0] == 404


def test_cors_is_answered_by_its_configuration(functions: Functions) -> None:
    cors = {
        "AllowCredentials": True,
        "AllowHeaders": ["x-own"],
        "AllowMethods": ["PUT"],
        "AllowOrigins": ["https://page.example"],
        "ExposeHeaders": ["x-theirs"],
        "MaxAge": 300,
    }
    made = Url(functions, functions.create(CODE), Cors=cors)
    page = {"Origin": "https://page.example", "Sec-Fetch-Site": "cross-site"}
    asks = {"Access-Control-Request-Method": "PUT"}
    status, headers, body = made.ask("OPTIONS", "/x", headers={**page, **asks})
    assert (status, body) == (200, b"")
    allowed = {name: value for name, value in headers.items() if name.startswith("access-control-")}
    assert allowed == {
        "access-control-allow-origin": "https://page.example",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "x-own",
        "access-control-max-age": "300",
    }
    status, headers, _ = made.ask("PUT", "/x", headers=page)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://page.example")
    assert headers["access-control-expose-headers"] == "x-theirs"
    status, headers, _ = made.ask("PUT", "/x", headers={"Origin": "https://other.example"})
    assert status == 200 and "access-control-allow-origin" not in headers


def test_a_page_reaches_the_function_and_not_the_api(url: Url) -> None:
    page = {"Origin": "https://page.example"}
    assert url.ask(headers=page)[0] == 200
    api = "/2015-03-31/functions"
    event = json.loads(url.ask(path=api, headers=page)[2])
    assert event["rawPath"] == api, "every path of the URL's host is the function's"
    assert request(url.server, "GET", api, headers=page)[0] == 403
    # What a page at the path of a URL sends to its own origin, which is the API's.
    assert request(url.server, "GET", api, headers={"Sec-Fetch-Site": "same-origin"})[0] == 403


def test_functions_reach_no_url(functions: Functions, url: Url) -> None:
    code = (
        "import os, urllib.request, urllib.error\n"
        "def handler(event, context):\n"
        "    asked = urllib.request.Request(os.environ['AWS_ENDPOINT_URL_LAMBDA'] + event)\n"
        "    try:\n"
        "        return urllib.request.urlopen(asked, timeout=10).status\n"
        "    except urllib.error.HTTPError as failure:\n"
        "        return failure.code\n"
    )
    name = functions.create(code)
    assert functions.invoke(name, f"/_lambent/url/{url.id}/").result == 403


STREAM = """
def respond(event):
    kind = event["rawPath"]
    if kind == "/raise-early":
        raise ValueError("early")
    yield b'{"statusCode": 201, "headers": {"x-own": "mine"}, "cookies": ["a=b"]}' + bytes(8)
    yield "first;"
    if kind == "/raise":
        raise ValueError("late")
    if kind == "/large":
        for _ in range(200):
            yield b"x" * 65536
    yield "second"
"""
HTTP = "application/vnd.awslambda.http-integration-response"


def test_a_response_is_streamed(functions: Functions, unharmed: None) -> None:
    name = functions.create(streamer(STREAM, content_type=HTTP), Timeout=10)
    made = Url(functions, name, InvokeMode="RESPONSE_STREAM")
    status, headers, body = made.ask()
    assert (status, headers["x-own"], headers["set-cookie"]) == (201, "mine", "a=b")
    assert headers["transfer-encoding"] == "chunked"
    assert body == b"first;second"
    assert len(made.ask(path="/large")[2]) == 200 * 65536 + 12
    assert made.ask(path="/raise-early")[::2] == (502, b"Internal Server Error")
    with pytest.raises(http.client.IncompleteRead) as cut:
        made.ask(path="/raise")
    assert cut.value.partial == b"first;"
    functions.aws.delete_function(FunctionName=name)
    settle(functions.server)


def test_a_streamed_answer_without_a_body_leaves_the_connection_whole(functions: Functions) -> None:
    code = """
def respond(event):
    yield b'{"statusCode": 204}' + bytes(8)
    yield "dropped"
"""
    made = Url(functions, functions.create(streamer(code, content_type=HTTP)), InvokeMode="RESPONSE_STREAM")
    connection = http.client.HTTPConnection(urlsplit(functions.server.url).netloc, timeout=30)
    for _ in range(2):  # the second one over the same connection
        connection.request("GET", "/", headers={"Host": made.host})
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.will_close) == (204, b"", False)
    connection.close()
    assert "Exception in ASGI" not in functions.server.log.read_text()


def test_a_stream_without_a_prelude_is_the_body(functions: Functions) -> None:
    code = streamer("def respond(event):\n    yield 'a'\n    yield 'b'\n", content_type="text/html")
    made = Url(functions, functions.create(code), InvokeMode="RESPONSE_STREAM")
    status, headers, body = made.ask()
    assert (status, headers["content-type"], body) == (200, "text/html", b"ab")


def test_a_function_that_does_not_stream_is_passed_on_as_it_is(functions: Functions) -> None:
    code = "def handler(event, context):\n    return {'statusCode': 404}\n"
    made = Url(functions, functions.create(code), InvokeMode="RESPONSE_STREAM")
    assert made.ask()[::2] == (200, b'{"statusCode": 404}')


def test_iam_is_refused_until_it_is_enforced(functions: Functions) -> None:
    name = functions.create(CODE)
    with pytest.raises(ClientError, match="AuthType is not supported by Lambent"):
        functions.aws.create_function_url_config(FunctionName=name, AuthType="AWS_IAM")


def test_the_body_of_a_form_is_base64(url: Url) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    event = json.loads(url.ask("POST", "/", b"a=b", form)[2])
    assert (event["isBase64Encoded"], base64.b64decode(event["body"])) == (True, b"a=b")
