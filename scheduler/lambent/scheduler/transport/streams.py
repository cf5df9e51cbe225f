"""A kombu transport on Redis Streams that loses nothing: an entry is delivered through a consumer group,
stays the group's until it is acknowledged, and goes to another consumer when its own dies.

It knows only kombu and Redis. Beyond kombu's interface a channel offers what a batch consumer needs:
`get_many`, `ack_many`, `replace_many`, `wait`, `interrupt`, `stats`, `peek`. Use `connect(url)` or the alias
`streams://` (kombu reads `redis+streams://` as the transport `redis` with the host `streams://`, which would
be its own lossy transport)."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import Empty
from typing import Any, NamedTuple
from uuid import uuid4

import redis
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.url import maybe_sanitize_url

from lambent.scheduler.transport.batch import PublishBatch
from lambent.scheduler.transport.keys import SCHEMA, SEPARATOR, Keys
from lambent.scheduler.transport.packing import pack, split_tag, unpack
from lambent.scheduler.transport.reader import NOTIFY_CAP, Reader
from lambent.scheduler.transport.wire import CHANNEL_ERRORS, CONNECTION_ERRORS, Command, Wire, redis_url

DELAY_HEADER = "x-delay"  # ms, as RabbitMQ's delayed exchange has it
_IDS_PER_CALL = 500


class NotStored(redis.ConnectionError):
    """The server took the message but did not confirm that it is on disk."""


class Replacement(NamedTuple):
    """A message for the place of a delivered one. `message`: as kombu's `prepare_message` makes it;
    `first_put`: ms, as the property of the delivered one, or "" for now."""

    queue: str
    message: dict[str, Any]
    delay_ms: int = 0
    first_put: str = ""


class QoS(virtual.QoS):
    """What is delivered and not ended. Nothing is restored at exit: the server still knows whose it is."""

    restore_at_shutdown = False
    channel: "Channel"

    def ack(self, delivery_tag: str) -> None:
        self.channel.ack_many([delivery_tag])
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.requeue_many([delivery_tag])
        else:
            self.channel.ack_many([delivery_tag])
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """Makes what this channel holds ready again (AMQP's recover)."""
        self._flush()
        self.channel.requeue_many(list(self._delivered))
        self._delivered.clear()
        return []


class Channel(virtual.Channel):
    """A connection of its own to the server; used by one thread, but for `forget` and `interrupt`."""

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
    max_length = 0  # a queue that holds so many messages takes no more by publish (0: any number)
    from_transport_options: tuple[str, ...] = (  # type: ignore[assignment]
        *virtual.Channel.from_transport_options,
        *("prefix", "shards", "group", "consumer_name", "claim_idle", "prefetch_batch", "socket_timeout"),
        *("waitaof", "max_length"),
    )

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.url = connection.url
        self.wire = Wire(self.url, timeout=self.socket_timeout)
        self._control = Wire(self.url, timeout=self.socket_timeout)
        try:
            self.keys = Keys(self.prefix, self._fixed_shards())
        except BaseException:
            self.wire.close()
            raise
        self.reader = Reader(
            self.wire,
            self.keys,
            group=self.group,
            consumer=self.consumer_name or f"{uuid4()}",
            claim_idle=self.claim_idle,
        )
        self._buffer: list[tuple[str, dict[str, Any]]] = []
        self._blocked = False

    def _fixed_shards(self) -> int:
        """The shard count that the first client set. Another one would look for queues under other keys."""
        key = f"{self.prefix}:meta"
        found = self.wire.one("HMGET", key, "schema", "shards")
        if None in found:  # only then a write: a server that is out of memory must be looked at and emptied
            replies = self.wire.run(
                [
                    ("HSETNX", key, "schema", SCHEMA),
                    ("HSETNX", key, "shards", self.shards),
                    ("HMGET", key, "schema", "shards"),
                ]
            )
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            found = replies[2]
        schema, shards = (int(value) for value in found)
        if schema > SCHEMA:
            raise redis.ResponseError(f"the queue's schema {schema} is newer than this release's {SCHEMA}")
        return shards

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.wire.close()
            self._control.close()

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

        found = self._guard(lambda: self.reader.collect(room, 1))
        if not found:
            raise Empty()
        self._buffer += found[1:]
        taken: dict[str, Any] = found[0][1]
        return taken

    def _size(self, queue: str) -> int:
        length, pending, delayed, _ = self.stats([queue])[queue]
        return length - pending + delayed

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return bool(self.wire.one("EXISTS", self.keys.stream(queue)))

    def _new_queue(self, queue: str, **_: Any) -> None:
        reply = self.wire.run([("XGROUP", "CREATE", self.keys.stream(queue), self.group, "0", "MKSTREAM")])[0]
        if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
            raise reply

    def _purge(self, queue: str) -> int:
        return self.purge(queue)

    def _delete(self, queue: str, exchange: str = "", *meta: Any, **_: Any) -> None:
        if exchange:
            self.wire.one("SREM", self.keys.bindings(exchange), SEPARATOR.join(str(m or "") for m in meta))
        self._remove(queue, "all")

    def purge(self, queue: str) -> int:
        """Drops what waits in a queue, delayed messages too, but nothing that is delivered; how many."""
        return self._remove(queue, "ready")

    def delete_queue(self, queue: str) -> int:
        """Removes a queue with everything in it, delivered messages too; how many there were."""
        return self._remove(queue, "all")

    def _remove(self, queue: str, what: str) -> int:
        self.wire.open()
        reply: int = self.wire.one(
            *self.wire.script("purge", self.keys.of_queue(queue), queue, self.group, what)
        )
        return reply

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = SEPARATOR.join((routing_key or "", pattern or "", queue or ""))
        self.wire.one("SADD", self.keys.bindings(exchange), binding)

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        members = self.wire.one("SMEMBERS", self.keys.bindings(exchange))
        return [tuple(member.decode().split(SEPARATOR)) for member in members]

    def drain_events(self, timeout: float | None = None, callback: Callable[..., Any] | None = None) -> None:
        if not self._consumers or not self.qos.can_consume():
            raise Empty()
        if not self._buffer:
            self._fill(min(1.0 if timeout is None else timeout, 1.0))
        if not self._buffer:
            raise Empty()
        queue, message = self._buffer.pop(0)
        (callback or self.connection._deliver)(message, queue)

    def _fill(self, timeout: float) -> None:
        free = self.qos.can_consume_max_estimate()
        limit = self.prefetch_batch if free is None else min(self.prefetch_batch, free)
        active = set(self._active_queues)

        def room(queue: str) -> int:
            return limit if queue in active else 0

        deadline = time.monotonic() + timeout
        while not self._buffer:
            self._buffer += self._guard(lambda: self.reader.collect(room, limit))
            left = deadline - time.monotonic()
            if self._buffer or left <= 0:
                return
            self._guard(lambda left=left: self.reader.wait(left))  # type: ignore[misc]

    def _guard(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except CONNECTION_ERRORS:
            self.reader.reset()
            raise

    # for batch consumers

    def put_calls(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Exception | None]:
        """Stores messages: per call a queue and, flat, (body, meta, delay ms, first put ms or "") of each.
        One round trip; the call's error, or None once it is stored (on disk as the server's settings have
        it)."""
        self.wire.open()
        commands: list[Command] = [
            self.wire.script(
                "put", self.keys.of_queue(queue), queue, self.group, NOTIFY_CAP, self.max_length, *messages
            )
            for queue, messages in calls
        ]
        return [reply if isinstance(reply, Exception) else None for reply in self._confirmed(commands)]

    def _confirmed(self, commands: list[Command]) -> list[Any]:
        """Replies, each the error where its step was refused or is not known to be on disk."""
        if not self.waitaof:
            return self.wire.run(commands)
        *replies, confirmed = self.wire.run([*commands, ("WAITAOF", 1, 0, int(self.socket_timeout * 900))])
        if isinstance(confirmed, Exception) or confirmed[0] < 1:
            failure = (
                confirmed if isinstance(confirmed, Exception) else NotStored("WAITAOF: not on disk in time")
            )
            return [reply if isinstance(reply, Exception) else failure for reply in replies]
        return replies

    def get_many(self, room: Callable[[str], int], limit: int) -> list[virtual.Message]:
        """Messages that are there now, at most room(queue) of each queue and about `limit` in all, shared
        evenly; a dead consumer's and due ones too. A queue of negative room is forgotten until it gets another
        message. Each must be ended by `ack_many`, `replace` or
        `requeue_many`, on any channel, and then told to `forget`."""
        found = self._guard(lambda: self.reader.collect(room, limit))
        return [self.Message(message, channel=self) for _, message in found]

    def wait(self, seconds: float, *, unless: Callable[[], bool]) -> None:
        """Blocks until a queue got messages, upkeep is due, `seconds` are over or `interrupt`; not at all if
        `unless()`, which is asked after `interrupt` has begun to count."""
        self._blocked = True
        try:
            if not unless():
                self._guard(lambda: self.reader.wait(seconds))
        finally:
            self._blocked = False

    def upkeep_in(self) -> float:
        """Seconds until `get_many` has due messages to move, running ones to keep or dead ones' to claim."""
        return self.reader.upkeep_in()

    @property
    def waiting(self) -> bool:
        """Whether a `wait` is under way or about to be."""
        return self._blocked

    def interrupt(self) -> None:
        """Ends a `wait` of another thread, also one that has not reached the server yet."""
        while self._blocked:
            try:
                if self._control.one("CLIENT", "UNBLOCK", self.wire.client_id):
                    return
            except CONNECTION_ERRORS:
                return  # then the waiting connection is gone too
            time.sleep(0.001)

    def forget(self, tags: Iterable[str]) -> None:
        """These delivered messages are ended: not kept alive any more. For any thread."""
        self.reader.drop(tags)

    def ack_many(self, tags: Iterable[str]) -> int:
        """Ends messages; how many of them were still there."""
        return self._settle("ack", tags)

    def requeue_many(self, tags: Iterable[str]) -> int:
        """Makes messages ready again; how many of them were still there."""
        return self._settle("requeue", tags, NOTIFY_CAP)

    def _settle(self, script: str, tags: Iterable[str], *arguments: Any) -> int:
        tags = list(tags)
        by_queue: dict[str, list[str]] = {}
        for tag in tags:
            queue, stream_id = split_tag(tag)
            by_queue.setdefault(queue, []).append(stream_id)
        if not by_queue:
            return 0
        self.wire.open()
        replies = self.wire.run(
            [
                self.wire.script(
                    script,
                    self.keys.of_queue(queue),
                    queue,
                    self.group,
                    *arguments,
                    *ids[i : i + _IDS_PER_CALL],
                )
                for queue, ids in by_queue.items()
                for i in range(0, len(ids), _IDS_PER_CALL)
            ]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        self.forget(tags)
        return sum(replies)

    def replace_many(self, replacements: Sequence[tuple[str, Sequence["Replacement"]]]) -> list[bool]:
        """In one step each: puts messages in the place of a delivered one, on its queue or on others of the
        same shard (see `keys`). Items: (tag of the delivered one, its replacements). False: it was gone
        already, and nothing was put. Raises the server's error."""
        self.wire.open()
        commands: list[Command] = []
        for tag, messages in replacements:
            queue, stream_id = split_tag(tag)
            queues = list(dict.fromkeys((queue, *(message.queue for message in messages))))
            arguments: list[Any] = []
            for message in messages:
                arguments += [queues.index(message.queue), message.queue, *pack(message.message)]
                arguments += [message.delay_ms, message.first_put]
            keys = [key for each in queues for key in self.keys.of_queue(each)]
            commands.append(
                self.wire.script("replace", keys, queue, self.group, NOTIFY_CAP, stream_id, *arguments)
            )
        replies = self._confirmed(commands)
        for error in replies:
            if isinstance(error, Exception):
                raise error
        return [bool(reply) for reply in replies]

    def hasten(self, queue: str, ids: Sequence[str]) -> int:
        """Makes delayed messages, by their ids as `peek_delayed` tells them, due now; how many still were."""
        self.wire.open()
        script = self.wire.script("hasten", self.keys.of_queue(queue), queue, NOTIFY_CAP, *ids)
        found: int = self.wire.one(*script)
        return found

    def queues(self) -> list[str]:
        """Every queue that holds a message."""
        replies = self.wire.run([("SMEMBERS", self.keys.index(i)) for i in range(self.keys.shards)])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return sorted(name.decode() for reply in replies for name in reply)

    def stats(self, queues: Sequence[str]) -> Mapping[str, tuple[int, int, int, float]]:
        """{queue: (messages in the stream, of these delivered and not ended, delayed, age of the oldest in
        seconds since it was first put, or -1)}."""
        self.wire.open()
        replies = self.wire.run(
            [self.wire.script("stats", self.keys.of_queue(queue)[:3], self.group) for queue in queues]
        )
        numbers: dict[str, tuple[int, int, int, float]] = {}
        for queue, reply in zip(queues, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            length, pending, delayed, age = reply
            numbers[queue] = (length, pending, delayed, age / 1000 if age >= 0 else -1)
        return numbers

    def peek(self, queue: str, limit: int, *, after: str = "-") -> list[virtual.Message]:
        """The oldest messages of a queue, delivered ones too, without taking them; `after`: the delivery tag
        to go on behind."""
        start = "-" if after == "-" else f"({split_tag(after)[1]}"
        entries = self.wire.one("XRANGE", self.keys.stream(queue), start, "+", "COUNT", limit)
        return [
            self.Message(unpack(queue, stream_id.decode(), fields, redelivered=False), channel=self)
            for stream_id, fields in entries
        ]

    def peek_delayed(
        self, queue: str, limit: int, *, offset: int = 0
    ) -> list[tuple[str, float, virtual.Message]]:
        """(id, due in seconds since the epoch, message) of delayed messages, the soonest first."""
        keys = self.keys.of_queue(queue)[1:3]
        self.wire.open()
        rows = self.wire.one(*self.wire.script("peek_delayed", keys, offset, limit))
        found = []
        for name, due, body, meta, first_put in rows:
            fields = [b"b", body, b"m", meta, b"t", first_put]
            message = unpack(queue, name.decode(), fields, redelivered=False)
            found.append((name.decode(), float(due) / 1000, self.Message(message, channel=self)))
        return found


class Transport(virtual.Transport):
    """`streams://host:port/db`, `streams+socket:///path`, `streams+ssl://…`; or by `connect` in any of its
    forms."""

    Channel = Channel
    can_parse_url = True
    default_port: Any = 6379
    polling_interval = 0.01  # only between polls of channels without consumers; reads block on the server
    driver_type = "redis"
    driver_name = "redis-streams"
    connection_errors = (*virtual.Transport.connection_errors, *CONNECTION_ERRORS)
    channel_errors = (*virtual.Transport.channel_errors, *CHANNEL_ERRORS)
    implements = virtual.Transport.implements.extend(
        asynchronous=False,
        batch_publish=True,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
        heartbeats=False,
    )

    @property
    def url(self) -> str:
        hostname: str | None = self.client.hostname  # type: ignore[union-attr]
        return hostname or f"streams://localhost:{self.default_port}/0"

    def driver_version(self) -> str:
        return redis.__version__

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return uri if include_password else maybe_sanitize_url(uri, mask)


def connect(url: str, **options: Any) -> Connection:
    """A kombu connection over this transport. `url`: `redis+streams://…`, `streams://…`, or a plain `redis://`,
    `rediss://` or `unix://` one; `options`: kombu's transport_options, named as Channel's attributes."""
    plain = redis_url(url)
    for form, ours in (("unix://", "streams+socket://"), ("rediss://", "streams+ssl://")):
        plain = plain.replace(form, ours, 1) if plain.startswith(form) else plain
    if plain.startswith("redis://"):
        plain = plain.replace("redis://", "streams://", 1)
    return Connection(plain, transport_options=options)


def open_channel(url: str, **options: Any) -> Channel:
    """A channel over a connection of its own (`channel.connection.client`; close with `close_channel`), made
    with one try: kombu's own way sleeps for 2 s before a second one, and who is to wait is the caller's
    decision."""
    connection: Any = connect(url, **options)
    connection.ensure_connection(max_retries=1, interval_start=0, timeout=0.001)
    channel: Channel = connection.channel()
    return channel


def close_channel(channel: Channel) -> None:
    """Ends what `open_channel` made."""
    channel.connection.client.close()


def register() -> None:
    """Makes `streams://` and, where kombu does not split at "+", `redis+streams://` known to kombu."""
    for alias in ("streams", "redis+streams"):
        TRANSPORT_ALIASES.setdefault(alias, f"{__name__}:Transport")


register()
