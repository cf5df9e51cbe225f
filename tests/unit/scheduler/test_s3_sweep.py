"""The sweep and the marks: everything created since the mark, once, and nothing older."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from samples import function

from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import EventQueueUnavailable, ServiceException
from lambent.kernel.models import Event, Trigger
from lambent.kernel.s3_trigger import LATE_SECONDS, Change, Marks, first_mark, mark_key
from lambent.kernel.store.memory import MemoryStore
from lambent.scheduler.sources.s3 import S3Sweep, s3_listing

MADE = 1_000_000


def put(key: str, modified: int, etag: str = "e") -> Change:
    return Change("photos", key, "ObjectCreated:Put", modified, modified * 10**9, 1, etag)


class World:
    """A bucket, a queue that can be down after some events, and a Lambent that can be restarted."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = TestClock(MADE + 10_000)
        self.objects: list[Change] = []
        self.published: list[Event] = []
        self.room: int | None = None
        self.full = ""
        self.s3_down = False
        self.restart()

    def restart(self) -> None:
        self.marks = Marks(self.store, self.clock)
        self.sweep = S3Sweep(
            store=self.store,
            queue=self,  # type: ignore[arg-type]
            marks=self.marks,
            listing=self._listing,
            clock=self.clock,
            region="us-east-1",
        )

    async def publish(self, event: Event) -> None:
        if self.room is not None:
            if self.room == 0:
                raise EventQueueUnavailable()
            self.room -= 1
        if event.function == self.full:
            refusal = EventQueueUnavailable()
            refusal.full = True
            raise refusal
        self.published.append(event)

    async def _listing(self, bucket: str, prefix: str) -> AsyncIterator[Sequence[Change]]:
        if self.s3_down:
            raise ServiceException("The S3 server does not answer.")
        found = sorted(
            (each for each in self.objects if each.key.startswith(prefix)), key=lambda each: each.key
        )
        for start in range(0, len(found), 2):
            yield found[start : start + 2]

    def keys(self) -> list[str]:
        return [json.loads(event.payload)["Records"][0]["s3"]["object"]["key"] for event in self.published]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.store.create(function("f"))
    await made.store.put_trigger(Trigger("t1", "photos", "f", prefix="in/"))
    await made.store.mark_set(mark_key("t1"), first_mark(MADE))
    return made


async def test_objects_since_the_trigger_was_made_are_delivered(world: World) -> None:
    world.objects = [
        put("in/old", MADE - 1),
        put("in/a", MADE),
        put("in/b", MADE + 5),
        put("out/c", MADE + 6),
        put("in/d", MADE + 7),
    ]

    assert await world.sweep.sweep() == 3
    assert world.keys() == ["in/a", "in/b", "in/d"]
    assert {event.source for event in world.published} == {"s3"}
    assert {event.lane for event in world.published} == {"uid-f"}


async def test_a_second_sweep_finds_nothing_also_after_a_restart(world: World) -> None:
    world.objects = [put("in/a", MADE), put("in/b", MADE + 5)]
    await world.sweep.sweep()

    assert await world.sweep.sweep() == 0
    world.restart()
    assert await world.sweep.sweep() == 0


async def test_what_came_while_the_function_was_deleted_is_not_for_its_successor(world: World) -> None:
    await world.store.delete("f")
    world.objects = [put("in/a", MADE)]
    counter = metrics.trigger_events_dropped.labels("f")
    before = counter._value.get()
    assert await world.sweep.sweep() == 0
    assert counter._value.get() == before + 1

    world.restart()
    await world.store.create(function("f"))
    world.objects.append(put("in/b", MADE + 5))
    assert await world.sweep.sweep() == 1
    assert world.keys() == ["in/b"]


async def test_an_object_written_again_is_delivered_again(world: World) -> None:
    world.objects = [put("in/a", MADE)]
    await world.sweep.sweep()
    world.restart()
    world.objects = [put("in/a", MADE + 60, "f")]

    assert await world.sweep.sweep() == 1


async def test_what_the_webhook_delivered_is_passed_over(world: World) -> None:
    await world.sweep.sweep()
    delivered, lost = put("in/a", MADE + 20), put("in/b", MADE + 10)
    world.objects = [delivered, lost]
    world.marks.delivered("t1", delivered)
    await world.marks.flush()
    world.restart()

    assert await world.sweep.sweep() == 1
    assert world.keys() == ["in/b"]


