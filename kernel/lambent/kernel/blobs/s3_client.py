"""One bucket of any S3 over boto3, whose every failure is one of ours, because an exception of botocore's that
crosses the port would end the part that called.

boto3 is synchronous and slow to import: it is imported and called in threads of the bucket's own, at most
`THREADS`, so that a server which hangs takes no thread from anybody else. Which S3: `endpoint_url`, else AWS.
Keys: boto3's own chain, which begins with the environment.
"""

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log
from lambent.kernel.loopback import proxies_for

_log = Log(__name__)
THREADS = 16
MAX_BYTES = 262_144_000  # no archive and no payload is larger; more in an object is not ours
_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_ATTEMPTS = 3  # of a request, the first one included
_READS = 2  # of a whole object whose answer broke off
_CLOSED = "The blob store is closed."
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Which bucket. `endpoint_url` None: AWS."""

    name: str
    region: str
    endpoint_url: str | None = None


class Listed(NamedTuple):
    """An object, and for how many seconds it was not written, both times being the server's own (in whole
    seconds)."""

    key: str
    age: float


class BucketClient:
    """Calls of one bucket, synchronous; `run` brings them into threads. `make_client` stands in for boto3 in
    tests."""

    def __init__(self, bucket: Bucket, *, make_client: Callable[[Bucket], Any] | None = None) -> None:
        self._bucket = bucket
        self._make_client = make_client or _boto3_client
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3 blobs")
        self._client: Any = None
        self._closed = False

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Runs calls in one of the threads. A caller that is cancelled leaves it to end within its timeouts."""
        if self._closed:
            raise ServiceException(_CLOSED)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._translated, work, arguments
        )

    async def close(self) -> None:
        """Waits for the requests under way, and closes the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        if self._client is not None:
            self._client.close()

    def get(self, key: str) -> bytes | None:
        """None: there is no such object."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for attempt in range(1, _READS + 1):
            try:
                return self._get(key)
            except (HTTPClientError, IncompleteReadError):  # botocore retries requests, but no reads of bodies
                if attempt == _READS:
                    raise
        raise AssertionError("unreachable")

    def put(self, key: str, data: bytes) -> None:
        """The server compares the MD5 before it keeps them."""
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        self._s3().put_object(
            Bucket=self._bucket.name, Key=key, Body=data, ContentMD5=base64.b64encode(md5).decode()
        )

    def age(self, key: str) -> float | None:
        """Seconds since it was written; None: there is no such object (or no bucket)."""
        from botocore.exceptions import ClientError

        try:
            answer = self._s3().head_object(Bucket=self._bucket.name, Key=key)
        except ClientError as failure:
            if _status(failure) == 404:
                return None
            raise
        return _age(answer["LastModified"], _server_time(answer))

    def delete(self, key: str) -> None:
        """Nothing to delete is no error."""
        self._s3().delete_object(Bucket=self._bucket.name, Key=key)

    def tried(self, work: Callable[..., _T], key: str, *arguments: Any) -> _T | None:
        """`work(key, ...)` on one object of many; None, and a warning, when the server refuses it."""
        from botocore.exceptions import ClientError

        try:
            return work(key, *arguments)
        except ClientError as failure:  # the others must not wait for it
            _log.warning("An unused blob cannot be deleted.", key=key, failure=failure)
            return None

    def pages(self, prefix: str) -> Iterator[list[Listed]]:
        """All objects whose key begins with `prefix`, in the order of their keys."""
        more: dict[str, str] = {}
        while True:
            page = self._s3().list_objects_v2(Bucket=self._bucket.name, Prefix=prefix, **more)
            now = _server_time(page)
            yield [Listed(each["Key"], _age(each["LastModified"], now)) for each in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _get(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._s3().get_object(Bucket=self._bucket.name, Key=key)
        except ClientError as failure:
            if failure.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise
        body = answer["Body"]
        try:
            if answer.get("ContentLength", 0) > MAX_BYTES:
                raise ServiceException(
                    f"The object {key} is larger than {MAX_BYTES} bytes: it is none of ours."
                )
            data: bytes = body.read()  # as long as the answer's head says, in one piece
        finally:
            body.close()
        return data

    def _s3(self) -> Any:
        if self._closed:
            raise ServiceException(_CLOSED)
        with self._lock:
            if self._client is None:
                try:
                    self._client = self._make_client(self._bucket)
                except ValueError as failure:  # of an endpoint that is no URL
                    raise ServiceException(f"LAMBENT_BLOBS: {failure}. Set AWS_ENDPOINT_URL_S3.") from failure
            return self._client

    def _translated(self, work: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = self._bucket.endpoint_url or "AWS"
        try:
            return work(*arguments)
        except ClientError as failure:
            raise self._refused(failure, where) from failure
        except NoCredentialsError as failure:
            raise ServiceException(
                f"There are no keys for the bucket {self._bucket.name} of LAMBENT_BLOBS. Set AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY in the server's environment."
            ) from failure
        except (BotoCoreError, OSError) as failure:
            raise ServiceException(
                f"The S3 server of LAMBENT_BLOBS ({where}) does not answer: {failure}. AWS_ENDPOINT_URL_S3 in "
                "the server's environment says where it is."
            ) from failure

    def _refused(self, failure: Any, where: str) -> ServiceException:
        details = failure.response.get("Error", {})
        code, name = str(details.get("Code", "Unknown")), self._bucket.name
        if code == "NoSuchBucket":
            return ServiceException(
                f"There is no bucket {name} at {where}. Make it (aws s3 mb s3://{name}), or name another one: "
                "LAMBENT_BLOBS=s3://BUCKET/PREFIX"
            )
        advice = ""
        if _status(failure) in (401, 403):
            advice = (
                " The keys in the server's environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) need "
                "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there."
            )
        told = str(details.get("Message", "")).rstrip(".")
        return ServiceException(f"S3 at {where} refuses for the bucket {name}: {code}: {told}.{advice}")


def _status(failure: Any) -> int:
    return int(failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _server_time(answer: Any) -> datetime | None:
    """The server's clock when it answered; None when it does not say."""
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(said) if said else None
    except ValueError:
        return None


def _age(modified: datetime, now: datetime | None) -> float:
    # The head's time has whole seconds: a new object would have a negative age.
    return (now or datetime.now(modified.tzinfo)).timestamp() - modified.replace(microsecond=0).timestamp()


def _boto3_client(bucket: Bucket) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        region_name=bucket.region,
        endpoint_url=bucket.endpoint_url,
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=THREADS,
            # A host of one's own rarely has DNS for bucket.host.
            s3={"addressing_style": "path"} if bucket.endpoint_url else {},
            # Not every server knows AWS's newer checksums; we compare our own.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies=proxies_for(bucket.endpoint_url),
        ),
    )
