"""The account's unreserved slots in Redis, in blocks, because its limit spans shards that different processes
own.

A step here is for a block that changes, never for a lease that is granted out of one. All keys are in one slot
(schema: block_change.lua), with the shards' epochs: a fenced owner changes nothing.
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lambent.kernel.models import Block
from lambent.kernel.store import cluster_values, codec
from lambent.kernel.store.connection import Connection, Script, text
from lambent.kernel.store.shard_locks import OWNERS

if TYPE_CHECKING:
    from redis.asyncio import Redis

_BLOCKS, _WANTS, _RESERVED = "lambent:{s0}:blocks", "lambent:{s0}:wants", "lambent:{s0}:reserved"
_CHANGE, _RESERVE = Script("block_change.lua"), Script("block_reserve.lua")

_WHAT = "The list of the account's blocks"


class RedisAccountBlocks:
    """`ports.AccountBlocks`."""

    def __init__(self, url_or_client: "str | Redis") -> None:
        self._connection = Connection(url_or_client, what="The cluster's")

    async def close(self) -> None:
        await self._connection.close()

    async def grow(self, shard: int, epoch: int, by: int) -> Block:
        return await self._change(shard, epoch, "grow", by)

    async def give_back(self, shard: int, epoch: int, to: int) -> Block:
        return await self._change(shard, epoch, "to", to)

    async def _change(self, shard: int, epoch: int, how: str, count: int) -> Block:
        cluster_values.refuse_negative(count)
        token, want = secrets.token_hex(8), cluster_values.WANT_SECONDS * 1000
        args: list[str | bytes | int] = [shard, epoch, how, count, token, want, codec.SCHEMA]
        answer = await self._connection.run(_CHANGE, [_BLOCKS, _WANTS, OWNERS], args)
        if len(answer) == 1:
            codec.refuse_newer(answer[0], _WHAT)
        size, granted, free, fenced, wanted = answer
        return Block(size, granted, free, fenced=bool(fenced), wanted=bool(wanted))

    async def reserve(self, uid: str, slots: int | None) -> None:
        cluster_values.refuse_negative(slots or 0)
        args = [uid, "" if slots is None else slots, codec.SCHEMA]
        codec.refuse_newer(await self._connection.run(_RESERVE, [_BLOCKS, _RESERVED], args), _WHAT)

    async def set_limit(self, limit: int) -> None:
        cluster_values.refuse_negative(limit)

        async def step(client: "Redis") -> None:
            stored: Any = client.hset(_BLOCKS, "limit", str(limit))
            await stored

        await self._connection.call(step)

    async def reserved(self) -> Mapping[str, int]:
        async def read(client: "Redis") -> Mapping[bytes, bytes]:
            answer: Any = client.hgetall(_RESERVED)
            found: Mapping[bytes, bytes] = await answer
            return found

        stored = await self._connection.call(read)
        return {text(uid): int(slots) for uid, slots in stored.items()}
