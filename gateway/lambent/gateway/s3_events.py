"""The filer's webhook: every change of every file of the bundled S3 server, made into events of S3 triggers.

SeaweedFS tells of folders, multipart parts and versions as of any file, with plain keys
`/buckets/BUCKET/KEY`. 200 is answered only once every event is on disk. Its retries do not work (release 4.48
takes any answer as final), so a request is held while the queue is down, for as long as the webhook waits.
Triggers are read for each change, not cached: a change that meets an old list would be lost for good.
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lambent.kernel import metrics
from lambent.kernel.errors import EventQueueUnavailable, LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Trigger
from lambent.kernel.ports import Clock, EventQueue, FunctionStore
from lambent.kernel.s3_trigger import Change, Marks, matches, to_event
from lambent.kernel.tracing import new_header

_log = Log(__name__)
_ETAG = "Seaweed-X-Amz-ETag"
_VERSION = "Seaweed-X-Amz-Version-Id"
_DELETE_MARKER = "Seaweed-X-Amz-Delete-Marker"
_UPLOAD = "X-Seaweedfs-Upload-Id"
_META = "X-Amz-Meta-"
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Where a bucket with versioning keeps them: KEY.versions/v_ID
_VERSION_FILE = re.compile(r"(?P<key>.+)\.versions/v_[0-9a-f]{32}", re.DOTALL)
_NS = 10**9
# The webhook is configured to wait for 300 s; it sends one message at a time, so the others wait with it.
PATIENCE_SECONDS = 240.0
_RETRY_SECONDS = 1.0


class S3Events:
    """`token`: the bearer token that the webhook was given. `on_lost` is called when events were held up or
    given back, so that a sweep looks for what may be lost."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        queue: EventQueue,
        marks: Marks,
        clock: Clock,
        region: str,
        token: str,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._marks = marks
        self._clock = clock
        self._region = region
        self._expected = f"Bearer {token}".encode()
        self._on_lost = on_lost
        self._closing = False

    def close(self) -> None:
        """Gives held requests back within a second: the sweep of the next start finds their objects."""
        self._closing = True

    async def handle(self, body: bytes, authorization: str | None) -> int:
        """The HTTP status for one POST of the webhook: 200 when done or not ours, 401, 400 for what is no
        message of the filer, 503 when the queue was down for too long."""
        if not hmac.compare_digest((authorization or "").encode(), self._expected):
            return 401
        try:
            change = change_of(json.loads(body), now=self._clock.now())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as failure:
            _log.warning("The S3 webhook sent what is no message of the filer.", failure=repr(failure))
            return 400
        return 200 if change is None or await self._accepted(change) else 503

    async def _accepted(self, change: Change) -> bool:
        """Whether every event of the change is on disk, after as much waiting as the webhook allows."""
        until = self._clock.monotonic() + PATIENCE_SECONDS
        done: set[str] = set()
        behind: set[str] = set()
        held = False
        try:
            while True:
                try:
                    await self._deliver_all(change, done, behind)
                    return not behind
                except LambdaError as failure:
                    if not held:
                        _log.warning("S3 events wait for the queue.", bucket=change.bucket, failure=failure)
                    held = True
                    self._marks.hold()
                if self._closing or self._clock.monotonic() >= until:
                    _log.error("An S3 event was not accepted.", bucket=change.bucket, key=change.key)
                    return False
                await self._clock.sleep(_RETRY_SECONDS)
        finally:
            if (held or behind) and self._on_lost is not None:
                self._on_lost()

    async def _deliver_all(self, change: Change, done: set[str], behind: set[str]) -> None:
        """`done`: triggers that have their event, from one try to the next; `behind`: those of them that a
        sweep will bring it to. Raises LambdaError."""
        for trigger in await self._store.triggers():
            if trigger.id in done or not matches(trigger, change):
                continue
            try:
                await self._deliver(trigger, change)
            except EventQueueUnavailable as failure:
                # The webhook sends little at once: whoever waits here for one function's queue keeps the
                # events of all others. Removals leave nothing that a sweep could find, so they do wait.
                if not failure.full or self._on_lost is None or not change.name.startswith("ObjectCreated:"):
                    raise
                behind.add(trigger.id)
                if self._marks.hold_one(trigger.id):
                    _log.warning(
                        "A function's queue is full; a sweep brings its S3 events when it has room.",
                        function=trigger.function,
                        bucket=change.bucket,
                    )
            done.add(trigger.id)

    async def _deliver(self, trigger: Trigger, change: Change) -> None:
        await self._marks.load(trigger.id)
        created = change.name.startswith("ObjectCreated:")
        if created and self._marks.is_swept(trigger.id, change):
            return
        function = await self._store.get(trigger.function)
        if function is None:
            _log.warning("A trigger's function does not exist.", trigger=trigger.id, function=trigger.function)
            metrics.trigger_events_dropped.labels(metrics.function_label(trigger.function)).inc()
            if created:  # done with: it is not for a function that gets the name later
                self._marks.delivered(trigger.id, change)
            return
        now = self._clock.now()
        event = to_event(trigger, function, change, region=self._region, accepted=now, trace_id=new_header(now))
        await self._queue.publish(event)
        metrics.events_received.labels(metrics.function_label(function.name)).inc()
        if created:
            self._marks.delivered(trigger.id, change)