async def test_marks_of_old_deliveries_become_a_time(world: World) -> None:
    await world.sweep.sweep()
    early, late = put("in/a", MADE + 10), put("in/b", MADE + 10 + LATE_SECONDS + 1)
    world.objects = [early, late]
    for each in world.objects:
        world.marks.delivered("t1", each)
    await world.marks.flush()

    stored = json.loads(await world.store.mark_get(mark_key("t1")) or "")
    assert stored["since"] == late.modified - LATE_SECONDS
    assert list(stored["ids"].values()) == [late.modified]
    world.restart()
    assert await world.sweep.sweep() == 0


async def test_a_busy_triggers_mark_stays_small(world: World) -> None:
    await world.sweep.sweep()
    for number in range(12_000):
        world.marks.delivered("t1", put(f"in/{number}", MADE + number // 100))
    await world.marks.flush()

    stored = json.loads(await world.store.mark_get(mark_key("t1")) or "")
    assert len(stored["ids"]) <= 5000
    assert stored["since"] > MADE + 60


async def test_a_sweep_that_fails_half_way_goes_on_where_it_was(world: World) -> None:
    world.objects = [put("in/a", MADE + 4000), put("in/b", MADE + 5), put("in/c", MADE + 6)]
    world.room = 1
    with pytest.raises(EventQueueUnavailable):
        await world.sweep.sweep()
    # The newest object came first: its time must not hide the older ones.
    await world.marks.flush()
    world.room = None
    world.restart()

    await world.sweep.sweep()
    assert world.keys() == ["in/a", "in/b", "in/c"]


async def test_what_is_newer_than_the_sweep_is_left_to_the_webhook(world: World) -> None:
    world.objects = [put("in/a", int(world.clock.now()) + 1)]

    assert await world.sweep.sweep() == 0


async def test_a_trigger_of_a_deleted_function_is_passed_over(world: World) -> None:
    await world.store.delete("f")
    world.objects = [put("in/a", MADE)]

    assert await world.sweep.sweep() == 0


async def test_it_runs_at_start_again_after_a_failure_and_when_woken(world: World) -> None:
    world.objects = [put("in/a", MADE)]
    world.s3_down = True
    running = asyncio.ensure_future(world.sweep.run())
    await world.clock.settle()
    assert world.published == []

    world.s3_down = False
    await world.clock.advance(1)
    assert world.keys() == ["in/a"]

    world.objects.append(put("in/b", MADE + 1))
    await world.clock.advance(600)
    assert world.keys() == ["in/a"]
    world.sweep.wake()
    await world.clock.settle()
    await world.clock.advance(2)
    assert world.keys() == ["in/a", "in/b"]
    running.cancel()
    await asyncio.wait([running])


async def test_an_unreadable_mark_begins_now(world: World) -> None:
    await world.store.mark_set(mark_key("t1"), "nonsense")
    world.objects = [put("in/a", MADE)]

    assert await world.sweep.sweep() == 0


async def test_a_bucket_on_loopback_is_listed_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"?")[0].decode())
        body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listing = s3_listing(
            endpoint=f"http://127.0.0.1:{port}", region="us-east-1", access_key_id="a", secret_access_key="b"
        )
        assert [page async for page in listing("photos", "")] == [[]]
    assert asked == ["GET /photos"]


async def test_a_function_whose_queue_is_full_holds_up_no_other_trigger(world: World) -> None:
    await world.store.create(function("g"))
    await world.store.put_trigger(Trigger("t2", "photos", "g", prefix="in/"))
    await world.store.mark_set(mark_key("t2"), first_mark(MADE))
    world.objects = [put("in/a", MADE + 1), put("in/b", MADE + 2 * LATE_SECONDS)]
    world.full = "f"
    await world.marks.load("t1")
    world.marks.delivered("t1", world.objects[1])  # the webhook's, later than what it gave back
    with pytest.raises(EventQueueUnavailable):
        await world.sweep.sweep()
    assert [event.function for event in world.published] == ["g", "g"]

    # The other's mark moves on, and not that of what is still to come.
    marks = [json.loads(await world.store.mark_get(mark_key(each)) or "{}") for each in ("t1", "t2")]
    assert [mark["since"] for mark in marks] == [MADE, MADE + LATE_SECONDS]
    world.full = ""
    world.restart()
    assert await world.sweep.sweep() == 1
    assert [event.function for event in world.published] == ["g", "g", "f"]
