"""Blobs in a bucket of any S3, so that gateways, schedulers and executors on different machines share code,
layers and large event payloads.

Keys, below a prefix: `sha256/ab/DIGEST`, `named/FOLDER/FILE`, and `doomed/KEY.TOKEN`, the mark of who is about
to delete an object for its age. S3 has no "delete if still old": what is written between the look at an
object's age and its deletion would be lost. So who deletes leaves a mark, looks, deletes and takes the mark
away; and who writes what may be there already looks afterwards for marks and the object, and writes again when
the deletion won. Ages are by the server's clock, in whole seconds.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from lambent.kernel.blobs.s3_client import Bucket, BucketClient
from lambent.kernel.errors import ResourceNotFoundException, ServiceException
from lambent.kernel.log import Log

_log = Log(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
# Who has left a mark deletes within so long, or not at all; a request with its retries takes 105 s at most.
_DELETE_WITHIN_SECONDS = 30.0
_STALE_MARK_SECONDS = 300.0
_WRITES = 20
_WAIT_SECONDS = 0.25


class S3Blobs:
    """`ports.BlobStore` in a bucket, below `prefix` ("" or ending in "/"). `make_client` stands in for boto3 in
    tests. Every method raises ServiceException when the server does not answer or refuses."""

    def __init__(
        self, bucket: Bucket, prefix: str, *, make_client: Callable[[Bucket], Any] | None = None
    ) -> None:
        self.bucket = bucket
        self._client = BucketClient(bucket, make_client=make_client)
        self.prefix = prefix

    async def close(self) -> None:
        """Waits for what runs, within its timeouts."""
        await self._client.close()

    async def put(self, data: bytes) -> str:
        """The hex digest. An existing one is written again, which touches it, and heals it."""
        digest = hashlib.sha256(data).hexdigest()
        await self._client.run(self._write, self._digest_key(digest), data)
        return digest

    async def get(self, digest: str) -> bytes:
        """Raises ResourceNotFoundException; ServiceException when the bytes are not the digest's any more."""
        key = self._digest_key(digest)
        if key is None:
            raise ResourceNotFoundException(f"There is no blob {digest}.")
        return await self._client.run(self._read_verified, key, digest)

    async def exists(self, digest: str) -> bool:
        key = self._digest_key(digest)
        return key is not None and await self._client.run(self._client.age, key) is not None

    async def path(self, digest: str) -> str | None:
        """None: there are no files."""
        return None

    async def collect(self, keep: frozenset[str], *, untouched_seconds: float) -> int:
        """Deletes what is neither kept nor fresh. What the server refuses to delete stays."""
        return await self._client.run(self._collect, keep, untouched_seconds)

    async def put_named(self, name: str, data: bytes) -> None:
        await self._client.run(self._client.put, self._named_key(name), data)

    async def get_named(self, name: str) -> bytes:
        """Raises ResourceNotFoundException."""
        data = await self._client.run(self._client.get, self._named_key(name))
        if data is None:
            raise ResourceNotFoundException(f"There is no blob {name}.")
        return data

    async def touch_named(self, name: str) -> None:
        await self._client.run(self._touch, self._named_key(name))

    async def delete_named(self, name: str, *, untouched_seconds: float = 0.0) -> None:
        key = self._named_key(name)
        if untouched_seconds:
            await self._client.run(self._delete_old, key, untouched_seconds)
        else:
            await self._client.run(self._client.delete, key)

    async def named(self, *, untouched_seconds: float) -> Sequence[str]:
        return await self._client.run(self._names, untouched_seconds)

    # ---- in threads -------------------------------------------------------------------------------------

    def _digest_key(self, digest: str) -> str | None:
        # Digests come from stored metadata and from URLs: nothing but a digest may become a key.
        if _DIGEST.fullmatch(digest) is None:
            return None
        return f"{self.prefix}sha256/{digest[:2]}/{digest}"

    def _named_key(self, name: str) -> str:
        if _NAME.fullmatch(name) is None:
            raise ResourceNotFoundException(f"{name!r} is no name of a blob.")
        return f"{self.prefix}named/{name}"

    def _marks(self, key: str) -> str:
        """What the keys of all marks of an object begin with."""
        return f"{self.prefix}doomed/{key.removeprefix(self.prefix)}."

    def _read_verified(self, key: str, digest: str) -> bytes:
        data = self._client.get(key)
        if data is None:
            raise ResourceNotFoundException(f"There is no blob {digest}.")
        if hashlib.sha256(data).hexdigest() != digest:
            raise ServiceException(
                f"The object {key} is corrupt: its {len(data)} bytes are not what was stored. "
                "Restore it from a backup, or upload the same code again."
            )
        return data

    def _write(self, key: str, data: bytes) -> None:
        """Writes until no deletion can take it away any more."""
        for _ in range(_WRITES):
            self._client.put(key, data)
            # The marks first: of one that is gone by now the object says how its deletion went.
            if not self._is_doomed(key) and self._client.age(key) is not None:
                return
            time.sleep(_WAIT_SECONDS)
        raise ServiceException(f"The object {key} was being deleted. Try again in some minutes.")

    def _touch(self, key: str) -> None:
        # Not a copy onto itself: a deletion that wins would leave nothing to write again.
        data = self._client.get(key)
        if data is not None:
            self._write(key, data)

    def _is_doomed(self, key: str) -> bool:
        """Whether somebody may be deleting it. A mark that is stale was left by a process that died."""
        pages = self._client.pages(self._marks(key))
        return any(age < _STALE_MARK_SECONDS for page in pages for _, age in page)

    def _delete_old(self, key: str, untouched_seconds: float) -> bool:
        age = self._client.age(key)
        if age is None or age < untouched_seconds:
            return False
        started = time.monotonic()
        # One of its own: another deleter must not take ours away.
        mark = self._marks(key) + secrets.token_hex(8)
        self._client.put(mark, b"")
        age = self._client.age(key)
        in_time = time.monotonic() - started < _DELETE_WITHIN_SECONDS
        gone = in_time and age is not None and age >= untouched_seconds
        if gone:
            self._client.delete(key)
            _log.debug("Blob collected.", key=key)
        self._client.delete(mark)  # not after a failure: the deletion may come late
        return gone

    def _collect(self, keep: frozenset[str], untouched_seconds: float) -> int:
        deleted = 0
        for page in self._client.pages(f"{self.prefix}sha256/"):
            for key, age in page:
                digest = key.rpartition("/")[2]
                if digest not in keep and age >= untouched_seconds and key == self._digest_key(digest):
                    deleted += bool(self._client.tried(self._delete_old, key, untouched_seconds))
        for page in self._client.pages(f"{self.prefix}doomed/"):
            for key, age in page:
                if age > 2 * _STALE_MARK_SECONDS:
                    self._client.tried(self._client.delete, key)
        return deleted

    def _names(self, untouched_seconds: float) -> list[str]:
        folder = f"{self.prefix}named/"
        return sorted(
            key.removeprefix(folder)
            for page in self._client.pages(folder)
            for key, age in page
            if age >= untouched_seconds and _NAME.fullmatch(key.removeprefix(folder))
        )