def change_of(message: Mapping[str, Any], *, now: float) -> Change | None:
    """What happened to which object; None for what S3 would not tell of. Raises ValueError, KeyError,
    TypeError or AttributeError for what is no message of the filer."""
    kind, content = str(message["event_type"]), message["message"]
    old, new = content.get("old_entry"), content.get("new_entry")
    path = str(message["key"])
    if new is not None and content.get("new_parent_path"):
        path = f"{content['new_parent_path']}/{new['name']}"  # a rename's key is the old one
    entry = old if kind == "delete" else new
    place = _place(path, entry)
    if entry is None or place is None:
        return None
    bucket, key = place
    version = _text(entry, _VERSION)
    if version is not None and (found := _VERSION_FILE.fullmatch(key)):
        key = found["key"]
    name = _removed(entry) if kind == "delete" else _created(old, entry, renamed=kind == "rename")
    if name is None:
        return None
    attributes = entry["attributes"]
    modified = int(attributes.get("mtime") or now)
    if name.startswith("ObjectRemoved:"):
        return Change(bucket, key, name, modified, int(now * _NS), version_id=version)
    written = [int(chunk.get("modified_ts_ns") or 0) for chunk in entry.get("chunks", ())]
    order = max([modified * _NS + int(attributes.get("mtime_ns") or 0), *written])
    size = int(attributes.get("file_size") or 0) or len(base64.b64decode(entry.get("content") or ""))
    return Change(bucket, key, name, modified, order, size, _etag(entry), version)


def _place(path: str, entry: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """(bucket, key), or None for what is no object: folders that nobody made, buckets, bookkeeping."""
    parts = path.split("/", 3)
    if entry is None or len(parts) < 4 or parts[:2] != ["", "buckets"] or not BUCKET_NAME.fullmatch(parts[2]):
        return None
    bucket, key = parts[2], parts[3]
    if not key or key.startswith(".uploads/") or key == ".uploads":
        return None
    if entry.get("is_directory"):
        # "folder/", put as an object, is a folder with an ETag.
        return (bucket, f"{key}/") if _text(entry, _ETAG) is not None else None
    return bucket, key


def _removed(entry: Mapping[str, Any]) -> str | None:
    return None if _text(entry, _DELETE_MARKER) is not None else "ObjectRemoved:Delete"


def _created(old: Mapping[str, Any] | None, new: Mapping[str, Any], *, renamed: bool) -> str | None:
    if _text(new, _DELETE_MARKER) is not None:
        return "ObjectRemoved:DeleteMarkerCreated" if old is None else None
    if old is None or renamed or _content(old) != _content(new):
        # A copy to another key looks as a put does.
        return "ObjectCreated:CompleteMultipartUpload" if _text(new, _UPLOAD) else "ObjectCreated:Put"
    if _metadata(old) != _metadata(new):
        return "ObjectCreated:Copy"  # onto itself, with new metadata
    # Tags, ACLs and locks change an entry and create nothing. An empty object that is written again within
    # its second shows no difference at all.
    same = old.get("extended") == new.get("extended") and not new.get("chunks") and not new.get("content")
    return "ObjectCreated:Put" if same and _text(new, _VERSION) is None else None


def _content(entry: Mapping[str, Any]) -> object:
    attributes = entry["attributes"]
    chunks = [
        (chunk.get("fid"), chunk.get("offset", 0), chunk.get("size")) for chunk in entry.get("chunks", ())
    ]
    times = (attributes.get("mtime"), attributes.get("mtime_ns"))
    return chunks, entry.get("content"), attributes.get("md5"), times


def _metadata(entry: Mapping[str, Any]) -> object:
    extended = entry.get("extended") or {}
    meta = {name: value for name, value in extended.items() if name.startswith(_META)}
    return meta, entry["attributes"].get("mime")


def _etag(entry: Mapping[str, Any]) -> str | None:
    text = _text(entry, _ETAG)
    if text is not None:
        return text.strip('"')
    md5 = entry["attributes"].get("md5")
    return base64.b64decode(md5).hex() if md5 else None


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    """An extended attribute: bytes, in base64."""
    value = (entry.get("extended") or {}).get(name)
    if value is None:
        return None
    try:
        return base64.b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError) as failure:
        raise ValueError(f"{name} is not readable: {failure}") from failure
