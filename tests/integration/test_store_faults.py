"""The stores when their server is killed, hangs, is full, or is not what it should be: clear errors in a
bounded time, nothing acknowledged lost, and recovery without help."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio
import samples
from support import RedisServer

from lambent.gateway.function_cache import FunctionCache
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.models import Function
from lambent.kernel.store.logs import RedisLogs
from lambent.kernel.store.redis import RedisStore

GROUP = "/aws/lambda/f"


@pytest.fixture
async def store(own_redis: RedisServer) -> AsyncIterator[RedisStore]:
    opened = RedisStore(own_redis.url, shards=4)
    await opened.open()
    yield opened
    await opened.close()


class LosingProxy:
    """Passes bytes to the server and back; when told, the answer to the next script is lost with its
    connection, after the server has done the step."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.lose_next = False
        self.lost = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        self._listener.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        back = asyncio.ensure_future(self._pass_back(to_reader, writer))
        try:
            while data := await reader.read(65536):
                # A script that the server does not know yet is not the step: only its EVAL is.
                self._scripted = b"EVAL" in data
                to_writer.write(data)
        finally:
            self._connections.discard(task)
            to_writer.close()
            writer.close()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.lose_next and self._scripted and not data.startswith(b"-NOSCRIPT"):
                self.lose_next, self.lost = False, self.lost + 1
                writer.close()
                return
            writer.write(data)


@pytest.fixture
async def proxy(redis_server: RedisServer, redis_url: str) -> AsyncIterator[LosingProxy]:
    made = LosingProxy(redis_server.port)
    yield made
    await made.stop()


@pytest.fixture
async def flaky(proxy: LosingProxy) -> AsyncIterator[RedisStore]:
    """A store whose answers get lost when `proxy.lose_next` is set."""
    opened = RedisStore(await proxy.start(), shards=4)
    yield opened
    await opened.close()


@pytest.fixture
async def logs(own_redis: RedisServer) -> AsyncIterator[RedisLogs]:
    opened = RedisLogs(own_redis.url, shards=4, buffer_bytes=10_000)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_dead_server_is_a_clear_error_in_time_and_then_it_is_back(
    store: RedisStore, own_redis: RedisServer
) -> None:
    await store.create(samples.full_function())
    own_redis.kill()
    began = time.monotonic()
    with pytest.raises(ServiceException, match="The function store's server does not answer") as caught:
        await store.get("full")
    assert time.monotonic() - began < 4
    assert caught.value.status >= 500
    own_redis.start()
    assert await store.get("full") == samples.full_function()


async def test_a_hanging_server_is_a_clear_error_in_time(store: RedisStore, own_redis: RedisServer) -> None:
    own_redis.pause()
    began = time.monotonic()
    with pytest.raises(ServiceException, match="does not answer"):
        await store.create(samples.function())
    assert time.monotonic() - began < 4
    own_redis.resume()
    await store.ping()


async def test_a_short_absence_is_not_even_an_error(store: RedisStore, own_redis: RedisServer) -> None:
    await store.create(samples.function())
    own_redis.kill()
    reading = asyncio.ensure_future(store.get("f"))
    await asyncio.sleep(0)
    await asyncio.to_thread(own_redis.start)
    assert await reading == samples.function()


async def test_a_change_whose_answer_was_lost_is_done_once(flaky: RedisStore, proxy: LosingProxy) -> None:
    proxy.lose_next = True
    await flaky.create(samples.function())
    proxy.lose_next = True
    await flaky.replace(samples.function(revision_id="r2"), expect_revision="r1")
    assert await flaky.get("f") == samples.function(revision_id="r2")
    assert await flaky.usage() == (1000, 1)
    proxy.lose_next = True
    assert await flaky.delete("f") == samples.function(revision_id="r2")
    assert await flaky.get("f") is None
    assert await flaky.usage() == (0, 0)
    assert proxy.lost == 3


