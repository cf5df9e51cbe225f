"""One connection to Redis and raw pipelines over it, because every call of the transport is a batch, must be
sent at most once, and must tell "not executed" from "unknown": redis-py's client hides all three behind
retries.

A `Wire` is used by one thread. URLs are redis-py's (`redis://`, `rediss://`, `unix://`) or the transport's own
(`redis+streams://`, `redis+streams+socket:///path`, `redis+streams+ssl://`).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

Command = tuple[Any, ...]

_FOLDER = Path(__file__).parent
_COMMON = (_FOLDER / "common.lua").read_bytes()
_SCRIPTS = {path.stem: _COMMON + path.read_bytes() for path in _FOLDER.glob("*.lua") if path.stem != "common"}
_FORMS = (
    (re.compile(r"^(redis\+?)?streams\+(socket|unix)://"), "unix://"),
    (re.compile(r"^(redis\+?)?streams\+ssl://"), "rediss://"),
    (re.compile(r"^(redis\+?)?streams://"), "redis://"),
    (re.compile(r"^socket://"), "unix://"),
    (re.compile(r"^ssl://"), "rediss://"),
)


def redis_url(url: str) -> str:
    """The URL as redis-py knows it."""
    for form, instead in _FORMS:
        if form.match(url):
            return form.sub(instead, url)
    return url


class Wire:
    """A lazily opened connection. `timeout` seconds bound connecting, sending and each reply."""

    def __init__(self, url: str, *, timeout: float = 3.0, name: str = "streams") -> None:
        self._url = redis_url(url)
        self._timeout = timeout
        self._pool = redis.ConnectionPool.from_url(
            self._url,
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name=name,
        )
        self._connection: Any = None
        self._digests: dict[str, bytes] = {}
        self.client_id = 0

    def open(self) -> None:
        """Connects if needed. Raises redis.ConnectionError or TimeoutError."""
        if self._connection is not None:
            return
        connection: Any = self._pool.make_connection()
        try:
            connection.connect()
            names = list(_SCRIPTS)
            replies = self._talk(
                connection, [("CLIENT", "ID"), *(("SCRIPT", "LOAD", _SCRIPTS[name]) for name in names)]
            )
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        except BaseException:
            connection.disconnect()
            raise
        self.client_id = replies[0]
        self._digests = dict(zip(names, replies[1:], strict=True))
        self._connection = connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def script(self, name: str, keys: Sequence[str], *arguments: Any) -> Command:
        """The command that runs NAME.lua. Call `open` first."""
        return ("EVALSHA", self._digests[name], len(keys), *keys, *arguments)

    def run(self, commands: Sequence[Command], *, wait: float = 0.0) -> list[Any]:
        """Sends all, then reads all replies; an error reply is an exception *in* the list.

        `wait`: how much longer than the timeout a reply may take (a blocking command). Raises
        redis.ConnectionError or TimeoutError when the outcome is unknown; the connection is closed then.
        """
        self.open()
        try:
            replies = self._talk(self._connection, commands, wait)
        except BaseException:
            self.close()
            raise
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # SCRIPT FLUSH by somebody: these did nothing, so they may be sent again
            self.close()
            self.open()
            again = self._talk(self._connection, [commands[i] for i in unknown], wait)
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return replies

    def one(self, *command: Any) -> Any:
        """One command's reply. Raises its error."""
        reply = self.run([command])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _talk(self, connection: Any, commands: Sequence[Command], wait: float = 0.0) -> list[Any]:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(
                    connection.read_response(timeout=self._timeout + wait)
                    if wait
                    else connection.read_response()
                )
            except ResponseError as error:
                replies.append(error)
        return replies

    @property
    def fileno(self) -> int | None:
        """The socket, while connected."""
        return None if self._connection is None else self._connection._sock.fileno()


CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    RedisConnectionError,
    redis.TimeoutError,
    OSError,
)
CHANNEL_ERRORS: tuple[type[Exception], ...] = (ResponseError,)
# Everything that a call of the transport raises because of the server.
SERVER_ERRORS: tuple[type[Exception], ...] = (RedisError, KombuError, OSError)


def was_refused(error: Exception) -> bool:
    """Whether the server has answered a step and refused it: then it certainly did nothing."""
    return isinstance(error, ResponseError)
