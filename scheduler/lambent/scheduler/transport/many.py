"""What a batch consumer and an operator need of a channel beyond kombu's interface: many messages in each round
trip, steps that replace a message, and looks at a queue."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from kombu.transport import virtual

from lambent.scheduler.transport.cluster import ClusterWire
from lambent.scheduler.transport.keys import Keys
from lambent.scheduler.transport.packing import pack, split_tag, unpack
from lambent.scheduler.transport.reader import NOTIFY_CAP, Reader
from lambent.scheduler.transport.wire import CONNECTION_ERRORS, Command, Confirm, Wire, script

_IDS_PER_CALL = 500
_T = TypeVar("_T")


class Replacement(NamedTuple):
    """A message for the place of a delivered one. `message`: as kombu's `prepare_message` makes it;
    `first_put`: ms, as the property of the delivered one, or "" for now."""

    queue: str
    message: dict[str, Any]
    delay_ms: int = 0
    first_put: str = ""


class Many:
    """The part of a `Channel` that is not kombu's."""

    wire: Wire | ClusterWire
    side_wire: Wire | ClusterWire  # for other threads than the one that reads
    keys: Keys
    reader: Reader
    group: str
    max_length: int
    waitaof: bool
    replicas: int
    socket_timeout: float
    Message: Any
    _blocked = False
    _reading: threading.Lock  # held by who reads or waits, over `wire`
    _beside: threading.Lock  # held by who uses `side_wire`

    def put_calls(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Exception | None]:
        """Stores messages: per call a queue and, flat, (body, meta, delay ms, first put ms or "") of each.
        One round trip; the call's error, or None once it is stored (on disk as the server's settings have
        it)."""
        commands: list[Command] = [
            script("put", self.keys.of_queue(queue), queue, self.group, NOTIFY_CAP, self.max_length, *messages)
            for queue, messages in calls
        ]
        return [reply if isinstance(reply, Exception) else None for reply in self._confirmed(commands)]

    def _confirmed(self, commands: list[Command]) -> list[Any]:
        """Replies, each the error where its step was refused, or is not known to be where it must be."""
        checks = self.waitaof + bool(self.replicas)
        if not checks:
            return self._run(commands, partly=True)
        confirm = Confirm(self.waitaof, self.replicas, int(self.socket_timeout * 500 / checks))
        return self._run(commands, partly=True, confirm=confirm)

    def _run(self, commands: Sequence[Command], **options: Any) -> list[Any]:
        """Over the channel's connection, or beside it while another thread reads or waits there."""
        if self._reading.acquire(blocking=False):
            try:
                return self.wire.run(commands, **options)
            finally:
                self._reading.release()
        with self._beside:
            return self.side_wire.run(commands, **options)

    def _one(self, command: Command) -> Any:
        reply = self._run([command])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _all(self, commands: Sequence[Command]) -> list[Any]:
        replies = self._run(commands) if commands else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _read(self, work: Callable[[], _T]) -> _T:
        """Reading and waiting, of one thread at a time."""
        with self._reading:
            try:
                return work()
            except CONNECTION_ERRORS:
                self.reader.reset()
                raise

    def get_many(self, room: Callable[[str], int], limit: int) -> list[virtual.Message]:
        """Messages that are there now, at most room(queue) of each queue and about `limit` in all, shared
        evenly; a dead consumer's and due ones too. A queue of negative room is forgotten until it gets another
        message. Each must be ended by `ack_many`, `replace` or
        `requeue_many`, on any channel, and then told to `forget`."""
        found = self._read(lambda: self.reader.collect(room, limit))
        return [self.Message(message, channel=self) for _, message in found]

    def wait(self, seconds: float, *, unless: Callable[[], bool]) -> None:
        """Blocks until a queue got messages, upkeep is due, `seconds` are over or `interrupt`; not at all if
        `unless()`, which is asked after `interrupt` has begun to count."""
        self._blocked = True
        try:
            if not unless():
                self._read(lambda: self.reader.wait(seconds))
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
        self.wire.interrupt(lambda: self._blocked)

    def forget(self, tags: Iterable[str]) -> None:
        """These delivered messages are ended: not kept alive any more. For any thread."""
        self.reader.drop(tags)

    def ack_many(self, tags: Iterable[str]) -> int:
        """Ends messages; how many of them were still there."""
        return self._settle("ack", tags)

    def requeue_many(self, tags: Iterable[str]) -> int:
        """Makes messages ready again; how many of them were still there."""
        return self._settle("requeue", tags, NOTIFY_CAP)

    def _settle(self, name: str, tags: Iterable[str], *arguments: Any) -> int:
        tags = list(tags)
        by_queue: dict[str, list[str]] = {}
        for tag in tags:
            queue, stream_id = split_tag(tag)
            by_queue.setdefault(queue, []).append(stream_id)
        if not by_queue:
            return 0
        replies = self._all(
            [
                script(
                    name,
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
        self.forget(tags)
        return sum(replies)

    def replace_many(self, replacements: Sequence[tuple[str, Sequence["Replacement"]]]) -> list[bool]:
        """In one step each: puts messages in the place of a delivered one, on its queue or on others of the
        same shard (see `keys`). Items: (tag of the delivered one, its replacements). False: it was gone
        already, and nothing was put. Raises the server's error."""
        commands: list[Command] = []
        for tag, messages in replacements:
            queue, stream_id = split_tag(tag)
            queues = list(dict.fromkeys((queue, *(message.queue for message in messages))))
            arguments: list[Any] = []
            for message in messages:
                arguments += [queues.index(message.queue), message.queue, *pack(message.message)]
                arguments += [message.delay_ms, message.first_put]
            keys = [key for each in queues for key in self.keys.of_queue(each)]
            commands.append(script("replace", keys, queue, self.group, NOTIFY_CAP, stream_id, *arguments))
        replies = self._confirmed(commands)
        for error in replies:
            if isinstance(error, Exception):
                raise error
        return [bool(reply) for reply in replies]

    def hasten(self, queue: str, ids: Sequence[str]) -> int:
        """Makes delayed messages, by their ids as `peek_delayed` tells them, due now; how many still were."""
        step = script("hasten", self.keys.of_queue(queue), queue, NOTIFY_CAP, *ids)
        found: int = self._one(step)
        return found

    def queues(self) -> list[str]:
        """Every queue that holds a message."""
        replies = self._all([("SMEMBERS", self.keys.index(i)) for i in range(self.keys.shards)])
        return sorted(name.decode() for reply in replies for name in reply)

    def stats(self, queues: Sequence[str]) -> Mapping[str, tuple[int, int, int, float]]:
        """{queue: (messages in the stream, of these delivered and not ended, delayed, age of the oldest in
        seconds since it was first put, or -1)}."""
        replies = self._all([script("stats", self.keys.of_queue(queue)[:3], self.group) for queue in queues])
        numbers: dict[str, tuple[int, int, int, float]] = {}
        for queue, reply in zip(queues, replies, strict=True):
            length, pending, delayed, age = reply
            numbers[queue] = (length, pending, delayed, age / 1000 if age >= 0 else -1)
        return numbers

    def peek(self, queue: str, limit: int, *, after: str = "-") -> list[virtual.Message]:
        """The oldest messages of a queue, delivered ones too, without taking them; `after`: the delivery tag
        to go on behind."""
        start = "-" if after == "-" else f"({split_tag(after)[1]}"
        entries = self._one(("XRANGE", self.keys.stream(queue), start, "+", "COUNT", limit))
        return [
            self.Message(unpack(queue, stream_id.decode(), fields, redelivered=False), channel=self)
            for stream_id, fields in entries
        ]

    def peek_delayed(
        self, queue: str, limit: int, *, offset: int = 0
    ) -> list[tuple[str, float, virtual.Message]]:
        """(id, due in seconds since the epoch, message) of delayed messages, the soonest first."""
        keys = self.keys.of_queue(queue)[1:3]
        rows = self._one(script("peek_delayed", keys, offset, limit))
        found = []
        for name, due, body, meta, first_put in rows:
            fields = [b"b", body, b"m", meta, b"t", first_put]
            message = unpack(queue, name.decode(), fields, redelivered=False)
            found.append((name.decode(), float(due) / 1000, self.Message(message, channel=self)))
        return found