async def test_a_change_that_a_hanging_server_makes_after_we_gave_up_is_heard(
    store: RedisStore, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, heard, stalled = FunctionCache(store), set[str](), asyncio.Event()
    both = asyncio.Event()

    def changed(name: str) -> None:
        cache.changed(name)
        heard.add(name)
        if {"f", "g"} <= heard or "*" in heard:
            both.set()

    await store.hears_changes()
    for name in ("f", "g", "h"):
        await store.create(samples.function(name))
    # A server that is greeted or sent scripts only now would do nothing for a caller that is gone.
    await asyncio.gather(
        store.replace(samples.function("h", revision_id="r2"), expect_revision="r1"), store.ping()
    )
    await store.delete("h")
    store.on_change(changed)
    read = store.get

    async def stall(name: str) -> Function | None:
        found = await read(name)
        own_redis.pause()
        stalled.set()
        return found

    monkeypatch.setattr(store, "get", stall)
    deleting = asyncio.ensure_future(store.delete("g"))
    await stalled.wait()
    monkeypatch.undo()
    with pytest.raises(ServiceException):
        await store.replace(samples.function(revision_id="r2"), expect_revision="r1")
    with pytest.raises(ServiceException):
        await deleting
    # What a cache would hold that read while the server was away; only the server's own word clears it.
    cache._functions.update(f=samples.function(), g=samples.function("g"))
    heard.clear()
    both.clear()
    own_redis.resume()
    await asyncio.wait_for(both.wait(), 10)
    assert await cache.get("f") == samples.function(revision_id="r2")
    assert await cache.get("g") is None
    # The caller's next try is told what went, so that it cleans up after it; the one after that is not.
    assert await store.delete("g") == samples.function("g")
    assert await store.delete("g") is None


async def test_a_change_without_an_answer_is_told_at_once(store: RedisStore, own_redis: RedisServer) -> None:
    told: list[str] = []
    own_redis.kill()
    store.on_change(told.append)
    with pytest.raises(ServiceException):
        await store.replace(samples.function(revision_id="r2"), expect_revision="r1")
    assert told == ["f"]


async def test_a_version_whose_answer_was_lost_is_published_once(flaky: RedisStore, proxy: LosingProxy) -> None:
    first = samples.version(revision_id="v1")
    proxy.lose_next = True
    await flaky.create(samples.function(), publish=first)
    function = await flaky.get("f")
    assert function is not None
    second = samples.version(revision_id="v2")
    proxy.lose_next = True
    assert await flaky.replace(function, expect_revision="r1", publish=second) == 2
    assert [version.version for version in await flaky.versions("f", limit=9)] == ["1", "2"]
    assert await flaky.usage() == (3000, 1)
    proxy.lose_next = True
    settled = samples.version(version="2", revision_id="v3")
    assert await flaky.replace_version(settled, expect_revision="v2")
    proxy.lose_next = True
    alias = samples.alias(function_version="2", weights={})
    assert await flaky.put_alias(function, alias, expect_revision=None) == ""
    proxy.lose_next = True
    assert await flaky.delete_version(function, 1) == []
    assert await flaky.usage() == (2000, 1)
    assert proxy.lost == 5


async def test_a_layer_version_whose_answer_was_lost_is_stored_once(
    flaky: RedisStore, proxy: LosingProxy
) -> None:
    proxy.lose_next = True
    assert (await flaky.add_layer_version(samples.layer())).version == 1
    proxy.lose_next = True
    assert await flaky.delete_layer_version("pillow", 1) == samples.layer()
    assert await flaky.usage() == (0, 0)
    assert (await flaky.add_layer_version(samples.layer())).version == 2
    assert proxy.lost == 2


async def test_nothing_acknowledged_is_lost_by_kills_under_load(
    store: RedisStore, own_redis: RedisServer
) -> None:
    acknowledged: set[str] = set()
    stop = asyncio.Event()

    async def work(worker: int) -> None:
        number = 0
        while not stop.is_set():
            name = f"w{worker}-{number}"
            number += 1
            try:
                await store.create(samples.function(name))
            except ServiceException:
                continue
            acknowledged.add(name)

    workers = [asyncio.ensure_future(work(n)) for n in range(4)]
    for _ in range(3):
        enough = len(acknowledged) + 50
        while len(acknowledged) < enough:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(own_redis.restart)
    stop.set()
    await asyncio.gather(*workers)
    stored = {function.name for function in await store.page(after=None, limit=100_000)}
    assert acknowledged <= stored
    assert (await store.usage()) == (1000 * len(stored), len(stored))


async def test_changes_by_another_process_are_heard_and_a_reconnect_forgets_everything(
    store: RedisStore, own_redis: RedisServer
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    store.on_change(heard.put_nowait)
    await store.hears_changes()
    other = RedisStore(own_redis.url, shards=4)
    try:
        await other.create(samples.function())
        assert await asyncio.wait_for(heard.get(), 10) == "f"
        own_redis.restart()
        assert await asyncio.wait_for(heard.get(), 10) == "*"
        await other.delete("f")
        assert await asyncio.wait_for(heard.get(), 10) == "f"
        assert heard.empty()
    finally:
        await other.close()


async def test_a_server_that_would_evict_is_refused_with_advice(
    make_redis: Callable[..., RedisServer],
) -> None:
    store = RedisStore(make_redis("--maxmemory-policy", "allkeys-lru").url, shards=4)
    try:
        with pytest.raises(ServiceException, match="allkeys-lru.*Set `maxmemory-policy noeviction`"):
            await store.open()
    finally:
        await store.close()


async def test_another_shard_count_is_refused_and_names_the_right_one(
    store: RedisStore, own_redis: RedisServer
) -> None:
    other = RedisStore(own_redis.url, shards=8)
    try:
        with pytest.raises(ServiceException, match="made with 4 shards.*set LAMBENT_SHARDS=4"):
            await other.open()
    finally:
        await other.close()


async def test_a_store_of_a_newer_release_is_refused(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        async with client.pipeline() as step:
            step.hset("lambent:{s0}:store", mapping={"schema": "3", "shards": "4"})
            await step.execute()
    store = RedisStore(redis_url, shards=4)
    try:
        with pytest.raises(ServiceException, match="written by a newer Lambent"):
            await store.open()
    finally:
        await store.close()


async def test_an_older_store_is_read_and_then_closed_to_older_releases(redis_url: str) -> None:
    """One that knows no versions would collect their code."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        async with client.pipeline() as step:
            step.hset("lambent:{s0}:store", mapping={"schema": "1", "shards": "4"})
            await step.execute()
        store = RedisStore(redis_url, shards=4)
        try:
            await store.open()
            async with client.pipeline() as step:
                step.hgetall("lambent:{s0}:store")
                assert (await step.execute())[0] == {b"schema": b"2", b"shards": b"4"}
        finally:
            await store.close()


async def test_a_full_server_is_a_clear_error_and_deletes_still_work(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()
    store = RedisStore(server.url, shards=4)
    await store.open()
    try:
        await store.create(samples.function())
        with server.client() as client:
            client.config_set("maxmemory", 1)
        with pytest.raises(ServiceException, match="server refuses the request"):
            await store.create(samples.function("g"))
        assert await store.get("g") is None
        assert await store.delete("f") == samples.function()
    finally:
        await store.close()


@pytest.mark.parametrize("url", ["foo", "redis://:hush@127.0.0.1/0?colour=red", "redis://127.0.0.1:x/0"])
async def test_a_url_that_cannot_be_used_says_so(url: str) -> None:
    with pytest.raises(ServiceException, match="URL.*cannot be used.*redis://HOST:PORT/0") as caught:
        RedisStore(url, shards=4)
    assert "hush" not in caught.value.message


async def test_a_wrong_password_says_so_at_once(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    with server.client() as client:
        client.config_set("requirepass", "right")
    store = RedisStore(f"redis://:wrong@127.0.0.1:{server.port}/0", shards=4)
    try:
        with pytest.raises(LambdaError, match="refuses the password") as caught:
            await store.open()
        assert "wrong" not in caught.value.message
    finally:
        await store.close()


async def test_logs_never_fail_while_the_server_is_down_and_come_when_it_is_back(
    logs: RedisLogs, own_redis: RedisServer
) -> None:
    own_redis.kill()
    logs.append(GROUP, "s", [(n, f"{n:03}" + "x" * 933) for n in range(30)])
    assert logs.dropped == 20
    await asyncio.to_thread(own_redis.start)
    lines, cursor = await logs.read(GROUP, after=None, limit=100, wait=10)
    while len(lines) < 10:
        more, cursor = await logs.read(GROUP, after=cursor, limit=100, wait=10)
        lines = [*lines, *more]
    assert [line.at for line in lines] == list(range(20, 30))


async def test_a_stop_while_the_server_is_down_ends_in_time_and_counts(
    logs: RedisLogs, own_redis: RedisServer
) -> None:
    own_redis.kill()
    logs.append(GROUP, "s", [(1, "lost"), (2, "lost")])
    began = time.monotonic()
    await logs.close()
    assert time.monotonic() - began < 5
    assert logs.dropped == 2


async def test_logs_leave_a_nearly_full_server_to_the_events(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()
    with server.client() as client:
        for n in range(100):
            client.set(f"event-{n}", b"x" * 100_000)
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.9))
    logs = RedisLogs(server.url, shards=4)
    await logs.open()
    logs.append(GROUP, "s", [(1, "first"), (2, "second")])
    await logs.close()
    assert logs.dropped == 2
    with server.client() as client:
        assert client.keys("*:log:*") == []
        client.config_set("maxmemory", 0)
    reopened = RedisLogs(server.url, shards=4)
    await reopened.open()
    reopened.append(GROUP, "s", [(3, "third")])
    lines, _ = await reopened.read(GROUP, after=None, limit=10, wait=10)
    await reopened.close()
    assert [line.message for line in lines] == ["third"]
