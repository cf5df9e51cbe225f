"""Code packages from S3: the bytes, or an error that says what S3 said or what to set."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from lambent.gateway.code_source import S3Access, make_fetch_s3, make_has_bucket
from lambent.kernel.errors import InvalidParameterValueException


class FakeS3:
    """A client whose one object is `data`, or which raises. A bucket without versioning (`version` is None)
    answers with it whatever version is asked for, as SeaweedFS does."""

    def __init__(self, data: bytes = b"", failure: Exception | None = None, version: str | None = None) -> None:
        self.data, self.failure, self.version = data, failure, version
        self.asked: list[Mapping[str, str]] = []
        self.made_for: list[S3Access] = []
        self.bodies: list[io.BytesIO] = []

    def make(self, access: S3Access) -> "FakeS3":
        self.made_for.append(access)
        return self

    def head_bucket(self, **asked: str) -> None:
        self.asked.append(asked)
        if self.failure is not None:
            raise self.failure

    def get_object(self, **asked: str) -> Mapping[str, Any]:
        self.asked.append(asked)
        if self.failure is not None:
            raise self.failure
        self.bodies.append(io.BytesIO(self.data))
        answer = {"Body": self.bodies[-1]}
        return answer if self.version is None else {**answer, "VersionId": self.version}


async def message_of(failure: Exception, environment: Mapping[str, str] | None = None) -> str:
    fetch = make_fetch_s3(
        S3Access("us-east-1"), environment=environment or {}, make_client=FakeS3(failure=failure).make
    )
    with pytest.raises(InvalidParameterValueException) as caught:
        await fetch("b", "k", None)
    return caught.value.message


@pytest.mark.parametrize(
    ("failure", "there"),
    [
        (None, True),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadBucket"), False),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}}, "HeadBucket"), None),
        (EndpointConnectionError(endpoint_url="http://s3:2"), None),
    ],
)
async def test_whether_a_bucket_is_there(failure: Exception | None, there: bool | None) -> None:
    s3 = FakeS3(failure=failure)
    has_bucket = make_has_bucket(S3Access("us-east-1"), make_client=s3.make)
    assert await has_bucket("b") is there
    assert s3.asked == [{"Bucket": "b"}]


async def test_an_object_is_read_with_one_client() -> None:
    s3 = FakeS3(b"zip", version="v1")
    fetch = make_fetch_s3(S3Access("us-east-1"), environment={}, make_client=s3.make)
    assert await fetch("bucket", "key", None) == b"zip"
    assert await fetch("bucket", "key", "v1") == b"zip"
    assert s3.asked == [
        {"Bucket": "bucket", "Key": "key"},
        {"Bucket": "bucket", "Key": "key", "VersionId": "v1"},
    ]
    assert len(s3.made_for) == 1
    assert all(body.closed for body in s3.bodies)


@pytest.mark.parametrize(("version", "held"), [("v1", None), ("v1", "v2"), ("null", "v2"), ("v1", "null")])
async def test_an_answer_with_another_version_is_no_such_version(version: str, held: str | None) -> None:
    s3 = FakeS3(b"zip", version=held)
    fetch = make_fetch_s3(S3Access("us-east-1"), environment={}, make_client=s3.make)
    with pytest.raises(InvalidParameterValueException) as caught:
        await fetch("b", "k", version)
    assert caught.value.message == (
        "Error occurred while GetObject. S3 Error Code: NoSuchVersion. "
        "S3 Error Message: The specified version does not exist."
    )
    assert s3.bodies[0].closed


async def test_the_object_of_a_bucket_without_versioning_has_the_version_null() -> None:
    fetch = make_fetch_s3(S3Access("us-east-1"), environment={}, make_client=FakeS3(b"zip").make)
    assert await fetch("b", "k", "null") == b"zip"


@pytest.mark.parametrize(
    ("given", "environment", "endpoint"),
    [
        ("http://bundled:1", {"AWS_ENDPOINT_URL_S3": "http://s3:2"}, "http://bundled:1"),
        (None, {"AWS_ENDPOINT_URL_S3": "http://s3:2", "AWS_ENDPOINT_URL": "http://all:3"}, "http://s3:2"),
        (None, {"AWS_ENDPOINT_URL": "http://all:3"}, "http://all:3"),
        (None, {"AWS_ENDPOINT_URL_S3": ""}, None),
    ],
)
async def test_which_s3_it_is(given: str | None, environment: Mapping[str, str], endpoint: str | None) -> None:
    s3 = FakeS3()
    access = S3Access("eu-west-1", endpoint_url=given, access_key_id="id", secret_access_key="secret")
    await make_fetch_s3(access, environment=environment, make_client=s3.make)("b", "k", None)
    assert s3.made_for == [S3Access("eu-west-1", endpoint, "id", "secret")]


async def test_an_object_may_be_as_large_as_the_limit_and_no_larger() -> None:
    s3 = FakeS3(bytes(11))
    fetch = make_fetch_s3(S3Access("us-east-1"), environment={}, max_bytes=10, make_client=s3.make)
    with pytest.raises(InvalidParameterValueException, match="must be smaller than 10 bytes.*s3://b/k"):
        await fetch("b", "k", None)
    assert s3.bodies[0].closed
    s3.data = bytes(10)
    assert await fetch("b", "k", None) == bytes(10)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("NoSuchKey", "The specified key does not exist."),
        ("NoSuchBucket", "The specified bucket does not exist"),
        ("AccessDenied", "Access Denied"),
    ],
)
async def test_an_error_of_s3_is_given_in_its_own_words(code: str, text: str) -> None:
    failure = ClientError({"Error": {"Code": code, "Message": text}}, "GetObject")
    assert await message_of(failure) == (
        f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {text}"
    )


@pytest.mark.parametrize(
    "failure",
    [
        EndpointConnectionError(endpoint_url="http://s3:2"),
        ReadTimeoutError(endpoint_url="http://s3:2"),
        ConnectionResetError("reset"),
    ],
)
async def test_an_s3_that_does_not_answer_is_named_with_what_to_set(failure: Exception) -> None:
    message = await message_of(failure, {"AWS_ENDPOINT_URL_S3": "http://s3:2"})
    assert "S3 at http://s3:2 does not answer" in message
    assert "Set AWS_ENDPOINT_URL_S3 in the server's environment" in message


async def test_missing_keys_are_said_with_what_to_set() -> None:
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in await message_of(NoCredentialsError())


async def test_the_real_client_asks_a_custom_endpoint_by_path_and_on_loopback_through_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server of the test's own stands for S3: it sees the request line and answers with an object."""
    lines: list[str] = []
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nzip")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        access = S3Access("us-east-1", f"http://localhost:{port}", "id", "secret")
        assert await make_fetch_s3(access, environment={})("bucket", "a/key.zip", None) == b"zip"
    assert lines == ["GET /bucket/a/key.zip HTTP/1.1"]


def test_boto3_is_not_imported_before_it_is_used() -> None:
    program = (
        "import sys, lambent.gateway.code_source as source\n"
        "source.make_fetch_s3(source.S3Access('us-east-1'))\n"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
    )
