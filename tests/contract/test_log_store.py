"""Every log store: lines come back in order, from a cursor on, and a reader may wait for the first one."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.models import LogLine
from lambent.kernel.store.log_buffer import MAX_LINE_BYTES
from lambent.kernel.store.logs import RedisLogs
from lambent.kernel.store.memory_logs import MemoryLogs

AnyLogs = MemoryLogs | RedisLogs
GROUP = "/aws/lambda/f"


@pytest.fixture(params=["memory", "redis_url", "redis_cluster_url"])
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[AnyLogs]:
    opened: AnyLogs = (
        MemoryLogs()
        if request.param == "memory"
        else RedisLogs(request.getfixturevalue(request.param), shards=4)
    )
    await opened.open()
    yield opened
    await opened.close()


async def read_all(logs: AnyLogs, count: int, group: str = GROUP) -> list[LogLine]:
    """The first `count` lines, waiting for each batch of them."""
    lines: list[LogLine] = []
    cursor: str | None = None
    while len(lines) < count:
        found, cursor = await logs.read(group, after=cursor, limit=1000, wait=10)
        assert found, f"{len(lines)} of {count} lines came"
        lines += found
    return lines


async def test_lines_come_back_in_order_with_their_times(logs: AnyLogs) -> None:
    logs.append(GROUP, "s1", [(1_000, "START"), (1_001, "grüße 🖼\ttab"), (1_001, "")])
    logs.append(GROUP, "s2", [(1_002, "END")])
    assert await read_all(logs, 4) == [
        LogLine(1_000, "s1", "START"),
        LogLine(1_001, "s1", "grüße 🖼\ttab"),
        LogLine(1_001, "s1", ""),
        LogLine(1_002, "s2", "END"),
    ]


async def test_a_cursor_goes_on_where_the_last_read_ended(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(n, str(n)) for n in range(5)])
    await read_all(logs, 5)
    first, cursor = await logs.read(GROUP, after=None, limit=2)
    second, cursor = await logs.read(GROUP, after=cursor, limit=10)
    third, last = await logs.read(GROUP, after=cursor, limit=10)
    assert [line.message for line in [*first, *second]] == ["0", "1", "2", "3", "4"]
    assert (list(third), last) == ([], cursor)


async def test_the_end_is_where_what_comes_next_is_read(logs: AnyLogs) -> None:
    assert await logs.end(GROUP) is None
    logs.append(GROUP, "s", [(1, "before")])
    await logs.flush()
    end = await logs.end(GROUP)
    assert await logs.read(GROUP, after=end, limit=10) == ([], end)
    logs.append(GROUP, "s", [(2, "after")])
    await logs.flush()
    lines, _ = await logs.read(GROUP, after=end, limit=10)
    assert [line.message for line in lines] == ["after"]


async def test_groups_are_apart(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(1, "mine")])
    logs.append("other", "s", [(1, "theirs")])
    assert [line.message for line in await read_all(logs, 1)] == ["mine"]
    assert [line.message for line in await read_all(logs, 1, "other")] == ["theirs"]


async def test_an_unknown_group_is_empty(logs: AnyLogs) -> None:
    assert await logs.read("nobody", after=None, limit=10) == ([], None)


async def test_a_waiting_reader_gets_the_first_line_when_it_comes(logs: AnyLogs) -> None:
    reading = asyncio.ensure_future(logs.read(GROUP, after=None, limit=10, wait=30))
    await asyncio.sleep(0)
    assert not reading.done()
    logs.append(GROUP, "s", [(1, "now")])
    lines, cursor = await asyncio.wait_for(reading, 10)
    assert [line.message for line in lines] == ["now"]
    assert cursor is not None


async def test_a_wait_ends(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(1, "old")])
    await read_all(logs, 1)
    _, cursor = await logs.read(GROUP, after=None, limit=10)
    assert await logs.read(GROUP, after=cursor, limit=10, wait=0.05) == ([], cursor)


async def test_a_long_line_is_cut_and_says_so(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(1, "ü" * 200_000), (2, "x" * MAX_LINE_BYTES)])
    long, exact = await read_all(logs, 2)
    assert len(long.message.encode()) <= MAX_LINE_BYTES
    assert long.message.endswith("ü ... [cut: the line had 400000 bytes]")
    assert exact.message == "x" * MAX_LINE_BYTES


async def test_text_that_utf8_cannot_say_is_kept_readable(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(1, "half \ud83d")])
    assert [line.message for line in await read_all(logs, 1)] == ["half ?"]


async def test_a_deleted_group_is_gone_with_what_waits(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(1, "stored")])
    await read_all(logs, 1)
    logs.append(GROUP, "s", [(2, "waits")])
    await logs.delete(GROUP)
    logs.append("other", "s", [(3, "after")])
    await read_all(logs, 1, "other")
    assert await logs.read(GROUP, after=None, limit=10) == ([], None)


async def test_a_cursor_that_is_none_is_refused(logs: AnyLogs) -> None:
    with pytest.raises(InvalidParameterValueException, match="is not a cursor"):
        await logs.read(GROUP, after="yesterday", limit=10)


class PausingClock(TestClock):
    """Says when somebody starts to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.paused.set()
        await super().sleep(seconds)


