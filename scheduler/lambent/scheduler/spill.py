"""Payloads that are too large for the queue's server: they lie in the blob store under their event's own id,
and go away when the event does.

A blob is written before the item that names it and deleted after the step that ends the item, so a crash in
between leaves a blob too many, never one too few; `sweep` deletes those, an hour later.
"""

import secrets
from collections.abc import Awaitable, Callable

from lambent.kernel.events import Item
from lambent.kernel.log import Log
from lambent.kernel.ports import BlobStore
from lambent.scheduler.queue_codec import event_of, rest, size

_log = Log(__name__)
LARGE_BYTES = 65_536
UNTOUCHED_SECONDS = 3600.0


class Spill:
    """`large`: items whose payloads have more bytes are spilled."""

    def __init__(self, blobs: BlobStore, *, large: int = LARGE_BYTES) -> None:
        self._blobs = blobs
        self._large = large

    async def keep(self, item: Item) -> str | None:
        """Writes an item's payloads if they are large; the blob's name. Raises ServiceException."""
        if size(item) <= self._large:
            return None
        event = event_of(item)
        # Two events may have one request id (a client's retry, one object that two sweeps found).
        name = f"{event.lane}/{event.request_id}.{secrets.token_hex(4)}"
        await self._blobs.put_named(name, rest(item))
        return name

    async def again(self, name: str) -> None:
        """Another item names it from now on."""
        await self._blobs.touch_named(name)

    async def read(self, name: str) -> bytes:
        """Raises ResourceNotFoundException or ServiceException."""
        return await self._blobs.get_named(name)

    async def drop(self, name: str) -> None:
        """Its item is ended. Raises ServiceException; the sweep deletes it then."""
        await self._blobs.delete_named(name)

    async def sweep(self, names_of: Callable[[str], Awaitable[frozenset[str] | None]]) -> int:
        """Deletes what no item names; how many. `names_of(lane)`: the names in use in a lane's lines, None for
        "cannot say". An item that moves while its lane is read is either seen or has just touched its blob."""
        by_lane: dict[str, list[str]] = {}
        for name in await self._blobs.named(untouched_seconds=UNTOUCHED_SECONDS):
            by_lane.setdefault(name.partition("/")[0], []).append(name)
        deleted = 0
        for lane, names in by_lane.items():
            used = await names_of(lane)
            for name in names if used is not None else ():
                if used is not None and name not in used:
                    await self._blobs.delete_named(name, untouched_seconds=UNTOUCHED_SECONDS)
                    deleted += 1
        if deleted:
            _log.info("Deleted payloads whose events are gone.", blobs=deleted)
        return deleted
