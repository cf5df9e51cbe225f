"""What the log store knows of groups and log streams besides their lines (schema: log_append.lua)."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lambent.kernel.models import LogGroupInfo, LogStreamInfo
from lambent.kernel.store.connection import text

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def groups(client: "Redis", indexes: Sequence[str], facts: Callable[[str], str]) -> list[LogGroupInfo]:
    """`facts(group)`: the key of its hash."""
    async with client.pipeline(transaction=False) as batch:
        for index in indexes:
            batch.smembers(index)
        names = sorted(text(name) for found in await batch.execute() for name in found)
    async with client.pipeline(transaction=False) as batch:
        for name in names:
            batch.hmget(facts(name), "created", "retention")
        return [_group(name, row) for name, row in zip(names, await batch.execute(), strict=True)]


async def group(client: "Redis", index: str, facts: str, name: str) -> LogGroupInfo | None:
    async with client.pipeline(transaction=True) as batch:
        batch.sismember(index, name)
        batch.hmget(facts, "created", "retention")
        exists, row = await batch.execute()
    return _group(name, row) if exists else None


def _group(name: str, row: Sequence[bytes | None]) -> LogGroupInfo:
    created, retention = row
    return LogGroupInfo(name, int(created or 0), None if retention is None else int(retention))


async def streams(client: "Redis", index: str, facts: str, name: str) -> list[LogStreamInfo] | None:
    async with client.pipeline(transaction=True) as batch:
        batch.sismember(index, name)
        batch.hgetall(facts)
        exists, rows = await batch.execute()
    return _streams(rows) if exists else None


def _streams(rows: Mapping[bytes, bytes]) -> list[LogStreamInfo]:
    found = [
        LogStreamInfo(field.removeprefix(b"s:").decode(), *json.loads(row))
        for field, row in rows.items()
        if field.startswith(b"s:")
    ]
    return sorted(found, key=lambda stream: stream.name)
