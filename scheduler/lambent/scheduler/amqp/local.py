"""A link to kombu's own `memory://` transport: the same queue with nothing behind it, for trying things. It has
no confirms, no time to live and no register, so what RabbitMQ does itself is done here, per process."""

import heapq
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kombu.connection import Connection
from kombu.transport.memory import Channel

from lambent.scheduler.amqp.link import CONTENT_TYPE, LinkError, Message, Refused, Unroutable
from lambent.scheduler.amqp.names import PREFIX, parse

_REST_SECONDS = 30.0


class _Hub:
    """What all links of this process share, as kombu's queues are."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.most: dict[str, int] = {}
        self.waits: list[tuple[float, str]] = []  # (monotonic end, queue of waits)
        self.bells: dict[
            int, list[tuple[str, bool]]
        ] = {}  # of each watching link, and what it has not heard of

    def ring(self) -> None:
        with self.lock:
            for bell in self.bells:
                try:
                    os.write(bell, b"!")
                except BlockingIOError:
                    pass  # it rings already


_hub = _Hub()


class LocalLink:
    """All of it is in memory and nothing blocks, so there is no timeout."""

    product = "kombu's memory transport"
    blocked = False

    def __init__(self, url: str) -> None:
        self.cancelled: list[tuple[str, int]] = []
        self._connection: Any = Connection(url)
        self._channel: Any = self._connection.channel()
        self._windows: dict[str, tuple[int, int]] = {}  # by queue: (consumer, window)
        self._held: dict[Any, tuple[str, int]] = {}  # by tag: (queue, consumer)
        self._numbers = 0
        self._hears, self._bell = os.pipe()
        os.set_blocking(self._hears, False)
        os.set_blocking(self._bell, False)

    # ---- publishing and queues -------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> list[LinkError | None]:
        with _hub.lock:
            outcomes = [self._publish(message) for message in messages]
        _hub.ring()
        return outcomes

    def _publish(self, message: Message) -> LinkError | None:
        if message.queue not in Channel.queues:
            return Unroutable("there is no such queue")
        most = _hub.most.get(message.queue, 0)
        if most and self._channel._size(message.queue) >= most:
            return Refused("the queue takes no more")
        made = self._channel.prepare_message(
            message.body,
            content_type=CONTENT_TYPE,
            content_encoding="binary",
            headers=message.headers,
            properties={"message_id": message.id},
        )
        self._channel.basic_publish(made, exchange="", routing_key=message.queue)
        place = parse(message.queue)
        if place is not None and place.step:
            heapq.heappush(_hub.waits, (time.monotonic() + place.step / 1000, message.queue))
        return None

    def prepare(self) -> float:
        return 0.0

    def declare(self, queue: str, *, most: int) -> bool:
        with _hub.lock:
            self._channel.queue_declare(queue)
            _hub.most[queue] = most
        return True

    def alive(self, queue: str) -> bool:
        return True

    def announce(self, queues: Sequence[str], *, settled: bool) -> None:
        with _hub.lock:
            for news in _hub.bells.values():
                news += [(queue, settled) for queue in queues]
        _hub.ring()

    def watch(self) -> Mapping[str, bool]:
        with _hub.lock:
            _hub.bells[self._bell] = []
            return {name: True for name in Channel.queues if name.startswith(PREFIX)}

    def heard(self) -> Sequence[tuple[str, bool]]:
        with _hub.lock:
            news = _hub.bells.get(self._bell, [])
            heard = list(news)
            news.clear()
        return heard

    def count(self, queue: str) -> int | None:
        with _hub.lock:
            return self._channel._size(queue) if queue in Channel.queues else None

    def purge(self, queue: str) -> int:
        with _hub.lock:
            return int(self._channel.queue_purge(queue)) if queue in Channel.queues else 0

    def delete(self, queue: str) -> int:
        with _hub.lock:
            size = self.count(queue) or 0
            self._channel._delete(queue)  # kombu deletes only what is bound
        return size

    def _ring(self) -> None:
        try:
            os.write(self._bell, b"!")
        except BlockingIOError:
            pass  # it rings already

    # ---- reading ---------------------------------------------------------------------------------------

    def subscribe(self, queue: str, window: int) -> int:
        self._numbers += 1
        self._windows[queue] = (self._numbers, window)
        self._ring()  # there may be something already
        return self._numbers

    def unsubscribe(self, queue: str) -> None:
        self._windows.pop(queue, None)

    def arrived(self) -> Sequence[Message]:
        try:
            os.read(self._hears, 4096)
        except BlockingIOError:
            pass
        with _hub.lock:
            self._end_waits()
            came: list[Message] = []
            for name, (number, window) in list(self._windows.items()):
                if name not in Channel.queues:
                    del self._windows[name]
                    self.cancelled.append((name, number))
                    continue
                spare = window - sum(1 for held in self._held.values() if held == (name, number))
                came += self._get(name, number, spare)
            return came

    def _end_waits(self) -> None:
        while _hub.waits and _hub.waits[0][0] <= time.monotonic():
            _, name = heapq.heappop(_hub.waits)
            place = parse(name)
            try:
                raw = self._channel._get(name) if name in Channel.queues else None
            except queue.Empty:
                continue  # it was purged or taken meanwhile
            if raw is not None and place is not None:
                self._channel._put(place._replace(step=0).queue, raw)

    def _get(self, name: str, number: int, most: int) -> list[Message]:
        found: list[Message] = []
        while len(found) < most:
            raw = self._channel.basic_get(name)
            if raw is None:
                break
            self._held[raw.delivery_tag] = (name, number)
            found.append(
                Message(
                    queue=name,
                    body=raw.body,
                    id=raw.properties["message_id"],
                    headers=raw.headers,
                    tag=raw.delivery_tag,
                    consumer=number,
                    redelivered=bool(raw.delivery_info.get("redelivered")),
                )
            )
        return found

    def files(self) -> Sequence[int]:
        return [self._hears]

    def rest(self) -> float:
        with _hub.lock:
            return max(0.0, _hub.waits[0][0] - time.monotonic()) if _hub.waits else _REST_SECONDS

    def ack(self, tags: Sequence[Any]) -> None:
        for tag in tags:
            if self._held.pop(tag, None) is not None:
                self._channel.basic_ack(tag)

    def give_back(self, tags: Sequence[Any]) -> None:
        with _hub.lock:
            for tag in tags:
                held = self._held.pop(tag, None)
                if held is None:
                    continue
                if held[0] in Channel.queues:
                    self._channel.basic_reject(tag, requeue=True)
                else:  # deleted meanwhile: it would be made again
                    self._channel.basic_ack(tag)
        _hub.ring()

    def take(self, queue: str, most: int) -> Iterator[Message]:
        """All of them are taken, since what is given back comes last, and so their order stays."""
        with _hub.lock:
            return iter(self._get(queue, 0, self.count(queue) or 0)[:most])

    def take_many(self, queue: str, most: int) -> list[Message]:
        return list(self.take(queue, most))

    def close(self) -> None:
        with _hub.lock:
            _hub.bells.pop(self._bell, None)
            self.give_back(list(self._held))
        os.close(self._bell)
        os.close(self._hears)
        self._connection.close()
