"""Recent logs of functions in capped Redis streams, so that `lambent logs` and the console can show them after
the environment is gone, and in a way that never disturbs what must be durable: at most five writes a second,
under byte budgets, and none at all when the server's memory runs short.

Key schema: log_append.lua.
Lines may appear twice if the server dies while it answers a write; they are never lost silently.
"""

import asyncio
import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, ResponseError

from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log
from lambent.kernel.models import LogGroupInfo, LogLine, LogStreamInfo
from lambent.kernel.ports import Clock
from lambent.kernel.store import codec, log_groups
from lambent.kernel.store.connection import LOST, Connection, Script, shard_of, text
from lambent.kernel.store.log_budget import crowded, trim
from lambent.kernel.store.log_buffer import Dropped, Line, LogBuffer, cursor, make_line
from lambent.kernel.tasks import Tasks

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = Log(__name__)
_FLUSH_SECONDS = 0.2
_FLUSH_BYTES = 4 * 1024 * 1024
_DOWN_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_BLOCK_SECONDS = 1.5
_TRIM_SECONDS = 30.0
_SCHEMA = str(codec.SCHEMA)
_APPEND = Script("log_append.lua")
_GROUP = Script("log_group.lua")
_MOST_STREAMS = 2000
_SCAN_LINES = 2000
_DAY_MS = 86_400_000
_FUTURE_MS = 2 * 3_600_000 + 60_000


