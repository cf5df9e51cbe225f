"""A `Wire` to a Redis Cluster: each command goes to the node that has the slot of its first key, all of a call
in one pipeline per node. redis-py's RedisCluster would send again what may have been executed.

What a node has refused (MOVED, ASK, TRYAGAIN, CLUSTERDOWN) did nothing and is sent again, within the timeout;
what was sent over a connection that was lost has an unknown outcome, and that is raised.

Waiting: a command that blocks can name keys of one slot only, and the shards' notify streams lie in many. So
one connection per master listens for the invalidations of client-side caching (CLIENT TRACKING, broadcast,
RESP3) of those streams: they say that there is something to read and cost nothing while there is not.
"""

import random
import select
import socket
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, ReadOnlyError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from lambent.scheduler.transport.places import Node, Place
from lambent.scheduler.transport.wire import (
    CONNECTION_ERRORS,
    PAUSES,
    PLAIN,
    Command,
    Confirm,
    Wire,
    confirmed,
    connect_to,
    script,
)

_REFUSED = (AskError, TryAgainError, ClusterDownError, NoScriptError, ReadOnlyError)  # MOVED is an AskError
_UNANSWERED: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, ClusterDownError)


def slot_of(command: Command) -> int | None:
    """The slot of a command's first key; None for one without keys."""
    name = command[0]
    if name == "EVALSHA":
        key = command[3]
    elif name in ("XREAD", "XREADGROUP"):
        key = command[command.index("STREAMS") + 1]
    elif name == "XGROUP":
        key = command[2]
    elif name in ("INFO", "CONFIG", "COMMAND", "PING"):
        return None
    else:
        key = command[1]
    return key_slot(key.encode())


class Slots:
    """Which node has which slot, as CLUSTER SLOTS told it, and what single replies have told since."""

    def __init__(self, rows: Sequence[Any] = (), asked: Node = ("", 0)) -> None:
        ranges = sorted((row[0], row[1], _node_of(row[2], asked)) for row in rows)
        self._starts = [start for start, _, _ in ranges]
        self.ranges = ranges
        self._moved: dict[int, Node] = {}

    def owner(self, slot: int) -> Node | None:
        if slot in self._moved:
            return self._moved[slot]
        at = bisect_right(self._starts, slot) - 1
        return self.ranges[at][2] if at >= 0 and slot <= self.ranges[at][1] else None

    def move(self, slot: int, node: Node) -> None:
        self._moved[slot] = node

    def masters(self) -> list[Node]:
        return list(dict.fromkeys([*(node for _, _, node in self.ranges), *self._moved.values()]))


def _node_of(row: Any, asked: Node) -> Node:
    host = row[0].decode() if row[0] else asked[0]  # it does not know its own name: the one that led to it
    return (asked[0] if host == "?" else host), int(row[1])


class Listener:
    """A connection to one master that becomes readable when one of `streams` changes there."""

    def __init__(self, url: str, streams: Sequence[str], *, timeout: float, name: str) -> None:
        self._connection = connect_to(url, timeout=timeout, name=name, protocol=3)
        try:
            prefixes = [word for stream in streams for word in ("PREFIX", stream)]
            self._connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
            self._connection.read_response()
            self._socket = self._connection._sock
            self._socket.setblocking(False)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    def drain(self) -> bool:
        """Reads what came, which says nothing beyond that it came; whether the connection lives."""
        try:
            while self._socket.recv(65536):
                pass
        except (TimeoutError, BlockingIOError):
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"  # ssl need not be there to ask for it
        return False

    def close(self) -> None:
        with suppress(Exception):
            self._connection.disconnect()


@dataclass(slots=True)
class _Call:
    """A `run` under way. `asking`: which commands go to another node for once (ASK) in the next round, `asked`
    in this one."""

    commands: Sequence[Command]
    confirm: Confirm
    replies: list[Any]
    asking: dict[int, Node] = field(default_factory=dict)
    asked: dict[int, Node] = field(default_factory=dict)

    def pipeline(self, members: Sequence[int]) -> list[Command]:
        sent: list[Command] = []
        for i in members:
            if i in self.asked:
                sent.append(("ASKING",))
            sent.append(self.commands[i])
        return [*sent, *self.confirm.commands()]


