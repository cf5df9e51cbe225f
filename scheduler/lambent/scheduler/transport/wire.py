"""One connection to Redis and raw pipelines over it, because every call of the transport is a batch, must be
sent at most once, and must tell "not executed" from "unknown": redis-py's client hides all three behind
retries. What a server has refused without doing anything (no such script, read-only after a failover) is no
exception: that is sent again.

A `Wire` is used by one thread, but for `interrupt`. URLs are those of `places`; `cluster.ClusterWire` is the
same for a cluster.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

import redis
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from lambent.scheduler.transport.places import Node, Place, parse

Command = tuple[Any, ...]

_FOLDER = Path(__file__).parent
_COMMON = (_FOLDER / "common.lua").read_bytes()
_SCRIPTS = {path.stem: _COMMON + path.read_bytes() for path in _FOLDER.glob("*.lua") if path.stem != "common"}
_DIGESTS = {name: sha1(text, usedforsecurity=False).hexdigest().encode() for name, text in _SCRIPTS.items()}
_LOADS: list[Command] = [("SCRIPT", "LOAD", text) for text in _SCRIPTS.values()]
_REFUSED = (NoScriptError, ReadOnlyError)  # certainly did nothing
PAUSES = (0.0, 0.05, 0.1, 0.2)  # seconds before what was refused is sent again; the last one from then on

CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    RedisConnectionError,
    redis.TimeoutError,
    OSError,
)
CHANNEL_ERRORS: tuple[type[Exception], ...] = (ResponseError,)
# Everything that a call of the transport raises because of the server.
SERVER_ERRORS: tuple[type[Exception], ...] = (RedisError, KombuError, OSError)


class NotStored(RedisConnectionError):
    """The server took the message but did not confirm that it is on disk, or with as many replicas as it must
    be."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """What must be true of a write before it counts: on disk (WAITAOF), with `replicas` others (WAIT), each
    within `milliseconds`."""

    waitaof: bool = False
    replicas: int = 0
    milliseconds: int = 2000

    @property
    def seconds(self) -> float:
        """How long its replies may take; a server looks at the clock ten times a second."""
        return (self.waitaof + bool(self.replicas)) * (self.milliseconds / 1000 + 0.1)

    def commands(self) -> list[Command]:
        """Sent behind the writes, over the same connection."""
        commands: list[Command] = []
        if self.waitaof:
            commands.append(("WAITAOF", 1, 0, self.milliseconds))
        if self.replicas:
            commands.append(("WAIT", self.replicas, self.milliseconds))
        return commands

    def failure(self, replies: Sequence[Any]) -> NotStored | None:
        """Their replies' meaning. An error is no refusal of the writes: those are done."""
        for reply in replies:
            if isinstance(reply, Exception):
                return NotStored(f"{'WAITAOF' if self.waitaof else 'WAIT'}: {reply}")
        if self.waitaof and replies[0][0] < 1:
            return NotStored("WAITAOF: not on disk in time")
        if self.replicas and replies[-1] < self.replicas:
            return NotStored(f"WAIT: {replies[-1]} of {self.replicas} replicas have it")
        return None


PLAIN = Confirm()


def script(name: str, keys: Sequence[str], *arguments: Any) -> Command:
    """The command that runs NAME.lua."""
    return ("EVALSHA", _DIGESTS[name], len(keys), *keys, *arguments)


