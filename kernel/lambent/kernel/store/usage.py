"""The usage ledger in Redis: executions added up by minute, hour and day, each exactly once.

All keys share one hash tag (schema: usage_add.lua): a batch is one step over the executor's mark and every sum
that it changes, and one batch a second from each executor is little work for one server of a cluster.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from lambent.kernel.errors import ServiceException
from lambent.kernel.store import codec
from lambent.kernel.store.connection import Connection, Script
from lambent.kernel.usage import Rollup, Usage, UsageBatch, UsageKey, cover, rolled_up

if TYPE_CHECKING:
    from redis.asyncio import Redis

_ADD = Script("usage_add.lua")
_TAG = "lambent:{usage}"
_MARK_SECONDS = 400 * 86_400  # an executor that is silent for longer has no spool left to send again
_READ_AT_ONCE = 200
_NAMES = frozenset(Usage.__dataclass_fields__)


class RedisUsageLedger:
    """`ports.UsageLedger`."""

    def __init__(self, url_or_client: "str | Redis") -> None:
        self._connection = Connection(url_or_client, what="The usage ledger's")

    async def close(self) -> None:
        await self._connection.close()

    async def mark(self, executor: str) -> int:
        found = await self._connection.call(lambda client: client.get(f"{_TAG}:mark:{executor}"))
        return int(found or 0)

    async def add(self, batch: UsageBatch, *, after: int) -> int:
        keys = [f"{_TAG}:mark:{batch.executor}", f"{_TAG}:gaps"]
        arguments: list[str | bytes | int] = [after, batch.first, batch.last, _MARK_SECONDS, codec.SCHEMA]
        for rollup, rows in rolled_up(batch.minutes).items():
            keys.append(_key(rollup))
            arguments += [rollup.start + rollup.period.kept, len(rows)]
            for key, use in rows.items():
                arguments += _row(key, use)
        mark: int = await self._connection.run(_ADD, keys, arguments)
        return mark

    async def read(self, start: int, end: int) -> Mapping[UsageKey, Usage]:
        found: dict[UsageKey, Usage] = {}
        rollups = list(cover(start, end))
        for i in range(0, len(rollups), _READ_AT_ONCE):
            keys = [_key(rollup) for rollup in rollups[i : i + _READ_AT_ONCE]]
            for stored in await self._connection.call(lambda client, keys=keys: _hashes(client, keys)):  # type: ignore[misc]
                for key, use in _rows(stored):
                    found.setdefault(key, Usage()).add(use)
        return found

    async def missing(self) -> int:
        gaps = await self._connection.call(lambda client: client.hgetall(f"{_TAG}:gaps"))
        return sum(int(count) for count in gaps.values())


def _key(rollup: Rollup) -> str:
    return f"{_TAG}:{rollup.period}:{rollup.start}"


def _row(key: UsageKey, use: Usage) -> list[str | bytes | int]:
    text = json.dumps(key, separators=(",", ":"))
    values: list[str | bytes | int] = []
    for name in Usage.__dataclass_fields__:
        if number := getattr(use, name):
            values += [name, number]
    return [blake2b(text.encode(), digest_size=9).hexdigest(), text, len(values) // 2, *values]


async def _hashes(client: "Redis", keys: Sequence[str]) -> list[Mapping[bytes, bytes]]:
    async with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        answers: list[Mapping[bytes, bytes]] = await pipeline.execute()
        return answers


def _rows(stored: Mapping[bytes, bytes]) -> list[tuple[UsageKey, Usage]]:
    """Raises ServiceException for what a newer release has written."""
    if int(stored.get(b"v", 0)) > codec.SCHEMA:
        raise ServiceException(
            "The usage ledger was written by a newer release of Lambent. Run that release, or a newer one."
        )
    keys: dict[str, UsageKey] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for field, value in stored.items():
        first, _, second = field.decode().partition(":")
        if first == "k":
            function, uid, version, alias, architecture, tags = json.loads(value)
            tags = tuple((name, text) for name, text in tags)
            keys[second] = UsageKey(function, uid, version, alias, architecture, tags)
        elif second in _NAMES:
            numbers.setdefault(first, {})[second] = int(value)
    return [(key, Usage(**numbers.get(row, {}))) for row, key in keys.items()]
