"""A link to RabbitMQ, by kombu's `amqp://` transport: quorum queues, confirmed and mandatory publishes, waits
by queues with a time to live, and a register of the queues, which the protocol itself cannot list.

The register is a quorum queue behind a fanout exchange: one confirmed publish keeps a name and tells everybody
who watches. It is read by taking all of it and giving it back.
"""

import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from amqp.exceptions import AMQPError
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport.pyamqp import Transport

from lambent.scheduler.amqp.link import (
    CONTENT_TYPE,
    FOR,
    Blocked,
    LinkError,
    Message,
    Refused,
    TimedOut,
    Unroutable,
)
from lambent.scheduler.amqp.names import CRADLE, PREFIX, REGISTER, parse

_HEARTBEAT = 10.0
_SOON = 0.001
_NOT_FOUND = 404
_INTERNAL_ERROR = 541
_PERSISTENT = 2
_DELETE_SECONDS = 15.0  # of a queue that is out of order, 5 s
_TAKE_SECONDS = 0.5
_SETTLED = "x-lambent-settled"


class RabbitLink:
    """`space`: stands in the names of the broker's queues, so that several installations may share it, none of
    which knows the others' functions. `timeout`: seconds for each answer of the server. `beats`: its owner
    calls `arrived` at least each `rest()` seconds, so heartbeats tell of a server that hangs."""

    errors = (*Transport.connection_errors, *Transport.channel_errors)

    def __init__(self, url: str, *, space: str, timeout: float, settle: float = 0, beats: bool = False) -> None:
        self._prefix = f"lambent.{space}."
        self._register = self._real(REGISTER)
        self._url, self._space, self._settle = url, space, settle
        self._timeout = timeout
        self._blocked = False
        self.cancelled: list[tuple[str, int]] = []
        connection: Any = Connection(
            url,
            connect_timeout=timeout,
            heartbeat=_HEARTBEAT if beats else 0,
            transport_options={
                "on_blocked": lambda _: self._block(True),
                "on_unblocked": lambda: self._block(False),
                "client_properties": {"connection_name": "lambent"},
            },
        )
        self._connection = connection
        # One try: who is to wait is the caller's decision.
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_SOON)
        self._amqp: Any = connection.connection
        self._amqp.sock.settimeout(timeout)
        said = self._amqp.server_properties
        self.product = f"{said.get('product', 'AMQP')} {said.get('version', '')}".strip()
        self._major = int(str(said.get("version", "0")).partition(".")[0] or 0)
        self._channel: Any = connection.channel()
        self._side: Any = None  # for what may fail, which ends a channel
        self._confirms = False
        self._sent = 0
        self._pending: dict[int, str] = {}  # by number, those that are not confirmed: their ids
        self._refused: set[str] = set()
        self._returned: set[str] = set()
        self._came: list[Message] = []
        self._heard: list[tuple[str, bool]] = []
        self._consumers: dict[str, int] = {}
        self._numbers = 0

    def _real(self, queue: str) -> str:
        """The broker's own name of a queue."""
        return self._prefix + queue.removeprefix(PREFIX)

    @property
    def blocked(self) -> bool:
        return self._blocked

    def _block(self, blocked: bool) -> None:
        self._blocked = blocked

    # ---- publishing -----------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> list[LinkError | None]:
        self.arrived()  # it may have been unblocked
        if self._blocked:
            blocked = Blocked("it is out of memory or disk and takes nothing for now")
            blocked.certain = True
            raise blocked
        self._confirm()
        self._refused.clear()
        self._returned.clear()
        for message in messages:
            if message.young:
                kept = replace(message, headers={**message.headers, FOR: message.queue})
                self._send(kept, routing_key=self._real(CRADLE))
            else:
                self._send(message, routing_key=self._real(message.queue))
        self._await_confirms()
        return [self._outcome(message.id) for message in messages]

    def _outcome(self, id: str) -> LinkError | None:
        if id in self._returned:
            return Unroutable("there is no such queue")
        return Refused("the queue takes no more") if id in self._refused else None

    def _confirm(self) -> None:
        if self._confirms:
            return
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(lambda tag, many: self._answered(tag, many, ok=True))
        self._channel.events["basic_nack"].add(lambda tag, many: self._answered(tag, many, ok=False))
        self._channel.events["basic_return"].add(self._came_back)
        self._confirms = True

    def _send(self, message: Message, *, exchange: str = "", routing_key: str = "") -> None:
        made = self._channel.prepare_message(
            message.body,
            content_type=CONTENT_TYPE,
            content_encoding="binary",
            headers=message.headers,
            properties={"delivery_mode": _PERSISTENT, "message_id": message.id},
        )
        self._sent += 1
        self._pending[self._sent] = message.id
        self._channel.basic_publish(made, exchange=exchange, routing_key=routing_key, mandatory=True)

    def _answered(self, tag: int, many: bool, *, ok: bool) -> None:
        numbers = [number for number in self._pending if number <= tag] if many else [tag]
        for number in numbers:
            id = self._pending.pop(number, None)
            if id is not None and not ok:
                self._refused.add(id)

    def _came_back(self, _why: Any, _exchange: str, _key: str, message: Any) -> None:
        self._returned.add(message.properties["message_id"])

    def _await_confirms(self) -> None:
        end = time.monotonic() + self._timeout
        while self._pending:
            left = end - time.monotonic()
            if left <= 0:
                if self._blocked:
                    raise Blocked("it is out of memory or disk and confirms nothing for now")
                raise TimedOut(f"it did not confirm within {self._timeout:g} s")
            self._drain(left)

    def _drain(self, seconds: float) -> None:
        try:
            self._amqp.drain_events(timeout=seconds)
        except TimeoutError:
            pass

    # ---- queues and their register ---------------------------------------------------------------------

    def prepare(self) -> float:
        """The cradle and the register have to settle themselves, once."""
        made = False
        if self._settle and self.count(CRADLE) is None:
            made = True
            self._declare(self._real(CRADLE), self._quorum())
        if self.count(REGISTER) is None:
            made = True
            self._channel.exchange_declare(self._register, "fanout", durable=True, auto_delete=False)
            self._declare(self._register, self._quorum())
            self._channel.queue_bind(self._register, exchange=self._register)
        return self._settle if made else 0.0

    def declare(self, queue: str, *, most: int) -> bool:
        place = parse(queue)
        arguments: dict[str, Any] = self._quorum()
        if place is not None and place.step:
            arguments |= {
                "x-message-ttl": place.step,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self._real(place._replace(step=0).queue),
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",  # the strategy demands it
            }
        elif most:
            arguments |= {"x-max-length": most, "x-overflow": "reject-publish"}
        if self.count(queue) is not None:  # it may have been made with another bound
            return False
        self._declare(self._real(queue), arguments)
        return True

    def alive(self, queue: str) -> bool:
        """A queue that is out of order answers nothing or an internal error, which ends the link that asks."""
        link = RabbitLink(self._url, space=self._space, timeout=self._timeout)
        try:
            for message in link.take(queue, 1):
                link.give_back([message.tag])
            return True
        except TimeoutError:
            return False
        except AMQPError as error:
            if error.reply_code == _INTERNAL_ERROR:
                return False
            raise
        finally:
            link.close()

    def _quorum(self) -> dict[str, Any]:
        # Since RabbitMQ 4 what came back 20 times is dropped, unless told; before it, -1 would be a limit.
        limit = {"x-delivery-limit": -1} if self._major >= 4 else {}
        return {"x-queue-type": "quorum", **limit}

    def _declare(self, queue: str, arguments: dict[str, Any]) -> None:
        self._channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)

    def announce(self, queues: Sequence[str], *, settled: bool) -> None:
        self._confirm()
        self._refused.clear()
        self._returned.clear()
        for queue in queues:
            self._send(Message(REGISTER, b"", queue, {_SETTLED: settled}), exchange=self._register)
        self._await_confirms()
        if self._returned or self._refused:
            raise LinkError("its register of queues takes no more")

    def watch(self) -> Mapping[str, bool]:
        own, _, _ = self._channel.queue_declare("", exclusive=True, auto_delete=True)
        self._channel.queue_bind(own, exchange=self._register)
        self._channel.basic_consume(own, no_ack=True, callback=lambda raw: self._heard.append(_entry(raw)))
        return self._read_register()

    def _read_register(self) -> Mapping[str, bool]:
        """Queues that are there; others, and what is said twice, leave the register."""
        known: dict[str, bool] = {}
        with self._own_channel() as channel:
            _, count, _ = channel.queue_declare(self._register, passive=True)
            rows: list[Any] = []
            # Exclusive: two readers at once would see a part each.
            tag = channel.basic_consume(self._register, exclusive=True, callback=rows.append)
            end = time.monotonic() + self._timeout
            while len(rows) < count:
                if time.monotonic() > end:
                    raise TimedOut("its register of queues could not be read")
                self._drain(self._timeout)
            for row in sorted(rows, key=lambda row: not _entry(row)[1]):
                name, settled = _entry(row)
                if name in known or parse(name) is None or self.count(name) is None:
                    channel.basic_ack(row.delivery_tag)
                else:
                    known[name] = settled
            channel.basic_cancel(tag)
        return known

    def heard(self) -> Sequence[tuple[str, bool]]:
        heard, self._heard = self._heard, []
        return heard

    @contextmanager
    def _own_channel(self) -> Iterator[Any]:
        channel = self._connection.channel()
        try:
            yield channel
        finally:
            if channel.connection is not None:
                channel.close()

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        self._amqp.sock.settimeout(max(seconds, self._timeout))
        try:
            yield
        finally:
            if self._amqp.connected:
                self._amqp.sock.settimeout(self._timeout)

    def _try(self, work: Callable[[Any], Any]) -> Any:
        """On a side channel; None for a queue that is not there, whose error ends the channel."""
        if self._side is None:
            self._side = self._connection.channel()
        try:
            return work(self._side)
        except self._connection.channel_errors as error:
            self._side = None
            if getattr(error, "reply_code", 0) == _NOT_FOUND:
                return None
            raise

    def count(self, queue: str) -> int | None:
        declared = self._try(lambda channel: channel.queue_declare(self._real(queue), passive=True))
        return None if declared is None else int(declared.message_count)

    def purge(self, queue: str) -> int:
        return int(self._try(lambda channel: channel.queue_purge(self._real(queue))) or 0)

    def delete(self, queue: str) -> int:
        with self._patience(_DELETE_SECONDS):
            return self._delete(queue)

    def _delete(self, queue: str) -> int:
        return int(self._try(lambda channel: channel.queue_delete(self._real(queue))) or 0)

    # ---- reading ---------------------------------------------------------------------------------------

    def subscribe(self, queue: str, window: int) -> int:
        self._numbers += 1
        number = self._numbers
        self._channel.basic_qos(0, window, False)

        def came(raw: Any) -> None:
            self._came.append(_message(raw, queue, number))

        self._channel.basic_consume(
            self._real(queue),
            consumer_tag=f"{number}",
            callback=came,
            on_cancel=lambda _: self._lost(queue, number),
        )
        self._consumers[queue] = number
        return number

    def _lost(self, queue: str, number: int) -> None:
        if self._consumers.get(queue) == number:
            del self._consumers[queue]
        self.cancelled.append((queue, number))

    def unsubscribe(self, queue: str) -> None:
        number = self._consumers.pop(queue, None)
        if number is not None:
            self._channel.basic_cancel(f"{number}")

    def arrived(self) -> Sequence[Message]:
        if self._amqp.heartbeat:
            self._amqp.heartbeat_tick()
        while self._readable():
            self._drain(self._timeout)
        came, self._came = self._came, []
        return came

    def _readable(self) -> bool:
        """A frame is waiting; one that the TLS layer has read already is not seen by select."""
        inside = getattr(self._amqp.sock, "pending", lambda: 0)() or self._amqp.transport._read_buffer
        return bool(inside) or bool(select.select([self._amqp.sock], [], [], 0)[0])

    def files(self) -> Sequence[int]:
        return [self._amqp.sock.fileno()]

    def rest(self) -> float:
        return _HEARTBEAT / 2

    def ack(self, tags: Sequence[Any]) -> None:
        for tag in tags:
            self._channel.basic_ack(tag)

    def give_back(self, tags: Sequence[Any]) -> None:
        for tag in tags:
            self._channel.basic_reject(tag, requeue=True)

    def take(self, queue: str, most: int) -> Iterator[Message]:
        if self.count(queue) is None:
            return
        for _ in range(most):
            raw = self._channel.basic_get(self._real(queue))
            if raw is None:
                return
            yield _message(raw, queue, 0)

    def take_many(self, queue: str, most: int) -> list[Message]:
        """By a subscription, since a question for each costs a round trip."""
        wanted = min(most, self.count(queue) or 0)
        if not wanted:
            return []
        number = self.subscribe(queue, wanted)
        taken: list[Message] = []
        end = time.monotonic() + _TAKE_SECONDS
        while len(taken) < wanted and time.monotonic() < end:
            self._drain(_TAKE_SECONDS)
            taken += [message for message in self._came if message.consumer == number]
            self._came.clear()
        self.unsubscribe(queue)
        taken += self._came
        self._came.clear()
        return taken

    def close(self) -> None:
        try:
            self._connection.close()
        except (OSError, LinkError, OperationalError, AttributeError, *self._connection.connection_errors):
            pass  # it is lost already


def _entry(raw: Any) -> tuple[str, bool]:
    """A row of the register: the queue, and whether it is settled."""
    return raw.properties["message_id"], bool((raw.properties.get("application_headers") or {}).get(_SETTLED))


def _message(raw: Any, queue: str, consumer: int) -> Message:
    properties = raw.properties
    body = raw.body if isinstance(raw.body, bytes) else str(raw.body).encode()
    return Message(
        queue=queue,
        body=body,
        id=properties.get("message_id") or f"{queue}#{raw.delivery_tag}",
        headers=properties.get("application_headers") or {},
        tag=raw.delivery_tag,
        consumer=consumer,
        redelivered=bool(raw.delivery_info.get("redelivered")),
    )
