"""Payloads that are too large for the queue's server: they lie in the blob store under their event's own id,
and go away when the event does.

A blob is written before the item that names it and deleted after the step that ends the item, so a crash in
between leaves a blob too many, never one too few; `sweep` deletes those, an hour later.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from lambent.kernel.blobs.probe import FOLDER as PROBE_FOLDER
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import EventQueueUnavailable, LambdaError
from lambent.kernel.events import DeadEvent, Item, OutcomeRecord
from lambent.kernel.log import Log
from lambent.kernel.ports import BlobStore, Clock, Delivery
from lambent.scheduler.queue_codec import event_of, rest, size
from lambent.scheduler.retry import record_is_missing

_log = Log(__name__)
LARGE_BYTES = 65_536
UNTOUCHED_SECONDS = 3600.0
_DISK_SECONDS = (0.1, 2.0)  # between tries to write a payload: the first wait and the longest

Named = tuple[Item, str | None]  # an item, and the blob of its payloads


class Spill:
    """`large`: items whose payloads have more bytes are spilled."""

    def __init__(self, blobs: BlobStore, *, large: int = LARGE_BYTES, clock: Clock | None = None) -> None:
        self._blobs = blobs
        self._clock = clock or SystemClock()
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

    async def replaced(
        self, delivery: Delivery, blob: str | None, items: Sequence[Item], *, going_on: Callable[[], bool]
    ) -> tuple[list[Named], list[str]]:
        """What comes in the place of a delivered item, whose blob is `blob`, with the blobs of their payloads,
        and which of these are new. Tries until the disk takes them; raises EventQueueUnavailable once not
        `going_on()`."""
        wait = _DISK_SECONDS[0]
        while True:
            made: list[str] = []
            try:
                return await self._named(delivery, blob, items, made), made
            except LambdaError as failure:
                await self.drop_all(made)  # all anew then: the sweep deletes what lies unnamed for long
                if not going_on():
                    raise EventQueueUnavailable(f"The queue is closing, and {failure.message}") from failure
                if wait == _DISK_SECONDS[0]:
                    _log.warning(
                        "The disk does not take an event's payload; trying again.",
                        request_id=delivery.event.request_id,
                        why=failure.message,
                    )
            await self._clock.sleep(wait)
            wait = min(2 * wait, _DISK_SECONDS[1])

    async def _named(
        self, delivery: Delivery, blob: str | None, items: Sequence[Item], made: list[str]
    ) -> list[Named]:
        """Fills `made`, so that it says also what was written before a failure. Raises LambdaError."""
        reused, named = False, list[Named]()
        for item in items:
            if isinstance(item, DeadEvent) and not record_is_missing(item):
                item = replace(item, ending=item.ending._replace(response=None))
            if blob is not None and not reused and _same_payloads(item, delivery):
                reused = True
                await self.again(blob)
                named.append((item, blob))
                continue
            name = await self.keep(item)
            made += [name] if name is not None else []
            named.append((item, name))
        return named

    async def drop_all(self, names: Sequence[str]) -> None:
        """Their items are ended; what the disk does not let go, the sweep deletes."""
        for name in names:
            try:
                await self.drop(name)
            except LambdaError as failure:
                _log.warning("A payload whose event is gone stays until the next sweep.", why=failure.message)

    async def sweep(self, names_of: Callable[[str], Awaitable[frozenset[str] | None]]) -> int:
        """Deletes what no item names; how many. `names_of(lane)`: the names in use in a lane's lines, None for
        "cannot say". An item that moves while its lane is read is either seen or has just touched its blob."""
        by_lane: dict[str, list[str]] = {}
        for name in await self._blobs.named(untouched_seconds=UNTOUCHED_SECONDS):
            lane = name.partition("/")[0]
            if lane != PROBE_FOLDER:
                by_lane.setdefault(lane, []).append(name)
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


def _same_payloads(item: Item, delivery: Delivery) -> bool:
    """Whether the delivered one's blob is right for the item: a target may be down for a day, and what waits
    for it must not be written anew each time."""
    if event_of(item).payload is not delivery.event.payload:
        return False
    if isinstance(item, OutcomeRecord):
        before = delivery.outcome
        return before is not None and item.ending.response is before.ending.response
    return delivery.outcome is None
