"""Which scheduler owns which shard, in Redis, because two owners of one shard would grant the same slots twice.

One hash holds every lock (schema: shard_claim.lua), so that all renewals of an owner are one step. A lock ends
by the server's clock; its epoch stays, and fences what a late owner still sends. A failover to a replica that
has not heard of a claim can give a shard a second owner: for no longer than until the first one's next renewal.
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lambent.kernel.models import ShardOwner
from lambent.kernel.store import codec
from lambent.kernel.store.connection import Connection, Script, text

if TYPE_CHECKING:
    from redis.asyncio import Redis

OWNERS = "lambent:{s0}:owners"
_CLAIM, _RENEW, _RELEASE, _OWNERS = (
    Script(f"shard_{name}.lua") for name in ("claim", "renew", "release", "owners")
)
# A server that hangs must leave an owner time to ask again while its locks still stand.
_ANSWER_SECONDS = 1.0


class RedisShardLocks:
    """`ports.ShardLocks`."""

    def __init__(self, url_or_client: "str | Redis") -> None:
        self._connection = Connection(url_or_client, what="The cluster's", seconds=_ANSWER_SECONDS)

    async def close(self) -> None:
        await self._connection.close()

    async def claim(self, shard: int, owner: str, address: str, ttl: float) -> int | None:
        token = secrets.token_hex(8)
        args: list[str | bytes | int] = [shard, owner, address, _ms(ttl), token, codec.SCHEMA]
        epoch = await self._connection.run(_CLAIM, [OWNERS], args)
        return None if epoch is None else int(epoch)

    async def renew(self, owner: str, held: Mapping[int, int], ttl: float) -> frozenset[int]:
        if not held:
            return frozenset()
        shards = [part for pair in held.items() for part in pair]
        answer = await self._connection.run(_RENEW, [OWNERS], [owner, _ms(ttl), *shards])
        return frozenset(int(shard) for shard in answer)

    async def release(self, shard: int, owner: str, epoch: int) -> None:
        await self._connection.run(_RELEASE, [OWNERS], [shard, owner, epoch])

    async def owners(self) -> Mapping[int, ShardOwner]:
        schema, *answer = [text(part) for part in await self._connection.run(_OWNERS, [OWNERS], [])]
        codec.refuse_newer(int(schema), "The list of the shards' owners")
        rows = zip(*(answer[i::4] for i in range(4)), strict=True)
        return {int(shard): ShardOwner(owner, address, int(epoch)) for shard, owner, address, epoch in rows}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
