"""Reads many queues for one consumer without polling any of them.

It blocks on the shards' notify streams only. Those name the queues that got messages; such a queue is *hot*
until a read finds it empty, and only hot queues are read, each no further than its room. So a queue that
nobody has room for costs nothing, and a million idle queues cost nothing. Also here: the consumer's running
messages are kept its own, a dead consumer's are claimed, and delayed ones are moved when due.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import ResponseError

from lambent.scheduler.transport.cluster import ClusterWire
from lambent.scheduler.transport.keys import Keys
from lambent.scheduler.transport.packing import split_tag, tag_of, unpack
from lambent.scheduler.transport.wire import Command, Wire

NOTIFY_CAP = 10_000
_IDS_PER_CALL = 500
_CLAIMS_PER_QUEUE = 64
_NEVER = float("inf")

Entry = tuple[str, dict[str, Any]]  # (queue, message dictionary)


class Reader:
    """State of one consumer. `claim_idle` seconds: how long a message may lie with a consumer that does not
    keep it alive until another claims it. Not thread-safe but for `drop`."""

    def __init__(
        self, wire: Wire | ClusterWire, keys: Keys, *, group: str, consumer: str, claim_idle: float
    ) -> None:
        self._wire = wire
        self._keys = keys
        self._group = group
        self._consumer = consumer
        self._claim_idle = claim_idle
        self._hot: dict[str, None] = {}
        self._held: dict[str, None] = {}
        self._fresh: list[str] = []  # of these, what the `collect` under way has found
        self._seen: dict[str, str] = {}  # notify stream -> last id read
        self._own: dict[str, str] = {}  # queue -> where to go on among this consumer's own old entries
        self._due_at: dict[int, float] = {}  # shard -> monotonic time
        self._next_keep = _NEVER
        self._next_claim = 0.0
        self._next_forget = 0.0
        self._synchronised = False
        self._generation = 0  # of the wire's connections, when it was synchronised

    @property
    def held(self) -> int:
        """How many messages this consumer has and has not ended."""
        return len(self._held)

    def drop(self, tags: Iterable[str]) -> None:
        """These are ended: not kept alive any more. May be called from any thread."""
        for tag in tags:
            self._held.pop(tag, None)

    def reset(self) -> None:
        """The connection was lost: look at everything again, and for messages whose delivery was lost too."""
        self._synchronised = False
        self._own.clear()

    def add_hot(self, queue: str) -> None:
        """A queue to read although no hint named it."""
        self._hot[queue] = None

    def hot(self) -> list[str]:
        """Queues that may have ready messages, least recently read first."""
        return list(self._hot)

    def synchronise(self) -> None:
        """Reads where the hints stand, then which queues have messages: in this order, so none is missed."""
        self._wire.open()
        if self._synchronised and self._generation == self._wire.generation:
            return
        self._synchronised = False
        shards = range(self._keys.shards)
        self._wire.watch([self._keys.notify(shard) for shard in shards])
        generation = self._wire.generation
        last = self._wire.run([("XREVRANGE", self._keys.notify(i), "+", "-", "COUNT", 1) for i in shards])
        for shard, reply in zip(shards, last, strict=True):
            if isinstance(reply, Exception):
                raise reply
            self._seen[self._keys.notify(shard)] = reply[0][0].decode() if reply else "0-0"
        self._scan(shards)
        self._due_at = dict.fromkeys(shards, 0.0)
        self._synchronised, self._generation = True, generation

    def _scan(self, shards: Iterable[int]) -> None:
        for reply in self._wire.run([("SMEMBERS", self._keys.index(shard)) for shard in shards]):
            if isinstance(reply, Exception):
                raise reply
            for queue in reply:
                self._hot.setdefault(queue.decode(), None)

    def collect(self, room: Callable[[str], int], limit: int) -> list[Entry]:
        """Does what time asks for and gives the messages that are there now: of each queue at most room(queue),
        in all about `limit`. Raises what a step of it raised; then nothing is delivered, and what had been
        found comes again."""
        self._fresh.clear()
        try:
            return self._upkeep(room) or self._read(room, limit)
        except BaseException:
            self._take_back()
            raise

    def _take_back(self) -> None:
        """What was found reaches nobody now. Kept alive, it would lie with this consumer for ever: so it is
        not, and is looked for among this consumer's own old entries."""
        for tag in self._fresh:
            self._held.pop(tag, None)
            queue, _ = split_tag(tag)
            self._own.pop(queue, None)
            self._hot[queue] = None

    def _read(self, room: Callable[[str], int], limit: int) -> list[Entry]:
        """Messages that are there now: of each hot queue at most room(queue), in all about `limit`, shared
        evenly. Own messages of an earlier life of this consumer come first."""
        self.synchronise()
        while True:
            spaces = self._spaces(room)
            if not spaces:
                return []
            found = self._pass(spaces[:limit], limit)
            if found:
                return found
            # Each queue that was found empty is no longer hot, so this ends; what is hot still or again (after
            # a look at old entries, beyond the limit, by a new hint) must be read before anybody blocks.

    def _spaces(self, room: Callable[[str], int]) -> list[tuple[str, int]]:
        """The hot queues that have room; one with negative room is hot no more."""
        spaces: list[tuple[str, int]] = []
        never: list[str] = []
        for queue in self._hot:
            space = room(queue)
            if space > 0:
                spaces.append((queue, space))
            elif space < 0:
                never.append(queue)
        for queue in never:
            del self._hot[queue]
        return spaces

    def _pass(self, spaces: list[tuple[str, int]], limit: int) -> list[Entry]:
        """One read of each queue, about `limit` messages in all."""
        share = max(1, limit // len(spaces))
        asked = [(queue, min(space, share)) for queue, space in spaces]
        commands: list[Command] = []
        for queue, count in asked:
            start = self._own.setdefault(queue, "0")
            commands.append(
                (
                    *("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count),
                    *("STREAMS", self._keys.stream(queue), start or ">"),
                )
            )
        found: list[Entry] = []
        failure: Exception | None = None
        # The hints too, or queues that always have more would keep all others from being heard of.
        replies = self._wire.run([*commands, *self._wire.hints(self._seen)])
        for (queue, count), reply in zip(asked, replies, strict=False):
            if isinstance(reply, Exception):
                if not str(reply).startswith("NOGROUP"):
                    failure = reply
                # deleted meanwhile; a next message would make it anew
                self._hot.pop(queue, None)
                self._own.pop(queue, None)
                continue
            self._take(queue, count, reply[0][1] if reply else [], found)
        for hints in replies[len(asked) :]:
            if isinstance(hints, Exception):
                self._synchronised = False  # it is asked again, and says why
            else:
                self._note(hints)
        if failure is not None and not found:
            raise failure
        return found

    def _take(self, queue: str, count: int, entries: list[Any], found: list[Entry]) -> None:
        self._hot.pop(queue, None)
        again = len(entries) >= count
        if self._own[queue]:
            again = True
            self._own[queue] = entries[-1][0].decode() if entries else ""
            for entry in entries:
                self._hold(queue, entry, found, redelivered=True)
        else:
            for entry in entries:
                self._hold(queue, entry, found, redelivered=False)
        if again:
            self._hot[queue] = None  # at the end: every queue gets its turn

    def _hold(self, queue: str, entry: Any, found: list[Entry], *, redelivered: bool) -> None:
        stream_id, fields = entry
        if not fields or tag_of(queue, stream_id.decode()) in self._held:
            return  # pending but deleted, or running here already
        message = unpack(queue, stream_id.decode(), fields, redelivered=redelivered)
        tag = message["properties"]["delivery_tag"]
        self._fresh.append(tag)
        self._held[tag] = None
        if self._next_keep == _NEVER:
            self._next_keep = time.monotonic() + self._claim_idle / 3
        found.append((queue, message))

    def wait(self, seconds: float) -> None:
        """Blocks until a hint comes, upkeep is due, `seconds` are over or the wire is interrupted."""
        self.synchronise()
        for reply in self._wire.block(self._seen, min(seconds, self.upkeep_in())):
            if isinstance(reply, Exception):
                self._synchronised = False
                raise reply
            self._note(reply)

    def _note(self, reply: Any) -> None:
        now = time.monotonic()
        for name, entries in reply or ():
            key = name.decode()
            self._seen[key] = entries[-1][0].decode()
            shard = int(key.rsplit(":", 2)[1].rstrip("}"))
            for _, (kind, value) in entries:
                if kind == b"q":
                    self._hot.setdefault(value.decode(), None)
                else:
                    due = now + int(value) / 1000
                    self._due_at[shard] = min(self._due_at.get(shard, _NEVER), due)
            if len(entries) >= NOTIFY_CAP:  # older hints may have been cut off
                self._scan([shard])

    def upkeep_in(self) -> float:
        """Seconds until `collect` has more to do than to read."""
        due = min(self._due_at.values(), default=_NEVER)
        return max(0.0, min(due, self._next_keep, self._next_claim) - time.monotonic())

    def _upkeep(self, room: Callable[[str], int]) -> list[Entry]:
        """What time asks for: moves due messages, keeps running ones, claims dead consumers' ones
        (returned)."""
        self.synchronise()
        now = time.monotonic()
        if any(due <= now for due in self._due_at.values()):
            self._move_due(now)
        if now >= self._next_keep:
            self._keep_alive()
            self._next_keep = now + self._claim_idle / 3 if self._held else _NEVER
        if now >= self._next_claim:
            self._next_claim = now + self._claim_idle / 3
            return self._claim(room)
        return []

    def _move_due(self, now: float) -> None:
        shards = [shard for shard, due in self._due_at.items() if due <= now]
        self._wire.open()
        replies = self._wire.run([self._wire.script("due", [self._keys.due(shard)]) for shard in shards])
        moves: list[Command] = []
        for shard, reply in zip(shards, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            wait, queues = reply
            self._due_at[shard] = _NEVER if wait < 0 else now + wait / 1000
            for name in queues:
                queue = name.decode()
                moves.append(
                    self._wire.script(
                        "move_due", self._keys.of_queue(queue), queue, self._group, NOTIFY_CAP, 100
                    )
                )
        if any(isinstance(reply, Exception) for reply in (self._wire.run(moves) if moves else ())):
            # Out of memory, most likely: reading must go on, for it is what frees memory.
            for shard in shards:
                self._due_at[shard] = max(self._due_at[shard], now + 1.0)

    def _keep_alive(self) -> None:
        by_queue: dict[str, list[str]] = {}
        for tag in list(self._held):
            queue, stream_id = split_tag(tag)
            by_queue.setdefault(queue, []).append(stream_id)
        self._wire.open()
        commands, queues = [], []
        for queue, ids in by_queue.items():
            for i in range(0, len(ids), _IDS_PER_CALL):
                queues.append(queue)
                part = ids[i : i + _IDS_PER_CALL]
                commands.append(
                    self._wire.script("keep", [self._keys.stream(queue)], self._group, self._consumer, *part)
                )
        for queue, reply in zip(queues, self._wire.run(commands) if commands else (), strict=True):
            if isinstance(reply, ResponseError):  # the queue was deleted
                self.drop(tag_of(queue, stream_id) for stream_id in by_queue[queue])
            else:
                self.drop(tag_of(queue, stream_id.decode()) for stream_id in reply)

    def _claim(self, room: Callable[[str], int]) -> list[Entry]:
        """Messages of consumers that have not kept them alive, of this one's own lost replies too."""
        self._scan_all()
        asked = [(queue, min(space, _CLAIMS_PER_QUEUE)) for queue, space in self._spaces(room)]
        idle = int(self._claim_idle * 1000)
        found: list[Entry] = []
        todo = [(queue, space, b"0-0") for queue, space in asked]
        while todo:
            commands: list[Command] = [
                (
                    *("XAUTOCLAIM", self._keys.stream(queue), self._group, self._consumer, idle),
                    *(cursor, "COUNT", count),
                )
                for queue, count, cursor in todo
            ]
            rest: list[tuple[str, int, bytes]] = []
            for (queue, count, _), reply in zip(todo, self._wire.run(commands), strict=True):
                if isinstance(reply, Exception):
                    continue  # no such queue or group any more
                cursor, entries = reply[0], reply[1]
                for entry in entries:
                    self._hold(queue, entry, found, redelivered=True)
                # One call looks at ten times COUNT pending entries: the dead one's may lie behind the living's.
                if cursor != b"0-0" and len(entries) < count:
                    rest.append((queue, count - len(entries), cursor))
            todo = rest
        self._forget_consumers([queue for queue, _ in asked])
        return found

    def _scan_all(self) -> None:
        self._scan(range(self._keys.shards))

    def _forget_consumers(self, queues: list[str]) -> None:
        now = time.monotonic()
        if now < self._next_forget or not queues:
            return
        self._next_forget = now + 20 * self._claim_idle
        idle = int(20 * self._claim_idle * 1000)
        self._wire.run(
            [
                self._wire.script(
                    "forget_consumers", [self._keys.stream(queue)], self._group, self._consumer, idle
                )
                for queue in queues
            ]
        )
