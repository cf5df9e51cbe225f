"""Reads a code package from S3, for S3Bucket/S3Key in CreateFunction, UpdateFunctionCode and
PublishLayerVersion, and looks whether a trigger's bucket is there; the gateway's only user of boto3.

boto3 is imported at the first read, since the import alone takes longer than the rest of a start, and runs in
a thread, since it is synchronous. Which S3 it is: the `endpoint_url` that the wiring gives (the bundled S3),
else AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL of the server's environment, else AWS. Keys: as given, else boto3's
own chain.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.loopback import proxies_for

MAX_BYTES = 262_144_000  # a zip that is larger than its unzipped bytes may be can't be valid
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_NO_SUCH_VERSION = "The specified version does not exist."  # S3's own words

FetchS3 = Callable[[str, str, str | None], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class S3Access:
    """Which S3 to read from, and as whom; None: as the server's environment says."""

    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None


def make_fetch_s3(
    access: S3Access,
    *,
    environment: Mapping[str, str] = os.environ,
    max_bytes: int = MAX_BYTES,
    make_client: Callable[[S3Access], Any] | None = None,
) -> FetchS3:
    """`fetch(bucket, key, version) -> bytes`, for `Services.fetch_s3`.

    It raises InvalidParameterValueException: with S3's own code and message, or, when S3 can't be reached, with
    what to set. `environment` is read at the first fetch. `make_client` stands in for boto3 in tests.
    """
    source = _Source(access, environment, max_bytes, make_client or _boto3_client)

    async def fetch(bucket: str, key: str, version: str | None) -> bytes:
        return await asyncio.to_thread(source.read, bucket, key, version)

    return fetch


def make_has_bucket(
    access: S3Access, *, make_client: Callable[[S3Access], Any] | None = None
) -> Callable[[str], Awaitable[bool | None]]:
    """`has_bucket(bucket)`, for `Services.has_bucket`: whether it is there; None if S3 does not say."""
    source = _Source(access, os.environ, MAX_BYTES, make_client or _boto3_client)

    async def has_bucket(bucket: str) -> bool | None:
        return await asyncio.to_thread(source.has_bucket, bucket)

    return has_bucket


class _Source:
    """The one client, made once; boto3 clients may be shared by threads."""

    def __init__(
        self,
        access: S3Access,
        environment: Mapping[str, str],
        max_bytes: int,
        make_client: Callable[[S3Access], Any],
    ) -> None:
        self._access = access
        self._environment = environment
        self._max_bytes = max_bytes
        self._make_client = make_client
        self._client: Any = None

    def read(self, bucket: str, key: str, version: str | None) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        endpoint = self._endpoint()
        try:
            return self._get(bucket, key, version)
        except ClientError as error:
            details = error.response.get("Error", {})
            raise InvalidParameterValueException(
                _failed(details.get("Code", "Unknown"), details.get("Message", str(error)))
            ) from None
        except NoCredentialsError:
            raise InvalidParameterValueException(
                "Error occurred while GetObject. The server has no AWS keys to read S3 with. Set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the server's environment, or send the package "
                "as ZipFile."
            ) from None
        except (BotoCoreError, OSError) as error:
            raise InvalidParameterValueException(
                f"Error occurred while GetObject. S3 at {endpoint or 'AWS'} does not answer: {error}. Set "
                "AWS_ENDPOINT_URL_S3 in the server's environment to the URL of your S3, or send the package as "
                "ZipFile."
            ) from None

    def has_bucket(self, bucket: str) -> bool | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._s3().head_bucket(Bucket=bucket)
        except ClientError as error:
            return False if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404 else None
        except (BotoCoreError, OSError):
            return None
        return True

    def _s3(self) -> Any:
        if self._client is None:  # two first reads at once make two clients, and one of them stays
            self._client = self._make_client(replace(self._access, endpoint_url=self._endpoint()))
        return self._client

    def _endpoint(self) -> str | None:
        return (
            self._access.endpoint_url
            or self._environment.get("AWS_ENDPOINT_URL_S3")
            or self._environment.get("AWS_ENDPOINT_URL")
            or None
        )

    def _get(self, bucket: str, key: str, version: str | None) -> bytes:
        asked = {"Bucket": bucket, "Key": key}
        if version is not None:
            asked["VersionId"] = version
        answer = self._s3().get_object(**asked)
        body = answer["Body"]
        try:
            # A bucket without versioning may answer with the one object that it has, whatever was asked for.
            if version not in (None, answer.get("VersionId", "null")):
                raise InvalidParameterValueException(_failed("NoSuchVersion", _NO_SUCH_VERSION))
            # One byte more than allowed tells "too large" without trusting a header.
            data: bytes = body.read(self._max_bytes + 1)
        finally:
            body.close()
        if len(data) > self._max_bytes:
            raise InvalidParameterValueException(
                f"Unzipped size must be smaller than {self._max_bytes} bytes: the object "
                f"s3://{bucket}/{key} is larger than that already."
            )
        return data


def _failed(code: str, message: str) -> str:
    return f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"


def _boto3_client(access: S3Access) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        region_name=access.region,
        endpoint_url=access.endpoint_url,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        aws_session_token=access.session_token,
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "max_attempts": 2},
            # A host of one's own rarely has DNS for bucket.host.
            s3={"addressing_style": "path"} if access.endpoint_url else {},
            proxies=proxies_for(access.endpoint_url),
        ),
    )
