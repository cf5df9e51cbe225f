"""The processes of a cluster in Redis, because gateways, schedulers and executors find each other nowhere else.

Soft state: who does not register any more is forgotten in a minute, and a server that lost it all knows
everybody again a second later. All keys are in one slot (schema: member_register.lua).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lambent.kernel.models import Member
from lambent.kernel.store import cluster_values
from lambent.kernel.store.connection import Connection, Script

if TYPE_CHECKING:
    from redis.asyncio import Redis

_REGISTER, _LIST = Script("member_register.lua"), Script("member_list.lua")


class RedisMembers:
    """`ports.Members`."""

    def __init__(self, url_or_client: "str | Redis") -> None:
        self._connection = Connection(url_or_client, what="The cluster's")

    async def close(self) -> None:
        await self._connection.close()

    async def register(self, member: Member, ttl: float) -> None:
        written = cluster_values.encode_member(member, ttl)
        done = await self._connection.run(
            _REGISTER, _keys(member.role), [member.id, written, cluster_values.MOST_MEMBERS]
        )
        if not done:
            raise cluster_values.too_many_members(member.role)

    async def remove(self, id: str) -> None:
        async def step(client: "Redis") -> None:
            async with client.pipeline(transaction=True) as batch:
                for role in cluster_values.ROLES:
                    members, seen = _keys(role)
                    batch.hdel(members, id)
                    batch.zrem(seen, id)
                await batch.execute()

        await self._connection.call(step)

    async def list(self, role: str | None = None) -> Sequence[Member]:
        roles = cluster_values.ROLES if role is None else (role,)
        keys = [key for each in roles for key in _keys(each)]
        answer = await self._connection.run(_LIST, keys, [cluster_values.MEMBER_KEPT_SECONDS * 1000])
        found = zip(answer[::2], answer[1::2], strict=True)
        return sorted(
            (cluster_values.member(data, age / 1000) for data, age in found), key=lambda member: member.id
        )


def _keys(role: str) -> tuple[str, str]:
    return f"lambent:{{s0}}:members:{role}", f"lambent:{{s0}}:seen:{role}"
