"""The blob store's twin in memory, for tests that want no disk."""

import hashlib
from collections.abc import Sequence

from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ResourceNotFoundException
from lambent.kernel.ports import Clock


class MemoryBlobs:
    """`ports.BlobStore` that has no files: `path` is always None."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._blobs: dict[str, bytes] = {}
        self._touched: dict[str, float] = {}
        self._named: dict[str, tuple[bytes, float]] = {}

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

    async def put_named(self, name: str, data: bytes) -> None:
        self._named[name] = (bytes(data), self._clock.now())

    async def get_named(self, name: str) -> bytes:
        try:
            return self._named[name][0]
        except KeyError:
            raise ResourceNotFoundException(f"There is no blob {name}.") from None

    async def touch_named(self, name: str) -> None:
        if name in self._named:
            self._named[name] = (self._named[name][0], self._clock.now())

    async def delete_named(self, name: str, *, untouched_seconds: float = 0.0) -> None:
        if name in self._named and self._named[name][1] <= self._clock.now() - untouched_seconds:
            del self._named[name]

    async def named(self, *, untouched_seconds: float) -> Sequence[str]:
        before = self._clock.now() - untouched_seconds
        return sorted(name for name, (_, written) in self._named.items() if written <= before)
