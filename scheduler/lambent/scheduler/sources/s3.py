"""The sweep of S3 triggers: finds by listing what the webhook could lose, which is every object that was
created while Lambent was down, or while the event queue was for longer than the webhook tries.

It runs at start, and again after `wake`. Objects that a mark says were delivered are passed over; one that
falls into the last moments before a crash may come twice. Removed objects cannot be listed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from lambent.kernel import metrics
from lambent.kernel.errors import EventQueueUnavailable, LambdaError, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.loopback import proxies_for
from lambent.kernel.models import Trigger
from lambent.kernel.ports import Clock, EventQueue, FunctionStore
from lambent.kernel.s3_trigger import Change, Marks, matches, to_event
from lambent.kernel.tracing import new_header

_log = Log(__name__)
_NS = 10**9
_SETTLE_SECONDS = 2.0
_BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)
# (bucket, prefix) -> pages of created objects, as S3 lists them.
Listing = Callable[[str, str], AsyncIterator[Sequence[Change]]]


def s3_listing(*, endpoint: str, region: str, access_key_id: str, secret_access_key: str) -> Listing:
    """Lists a bucket over S3's API, 1000 objects a page, in threads. A bucket that is not there has no pages;
    other failures raise ServiceException."""
    import boto3
    from botocore import exceptions
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            s3={"addressing_style": "path"},
            proxies=proxies_for(endpoint),
        ),
    )

    async def pages(bucket: str, prefix: str) -> AsyncIterator[Sequence[Change]]:
        more: dict[str, str] = {}
        while True:
            try:
                page = await asyncio.to_thread(client.list_objects_v2, Bucket=bucket, Prefix=prefix, **more)
            except exceptions.ClientError as failure:
                if failure.response["Error"].get("Code") == "NoSuchBucket":
                    return
                raise ServiceException(f"The bucket {bucket} cannot be listed: {failure}") from failure
            except exceptions.BotoCoreError as failure:
                raise ServiceException(f"The S3 server does not answer: {failure}") from failure
            yield [_listed(bucket, entry) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    return pages


def _listed(bucket: str, entry: dict[str, Any]) -> Change:
    modified = int(entry["LastModified"].timestamp())
    etag = entry["ETag"].strip('"')
    # An upload in parts has an ETag with the number of its parts.
    name = "ObjectCreated:CompleteMultipartUpload" if "-" in etag else "ObjectCreated:Put"
    return Change(bucket, entry["Key"], name, modified, modified * _NS, entry["Size"], etag)


class S3Sweep:
    """One sweep at a time over all triggers."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        queue: EventQueue,
        marks: Marks,
        listing: Listing,
        clock: Clock,
        region: str,
    ) -> None:
        self._store = store
        self._queue = queue
        self._marks = marks
        self._listing = listing
        self._clock = clock
        self._region = region
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The webhook's events were not accepted: sweep again soon."""
        self._woken.set()

    async def run(self) -> None:
        """Sweeps now, and after each `wake`, until it got through; for `Tasks.forever`."""
        while True:
            await self._until_done()
            await self._woken.wait()
            # The webhook's other workers fail in the same moment.
            await self._clock.sleep(_SETTLE_SECONDS)

    async def _until_done(self) -> None:
        tries = 0
        while True:
            self._woken.clear()
            try:
                found = await self.sweep()
            except LambdaError as failure:
                _log.warning(
                    "Objects that S3 triggers may have missed are not looked for yet.", failure=failure
                )
                await self._clock.sleep(_BACK_OFF[min(tries, len(_BACK_OFF) - 1)])
                tries += 1
                continue
            if found:
                _log.info("Found objects that S3 triggers had missed.", count=found)
            return

    async def sweep(self) -> int:
        """Publishes what no mark knows; how many. Raises LambdaError when it did not get through; what it
        published until then is noted. A trigger whose function's queue is full keeps no other waiting."""
        published = 0
        until = self._clock.now()
        behind: dict[str, EventQueueUnavailable] = {}
        for trigger in await self._store.triggers():
            try:
                async for change in self._missed(trigger, until):
                    published += await self._deliver(trigger, change)
            except EventQueueUnavailable as failure:
                if not failure.full:
                    raise
                self._marks.hold_one(trigger.id)
                behind[trigger.id] = failure
        if not self._woken.is_set():
            self._marks.release(behind=behind)
        await self._marks.flush()
        for first in behind.values():
            raise first
        return published

    async def _missed(self, trigger: Trigger, until: float) -> AsyncIterator[Change]:
        since = await self._marks.load(trigger.id)
        async for page in self._listing(trigger.bucket, trigger.prefix):
            for change in page:
                # What is newer than this sweep is the webhook's.
                if since <= change.modified <= until and matches(trigger, change):
                    yield change

    async def _deliver(self, trigger: Trigger, change: Change) -> int:
        if self._marks.is_delivered(trigger.id, change):
            return 0
        function = await self._store.get(trigger.function)
        if function is None:  # done with: it is not for a function that gets the name later
            metrics.trigger_events_dropped.labels(metrics.function_label(trigger.function)).inc()
            self._marks.delivered(trigger.id, change, by_sweep=True)
            return 0
        now = self._clock.now()
        event = to_event(trigger, function, change, region=self._region, accepted=now, trace_id=new_header(now))
        await self._queue.publish(event)
        metrics.events_received.labels(metrics.function_label(function.name)).inc()
        self._marks.delivered(trigger.id, change, by_sweep=True)
        return 1
