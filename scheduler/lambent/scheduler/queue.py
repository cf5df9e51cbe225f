"""`ports.EventQueue` over kombu: events become messages of one broker queue per lane, two threads talk to
the broker, and the event loop never blocks.

`publish` returns once the broker has confirmed; with our own server (`appendfsync always`) that is after the
fsync, on another one `durability()` says what its settings risk.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lambent.kernel.clock import SystemClock
from lambent.kernel.log import Log
from lambent.kernel.models import Event, LaneDepth
from lambent.kernel.ports import Clock, Delivery
from lambent.scheduler.queue_codec import UnreadableEvent, decode, encode
from lambent.scheduler.queue_consumer import Consumer
from lambent.scheduler.queue_durability import Durability, probe
from lambent.scheduler.queue_writer import CONTENT_TYPE, Job, Writer
from lambent.scheduler.transport.streams import Channel, open_channel

_log = Log(__name__)
_LANE = "lane."
_UNREADABLE = "unreadable"  # where bytes go that are no event: kept, for somebody to look at


def queue_of(lane: str) -> str:
    """The broker's queue of a lane."""
    return _LANE + lane


def lane_of(queue: str) -> str | None:
    """The lane of a broker's queue, or None for a queue that is no lane."""
    return queue.removeprefix(_LANE) if queue.startswith(_LANE) else None


class KombuEventQueue:
    """`url`: a Redis or Valkey URL (`redis+streams://…`, `redis://…`, `unix:///path`). `consumer_name`: this
    scheduler's, unique among those alive and the same after its restart, so that what it ran comes back at
    once. `shards`: slices of the key space; the first start's number stays. `claim_idle`: seconds until a
    dead consumer's events are taken over. `start` before use, in a running loop; `close` at the end."""

    def __init__(
        self,
        url: str,
        *,
        consumer_name: str,
        shards: int = 16,
        claim_idle: float = 30.0,
        max_batch: int = 256,
        timeout: float = 3.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._options: dict[str, Any] = {
            "prefix": "lambent:q",
            "shards": shards,
            "consumer_name": consumer_name,
            "claim_idle": claim_idle,
            "socket_timeout": timeout,
        }
        self._durability: Durability | None = None
        self._started = False
        self._first_put: dict[str, str] = {}  # tag -> when the event was first put, kept over retries
        self._consumer = Consumer(
            lambda: open_channel(self._url, **self._options), lane_of, self._interrupt, limit=max_batch
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
        found = probe(channel.wire.run)
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

    async def publish(self, event: Event) -> None:
        delay = 0 if event.due is None else int((event.due - self._clock.now()) * 1000)
        await self._put(
            Job(self._future(), queue=queue_of(event.lane), body=encode(event), delay_ms=max(0, delay))
        )

    async def consume(self, room: Mapping[str, int], *, wait: float) -> Sequence[Delivery]:
        deliveries: list[Delivery] = []
        for message in await self._consumer.request(room, wait):
            delivery = self._delivery(message)
            if delivery is not None:
                deliveries.append(delivery)
        return deliveries

    def _delivery(self, message: Any) -> Delivery | None:
        queue = message.delivery_tag.rpartition("|")[0]
        try:
            event = decode(message.body, lane=queue.removeprefix(_LANE))
        except UnreadableEvent as error:
            _log.error(
                "An event cannot be read; it is set aside.", lane=queue, why=str(error), line=_UNREADABLE
            )
            self._set_aside(message)
            return None
        self._first_put[message.delivery_tag] = message.properties.get("first_put", "")
        return Delivery(event, message.delivery_tag, bool(message.delivery_info.get("redelivered")))

    def _set_aside(self, message: Any) -> None:
        """A copy first, then the end of the original: a crash in between leaves two, never none."""

        def move(channel: Any) -> None:
            channel.basic_publish(
                channel.prepare_message(
                    message.body, content_type=message.content_type, content_encoding="binary"
                ),
                exchange="",
                routing_key=_UNREADABLE,
            )
            channel.ack_many([message.delivery_tag])
            self._consumer.forget([message.delivery_tag])

        job = Job(self._future(), call=move, persist=True)
        job.future.add_done_callback(_log_failure)
        self._writer.put(job)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Waits out an outage: returns when they are gone, raises EventQueueUnavailable only at `close`."""
        if not deliveries:
            return
        tags = [delivery.tag for delivery in deliveries]
        await self._put(Job(self._future(), ack=tags, persist=True))
        for tag in tags:
            self._first_put.pop(tag, None)

    async def delay(self, delivery: Delivery, event: Event) -> None:
        """Waits out an outage, as `ack`."""
        delay = 0 if event.due is None else max(0, int((event.due - self._clock.now()) * 1000))
        message = {
            "body": encode(event),
            "content-type": CONTENT_TYPE,
            "content-encoding": "binary",
            "headers": {},
            "properties": {},
        }
        first = self._first_put.get(delivery.tag, "") or str(int(event.accepted * 1000))
        await self._put(Job(self._future(), replace=(delivery.tag, message, delay, first), persist=True))
        self._first_put.pop(delivery.tag, None)

    async def redrive(self, source: str, lane: str, *, limit: int) -> int:
        """`source`: a broker queue. Each event is put first and ended there after, so a crash repeats, never
        loses. Raises EventQueueUnavailable."""

        def move(channel: Any) -> int:
            messages = channel.peek(source, limit)
            if not messages:
                return 0
            calls = []
            for message in messages:
                event = replace(decode(message.body, lane=lane), attempt=1, due=None)
                prepared = channel.prepare_message(
                    encode(event), content_type=CONTENT_TYPE, content_encoding="binary"
                )
                calls.append(prepared)
            channel.put_messages(queue_of(lane), calls)
            ended: int = channel.ack_many([message.delivery_tag for message in messages])
            return ended

        return int(await self._call(move))

    async def lanes(self) -> Sequence[LaneDepth]:
        """Raises EventQueueUnavailable."""

        def read(channel: Any) -> list[LaneDepth]:
            queues = [queue for queue in channel.queues() if lane_of(queue) is not None]
            depths = []
            for queue, (length, pending, delayed, age) in channel.stats(queues).items():
                oldest = age if age >= 0 else None
                depths.append(
                    LaneDepth(queue.removeprefix(_LANE), max(0, length - pending), pending, delayed, oldest)
                )
            return depths

        depths: list[LaneDepth] = await self._call(read)
        return depths

    async def drop_lane(self, lane: str) -> int:
        """Raises EventQueueUnavailable."""
        return int(await self._call(lambda channel: channel.delete_queue(queue_of(lane))))

    def wake(self) -> None:
        self._consumer.wake()

    def _interrupt(self, channel: Any) -> None:
        """Ends the consumer's blocked read, from the writer's thread: it takes a round trip."""
        job = Job(self._future(), call=lambda _: channel.interrupt())
        job.future.add_done_callback(_log_failure)
        self._writer.put(job)

    async def _call(self, work: Callable[[Any], Any]) -> Any:
        return await self._put(Job(self._future(), call=work))

    async def _put(self, job: Job) -> Any:
        return await self._writer.put(job)

    @staticmethod
    def _future() -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()


def _log_failure(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled() and future.exception() is not None:
        _log.warning("A step of the event queue failed.", error=repr(future.exception()))