class RedisLogs:
    """`ports.LogStore`; used from one event loop.

    `buffer_bytes`: lines that wait to be written; `group_lines`, `group_bytes`: kept of one group (its oldest
    go); `total_bytes`: kept of all groups, or a quarter of the server's own limit if that is less.
    """

    def __init__(
        self,
        url_or_client: "str | Redis",
        *,
        shards: int,
        clock: Clock | None = None,
        buffer_bytes: int = 8 * 1024 * 1024,
        group_lines: int = 10_000,
        group_bytes: int = 16 * 1024 * 1024,
        total_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._connection = Connection(url_or_client, what="The log store's")
        self._shards = shards
        self._clock = clock or SystemClock()
        self._group_lines, self._group_bytes, self._total_bytes = group_lines, group_bytes, total_bytes
        self._dropped = Dropped(self._clock)
        self._buffer = LogBuffer(buffer_bytes, self._dropped)
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks = Tasks("function logs")
        self._closed = False
        self._down = False
        self._limit = 0
        self._untrimmed = 0
        self._trimmed_at = self._clock.monotonic()

    @property
    def dropped(self) -> int:
        """Lines dropped since the start."""
        return self._dropped.total

    async def open(self) -> None:
        """Starts writing. Does not wait for the server: lines wait in the buffer until it answers."""
        self._tasks.forever("write", self._write_forever())

    async def close(self) -> None:
        """Writes what waits, if the server answers, and stops."""
        self._closed = True
        async with self._writing:
            # Under the lock no write is under way that the drain could cut in two.
            await self._tasks.drain(0)
            while len(self._buffer) and await self._write():
                pass
        self._buffer.drop_all("the server stopped while they could not be stored")
        self._dropped.tell()
        await self._connection.close()

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """Never blocks and never raises; what does not fit is dropped, oldest first, and counted."""
        if self._closed:
            self._dropped.add(len(lines), "the server was stopping")
            return
        self._buffer.add(make_line(group, stream, at, message) for at, message in lines)
        self._wake.set()

    async def read(
        self, group: str, *, after: str | None, limit: int, wait: float = 0
    ) -> tuple[Sequence[LogLine], str | None]:
        """Raises ServiceException when the server does not answer, InvalidParameterValueException for a cursor
        that `read` did not give."""
        key, start = self._key(group), "0-0" if after is None else cursor(after)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while True:
            block = min(_BLOCK_SECONDS, end - loop.time())
            step = functools.partial(_entries, key=key, start=start, limit=limit, block=block)
            entries = await self._connection.call(step)
            if entries:
                return [_line(name, fields) for name, fields in entries], text(entries[-1][0])
            if loop.time() >= end:
                return [], after

    async def end(self, group: str) -> str | None:
        key = self._key(group)
        last: Any = await self._connection.call(lambda client: client.xrevrange(key, count=1))
        return text(last[0][0]) if last else None

    async def delete(self, group: str) -> bool:
        """Forgets a group, with the lines that wait to be written."""
        async with self._writing:
            self._buffer.forget(group)
            lines, index, facts = self._keys(group)

            async def forget(client: "Redis") -> bool:
                async with client.pipeline(transaction=True) as batch:
                    batch.delete(lines, facts)
                    batch.srem(index, group)
                    return bool((await batch.execute())[1])

            return await self._connection.call(forget)

    async def flush(self) -> None:
        async with self._writing:
            while len(self._buffer) and await self._write():
                pass

    # ---- groups and log streams -------------------------------------------------------------------------

    async def groups(self) -> Sequence[LogGroupInfo]:
        indexes = [self._index(shard) for shard in range(self._shards)]
        return await self._connection.call(lambda client: log_groups.groups(client, indexes, self._facts))

    async def group(self, name: str) -> LogGroupInfo | None:
        index = self._index(shard_of(name, self._shards))
        return await self._connection.call(
            lambda client: log_groups.group(client, index, self._facts(name), name)
        )

    async def create_group(self, name: str) -> bool:
        return await self._change("create-group", name, self._ms()) == 1

    async def set_retention(self, group: str, days: int | None) -> bool:
        return await self._change("retention", group, "" if days is None else days) == 1

    async def streams(self, group: str) -> Sequence[LogStreamInfo] | None:
        index = self._index(shard_of(group, self._shards))
        return await self._connection.call(
            lambda client: log_groups.streams(client, index, self._facts(group), group)
        )

    async def create_stream(self, group: str, name: str) -> bool | None:
        done = await self._change("create-stream", group, self._ms(), name)
        return None if done < 0 else done == 1

    async def delete_stream(self, group: str, name: str) -> bool | None:
        done = await self._change("delete-stream", group, name)
        return None if done < 0 else done == 1

    async def scan(self, group: str, *, since: int, until: int) -> Sequence[LogLine]:
        found = await self.group(group)
        if found is not None and found.retention is not None:
            since = max(since, self._ms() - found.retention * _DAY_MS)
        # An entry's id is the time at which it came, and no line is of a later time than two hours after that.
        first = max(0, since - _FUTURE_MS)
        key = self._key(group)
        lines: list[LogLine] = []
        start = str(first)
        while entries := await self._connection.call(
            lambda client, start=start: client.xrange(key, start, "+", count=_SCAN_LINES)  # type: ignore[misc]
        ):
            for name, fields in entries:
                line = _line(name, fields)
                if since <= line.at < until:
                    lines.append(line)
            start = f"({text(entries[-1][0])}"
        lines.sort(key=lambda line: line.at)
        return lines

    async def _change(self, *arguments: str | int) -> int:
        done: int = await self._connection.run(_GROUP, self._keys(str(arguments[1])), arguments)
        return done

    def _ms(self) -> int:
        return int(self._clock.now() * 1000)

    def _keys(self, group: str) -> list[str]:
        """As log_append.lua has them."""
        return [self._key(group), self._index(shard_of(group, self._shards)), self._facts(group)]

    def _facts(self, group: str) -> str:
        return f"lambent:{{s{shard_of(group, self._shards)}}}:loggroup:{group}"

    def _key(self, group: str) -> str:
        return f"lambent:{{s{shard_of(group, self._shards)}}}:log:{group}"

    @staticmethod
    def _index(shard: int) -> str:
        return f"lambent:{{s{shard}}}:logs"

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._writing:
                written = await self._write()
            if len(self._buffer):
                self._wake.set()
            await self._clock.sleep(_FLUSH_SECONDS if written else _DOWN_SECONDS)

    async def _write(self) -> bool:
        """One batch; whether the server answered. Lines that it did not take wait for the next one."""
        lines: Sequence[Line] = ()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                short, self._limit = await crowded(self._connection.client)
                if short:
                    self._buffer.drop_all("the Redis server's memory is over 80 % full; events go first")
                    return True
                lines = self._buffer.take(_FLUSH_BYTES)
                refused = await self._send(self._connection.client, lines)
        except (*LOST, RedisError) as failure:
            self._buffer.put_back(lines)
            if not self._down:
                _log.warning("Function logs cannot be stored now; they wait.", failure=str(failure))
            self._down = True
            return False
        except BaseException:
            self._buffer.put_back(lines)
            raise
        self._down = False
        self._dropped.add(refused, "the Redis server refused them")
        await self._keep_budget(sum(line.size for line in lines))
        return True

    async def _send(self, client: "Redis", lines: Sequence[Line]) -> int:
        """How many lines the server refused."""
        groups: dict[str, list[str]] = {}
        for line in lines:
            groups.setdefault(line.group, []).extend((str(line.at), line.stream, line.text))
        refused = 0
        for group, parts in groups.items():
            # As one JSON argument: the client packs each argument in Python, and this in C.
            packed = json.dumps(parts, ensure_ascii=False).encode()
            try:
                await _APPEND(
                    client, self._keys(group), [group, self._group_lines, _SCHEMA, packed, _MOST_STREAMS]
                )
            except ResponseError:  # out of memory, say; a lost connection is the caller's
                refused += len(parts) // 3
        return refused

    async def _keep_budget(self, written: int) -> None:
        """Trims groups when much was written, or some and long ago."""
        self._untrimmed += written
        total = min(self._total_bytes, self._limit // 4) if self._limit else self._total_bytes
        now = self._clock.monotonic()
        if self._untrimmed < total // 8 and now - self._trimmed_at < _TRIM_SECONDS:
            return
        self._untrimmed, self._trimmed_at = 0, now
        indexes = [self._index(shard) for shard in range(self._shards)]
        with contextlib.suppress(ServiceException):  # said in the log; the next batch tries again
            await self._connection.call(
                lambda client: trim(client, indexes, self._key, total=total, group=self._group_bytes)
            )
            await self._expire()

    async def _expire(self) -> None:
        """Lines that are older than their group's retention go."""
        now = self._ms()
        for group in await self.groups():
            if group.retention is not None:
                key, oldest = self._key(group.name), max(0, now - group.retention * _DAY_MS)
                await self._connection.call(
                    lambda client, key=key, oldest=oldest: client.xtrim(
                        key, minid=str(oldest), approximate=True
                    )  # type: ignore[misc]
                )


async def _entries(
    client: "Redis", *, key: str, start: str, limit: int, block: float
) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
    """Entries after `start`, waiting for the first one at most `block` seconds."""
    # BLOCK 0 would wait for ever.
    milliseconds = max(1, int(block * 1000)) if block > 0 else None
    answer: Any = await client.xread({key: start}, count=limit, block=milliseconds)
    found: Sequence[tuple[bytes, Mapping[bytes, bytes]]] = answer[0][1] if answer else ()
    return found


def _line(name: bytes, fields: Mapping[bytes, bytes]) -> LogLine:
    codec.refuse_newer(int(fields[b"v"]), "A stored log line")
    message = fields[b"m"].decode("utf-8", "replace")
    return LogLine(at=int(fields[b"t"]), stream=text(fields[b"s"]), message=message, id=text(name))
