"""kombu's channel over Redis Streams."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any
from uuid import uuid4

import redis
from kombu.transport import virtual

from lambent.scheduler.transport.batch import PublishBatch
from lambent.scheduler.transport.cluster import ClusterWire
from lambent.scheduler.transport.keys import SCHEMA, SEPARATOR, Keys
from lambent.scheduler.transport.many import Many
from lambent.scheduler.transport.packing import pack
from lambent.scheduler.transport.places import parse
from lambent.scheduler.transport.reader import Reader
from lambent.scheduler.transport.wire import SERVER_ERRORS, Wire, script

DELAY_HEADER = "x-delay"  # ms, as RabbitMQ's delayed exchange has it


class QoS(virtual.QoS):
    """What is delivered and not ended. Nothing is restored at exit: the server still knows whose it is."""

    restore_at_shutdown = False
    channel: "Channel"

    def ack(self, delivery_tag: str) -> None:
        self.channel.ack_many([delivery_tag])
        self._end(delivery_tag)

    def _end(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        if self.channel.connection is not None:
            self.channel.connection.stir()  # there may be room for another one

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.requeue_many([delivery_tag])
        else:
            self.channel.ack_many([delivery_tag])
        self._end(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """Makes what this channel holds ready again (AMQP's recover)."""
        self._flush()
        self.channel.requeue_many(list(self._delivered))
        self._delivered.clear()
        return []


class Channel(Many, virtual.Channel):
    """A connection of its own to the server. One thread reads; others may publish and end messages meanwhile
    (over a second connection), `forget` and `interrupt`."""

    QoS = QoS
    do_restore = False
    supports_fanout = True
    body_encoding: Any = None
    supports_batch_publish = True

    prefix = "streams"  # of every key
    shards = 1  # slices of the keys, fixed by the first client
    group = "g"
    consumer_name: Any = None  # stable over restarts: an earlier life's messages come back at once
    claim_idle = 30.0  # seconds until a silent consumer's messages are claimed
    prefetch_batch = 64  # messages read at once for `drain_events`
    socket_timeout = 3.0  # seconds, for connecting and for each reply
    waitaof = False  # confirm each publish by WAITAOF, for servers without appendfsync always
    replicas = 0  # how many replicas must confirm each publish (WAIT), so that a failover loses none
    master_name: Any = None  # of the sentinels' master, if the URL does not say
    sentinel_kwargs: Any = None  # redis-py's options of connections to sentinels
    max_length = 0  # a queue that holds so many messages takes no more by publish (0: any number)
    from_transport_options: tuple[str, ...] = (  # type: ignore[assignment]
        *virtual.Channel.from_transport_options,
        *("prefix", "shards", "group", "consumer_name", "claim_idle", "prefetch_batch", "socket_timeout"),
        *("waitaof", "replicas", "master_name", "sentinel_kwargs", "max_length"),
    )

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._reading, self._beside = threading.Lock(), threading.Lock()
        self._buffer: list[tuple[str, dict[str, Any]]] = []
        self._receivers: dict[str, tuple[str, Callable[[Any], Any]]] = {}  # consumer tag -> queue, callback
        try:
            place = parse(connection.url, master_name=self.master_name)
            wires: list[Wire | ClusterWire] = []
            for _ in range(2):
                if place.kind == "cluster":
                    wires.append(ClusterWire(place, timeout=self.socket_timeout))
                else:
                    sentinels = self.sentinel_kwargs
                    wires.append(Wire(place, timeout=self.socket_timeout, sentinel_options=sentinels))
            self.wire, self.side_wire = wires
            self.keys = Keys(self.prefix, self._fixed_shards())
        except BaseException:
            for wire in wires:
                wire.dispose()
            self.connection._used_channel_ids.remove(self.channel_id)
            raise
        self.reader = Reader(
            self.wire,
            self.keys,
            group=self.group,
            consumer=self.consumer_name or f"{uuid4()}",
            claim_idle=self.claim_idle,
        )

    def _fixed_shards(self) -> int:
        """The shard count that the first client set. Another one would look for queues under other keys."""
        key = f"{self.prefix}:meta"
        found = self._one(("HMGET", key, "schema", "shards"))
        if None in found:  # only then a write: a server that is out of memory must be looked at and emptied
            found = self._all(
                [
                    ("HSETNX", key, "schema", SCHEMA),
                    ("HSETNX", key, "shards", self.shards),
                    ("HMGET", key, "schema", "shards"),
                ]
            )[2]
        schema, shards = (int(value) for value in found)
        if schema > SCHEMA:
            raise redis.ResponseError(f"the queue's schema {schema} is newer than this release's {SCHEMA}")
        return shards

    def close(self) -> None:
        """What is delivered and not ended comes again: at once, but to a consumer with a name, which gets it at
        its next start."""
        if self.closed:
            return
        held = [message["properties"]["delivery_tag"] for _, message in self._buffer]
        self._buffer.clear()
        if self._qos is not None:
            self._qos._flush()
            held += list(self._qos._delivered)
        try:
            if held and not self.consumer_name and self.wire.connected:
                with suppress(*SERVER_ERRORS):  # else they are claimed later
                    self.requeue_many(held)
            super().close()
        finally:
            self.wire.dispose()
            self.side_wire.dispose()

    # kombu's interface

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        return PublishBatch(self, max_size)

    def _put(
        self, queue: str, message: dict[str, Any], *, _batch: PublishBatch | None = None, **_: Any
    ) -> None:
        delay = int((message.get("headers") or {}).get(DELAY_HEADER) or 0)
        if _batch is not None:
            _batch.add(queue, message, delay)
            return
        error = self.put_calls([(queue, [*pack(message), delay, ""])])[0]
        if error is not None:
            raise error

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **options: Any) -> None:
        for _, _, queue in self.get_table(exchange):
            self._put(queue, message, **options)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for i, (name, message) in enumerate(self._buffer):
            if name == queue:
                del self._buffer[i]
                return message
        self.reader.add_hot(queue)

        def room(name: str) -> int:
            return 1 if name == queue else 0

        found = self._read(lambda: self.reader.collect(room, 1))
        if not found:
            raise Empty()
        self._buffer += found[1:]
        taken: dict[str, Any] = found[0][1]
        return taken

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message: Any = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if no_ack and message is not None:
            self.ack_many([message.delivery_tag])
        return message

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> None:
        def ended(message: Any) -> Any:
            self.ack_many([message.delivery_tag])
            return callback(message)

        super().basic_consume(queue, no_ack, ended if no_ack else callback, consumer_tag, **kwargs)
        # kombu keeps one callback of a queue for all channels of a connection: another channel's would take
        # over.
        self._receivers[consumer_tag] = (queue, self.connection._callbacks[queue])
        self.reader.add_hot(queue)
        self.connection.stir()

    def basic_cancel(self, consumer_tag: str) -> None:
        queue, _ = self._receivers.pop(consumer_tag, ("", None))
        super().basic_cancel(consumer_tag)
        if queue and queue not in self._active_queues:
            left = [message for name, message in self._buffer if name == queue]
            self._buffer = [row for row in self._buffer if row[0] != queue]
            if left and not self.closed:  # read ahead, and nobody's now
                self.requeue_many([message["properties"]["delivery_tag"] for message in left])

    def _size(self, queue: str) -> int:
        length, pending, delayed, _ = self.stats([queue])[queue]
        return length - pending + delayed

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return bool(self._one(("EXISTS", self.keys.stream(queue))))

    def _new_queue(self, queue: str, **_: Any) -> None:
        reply = self._run([("XGROUP", "CREATE", self.keys.stream(queue), self.group, "0", "MKSTREAM")])[0]
        if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
            raise reply

    def _purge(self, queue: str) -> int:
        return self.purge(queue)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """A queue is used while it has a consumer on this connection, or anybody holds a message of it."""
        if if_empty and self._size(queue):
            return
        if if_unused and self._used(queue):
            return
        exchanges = [name.decode() for name in self._one(("SMEMBERS", self.keys.exchanges()))]
        for exchange in exchanges:
            for binding in self.get_table(exchange):
                if binding[2] == queue:
                    self._unbind(exchange, binding)
        self._remove(queue, "all")
        self.state.queue_bindings_delete(queue)

    def _used(self, queue: str) -> bool:
        if any(queue in channel._active_queues for channel in self.connection.channels):
            return True
        return self.stats([queue])[queue][1] > 0

    def _delete(self, queue: str, exchange: str = "", *meta: Any, **_: Any) -> None:
        self._remove(queue, "all")

    def purge(self, queue: str) -> int:
        """Drops what waits in a queue, delayed messages too, but nothing that is delivered; how many."""
        return self._remove(queue, "ready")

    def delete_queue(self, queue: str) -> int:
        """Removes a queue with everything in it, delivered messages too; how many there were."""
        return self._remove(queue, "all")

    def _remove(self, queue: str, what: str) -> int:
        reply: int = self._one(script("purge", self.keys.of_queue(queue), queue, self.group, what))
        return reply

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = SEPARATOR.join((routing_key or "", pattern or "", queue or ""))
        # The list of exchanges first: a binding that it does not lead to would outlive its queue.
        self._one(("SADD", self.keys.exchanges(), exchange))
        self._one(("SADD", self.keys.bindings(exchange), binding))

    def _unbind(self, exchange: str, binding: tuple[str, ...]) -> None:
        self._one(("SREM", self.keys.bindings(exchange), SEPARATOR.join(binding)))

    def queue_unbind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Any = None,
        **kwargs: Any,
    ) -> None:
        exchange = exchange or "amq.direct"
        self.state.binding_delete(queue, exchange, routing_key)
        binding = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
        self._unbind(exchange, tuple(str(part or "") for part in binding))

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        super().exchange_delete(exchange, if_unused, nowait)
        self._one(("DEL", self.keys.bindings(exchange)))
        self._one(("SREM", self.keys.exchanges(), exchange))

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        members = self._one(("SMEMBERS", self.keys.bindings(exchange)))
        return [tuple(member.decode().split(SEPARATOR)) for member in members]

    # Delivery. The transport waits for all of a connection's channels at once.

    @property
    def consuming(self) -> bool:
        """Whether it has consumers that may get more."""
        return bool(self._consumers) and self.qos.can_consume()

    @property
    def busy(self) -> bool:
        """Whether it has messages to keep alive, or may get some."""
        return self.consuming or self.reader.held > 0

    @property
    def hinted(self) -> bool:
        """Whether it has heard of messages that it may get."""
        return not set(self._active_queues).isdisjoint(self.reader.hot())

    def drain_events(self, timeout: float | None = None, callback: Callable[..., Any] | None = None) -> None:
        """Delivers one message of this channel. Raises Empty if none comes within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.deliver(callback):
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0 or not self.consuming:
                raise Empty()
            self.await_hint(left)

    def deliver(self, callback: Callable[..., Any] | None = None) -> bool:
        """One message that is there now, if there is any and a consumer may get it."""
        if not self.consuming:
            if self.busy and self.reader.upkeep_in() <= 0:  # what is held must be kept alive all the same
                self._buffer += self._read(lambda: self.reader.collect(lambda queue: 0, 1))
            return False
        if not self._buffer:
            free = self.qos.can_consume_max_estimate()
            limit = self.prefetch_batch if free is None else min(self.prefetch_batch, free)
            active = set(self._active_queues)
            self._buffer += self._read(
                lambda: self.reader.collect(lambda queue: limit if queue in active else -1, limit)
            )
        if not self._buffer:
            return False
        queue, message = self._buffer.pop(0)
        for tag, (name, receiver) in self._receivers.items():
            if name == queue:
                self._receivers[tag] = self._receivers.pop(tag)  # the next one's turn
                receiver(message)
                return True
        (callback or self.connection._deliver)(message, queue)
        return True

    def await_hint(self, seconds: float) -> None:
        """Blocks until something may have come, upkeep is due or `seconds` are over; 0: only listens."""
        self._read(lambda: self.reader.wait(seconds))
