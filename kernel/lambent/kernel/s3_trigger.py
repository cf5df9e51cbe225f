"""What the webhook's side (gateway) and the sweep's side (scheduler) of an S3 trigger share: how a change of an
object becomes an event, and how far each trigger has got, because both must agree for nothing to be lost.

A trigger's mark is a time before which everything is delivered, and the ids of what was delivered since. The
time lags behind the newest object by what the webhook may still hold, so that an older event which comes
late is missing from the ids, and a sweep finds it. Marks are written in batches: after a kill -9 the events of
the last moments come twice. Removals leave nothing to list: those that the webhook loses are lost.
"""

import json
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Event, Function, Trigger
from lambent.kernel.ports import Clock, FunctionStore

_log = Log(__name__)
_NAMESPACE = uuid.UUID("6f7a0f5e-55a5-4d6c-9c0d-3a1b0c1f8e21")
# How late, after newer ones, the webhook may deliver an event: it queues them, and mixes their order.
LATE_SECONDS = 300
# Ids that one mark holds; a trigger that is busier than that has a shorter overlap.
_MOST_IDS = 5000
_FLUSH_SECONDS = 2.0
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an object. `name` as in records ("ObjectCreated:Put"), `key` as it is, not encoded;
    `modified` in seconds since the epoch, as S3 lists it; `order` in ns, for the sequencer. `size` and `etag`
    are None where nothing is left that could have them."""

    bucket: str
    key: str
    name: str
    modified: int
    order: int
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None


def matches(trigger: Trigger, change: Change) -> bool:
    """AWS: a prefix and a suffix of the key, and an event name that is the same or ends in ':*'."""
    return (
        trigger.bucket == change.bucket
        and change.key.startswith(trigger.prefix)
        and change.key.endswith(trigger.suffix)
        and any(_covers(pattern.removeprefix("s3:"), change.name) for pattern in trigger.events)
    )


def _covers(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith(":*") else name == pattern


def record(trigger: Trigger, change: Change, *, region: str, request_id: str) -> dict[str, Any]:
    """The S3 record (AWS: "Event message structure", version 2.1). What this S3 does not tell, who asked and
    from where, has constants."""
    entry: dict[str, Any] = {"key": quote_plus(change.key, safe="/"), "sequencer": f"{change.order:018X}"}
    if change.size is not None:
        entry["size"] = change.size
    if change.etag is not None:
        entry["eTag"] = change.etag
    if change.version_id is not None:
        entry["versionId"] = change.version_id
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": _iso(change.order),
        "eventName": change.name,
        "userIdentity": {"principalId": "AWS:LAMBENT"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": request_id.replace("-", "")[:16].upper(), "x-amz-id-2": ""},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": trigger.id,
            "bucket": {
                "name": change.bucket,
                "ownerIdentity": {"principalId": "LAMBENT"},
                "arn": f"arn:aws:s3:::{change.bucket}",
            },
            "object": entry,
        },
    }


def _iso(ns: int) -> str:
    seconds, rest = divmod(ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03d}Z"


def to_event(
    trigger: Trigger, function: Function, change: Change, *, region: str, accepted: float, trace_id: str
) -> Event:
    """The event for the function's lane. Its request id is made of what changed, so that a webhook's retry of
    the same change keeps it."""
    parts = [trigger.id, change.name, change.bucket, change.key, change.etag, change.version_id, change.order]
    request_id = str(uuid.uuid5(_NAMESPACE, json.dumps(parts)))
    payload = {"Records": [record(trigger, change, region=region, request_id=request_id)]}
    return Event(
        request_id=request_id,
        lane=function.uid,
        function=function.name,
        payload=json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode(),
        accepted=accepted,
        qualifier=trigger.qualifier,
        trace_id=trace_id,
        source="s3",
    )


def change_id(change: Change) -> str:
    """What the webhook and a listing both know of a created object, in 16 digits."""
    text = json.dumps([change.key, change.etag, change.modified])
    return uuid.uuid5(_NAMESPACE, text).hex[:16]


@dataclass(slots=True)
class _Mark:
    since: int
    ids: dict[str, int] = field(default_factory=dict)
    swept: set[str] = field(default_factory=set)
    dirty: bool = False

    def text(self) -> str:
        return json.dumps({"schema": _SCHEMA, "since": self.since, "ids": self.ids}, separators=(",", ":"))


def mark_key(trigger_id: str) -> str:
    return f"s3-trigger:{trigger_id}"


def first_mark(now: float) -> str:
    """The mark of a trigger made now: objects that are older are not its business."""
    return _Mark(int(now)).text()


class Marks:
    """The marks of all triggers; one object for the webhook and the sweep. It starts held."""

    def __init__(self, store: FunctionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._marks: dict[str, _Mark] = {}
        # Until a sweep has been through, older events than the newest ones may be missing.
        self._held = True
        self._behind: set[str] = set()  # of these alone

    def hold(self) -> None:
        """Something may have been lost: no mark's time moves on before `release`."""
        self._held = True

    def hold_one(self, trigger_id: str) -> bool:
        """As `hold`, of one trigger. Whether that is news."""
        news = trigger_id not in self._behind
        self._behind.add(trigger_id)
        return news

    def release(self, *, behind: Collection[str] = ()) -> None:
        """A sweep has been through all triggers but those that are `behind`."""
        self._held = False
        self._behind = set(behind)

    async def load(self, trigger_id: str) -> int:
        """Reads a trigger's mark if it is not known yet; from when on (seconds since the epoch) a sweep has to
        look. A trigger without a mark begins now. Raises ServiceException."""
        mark = self._marks.get(trigger_id)
        if mark is None:
            mark = _parsed(await self._store.mark_get(mark_key(trigger_id)), trigger_id)
            mark = self._marks.setdefault(trigger_id, mark or _Mark(int(self._clock.now()), dirty=True))
        return mark.since

    def delivered(self, trigger_id: str, change: Change, *, by_sweep: bool = False) -> None:
        """A created object's event is on disk, or nobody's. The mark must be loaded."""
        mark = self._marks[trigger_id]
        identity = change_id(change)
        mark.ids[identity] = change.modified
        mark.dirty = True
        if by_sweep:
            mark.swept.add(identity)

    def is_delivered(self, trigger_id: str, change: Change) -> bool:
        mark = self._marks[trigger_id]
        return change.modified < mark.since or change_id(change) in mark.ids

    def is_swept(self, trigger_id: str, change: Change) -> bool:
        """Whether a sweep delivered it, so that the webhook's late retry need not."""
        mark = self._marks.get(trigger_id)
        return mark is not None and change_id(change) in mark.swept

    async def flush(self) -> None:
        """Writes the marks that changed. Raises ServiceException."""
        for trigger_id, mark in list(self._marks.items()):
            if not mark.dirty:
                continue
            if not self._held and trigger_id not in self._behind:
                _advance(mark)
            mark.dirty = False
            try:
                await self._store.mark_set(mark_key(trigger_id), mark.text())
            except LambdaError:
                mark.dirty = True
                raise

    async def run(self) -> None:
        """Flushes every two seconds, for as long as it is let."""
        while True:
            await self._clock.sleep(_FLUSH_SECONDS)
            try:
                await self.flush()
            except LambdaError as failure:
                _log.warning("S3 trigger marks are not written yet.", failure=failure)


def _advance(mark: _Mark) -> None:
    if not mark.ids:
        return
    newest_first = sorted(mark.ids.values(), reverse=True)
    since = newest_first[0] - LATE_SECONDS
    if len(newest_first) > _MOST_IDS:
        since = max(since, newest_first[_MOST_IDS] + 1)
    mark.since = max(mark.since, since)
    mark.ids = {identity: at for identity, at in mark.ids.items() if at >= mark.since}
    mark.swept &= mark.ids.keys()


def _parsed(text: str | None, trigger_id: str) -> _Mark | None:
    if text is None:
        return None
    try:
        stored: Mapping[str, Any] = json.loads(text)
        if stored["schema"] != _SCHEMA:
            raise ValueError(f"schema {stored['schema']}")
        return _Mark(int(stored["since"]), {str(name): int(at) for name, at in stored["ids"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        _log.error("A trigger's mark is not readable; it begins now.", trigger=trigger_id, failure=failure)
        return None
