"""One way to talk to Redis or Valkey, because a lost connection must become a clear error in a bounded time,
and a script must run whether or not the server still knows it.

Everything that goes through `Connection.call` may run more than once: a caller's step must be safe to repeat.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log
from lambent.kernel.redis_urls import Sentinels, sentinels_of

_log = Log(__name__)
_T = TypeVar("_T")

# What a lost connection looks like; a server that is loading its data is a RedisConnectionError as well.
LOST = (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError)
_ANSWER_SECONDS = 3.0
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.3


def shard_of(name: str, shards: int) -> int:
    """The slice of the key space that a name's keys are in, for as long as the store lives."""
    return zlib.crc32(name.encode()) % shards


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class Script:
    """A Lua file of this folder, run by its hash; sent whole when the server does not know it (a new or
    restarted server forgets its scripts)."""

    def __init__(self, file: str) -> None:
        self.name = file
        self._source = (Path(__file__).parent / file).read_text(encoding="utf-8")
        self._sha = sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: "Redis", keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.eval(self._source, len(keys), *keys, *args)


class Connection:
    """A client with bounded calls. `what` names it in errors ("The function store's server ...").

    Takes a URL (redis://, rediss://, unix://, redis+sentinel://), whose client it closes, or a client, which
    stays its owner's; such a client must not decode responses.
    """

    def __init__(self, url_or_client: "str | Redis", *, what: str, seconds: float = _ANSWER_SECONDS) -> None:
        self._what = what
        self._seconds = seconds
        self._owned = isinstance(url_or_client, str)
        self._sentinels: list[Redis] = []
        self._address = _without_password(url_or_client) if isinstance(url_or_client, str) else "given client"
        self.client: Redis = self._client(url_or_client) if isinstance(url_or_client, str) else url_or_client

    def _client(self, url: str) -> "Redis":
        try:
            options: dict[str, Any] = {
                "protocol": 2,
                "socket_connect_timeout": self._seconds,
                "socket_timeout": self._seconds,
                # `call` retries within its own bound; a second retry inside would hide what is repeated.
                "retry": Retry(NoBackoff(), 0),
            }
            named = sentinels_of(url)
            if named is not None:
                return self._of_sentinels(named, options)
            client = Redis.from_url(url, **options)
            # Options of the URL are looked at only when a connection is made.
            pool = client.connection_pool
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError) as failure:
            raise ServiceException(
                f"{self._what} URL ({self._address}) cannot be used: {failure}. "
                "Give one as redis://HOST:PORT/0 or unix:///PATH."
            ) from failure
        return client

    def _of_sentinels(self, named: Sentinels, options: dict[str, Any]) -> "Redis":
        """A client that asks them for the master at each connect."""
        server = dict(parse_url(named.server()))
        secure = server.pop("connection_class", None) is not None
        server.pop("host")
        asking = {**options, "ssl": secure, "ssl_cert_reqs": server.get("ssl_cert_reqs", "required")}
        sentinel: Any = Sentinel(named.nodes, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        self._sentinels = list(sentinel.sentinels)
        client: Redis = sentinel.master_for(named.master, ssl=secure, **server, **options)
        return client

    async def close(self) -> None:
        if self._owned:
            for client in (self.client, *self._sentinels):
                await client.aclose()

    async def call(self, step: Callable[["Redis"], Awaitable[_T]], *, seconds: float | None = None) -> _T:
        """Runs `step`, again while the connection is lost, for at most `seconds`. Raises ServiceException."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._seconds if seconds is None else seconds)
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout_at(end):
                    return await step(self.client)
            except AuthenticationError as failure:
                # A subclass of the lost connection's error, and no repetition helps.
                raise ServiceException(
                    f"{self._what} server ({self._address}) refuses the password: {failure}. "
                    "Put the right one in its URL."
                ) from failure
            except LOST as failure:
                if loop.time() + pause >= end:
                    raise self._no_answer(failure) from failure
            except RedisError as failure:
                _log.error("A Redis server refused a step.", server=self._address, answer=str(failure))
                raise ServiceException(
                    f"{self._what} server refuses the request: {failure}. "
                    "Look at its log, its memory limit and its disk."
                ) from failure
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """A script as one step; it must be safe to repeat."""
        return await self.call(lambda client: script(client, keys, args))

    def _no_answer(self, failure: BaseException) -> ServiceException:
        _log.error("A Redis server does not answer.", server=self._address, failure=repr(failure))
        return ServiceException(
            f"{self._what} server does not answer ({self._address}). Try again when it is back."
        )

    async def require_durable(self) -> None:
        """Refuses a server that would evict what it was given, and says what its settings risk."""
        memory = await self.call(lambda client: client.info("memory"))
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            raise ServiceException(
                f"{self._what} server ({self._address}) has maxmemory-policy {policy}: it would delete "
                "functions and events when its memory is full. Set `maxmemory-policy noeviction` in its "
                "configuration (`CONFIG SET maxmemory-policy noeviction`) and start again."
            )
        persistence = await self.call(lambda client: client.info("persistence"))
        if not int(persistence.get("aof_enabled", 0)):
            _log.warning(
                "The Redis server writes no append-only file: a crash of it loses what was acknowledged. "
                "Set `appendonly yes` and `appendfsync always`.",
                server=self._address,
            )


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
