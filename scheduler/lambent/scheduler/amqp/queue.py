"""`ports.EventQueue` on RabbitMQ, by kombu's `amqp://`, and on kombu's own `memory://`: items become messages
of one broker queue per line, two threads talk to the broker, and the event loop never blocks.

`publish` returns once the broker has confirmed, which a quorum queue does when the message is on disk. The
broker has no step that ends one message and adds another: what takes an item's place is stored first, so a
crash in between leaves both, never none.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from kombu.exceptions import KombuError

from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import EventQueueUnavailable, LambdaError, ResourceNotFoundException
from lambent.kernel.events import DeadEvent, Item, LaneDepth, Line, OutcomeRecord, Room
from lambent.kernel.log import Log
from lambent.kernel.models import Event
from lambent.kernel.ports import BlobStore, Clock, Delivery
from lambent.scheduler.amqp import desk
from lambent.scheduler.amqp.known import Known
from lambent.scheduler.amqp.link import DUE, FIRST_PUT, Link, LinkError, Message
from lambent.scheduler.amqp.local import LocalLink
from lambent.scheduler.amqp.names import UNREADABLE, Place, parse, step_of
from lambent.scheduler.amqp.rabbit import RabbitLink
from lambent.scheduler.amqp.reader import Reader
from lambent.scheduler.amqp.writer import Job, Writer, resolve
from lambent.scheduler.queue_codec import Encoded, UnreadableEvent, decode, encode, event_of, line_of, read
from lambent.scheduler.spill import Spill

_log = Log(__name__)
_T = TypeVar("_T")
_LOCAL = "memory://"
_UNREAD_SECONDS = 5.0  # until an event comes again whose payload could not be read
FAILURES = (OSError, LinkError, KombuError, *RabbitLink.errors)


class AmqpEventQueue:
    """`url`: `amqp://USER:PASSWORD@HOST:PORT/VHOST`, `amqps://…` or `memory://`. `space`: finds out which
    installation this is, at the start, for one broker may serve several. `blobs`: where large payloads go.
    `max_events`: of a lane, beyond which it takes no more (0: any number). `timeout`: seconds for an answer of
    the broker. `settle`: seconds until a new queue keeps what it takes (a RabbitMQ that is killed
    within 3 loses it). `start` before use, in a running loop; `close` at the end."""

    def __init__(
        self,
        url: str,
        *,
        blobs: BlobStore,
        space: Callable[[], Awaitable[str]],
        max_batch: int = 256,
        max_events: int = 0,
        timeout: float = 3.0,
        settle: float = 4.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._find_space = space
        self._space = ""
        self._timeout = timeout
        self._settle_seconds = settle
        self._clock = clock or SystemClock()
        self._spill = Spill(blobs, clock=self._clock)
        self._known = Known()
        self._product: str | None = None
        self._started = False
        # Of what is delivered: the message's first_put (kept over retries), and its blob.
        self._delivered: dict[str, tuple[int, str | None]] = {}
        self._heads: dict[str, tuple[int | None, float]] = {}
        self._writer = Writer(
            self._connect, self._known, most=max_events, settle=0 if url.startswith(_LOCAL) else settle
        )
        self._reader = Reader(lambda: self._connect(beats=True), self._known, self._later, limit=max_batch)

    async def start(self) -> None:
        """Starts the two threads. A broker that does not answer is no error here: publishes say so. Raises what
        `space` raises."""
        if not self._started:
            self._space = await self._find_space()
            self._started = True
            self._writer.start()
            self._reader.start()

    async def close(self) -> None:
        """Stores what waits, ends the threads. Unacknowledged events are delivered again later."""
        if not self._started:
            return
        self._started = False
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        self._reader.stop()
        await asyncio.to_thread(self._reader.join)

    def _connect(self, *, beats: bool = False) -> Link:
        if self._url.startswith(_LOCAL):
            link: Link = LocalLink(self._url)
        else:
            link = RabbitLink(
                self._url,
                space=self._space,
                timeout=self._timeout,
                settle=self._settle_seconds,
                beats=beats,
            )
        if self._product is None:
            self._product = link.product
            durable = self.durable()
            (_log.info if durable else _log.warning)("Durability of accepted events.", how=self.durability())
        return link

    def durability(self) -> str:
        """What "accepted" means with this broker, for the start-up lines and `doctor`."""
        return _durability(self._url, self._product)

    def durable(self) -> bool | None:
        """Whether an accepted event survives a crash of the broker and a loss of power; None: not known yet."""
        if self._url.startswith(_LOCAL):
            return False
        return None if self._product is None else True

    # ---- in and out -----------------------------------------------------------------------------------

    async def publish(self, event: Event) -> None:
        blob = await self._keep(event)
        message = self._message(event, event.lane, blob, first_put=self._now_ms())
        try:
            await self._store([message])
        except EventQueueUnavailable as failure:
            if blob is not None and failure.certain:  # else it may lie there, and names its blob
                await self._spill.drop_all([blob])
            raise

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    def _message(self, item: Item, lane: str, blob: str | None, *, first_put: int) -> Message:
        due = None if isinstance(item, DeadEvent) else item.due
        step = 0 if due is None else step_of(due - self._clock.now())
        headers: dict[str, int] = {FIRST_PUT: first_put}
        if due is not None and step:
            headers[DUE] = int(due * 1000)
        place = Place(line_of(item), lane, step)
        return Message(place.queue, encode(item, blob=blob), secrets.token_hex(12), headers)

    async def _store(self, messages: list[Message], *, instead_of: str | None = None) -> None:
        """Returns when they are stored and, with `instead_of`, that delivered message is ended. Those are
        stored however long it takes; else raises EventQueueUnavailable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: EventQueueUnavailable | None) -> None:
            if error is not None or instead_of is None:
                resolve(future, error)
            else:
                self._reader.settle(instead_of, lambda: resolve(future, None))

        self._writer.put(Job(messages, done, persist=instead_of is not None))
        await future

    async def _keep(self, item: Item) -> str | None:
        try:
            return await self._spill.keep(item)
        except LambdaError as failure:
            refusal = EventQueueUnavailable(f"The event was not accepted: {failure.message} Send it again.")
            refusal.certain = True
            raise refusal from failure

    async def consume(self, room: Room, *, wait: float) -> Sequence[Delivery]:
        deliveries: list[Delivery] = []
        for message in await self._reader.request(room, wait):
            delivery = await self._delivery(message)
            if delivery is not None:
                deliveries.append(delivery)
        return deliveries

    async def _delivery(self, message: Message) -> Delivery | None:
        place = parse(message.queue)
        assert place is not None, message.queue  # only lines are read
        try:
            encoded = read(message.body)
            inside = None if encoded.blob is None else await self._spill.read(encoded.blob)
            item = decode(encoded, lane=place.lane, line=place.line, rest=inside)
        except ResourceNotFoundException as gone:
            if message.redelivered:  # its acknowledgement was lost, after which its payload went
                self._reader.settle(message.id, _nothing)
            else:
                self._set_aside(message, gone)
            return None
        except UnreadableEvent as error:
            self._set_aside(message, error)
            return None
        except LambdaError as failure:
            # The disk's trouble may pass (too many open files, say), so the event must not be set aside for it.
            _log.warning(
                "An event's payload cannot be read; it comes later.", queue=message.queue, why=failure.message
            )
            self._put_back(message)
            return None
        first_put = int(message.headers.get(FIRST_PUT, event_of(item).accepted * 1000))
        self._delivered[message.id] = (first_put, encoded.blob)
        outcome = item if isinstance(item, OutcomeRecord) else None
        return Delivery(event_of(item), message.id, message.redelivered, outcome)

    def _set_aside(self, message: Message, why: Exception) -> None:
        """A copy first, then the end of the original."""
        _log.error(
            "An event cannot be read; it is set aside.", queue=message.queue, why=str(why), line=UNREADABLE
        )
        self._move(message, replace(message, queue=UNREADABLE))

    def _later(self, message: Message) -> None:
        """In the reader's thread: it has come from one step of its wait, and goes into the next."""
        place = parse(message.queue)
        assert place is not None, message.queue
        left = float(message.headers[DUE]) / 1000 - self._clock.now()
        headers = {name: message.headers[name] for name in (FIRST_PUT, DUE) if name in message.headers}
        queue = place._replace(step=step_of(max(left, 0.001))).queue
        self._move(message, replace(message, queue=queue, id=secrets.token_hex(12), headers=headers))

    def _put_back(self, message: Message) -> None:
        """A copy that waits a little, then the end of the original."""
        place = parse(message.queue)
        assert place is not None, message.queue
        due = int((self._clock.now() + _UNREAD_SECONDS) * 1000)
        queue = place._replace(step=step_of(_UNREAD_SECONDS)).queue
        headers = {**message.headers, DUE: due}
        self._move(message, replace(message, queue=queue, id=secrets.token_hex(12), headers=headers))

    def _move(self, message: Message, copy: Message) -> None:
        """Where it cannot be stored it stays unacknowledged, and comes again."""

        def done(error: EventQueueUnavailable | None) -> None:
            if error is None:
                self._reader.settle(message.id, _nothing)

        try:
            self._writer.put(Job([copy], done, persist=True))
        except EventQueueUnavailable:
            pass  # the server is stopping

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """In an outage they are ended here, and at the broker when it delivers them again."""
        ended = [delivery.tag for delivery in deliveries if delivery.tag in self._delivered]
        blobs = [self._delivered.pop(tag)[1] for tag in ended]
        await asyncio.gather(*(self._settle(tag) for tag in ended))
        await self._spill.drop_all([blob for blob in blobs if blob is not None])

    async def _settle(self, tag: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader.settle(tag, lambda: resolve(future, None))
        await future

    async def replace(self, delivery: Delivery, items: Sequence[Item]) -> None:
        """Waits out an outage, and a disk that does not take payloads."""
        if delivery.tag not in self._delivered:
            return  # it was ended
        if not items:
            await self.ack([delivery])
            return
        first, blob = self._delivered[delivery.tag]
        named, _ = await self._spill.replaced(delivery, blob, items, going_on=lambda: self._started)
        messages: list[Message] = []
        for item, name in named:
            stays = line_of(item) is (Line.OUTCOMES if delivery.outcome is not None else Line.LANE)
            since = first if stays else self._now_ms()
            messages.append(self._message(item, delivery.event.lane, name, first_put=since))
        await self._store(messages, instead_of=delivery.tag)
        self._delivered.pop(delivery.tag, None)
        reused = any(name == blob for _, name in named)
        await self._spill.drop_all([blob] if blob is not None and not reused else [])

    def wake(self) -> None:
        self._reader.wake()

    # ---- operations -----------------------------------------------------------------------------------

    async def lanes(self) -> Sequence[LaneDepth]:
        """Raises EventQueueUnavailable."""

        def look(link: Link) -> list[LaneDepth]:
            cradled = self._writer.cradled()  # first: what moves meanwhile is seen twice, never missed
            return desk.depths(
                link,
                self._known.places(),
                self._reader.in_flight(),
                cradled,
                self._head,
                self._clock.now(),
            )

        return await self._beside(look)

    def _head(self, link: Link, queue: str) -> float:
        """When the oldest of a queue was put there, about: as the newest that was read, or, until one was, as
        its head, which is looked at once."""
        read_last = self._reader.last_read(queue)
        if read_last is not None:
            return read_last / 1000
        if queue not in self._heads or self._heads[queue][0] is not None:
            self._heads[queue] = (None, desk.head(link, queue))
        return self._heads[queue][1]

    async def peek(self, lane: str, line: Line, *, limit: int) -> Sequence[Item]:
        def look(link: Link) -> list[desk.Row]:
            flying = self._reader.in_flight().get(Place(line, lane).queue, [])
            return desk.peek(link, self._places(lane, line), flying, limit)

        found: list[Item] = []
        for row in await self._on(lane, look):
            item = await self._item(row.encoded, lane, line)
            if item is not None:
                due = row.due if row.due is not None and row.due > self._clock.now() else None
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
        store = self._storing(lane)
        now = self._clock.now()
        return await self._on(lane, lambda link: desk.redrive(link, lane, limit, request_id, store, now))

    async def hasten(self, lane: str, request_id: str) -> int:
        store = self._storing(lane)
        return await self._on(
            lane, lambda link: desk.hasten(link, self._places(lane, Line.LANE), request_id, store)
        )

    def _storing(self, lane: str) -> desk.Store:
        """For a thread beside the loop: puts moves on their lines by the writer, and waits for it."""
        loop = asyncio.get_running_loop()

        async def store(moves: Sequence[desk.Move]) -> int:
            for move in moves:
                if move.row.encoded.blob is not None:
                    await self._spill.again(move.row.encoded.blob)
            first_put = {FIRST_PUT: self._now_ms()}
            messages = [
                Message(Place(move.line, lane).queue, move.body, secrets.token_hex(12), first_put)
                for move in moves
            ]
            outcomes = await asyncio.gather(
                *(self._store([message]) for message in messages), return_exceptions=True
            )
            failed = [index for index, outcome in enumerate(outcomes) if outcome is not None]
            return failed[0] if failed else len(moves)

        return lambda moves: asyncio.run_coroutine_threadsafe(store(moves), loop).result()

    async def purge(self, lane: str, line: Line) -> int:
        """Its spilled payloads go with the next sweep."""

        def purge(link: Link) -> int:
            places = self._places(lane, line)
            with self._reader.aside([place.queue for place in places]):
                return sum(link.purge(place.queue) for place in places)

        return await self._on(lane, purge)

    async def trim_dead(self, lane: str, *, keep: int) -> int:
        dropped, blobs = await self._on(lane, lambda link: desk.trim(link, lane, keep))
        await self._spill.drop_all(blobs)
        return dropped

    async def drop_lane(self, lane: str) -> int:
        """Its spilled payloads go with the next sweep; outcomes under way stay and go to their targets."""

        def drop(link: Link) -> int:
            places = [place for place in self._known.places(lane) if place.line is not Line.OUTCOMES]
            queues = [place.queue for place in places]
            with self._reader.aside(queues):
                flying = self._reader.in_flight().get(Place(Line.LANE, lane).queue, [])
                dropped = desk.drop(link, places)
                self._writer.forget(queues)
                self._known.forget(queues)
                self._reader.forget(queues)
            return sum(count for place, count in dropped.items() if place.line is Line.LANE) + len(flying)

        return await self._on(lane, drop)

    async def sweep(self) -> int:
        """Deletes spilled payloads whose events are gone; how many. Raises LambdaError."""

        async def used(lane: str) -> frozenset[str] | None:
            found = await self._beside(lambda link: desk.blobs_in_use(link, self._known.places(lane)))
            if found is None:
                return None
            return frozenset(found | {blob for _, blob in self._delivered.values() if blob is not None})

        return await self._spill.sweep(used)

    def _places(self, lane: str, line: Line) -> list[Place]:
        return [place for place in self._known.places(lane) if place.line is line]

    async def _on(self, lane: str, work: Callable[[Link], _T]) -> _T:
        """As `_beside`, when all of the lane lies where it belongs."""

        def settled(link: Link) -> _T:
            self._writer.await_moved([place.queue for place in self._known.places(lane)])
            return work(link)

        return await self._beside(settled)

    async def _beside(self, work: Callable[[Link], _T]) -> _T:
        """Runs `work` in a thread, over a link of its own. Raises EventQueueUnavailable."""

        def run() -> _T:
            if not self._known.complete.wait(self._timeout):
                raise LinkError("it does not answer")
            link = self._connect()
            try:
                return work(link)
            finally:
                link.close()

        try:
            return await asyncio.to_thread(run)
        except FAILURES as failure:
            raise EventQueueUnavailable(f"The event queue's server failed ({failure}). Try again.") from failure


def _durability(url: str, product: str | None) -> str:
    if url.startswith(_LOCAL):
        return "at risk: memory:// keeps them in the server's own process, whose end loses them. Only to try."
    if product is None:
        return "not known yet: no connection so far"
    return f"on disk before the answer ({product}, quorum queues, confirmed publishes)."


def probe(url: str, *, timeout: float) -> tuple[bool, str]:
    """Whether accepted events are durable there, and how; asks the broker. Raises what is in FAILURES."""
    if url.startswith(_LOCAL):
        return False, _durability(url, None)
    link = RabbitLink(url, space="", timeout=timeout)
    link.close()
    return True, _durability(url, link.product)


def _nothing() -> None:
    pass
