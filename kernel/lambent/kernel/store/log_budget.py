"""How much of a Redis server logs may use, so that they can never crowd out events and functions.

Sizes are asked from the server (`MEMORY USAGE`, which samples), since several processes write the same groups.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lambent.kernel.log import Log
from lambent.kernel.store.connection import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = Log(__name__)
_CROWDED = 0.8


async def crowded(client: "Redis") -> tuple[bool, int]:
    """(whether the server's memory is over 80 % full, its limit in bytes or 0)."""
    memory: Mapping[str, Any] = await client.info("memory")
    limit = int(memory.get("maxmemory", 0))
    return limit > 0 and int(memory.get("used_memory", 0)) > _CROWDED * limit, limit


def fair_share(sizes: Sequence[int], *, total: int, group: int) -> int:
    """The largest cap such that groups cut down to it fit in `total`, and never over `group`. Small groups stay
    whole; the large ones pay."""
    left, share = total, group
    for position, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - position)
        if size > share:
            return min(share, group)
        left -= size
    return group


async def trim(
    client: "Redis", indexes: Sequence[str], key: Callable[[str], str], *, total: int, group: int
) -> None:
    """Cuts the oldest lines of groups that are over their fair share. `key(group)` is a group's stream."""
    async with client.pipeline(transaction=False) as batch:
        for index in indexes:
            batch.smembers(index)
        keys = [key(text(name)) for names in await batch.execute() for name in names]
    async with client.pipeline(transaction=False) as batch:
        for stream in keys:
            batch.memory_usage(stream)
            batch.xlen(stream)
        answers: Sequence[int | None] = await batch.execute()
    found = [
        (stream, size, length)
        for stream, size, length in zip(keys, answers[::2], answers[1::2], strict=True)
        if size and length
    ]
    share = fair_share([size for _, size, _ in found], total=total, group=group)
    cuts = [(stream, length * share // size) for stream, size, length in found if size > share]
    if not cuts:
        return
    async with client.pipeline(transaction=False) as batch:
        for stream, length in cuts:
            batch.xtrim(stream, maxlen=length, approximate=False)
        removed: Sequence[int] = await batch.execute()
    _log.debug("Old log lines were trimmed.", groups=len(cuts), lines=sum(removed))
