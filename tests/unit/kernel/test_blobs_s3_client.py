"""The bucket's client: what servers and networks do wrong, as errors of ours."""

import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, IncompleteReadError, NoCredentialsError, ReadTimeoutError

from lambent.kernel.blobs.s3_client import MAX_BYTES, Bucket, BucketClient
from lambent.kernel.errors import ServiceException


class Fake:
    """Gives what `answers` has, one after the other; raises what is an exception."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**_: Any) -> Any:
            answer = self._answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def close(self) -> None:
        """Nothing to close."""


class Broken(io.BytesIO):
    """A body that breaks off."""

    def read(self, *_: Any) -> bytes:
        raise IncompleteReadError(actual_bytes=1, expected_bytes=2)


def refusal(code: str, status: int, message: str = "No") -> ClientError:
    error = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(error, "Op")


Make = Callable[..., BucketClient]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[BucketClient] = []

    def client(*answers: Any) -> BucketClient:
        made.append(BucketClient(Bucket("b", "us-east-1"), make_client=lambda _: Fake(*answers)))
        return made[-1]

    yield client
    for each in made:
        await each.close()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (refusal("AccessDenied", 403), r"refuses for the bucket b: AccessDenied: No\. .*s3:ListBucket"),
        (refusal("SlowDown", 503, "Slow."), r"SlowDown: Slow\.$"),
        (refusal("NoSuchBucket", 404), "There is no bucket b at AWS. Make it"),
        (NoCredentialsError(), "Set AWS_ACCESS_KEY_ID"),
        (ReadTimeoutError(endpoint_url="http://x"), "does not answer"),
        (ConnectionResetError("reset"), "does not answer: reset"),
    ],
)
async def test_failures_are_ours(make: Make, failure: Exception, told: str) -> None:
    client = make(failure, failure)
    with pytest.raises(ServiceException, match=told):
        await client.run(client.get, "key")


async def test_no_such_key_is_none(make: Make) -> None:
    client = make(refusal("NoSuchKey", 404), refusal("404", 404))
    assert await client.run(client.get, "key") is None
    assert await client.run(client.age, "key") is None


async def test_an_answer_that_breaks_off_is_read_again(make: Make) -> None:
    client = make({"Body": Broken()}, {"Body": io.BytesIO(b"xy")})
    assert await client.run(client.get, "key") == b"xy"


async def test_one_that_breaks_off_each_time_is_an_error(make: Make) -> None:
    client = make({"Body": Broken()}, {"Body": Broken()})
    with pytest.raises(ServiceException, match="does not answer"):
        await client.run(client.get, "key")


async def test_an_object_that_is_too_large_is_not_read(make: Make) -> None:
    client = make({"Body": Broken(), "ContentLength": MAX_BYTES + 1})
    with pytest.raises(ServiceException, match="none of ours"):
        await client.run(client.get, "key")


async def test_ages_are_by_the_servers_clock(make: Make) -> None:
    """And not negative, although the head's time has no parts of a second."""
    head = {"ResponseMetadata": {"HTTPHeaders": {"date": "Sat, 31 Jan 2026 12:00:09 GMT"}}}
    new = datetime(2026, 1, 31, 12, 0, 9, 900_000, UTC)
    client = make({"LastModified": new.replace(second=0), **head}, {"LastModified": new, **head})
    assert [await client.run(client.age, "key") for _ in range(2)] == [9.0, 0.0]


async def test_an_endpoint_that_is_no_url_is_told() -> None:
    client = BucketClient(Bucket("b", "us-east-1", "not a url"))
    with pytest.raises(ServiceException, match="Invalid endpoint: not a url"):
        await client.run(client.get, "key")
    await client.close()
