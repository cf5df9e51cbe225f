"""The blob store's twin in memory, for tests that want no disk."""

import hashlib

from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ResourceNotFoundException
from lambent.kernel.ports import Clock


class MemoryBlobs:
    """`ports.BlobStore` that has no files: `path` is always None."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._blobs: dict[str, bytes] = {}
        self._touched: dict[str, float] = {}

    async def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self._blobs[digest] = bytes(data)
        self._touched[digest] = self._clock.now()
        return digest

    async def get(self, digest: str) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise ResourceNotFoundException(f"There is no blob {digest}.") from None

    async def exists(self, digest: str) -> bool:
        return digest in self._blobs

    async def path(self, digest: str) -> str | None:
        return None

    async def collect(self, keep: frozenset[str], *, untouched_seconds: float) -> int:
        before = self._clock.now() - untouched_seconds
        old = [d for d, touched in self._touched.items() if d not in keep and touched <= before]
        for digest in old:
            del self._blobs[digest], self._touched[digest]
        return len(old)