class Wire:
    """A lazily opened connection. `timeout` seconds bound connecting, sending and each reply; with sentinels
    also how long a step that a demoted master has refused is tried at the next one."""

    def __init__(
        self,
        place: Place | str,
        *,
        timeout: float = 3.0,
        name: str = "streams",
        sentinel_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._place = parse(place) if isinstance(place, str) else place
        self._timeout = timeout
        self._name = name
        self._sentinel_options = dict(sentinel_options or {})
        self._connection: Any = None
        self._at = ""  # the URL that it is connected to
        self._control: Wire | None = None
        self.client_id = 0
        self.generation = 0  # of connections: one that has changed may have missed hints

    def open(self) -> None:
        """Connects if needed. Raises redis.ConnectionError or TimeoutError; nothing was sent then."""
        if self._connection is not None:
            return
        at = self._find()
        connection = connect_to(at, timeout=self._timeout, name=self._name)
        try:
            (client_id, role, *loaded) = self._talk(connection, [("CLIENT", "ID"), ("ROLE",), *_LOADS])
            for reply in (client_id, *loaded):
                if isinstance(reply, Exception):
                    raise reply
            if self._place.kind == "sentinel" and not isinstance(role, Exception) and role[0] != b"master":
                raise RedisConnectionError("the sentinels name a master that is none any more")
        except BaseException:
            connection.disconnect()
            raise
        self.client_id = client_id
        self._connection, self._at = connection, at
        self.generation += 1

    def _find(self) -> str:
        """redis-py's URL of the server; asks the sentinels."""
        if self._place.kind != "sentinel":
            return self._place.url()
        options = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),
            "ssl": self._place.head.startswith("rediss"),
            **self._sentinel_options,
        }
        sentinels: Any = Sentinel(list(self._place.nodes), sentinel_kwargs=options)
        try:
            node: Node = sentinels.discover_master(self._place.master)
        finally:
            for client in sentinels.sentinels:
                client.close()
        return self._place.url((node[0], int(node[1])))

    def close(self) -> None:
        """Disconnects; the next call connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def dispose(self) -> None:
        """The end: disconnects everything."""
        self.close()
        if self._control is not None:
            self._control.close()

    def script(self, name: str, keys: Sequence[str], *arguments: Any) -> Command:
        """The command that runs NAME.lua."""
        return script(name, keys, *arguments)

    def servers(self) -> list["Wire"]:
        """Whoever holds data: of a cluster each master."""
        return [self]

    def run(
        self,
        commands: Sequence[Command],
        *,
        wait: float = 0.0,
        confirm: Confirm = PLAIN,
        partly: bool = False,
    ) -> list[Any]:
        """Sends all, then reads all replies; an error reply is an exception *in* the list, also that a write
        was not confirmed as `confirm` has it.

        `wait`: how much longer than the timeout a reply may take (a blocking command). Raises
        redis.ConnectionError or TimeoutError when the outcome is unknown; the connection is closed then.
        `partly`: of a cluster such an error too is in the list, for the commands that it concerns."""
        replies = self._trip(commands, wait, confirm)
        until, tries = time.monotonic() + self._timeout, 0
        while again := [i for i, reply in enumerate(replies) if isinstance(reply, _REFUSED)]:
            # A read-only server may have become one by a failover, which takes the sentinels some seconds.
            patient = self._place.kind == "sentinel" and time.monotonic() < until
            if tries and not patient:
                break
            time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
            self.close()
            try:
                self.open()
            except CONNECTION_ERRORS:
                continue  # nothing was sent: what was refused still is
            later = self._trip([commands[i] for i in again], wait, confirm)
            for i, reply in zip(again, later, strict=True):
                replies[i] = reply
        return replies

    def _trip(self, commands: Sequence[Command], wait: float, confirm: Confirm) -> list[Any]:
        self.open()
        behind = confirm.commands()
        try:
            sent = [*commands, *behind] if behind else commands
            replies = self._talk(self._connection, sent, wait + confirm.seconds)
        except BaseException:
            self.close()
            raise
        return confirmed(replies, confirm) if behind else replies

    def one(self, *command: Any) -> Any:
        """One command's reply. Raises its error."""
        reply = self.run([command])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    # The parts of `run`, for the nodes of a cluster: several are asked before the first is listened to.

    def send(self, commands: Sequence[Command]) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    def receive(self, count: int, wait: float) -> list[Any]:
        return self._replies(self._connection, count, wait)

    def load_scripts(self) -> None:
        """Again, after somebody's SCRIPT FLUSH."""
        self._talk(self._connection, _LOADS)

    def _talk(self, connection: Any, commands: Sequence[Command], wait: float = 0.0) -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return self._replies(connection, len(commands), wait)

    def _replies(self, connection: Any, count: int, wait: float = 0.0) -> list[Any]:
        replies: list[Any] = []
        for _ in range(count):
            try:
                replies.append(
                    connection.read_response(timeout=self._timeout + wait)
                    if wait
                    else connection.read_response()
                )
            except ResponseError as error:
                replies.append(error)
        return replies

    # Hints: entries of the notify streams (see `keys`), `seen` says up to which id each was read.

    def watch(self, streams: Sequence[str]) -> None:
        """From now on these streams' entries end `block`."""

    def hints(self, seen: Mapping[str, str]) -> list[Command]:
        """What to run along with other commands to hear of new entries."""
        return [("XREAD", "STREAMS", *seen, *seen.values())]

    def block(self, seen: Mapping[str, str], seconds: float) -> list[Any]:
        """Replies to such commands, once there is one, after `seconds`, or `interrupt`."""
        milliseconds = int(seconds * 1000)
        if milliseconds <= 0:
            return self.run(self.hints(seen))
        command = ("XREAD", "BLOCK", milliseconds, "STREAMS", *seen, *seen.values())
        replies = self.run([command], wait=seconds)
        if isinstance(replies[0], ResponseError) and str(replies[0]).startswith("UNBLOCKED"):
            self.close()  # the server has become a replica, and says so to all who wait
            raise RedisConnectionError(str(replies[0])) from replies[0]
        return replies

    def interrupt(self, waiting: Callable[[], bool]) -> None:
        """Ends a `block` of another thread, also one that has not reached the server yet; `waiting()`: whether
        it is under way still."""
        broken = 0
        while waiting():
            try:
                if self._beside().one("CLIENT", "UNBLOCK", self.client_id):
                    return
            except CONNECTION_ERRORS:
                broken += 1
                if broken > 1:
                    return  # then the waiting connection is gone too
                continue  # one that was idle for long may have been closed: a new one tells
            time.sleep(0.001)

    def _beside(self) -> "Wire":
        """A connection to where the other thread waits, which a failover may have changed."""
        at = self._at or self._find()
        if self._control is None or self._control._place.head != at:
            if self._control is not None:
                self._control.close()
            self._control = Wire(Place("server", at), timeout=self._timeout, name=self._name)
        return self._control

    @property
    def connected(self) -> bool:
        return self._connection is not None


def connect_to(url: str, *, timeout: float, name: str, protocol: int = 2) -> Any:
    """A connection of redis-py's that tries nothing twice."""
    pool = redis.ConnectionPool.from_url(
        url,
        protocol=protocol,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        client_name=name,
    )
    connection: Any = pool.make_connection()
    try:
        connection.connect()
    except BaseException:
        with suppress(Exception):
            connection.disconnect()
        raise
    return connection


def confirmed(replies: list[Any], confirm: Confirm) -> list[Any]:
    """The writes' replies, each an exception where it was refused or is not confirmed."""
    count = len(confirm.commands())
    failure = confirm.failure(replies[-count:])
    replies = replies[:-count]
    if failure is None:
        return replies
    return [reply if isinstance(reply, Exception) else failure for reply in replies]


def was_refused(error: Exception) -> bool:
    """Whether the server has answered a step and refused it: then it certainly did nothing."""
    return isinstance(error, ResponseError)
