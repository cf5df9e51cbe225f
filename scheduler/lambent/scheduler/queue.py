"""`ports.EventQueue` over kombu on Redis Streams: items become messages of one broker queue per line, two
threads talk to the broker, and the event loop never blocks.

`publish` returns once the broker has confirmed; with our own server (`appendfsync always`) that is after the
fsync, on another one `durability()` says what its settings risk.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import EventQueueUnavailable, LambdaError, ResourceNotFoundException
from lambent.kernel.events import DeadEvent, Item, LaneDepth, Line, OutcomeRecord, Room
from lambent.kernel.log import Log
from lambent.kernel.models import Event
from lambent.kernel.ports import BlobStore, Clock, Delivery
from lambent.scheduler import queue_operations as operations
from lambent.scheduler.queue_codec import Encoded, UnreadableEvent, decode, encode, event_of, line_of, read
from lambent.scheduler.queue_consumer import Consumer
from lambent.scheduler.queue_durability import Durability, least, probe, with_failover
from lambent.scheduler.queue_names import UNREADABLE, parse_queue, queue_of
from lambent.scheduler.queue_operations import prepared
from lambent.scheduler.queue_writer import Job, Writer
from lambent.scheduler.spill import Spill
from lambent.scheduler.transport.places import is_group
from lambent.scheduler.transport.streams import Channel, Replacement, close_channel, open_channel
from lambent.scheduler.transport.wire import SERVER_ERRORS

_log = Log(__name__)
_UNREAD_SECONDS = 5.0  # until an event comes again whose payload could not be read
_T = TypeVar("_T")


class KombuEventQueue:
    """`url`: a Redis or Valkey URL (`redis+streams://…`, `redis://…`, `unix:///path`), of sentinels or of a
    cluster. `consumer_name`: this scheduler's, unique among those alive and the same after its restart, so that
    what it ran comes back at once. `blobs`: where large payloads go. `shards`: slices of the key space; the
    first start's number stays. `claim_idle`: seconds until a dead consumer's events are taken over.
    `max_events`: of a lane, beyond which it takes no more (0: any number). `replicas`: that must have an event
    before it is accepted. `start` before use, in a running loop; `close` at the end."""

    def __init__(
        self,
        url: str,
        *,
        consumer_name: str,
        blobs: BlobStore,
        shards: int = 16,
        claim_idle: float = 30.0,
        max_batch: int = 256,
        max_events: int = 0,
        replicas: int = 0,
        timeout: float = 3.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._spill = Spill(blobs, clock=self._clock)
        self._options: dict[str, Any] = {
            "prefix": "lambent:q",
            "shards": shards,
            "consumer_name": consumer_name,
            "claim_idle": claim_idle,
            "socket_timeout": timeout,
            "max_length": max_events,
            "replicas": replicas,
        }
        self._durability: Durability | None = None
        self._started = False
        # Of what is delivered: when it was first put (kept over retries), and its blob.
        self._delivered: dict[str, tuple[str, str | None]] = {}
        self._consumer = Consumer(
            lambda: open_channel(self._url, **self._options), self._interrupt, limit=max_batch
        )
        self._writer = Writer(self._writing_channel, self._consumer.forget)

    async def start(self) -> None:
        """Starts the two threads. A broker that does not answer is no error here: publishes say so."""
        if not self._started:
            self._started = True
            self._writer.start()
            self._consumer.start()

    async def close(self) -> None:
        """Stops reading, sends what waits, ends the threads. Unacknowledged events are delivered again
        later."""
        if not self._started:
            return
        self._started = False
        self._consumer.stop()
        await asyncio.to_thread(self._consumer.join)
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)

    def _writing_channel(self) -> Channel:
        """In the writer's thread, at each new connection: a failover may bring a server with other settings."""
        channel = open_channel(self._url, **self._options)
        found = least([probe(server.run) for server in channel.wire.servers()])
        found = with_failover(found, fails_over=is_group(self._url), replicas=channel.replicas)
        if self._durability is None or found.text != self._durability.text:
            (_log.info if found.durable else _log.warning)("Durability of accepted events.", how=found.text)
        self._durability = found
        channel.waitaof = found.waitaof
        return channel

    def durability(self) -> str:
        """What "accepted" means with this server's settings, for the start-up lines and `doctor`."""
        return self._durability.text if self._durability else "not known yet: no connection so far"

    def durable(self) -> bool | None:
        """Whether an accepted event survives a crash of the server and a loss of power; None: not known yet."""
        return self._durability.durable if self._durability else None

    # ---- in and out -----------------------------------------------------------------------------------

    async def publish(self, event: Event) -> None:
        blob = await self._keep(event)
        delay = 0 if event.due is None else int((event.due - self._clock.now()) * 1000)
        job = Job(
            self._future(),
            queue=queue_of(Line.LANE, event.lane),
            body=encode(event, blob=blob),
            delay_ms=max(0, delay),
        )
        try:
            await self._put(job)
        except EventQueueUnavailable as failure:
            if blob is not None and failure.certain:  # else it may lie there, and names its blob
                await self._spill.drop_all([blob])
            raise

    async def _keep(self, item: Item) -> str | None:
        try:
            return await self._spill.keep(item)
        except LambdaError as failure:
            refusal = EventQueueUnavailable(f"The event was not accepted: {failure.message} Send it again.")
            refusal.certain = True
            raise refusal from failure

    async def consume(self, room: Room, *, wait: float) -> Sequence[Delivery]:
        deliveries: list[Delivery] = []
        for message in await self._consumer.request(room, wait):
            delivery = await self._delivery(message)
            if delivery is not None:
                deliveries.append(delivery)
        return deliveries

    async def _delivery(self, message: Any) -> Delivery | None:
        tag: str = message.delivery_tag
        queue = tag.rpartition("|")[0]
        named = parse_queue(queue)
        assert named is not None, queue  # only lines are asked for
        try:
            encoded = read(message.body)
            inside = None if encoded.blob is None else await self._spill.read(encoded.blob)
            item = decode(encoded, lane=named[1], line=named[0], rest=inside)
        except (UnreadableEvent, ResourceNotFoundException) as error:
            _log.error(
                "An event cannot be read; it is set aside.", queue=queue, why=str(error), line=UNREADABLE
            )
            self._set_aside(message)
            return None
        except LambdaError as failure:
            # The disk's trouble may pass (too many open files, say), so the event must not be set aside for it.
            _log.warning("An event's payload cannot be read; it comes later.", queue=queue, why=failure.message)
            self._put_back(message)
            return None
        self._delivered[tag] = (message.properties.get("first_put", ""), encoded.blob)
        outcome = item if isinstance(item, OutcomeRecord) else None
        return Delivery(event_of(item), tag, bool(message.delivery_info.get("redelivered")), outcome)

    def _set_aside(self, message: Any) -> None:
        """A copy first, then the end of the original: a crash in between leaves two, never none."""

        def move(channel: Any) -> None:
            channel.basic_publish(
                channel.prepare_message(
                    message.body, content_type=message.content_type, content_encoding="binary"
                ),
                exchange="",
                routing_key=UNREADABLE,
            )
            channel.ack_many([message.delivery_tag])
            self._consumer.forget([message.delivery_tag])

        job = Job(self._future(), call=move, persist=True)
        job.future.add_done_callback(_log_failure)
        self._writer.put(job)

    def _put_back(self, message: Any) -> None:
        """The message itself, a little later, in its own place."""
        tag: str = message.delivery_tag
        first = message.properties.get("first_put", "")
        again = Replacement(tag.rpartition("|")[0], prepared(message.body), int(_UNREAD_SECONDS * 1000), first)
        job = Job(self._future(), replace=(tag, [again]), persist=True)
        job.future.add_done_callback(_log_failure)
        self._writer.put(job)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Waits out an outage: returns when they are gone, raises EventQueueUnavailable only at `close`."""
        if not deliveries:
            return
        tags = [delivery.tag for delivery in deliveries]
        await self._put(Job(self._future(), ack=tags, persist=True))
        blobs = [self._delivered.pop(tag, ("", None))[1] for tag in tags]
        await self._spill.drop_all([blob for blob in blobs if blob is not None])

    async def replace(self, delivery: Delivery, items: Sequence[Item]) -> None:
        """Waits out an outage, and a disk that does not take payloads, as `ack`: what has run must not run
        again for it, and handed to nobody it would lie in flight for ever."""
        first, blob = self._delivered.get(delivery.tag, ("", None))
        first = first or str(int(delivery.event.accepted * 1000))
        named, made = await self._spill.replaced(delivery, blob, items, going_on=lambda: self._started)
        messages: list[Replacement] = []
        for item, name in named:
            stays = line_of(item) is (Line.OUTCOMES if delivery.outcome is not None else Line.LANE)
            messages.append(self._replacement(delivery, item, name, first if stays else ""))
        job = Job(self._future(), replace=(delivery.tag, messages), persist=True)
        if await self._put(job):
            self._delivered.pop(delivery.tag, None)
            reused = any(name == blob for _, name in named)
            await self._spill.drop_all([blob] if blob is not None and not reused else [])
        else:  # it was gone: another consumer has ended it, or an earlier try of this did it
            self._delivered.pop(delivery.tag, None)
            await self._spill.drop_all([] if job.repeated else made)

    def _replacement(self, delivery: Delivery, item: Item, blob: str | None, first_put: str) -> Replacement:
        due = None if isinstance(item, DeadEvent) else item.due
        delay = 0 if due is None else max(0, int((due - self._clock.now()) * 1000))
        queue = queue_of(line_of(item), delivery.event.lane)
        return Replacement(queue, prepared(encode(item, blob=blob)), delay, first_put)

    def wake(self) -> None:
        self._consumer.wake()

    def _interrupt(self, channel: Any) -> None:
        """Ends the consumer's blocked read, from the writer's thread: it takes a round trip."""
        job = Job(self._future(), call=lambda _: channel.interrupt())
        job.future.add_done_callback(_log_failure)
        self._writer.put(job)

    # ---- operations -----------------------------------------------------------------------------------

    async def lanes(self) -> Sequence[LaneDepth]:
        """Raises EventQueueUnavailable."""
        depths: list[LaneDepth] = await self._put(Job(self._future(), call=operations.depths))
        return depths

    async def peek(self, lane: str, line: Line, *, limit: int) -> Sequence[Item]:
        rows = await self._beside(lambda channel: operations.peek(channel, lane, line, limit))
        found: list[Item] = []
        for encoded, due in rows:
            item = await self._item(encoded, lane, line)
            if item is not None:
                found.append(item if due is None or isinstance(item, DeadEvent) else replace(item, due=due))
        return found

    async def _item(self, encoded: Encoded, lane: str, line: Line) -> Item | None:
        """None: ended while it was looked at, or unreadable, which is said when its turn comes."""
        try:
            inside = None if encoded.blob is None else await self._spill.read(encoded.blob)
            return decode(encoded, lane=lane, line=line, rest=inside)
        except (UnreadableEvent, LambdaError):
            return None

    async def redrive(self, lane: str, *, limit: int, request_id: str | None = None) -> int:
        found = await self._beside(lambda channel: operations.dead(channel, lane, limit, request_id))
        for one in found:
            if one.encoded.blob is not None:
                await self._spill.again(one.encoded.blob)
        return await self._beside(lambda channel: operations.redrive(channel, lane, found, self._clock.now()))

    async def hasten(self, lane: str, request_id: str) -> int:
        return await self._beside(lambda channel: operations.hasten(channel, lane, request_id))

    async def purge(self, lane: str, line: Line) -> int:
        """Its spilled payloads go with the next sweep."""
        return await self._beside(lambda channel: channel.purge(queue_of(line, lane)))

    async def trim_dead(self, lane: str, *, keep: int) -> int:
        dropped, blobs = await self._beside(lambda channel: operations.trim(channel, lane, keep))
        await self._spill.drop_all(blobs)
        return dropped

    async def drop_lane(self, lane: str) -> int:
        """Its spilled payloads go with the next sweep."""
        return await self._beside(lambda channel: operations.drop(channel, lane))

    async def sweep(self) -> int:
        """Deletes spilled payloads whose events are gone; how many. Raises LambdaError."""

        async def used(lane: str) -> frozenset[str] | None:
            return await self._beside(lambda channel: operations.blobs_in_use(channel, lane))

        return await self._spill.sweep(used)

    async def _beside(self, work: Callable[[Channel], _T]) -> _T:
        """Runs `work` in a thread, over a connection of its own. Raises EventQueueUnavailable."""

        def run() -> _T:
            channel = open_channel(self._url, **self._options)
            try:
                return work(channel)
            finally:
                close_channel(channel)

        try:
            return await asyncio.to_thread(run)
        except SERVER_ERRORS as failure:
            raise EventQueueUnavailable(f"The event queue's server failed ({failure}). Try again.") from failure

    async def _put(self, job: Job) -> Any:
        return await self._writer.put(job)

    @staticmethod
    def _future() -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()


def _log_failure(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled() and future.exception() is not None:
        _log.warning("A step of the event queue failed.", error=repr(future.exception()))