class TestRedisLogs:
    """What only the server's twin has: batches, budgets and a life through the server's death."""

    async def test_lines_within_a_fifth_of_a_second_are_one_write(self, redis_url: str) -> None:
        clock = PausingClock()
        logs = RedisLogs(redis_url, shards=4, clock=clock)
        await logs.open()
        try:
            logs.append(GROUP, "s", [(0, "first")])
            await clock.paused.wait()
            for n in range(100):
                logs.append(GROUP, "s", [(n, "next")])
            await clock.advance(0.199)
            assert len((await logs.read(GROUP, after=None, limit=1000))[0]) == 1
            await clock.advance(0.001)
            assert len(await read_all(logs, 101)) == 101
        finally:
            await logs.close()

    async def test_close_writes_what_waits(self, redis_url: str) -> None:
        logs = RedisLogs(redis_url, shards=4, clock=TestClock())
        await logs.open()
        logs.append(GROUP, "s", [(n, "x" * 2000) for n in range(3000)])
        await logs.close()
        assert await self.stored(redis_url) == 3000
        assert logs.dropped == 0

    async def test_lines_after_the_close_are_counted(self, redis_url: str) -> None:
        logs = RedisLogs(redis_url, shards=4)
        await logs.open()
        await logs.close()
        logs.append(GROUP, "s", [(0, "too late")])
        assert logs.dropped == 1
        assert await self.stored(redis_url) == 0

    @staticmethod
    async def stored(redis_url: str) -> int:
        reader = RedisLogs(redis_url, shards=4)
        try:
            return len((await reader.read(GROUP, after=None, limit=100_000))[0])
        finally:
            await reader.close()

    async def test_a_full_buffer_drops_the_oldest_and_counts(self, redis_url: str) -> None:
        logs = RedisLogs(redis_url, shards=4, buffer_bytes=10_000)
        logs.append(GROUP, "s", [(n, f"{n:03}" + "x" * 933) for n in range(30)])
        assert logs.dropped == 20
        await logs.open()
        try:
            assert [line.at for line in await read_all(logs, 10)] == list(range(20, 30))
        finally:
            await logs.close()

    async def test_a_group_keeps_about_its_newest_lines(self, redis_url: str) -> None:
        logs = RedisLogs(redis_url, shards=4, group_lines=200)
        logs.append(GROUP, "s", [(n, "x") for n in range(3000)])
        await logs.open()
        await logs.close()
        reader = RedisLogs(redis_url, shards=4)
        lines, _ = await reader.read(GROUP, after=None, limit=10_000)
        await reader.close()
        assert 200 <= len(lines) < 400
        assert lines[-1].at == 2999

    async def test_all_groups_together_stay_within_the_budget(self, redis_url: str) -> None:
        logs = RedisLogs(redis_url, shards=4, total_bytes=400_000)
        logs.append("small", "s", [(n, "x" * 100) for n in range(50)])
        for group in ("big-1", "big-2"):
            logs.append(group, "s", [(n, "x" * 1000) for n in range(1000)])
        await logs.open()
        await logs.close()
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            keys = [key async for key in client.scan_iter("*:log:*")]
            sizes = [await client.memory_usage(key) or 0 for key in keys]
        assert 200_000 < sum(sizes) < 440_000
        reader = RedisLogs(redis_url, shards=4)
        assert len((await reader.read("small", after=None, limit=100))[0]) == 50
        kept, _ = await reader.read("big-1", after=None, limit=1000)
        await reader.close()
        assert [line.at for line in kept] == list(range(1000 - len(kept), 1000))