class ClusterWire:
    """As `Wire`. `timeout` also bounds how long a call waits for a failover or a slot that is on its way."""

    def __init__(self, place: Place, *, timeout: float = 3.0, name: str = "streams") -> None:
        self._place = place
        self._timeout = timeout
        self._name = name
        self._slots = Slots()
        self._stale = True
        self._links: dict[Node, Wire] = {}
        self._streams: tuple[str, ...] = ()
        self._listeners: dict[Node, Listener] = {}
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self.generation = 0

    def open(self) -> None:
        """Learns the table of slots if needed. Raises redis.ConnectionError; nothing was sent then."""
        if self._stale:
            self._learn()

    def _learn(self) -> None:
        """Asks any node; those that are known to be masters first, in any order."""
        known = self._slots.masters()
        random.shuffle(known)
        failure: Exception | None = None
        for node in dict.fromkeys([*known, *random.sample(self._place.nodes, len(self._place.nodes))]):
            try:
                rows = self._link(node).one("CLUSTER", "SLOTS")
                slots = Slots(rows, node)
            except _UNANSWERED as error:
                self._drop(node)
                failure = error
                continue
            if slots.ranges != self._slots.ranges:
                self.generation += 1
            self._slots, self._stale = slots, False
            for left in self._links.keys() - set(slots.masters()):
                self._links.pop(left).close()
            return
        raise RedisConnectionError(f"no node of the cluster answers: {failure}") from failure

    def _link(self, node: Node) -> Wire:
        link = self._links.get(node)
        if link is None:
            place = Place("server", self._place.url(node))
            link = self._links[node] = Wire(place, timeout=self._timeout, name=self._name)
        return link

    def _drop(self, node: Node) -> None:
        """Its connection is lost: others may have its slots soon, and hints may be missed."""
        link = self._links.pop(node, None)
        if link is not None:
            link.close()
        self._stale = True
        self.generation += 1

    def close(self) -> None:
        """Disconnects; the next call connects again."""
        for link in self._links.values():
            link.close()
        for listener in self._listeners.values():
            listener.close()
        self._links.clear()
        self._listeners.clear()
        self._stale = True
        self.generation += 1

    def dispose(self) -> None:
        self.close()
        self._wake.close()
        self._woken.close()

    @property
    def connected(self) -> bool:
        return bool(self._links)

    def script(self, name: str, keys: Sequence[str], *arguments: Any) -> Command:
        return script(name, keys, *arguments)

    def servers(self) -> list[Wire]:
        self.open()
        return [self._link(node) for node in self._slots.masters()]

    def one(self, *command: Any) -> Any:
        reply = self.run([command])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def run(self, commands: Sequence[Command], *, confirm: Confirm = PLAIN, partly: bool = False) -> list[Any]:
        """As `Wire.run`, with one round trip to each node at a time."""
        self.open()
        call = _Call(commands, confirm, [None] * len(commands))
        todo: Sequence[int] = range(len(commands))
        until, tries = time.monotonic() + self._timeout, 0
        while todo := self._round(call, todo):
            if time.monotonic() >= until:
                break  # the replies say why
            time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
            if self._stale:
                with suppress(*CONNECTION_ERRORS):  # then as far as it is known
                    self._learn()
        if not partly:
            for reply in call.replies:
                if isinstance(reply, CONNECTION_ERRORS):
                    raise reply
        return call.replies

    def _round(self, call: "_Call", todo: Sequence[int]) -> list[int]:
        """Sends each once; those that did nothing and may go again."""
        again: list[int] = []
        groups: dict[Node, list[int]] = {}
        call.asking, call.asked = {}, call.asking
        for i in todo:
            node = call.asked.get(i) or self._owner(call.commands[i])
            if node is None:
                call.replies[i] = ClusterDownError("CLUSTERDOWN no node has the slot")
                self._stale = True
                again.append(i)
            else:
                groups.setdefault(node, []).append(i)
        sent: list[tuple[Node, list[int]]] = []
        for node, members in groups.items():
            try:
                self._link(node).open()
            except CONNECTION_ERRORS as error:
                self._lose(node, call, members, error)
                again += members  # nothing was sent
                continue
            try:
                self._link(node).send(call.pipeline(members))
                sent.append((node, members))
            except CONNECTION_ERRORS as error:
                self._lose(node, call, members, error)
        for node, members in sent:
            for i in self._receive(node, call, members):
                self._heed(node, call, i)
                again.append(i)
        return again

    def _owner(self, command: Command) -> Node | None:
        slot = slot_of(command)
        if slot is not None:
            return self._slots.owner(slot)
        masters = self._slots.masters()
        return masters[0] if masters else None

    def _lose(self, node: Node, call: "_Call", members: Sequence[int], error: Exception) -> None:
        self._drop(node)
        for i in members:
            call.replies[i] = error

    def _receive(self, node: Node, call: "_Call", members: Sequence[int]) -> list[int]:
        """Notes the replies; those that are refusals."""
        link = self._link(node)
        checks = call.confirm.commands()
        try:
            asks = sum(i in call.asked for i in members)
            found = link.receive(len(members) + asks + len(checks), call.confirm.seconds)
            if checks:
                found = confirmed(found, call.confirm)
            if any(isinstance(reply, NoScriptError) for reply in found):
                link.load_scripts()
        except CONNECTION_ERRORS as error:
            self._lose(node, call, members, error)
            return []
        replies = iter(found)
        for i in members:
            if i in call.asked:
                next(replies)  # of ASKING
            call.replies[i] = next(replies)
        return [i for i in members if isinstance(call.replies[i], _REFUSED)]

    def _heed(self, node: Node, call: "_Call", i: int) -> None:
        """What a refusal says about where to go."""
        refusal = call.replies[i]
        if isinstance(refusal, AskError):
            there = (str(refusal.host or node[0]), int(refusal.port))
            slot = slot_of(call.commands[i])
            if not isinstance(refusal, MovedError):
                call.asking[i] = there
            elif slot is not None:
                self._slots.move(slot, there)
                self._stale = True
                self.generation += 1
        elif not isinstance(refusal, (NoScriptError, TryAgainError)):
            self._stale = True

    # Hints

    def watch(self, streams: Sequence[str]) -> None:
        self.open()
        self._streams = tuple(streams)
        masters = self._slots.masters()
        for node in self._listeners.keys() - set(masters):
            self._listeners.pop(node).close()
        for node in masters:
            if node not in self._listeners:
                try:
                    self._listeners[node] = Listener(
                        self._place.url(node), self._streams, timeout=self._timeout, name=self._name
                    )
                except CONNECTION_ERRORS:
                    self._drop(node)
                    raise

    def hints(self, seen: Mapping[str, str]) -> list[Command]:
        return self._reads(seen) if self._heard(0) else []

    def _reads(self, seen: Mapping[str, str]) -> list[Command]:
        return [("XREAD", "STREAMS", stream, last) for stream, last in seen.items()]

    def block(self, seen: Mapping[str, str], seconds: float) -> list[Any]:
        return self.run(self._reads(seen)) if self._heard(max(0.0, seconds)) else []

    def _heard(self, seconds: float) -> bool:
        """Whether a node has told of something, within `seconds` or until `interrupt`."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        by_number: dict[int, Node] = {}
        for node, listener in self._listeners.items():
            by_number[listener.fileno()] = node
            poll.register(listener.fileno(), select.POLLIN)
        heard = False
        for number, _ in poll.poll(int(seconds * 1000)):
            at = by_number.get(number)
            if at is None:
                with suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
                continue
            heard = True
            if not self._listeners[at].drain():
                self._listeners.pop(at).close()
                self._drop(at)
        return heard

    def interrupt(self, waiting: Callable[[], bool]) -> None:
        if waiting():
            with suppress(OSError):  # full: it is awake then; closed: so is the waiting one
                self._wake.send(b"w")