async def test_a_group_comes_with_its_first_line(logs: AnyLogs) -> None:
    assert await logs.group(GROUP) is None and await logs.streams(GROUP) is None
    logs.append(GROUP, "s1", [(1_000, "a"), (3_000, "b")])
    logs.append(GROUP, "s2", [(2_000, "c")])
    await logs.flush()
    logs.append(GROUP, "s1", [(500, "d")])
    await logs.flush()
    [group] = await logs.groups()
    assert (group.name, group.retention) == (GROUP, None)
    assert abs(group.created - time.time() * 1000) < 60_000
    streams = await logs.streams(GROUP)
    assert streams is not None
    assert [(s.name, s.first, s.last) for s in streams] == [("s1", 500, 3_000), ("s2", 2_000, 2_000)]
    assert all(s.ingested is not None and s.created >= group.created for s in streams)


async def test_groups_are_created_once_and_deleted_with_everything(logs: AnyLogs) -> None:
    assert [await logs.create_group(GROUP), await logs.create_group(GROUP)] == [True, False]
    assert await logs.streams(GROUP) == []
    logs.append(GROUP, "s", [(1_000, "a")])
    await logs.flush()
    assert [await logs.delete(GROUP), await logs.delete(GROUP)] == [True, False]
    assert await logs.groups() == [] and await logs.group(GROUP) is None
    assert await logs.scan(GROUP, since=0, until=1 << 60) == []
    assert await logs.create_group(GROUP)
    assert await logs.streams(GROUP) == []


async def test_log_streams_are_created_once_and_deleted_with_their_lines(logs: AnyLogs) -> None:
    assert await logs.create_stream(GROUP, "s:x") is None
    assert await logs.delete_stream(GROUP, "s:x") is None
    await logs.create_group(GROUP)
    assert [await logs.create_stream(GROUP, "s"), await logs.create_stream(GROUP, "s")] == [True, False]
    [stream] = await logs.streams(GROUP) or ()
    assert (stream.name, stream.first, stream.last, stream.ingested) == ("s", None, None, None)
    logs.append(GROUP, "s", [(1_000, "a")])
    logs.append(GROUP, "t", [(1_001, "b")])
    await logs.flush()
    [stream, _] = await logs.streams(GROUP) or ()
    assert (stream.first, stream.last) == (1_000, 1_000)
    assert [await logs.delete_stream(GROUP, "s"), await logs.delete_stream(GROUP, "s")] == [True, False]
    assert [line.message for line in await logs.scan(GROUP, since=0, until=1 << 60)] == ["b"]


async def test_a_scan_is_by_time_and_in_order_of_arrival_within_one(logs: AnyLogs) -> None:
    now = int(time.time() * 1000)
    logs.append(GROUP, "s", [(now + 2, "d"), (now, "b"), (now, "c"), (now - 1, "a"), (now + 3, "e")])
    await logs.flush()
    found = await logs.scan(GROUP, since=now - 1, until=now + 3)
    assert [line.message for line in found] == ["a", "b", "c", "d"]
    assert len({line.id for line in found}) == 4
    assert [line.message for line in await logs.scan(GROUP, since=now + 3, until=now + 4)] == ["e"]
    assert await logs.scan("none", since=0, until=1 << 60) == []


async def test_retention_hides_what_is_older(logs: AnyLogs) -> None:
    assert await logs.set_retention(GROUP, 3) is False
    now = int(time.time() * 1000)
    logs.append(GROUP, "s", [(now - 4 * 86_400_000, "old"), (now, "new")])
    await logs.flush()
    assert await logs.set_retention(GROUP, 3)
    group = await logs.group(GROUP)
    assert group is not None and group.retention == 3
    assert [line.message for line in await logs.scan(GROUP, since=0, until=1 << 60)] == ["new"]
    assert await logs.set_retention(GROUP, None)
    assert len(await logs.scan(GROUP, since=0, until=1 << 60)) == 2


async def test_more_lines_than_one_page_of_the_store_are_scanned(logs: AnyLogs) -> None:
    logs.append(GROUP, "s", [(n, str(n)) for n in range(4_500)])
    await logs.flush()
    found = await logs.scan(GROUP, since=0, until=1 << 60)
    assert [line.at for line in found] == list(range(4_500))
