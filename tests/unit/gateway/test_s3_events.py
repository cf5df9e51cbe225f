"""The filer's webhook: what becomes an event and what does not, and when it is answered with 200."""

import asyncio
import json
from typing import Any

import pytest
from filer_messages import Message, b64, body, created, entry, folder, message
from samples import function

from lambent.gateway.s3_events import PATIENCE_SECONDS, S3Events, change_of
from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.models import Event, Trigger
from lambent.kernel.s3_trigger import Change, Marks
from lambent.kernel.store.memory import MemoryStore

TOKEN = "0123456789abcdef"
BEARER = f"Bearer {TOKEN}"
NOW = 1795471750.0


class Queue:
    """Takes events, or refuses them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.down = False
        self.room: int | None = None
        self.full = ""

    async def publish(self, event: Event) -> None:
        if self.down or self.room == 0:
            raise EventQueueUnavailable()
        if event.function == self.full:
            refusal = EventQueueUnavailable()
            refusal.full = True
            raise refusal
        if self.room is not None:
            self.room -= 1
        self.events.append(event)


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.queue = Queue()
        self.clock = TestClock(NOW)
        self.marks = Marks(self.store, self.clock)
        self.lost = 0
        self.events = S3Events(
            store=self.store,
            queue=self.queue,  # type: ignore[arg-type]
            marks=self.marks,
            clock=self.clock,
            region="us-east-1",
            token=TOKEN,
            on_lost=self._lose,
        )

    def _lose(self) -> None:
        self.lost += 1

    async def add(self, **members: Any) -> None:
        await self.store.put_trigger(Trigger(**({"id": "t1", "bucket": "photos", "function": "f"} | members)))

    async def send(self, sent: Message) -> int:
        return await self.events.handle(body(sent), BEARER)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(event.payload)["Records"][0] for event in self.queue.events]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.store.create(function("f"))
    return made


def change(sent: Message) -> Change | None:
    return change_of(sent, now=NOW)


async def test_an_upload_becomes_one_event_in_the_functions_lane(world: World) -> None:
    await world.add()

    assert await world.send(created("/buckets/photos/dir/a b+ü.txt")) == 200

    [event] = world.queue.events
    assert (event.lane, event.function, event.source, event.attempt) == ("uid-f", "f", "s3", 1)
    assert event.accepted == NOW
    [record] = world.records()
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["eventTime"] == "2026-11-23T22:09:01.980Z"
    assert (record["eventVersion"], record["eventSource"], record["awsRegion"]) == (
        "2.1",
        "aws:s3",
        "us-east-1",
    )
    assert record["s3"]["configurationId"] == "t1"
    assert record["s3"]["bucket"] == {
        "name": "photos",
        "ownerIdentity": {"principalId": "LAMBENT"},
        "arn": "arn:aws:s3:::photos",
    }
    assert record["s3"]["object"] == {
        "key": "dir/a+b%2B%C3%BC.txt",
        "size": 5,
        "eTag": "5d41402abc4b2a76b9719d911017c592",
        "sequencer": f"{1795471741980298852:018X}",
    }


@pytest.mark.parametrize("authorization", [None, "", "Bearer wrong", TOKEN, f"bearer {TOKEN}", "Bearer é"])
async def test_a_wrong_token_is_401_and_does_nothing(world: World, authorization: str | None) -> None:
    await world.add()

    assert await world.events.handle(body(created("/buckets/photos/a")), authorization) == 401
    assert world.queue.events == []


async def test_the_event_is_of_the_version_or_alias_that_the_trigger_names(world: World) -> None:
    await world.add(qualifier="live")
    assert await world.send(created("/buckets/photos/a")) == 200
    assert [(event.function, event.qualifier) for event in world.queue.events] == [("f", "live")]


@pytest.mark.parametrize(
    "sent", [b"", b"[]", b"{}", b'"x"', b"null", b"{", b'{"event_type":"create","key":"/buckets/photos/a"}']
)
async def test_what_is_no_message_is_400(world: World, sent: bytes) -> None:
    assert await world.events.handle(sent, BEARER) == 400


async def test_while_the_queue_is_down_the_webhook_waits(world: World) -> None:
    await world.store.create(function("g"))
    await world.add(id="t1", suffix="a")
    await world.add(id="t2", function="g", prefix="a")
    world.queue.down = True
    answer = asyncio.ensure_future(world.send(created("/buckets/photos/a")))
    await world.clock.settle()
    await world.clock.advance(60)
    assert not answer.done()

    world.queue.down = False
    await world.clock.advance(1)

    assert await answer == 200
    assert sorted(event.function for event in world.queue.events) == ["f", "g"]
    assert world.lost == 1


async def test_a_trigger_that_had_its_event_before_the_queue_went_down_gets_no_second(world: World) -> None:
    await world.store.create(function("g"))
    await world.add(id="t1")
    await world.add(id="t2", function="g")
    world.queue.room = 1
    answer = asyncio.ensure_future(world.send(created("/buckets/photos/a")))
    await world.clock.settle()
    assert len(world.queue.events) == 1

    world.queue.room = None
    await world.clock.advance(1)

    assert await answer == 200
    assert sorted(event.function for event in world.queue.events) == ["f", "g"]


async def test_a_queue_that_stays_down_is_503_in_the_end_and_asks_for_a_sweep(world: World) -> None:
    await world.add()
    world.queue.down = True
    answer = asyncio.ensure_future(world.send(created("/buckets/photos/a")))
    await world.clock.settle()

    await world.clock.advance(PATIENCE_SECONDS + 1)

    assert await answer == 503
    assert world.lost == 1


async def test_a_function_whose_queue_is_full_holds_up_no_other_and_is_left_to_the_sweep(world: World) -> None:
    await world.store.create(function("g"))
    await world.add(suffix="1")
    await world.add(id="t2", function="g", prefix="")
    world.queue.full = "f"

    assert await world.send(created("/buckets/photos/a1")) == 503  # without waiting
    assert [event.function for event in world.queue.events] == ["g"]
    assert world.lost == 1

    world.queue.full = ""
    assert await world.send(created("/buckets/photos/a2")) == 200
    assert world.lost == 1


async def test_a_removal_waits_for_a_queue_that_is_full(world: World) -> None:
    await world.add(events=("s3:ObjectRemoved:*",))
    world.queue.full = "f"
    sent = message("delete", "/buckets/photos/a", old=entry("a"))
    sending = asyncio.ensure_future(world.send(sent))
    await world.clock.settle(20)
    assert not sending.done()
    world.queue.full = ""
    await world.clock.advance(1)
    assert await sending == 200
    assert [event.function for event in world.queue.events] == ["f"]


async def test_closing_gives_held_requests_back(world: World) -> None:
    await world.add()
    world.queue.down = True
    answer = asyncio.ensure_future(world.send(created("/buckets/photos/a")))
    await world.clock.settle()

    world.events.close()
    await world.clock.advance(1)

    assert await answer == 503


async def test_a_retry_of_the_same_change_keeps_its_request_id(world: World) -> None:
    await world.add()

    await world.send(created("/buckets/photos/a"))
    await world.send(created("/buckets/photos/a"))
    await world.send(created("/buckets/photos/b"))

    first, again, other = (event.request_id for event in world.queue.events)
    assert first == again != other


async def test_a_change_that_a_sweep_has_delivered_is_not_delivered_again(world: World) -> None:
    await world.add()
    sent = created("/buckets/photos/a")
    found = change(sent)
    assert found is not None
    await world.marks.load("t1")
    world.marks.delivered("t1", found, by_sweep=True)

    assert await world.send(sent) == 200
    assert world.queue.events == []


async def test_what_comes_while_the_function_is_deleted_is_counted_and_not_for_its_successor(
    world: World,
) -> None:
    await world.add()
    await world.store.delete("f")
    counter = metrics.trigger_events_dropped.labels("f")
    before = counter._value.get()
    sent = created("/buckets/photos/a")

    assert await world.send(sent) == 200
    assert world.queue.events == []
    assert counter._value.get() == before + 1
    found = change(sent)
    assert found is not None and world.marks.is_delivered("t1", found)  # a sweep passes it over


@pytest.mark.parametrize(
    ("members", "fires"),
    [
        ({}, True),
        ({"bucket": "other"}, False),
        ({"prefix": "in/"}, True),
        ({"prefix": "out/"}, False),
        ({"suffix": ".jpg"}, True),
        ({"suffix": ".png"}, False),
        ({"events": ("s3:ObjectCreated:Put",)}, True),
        ({"events": ("s3:ObjectRemoved:*",)}, False),
        ({"events": ("s3:ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put")}, True),
    ],
)
async def test_a_trigger_filters_by_bucket_event_prefix_and_suffix(
    world: World, members: dict[str, Any], fires: bool
) -> None:
    await world.add(**members)

    assert await world.send(created("/buckets/photos/in/cat.jpg")) == 200
    assert bool(world.queue.events) is fires


async def test_each_matching_trigger_gets_an_event(world: World) -> None:
    await world.store.create(function("g"))
    await world.add(id="t1", suffix=".jpg")
    await world.add(id="t2", function="g", prefix="in/")

    await world.send(created("/buckets/photos/in/cat.jpg"))

    assert {(event.lane, event.function) for event in world.queue.events} == {("uid-f", "f"), ("uid-g", "g")}
    assert len({event.request_id for event in world.queue.events}) == 2


async def test_a_trigger_whose_function_is_gone_is_passed_over(world: World) -> None:
    await world.add(function="gone")

    assert await world.send(created("/buckets/photos/a")) == 200
    assert world.queue.events == []


async def test_a_trigger_added_a_moment_ago_sees_the_next_upload(world: World) -> None:
    await world.send(created("/buckets/photos/before"))
    await world.add()
    await world.send(created("/buckets/photos/after"))

    assert [record["s3"]["object"]["key"] for record in world.records()] == ["after"]


@pytest.mark.parametrize(
    "sent",
    [
        folder("/buckets/photos"),
        folder("/buckets/photos/dir"),
        folder("/buckets/.system"),
        created("/buckets/.system/owners/.complete"),
        folder("/buckets/photos/.uploads"),
        created("/buckets/photos/.uploads/4c0a_4c5f/0001_177021fd.part"),
        created("/etc/iam/identities"),
        created("/buckets/photos"),
        folder("/buckets/photos/cat.jpg.versions"),
    ],
)
def test_the_filers_bookkeeping_is_no_change_of_an_object(sent: Message) -> None:
    assert change(sent) is None


def test_a_folder_that_was_put_as_an_object_is_one() -> None:
    put = folder("/buckets/photos/in", extended={"Seaweed-X-Amz-ETag": b64("d41d8cd98f00b204e9800998ecf8427e")})

    found = change(put)

    assert found is not None
    assert (found.key, found.name, found.size) == ("in/", "ObjectCreated:Put", 0)


def test_a_finished_upload_in_parts_says_so() -> None:
    etag = "d316408c159ea701ab954894bd3a92c2-2"
    found = change(
        created("/buckets/photos/big", extended={"Seaweed-X-Amz-ETag": etag, "X-Seaweedfs-Upload-Id": "4c0a"})
    )

    assert found is not None
    assert (found.name, found.etag) == ("ObjectCreated:CompleteMultipartUpload", etag)


def test_an_overwrite_is_a_creation() -> None:
    again = [{"size": 5, "modified_ts_ns": 1795471741990260391, "fid": {"volume_id": 1, "file_key": 3}}]

    found = change(message("update", "/buckets/photos/a", old=entry("a"), new=entry("a", chunks=again)))

    assert found is not None
    assert (found.name, found.order) == ("ObjectCreated:Put", 1795471741990260391)


def test_new_tags_are_no_creation() -> None:
    tagged = entry("a", extended={"Seaweed-X-Amz-ETag": "5d41", "X-Amz-Tagging-colour": "red"})
    before = entry("a", extended={"Seaweed-X-Amz-ETag": "5d41"})

    assert change(message("update", "/buckets/photos/a", old=before, new=tagged)) is None


def test_an_empty_object_that_is_tagged_is_not_created_again() -> None:
    before = entry("a", chunks=[], extended={"Seaweed-X-Amz-ETag": "d41d"})
    tagged = entry("a", chunks=[], extended={"Seaweed-X-Amz-ETag": "d41d", "X-Amz-Tagging-a": "b"})

    assert change(message("update", "/buckets/photos/a", old=before, new=tagged)) is None
    assert change(message("update", "/buckets/photos/a", old=before, new=before)) is not None


def test_a_copy_onto_itself_is_a_copy() -> None:
    before = entry("a", extended={"Seaweed-X-Amz-ETag": "5d41"})
    after = entry("a", extended={"Seaweed-X-Amz-ETag": "5d41", "X-Amz-Meta-Q": "r"})

    found = change(message("update", "/buckets/photos/a", old=before, new=after))

    assert found is not None
    assert found.name == "ObjectCreated:Copy"


def test_a_rename_creates_the_new_key() -> None:
    moved = message("rename", "/buckets/photos/old", old=entry("old"), new=entry("new"))

    found = change(moved)

    assert found is not None
    assert (found.key, found.name) == ("new", "ObjectCreated:Put")


async def test_a_removal_has_neither_size_nor_etag(world: World) -> None:
    await world.add(events=("s3:ObjectRemoved:*",))

    await world.send(message("delete", "/buckets/photos/a", old=entry("a")))

    [record] = world.records()
    assert record["eventName"] == "ObjectRemoved:Delete"
    assert record["s3"]["object"] == {"key": "a", "sequencer": f"{int(NOW * 10**9):018X}"}


class TestVersions:
    ID = "671533f69cf38fe59d0131791be28275"
    PATH = f"/buckets/photos/v/v.txt.versions/v_{ID}"

    def _extended(self, **more: str) -> dict[str, str]:
        return {"Seaweed-X-Amz-ETag": "c4ca", "Seaweed-X-Amz-Version-Id": self.ID, **more}

    def test_a_new_version_is_the_keys_creation(self) -> None:
        found = change(created(self.PATH, extended=self._extended()))

        assert found is not None
        assert (found.key, found.name, found.version_id) == ("v/v.txt", "ObjectCreated:Put", self.ID)

    def test_a_version_that_ages_is_no_change(self) -> None:
        before = entry("v", extended=self._extended())
        after = entry(
            "v", extended=self._extended(**{"Seaweed-X-Amz-Noncurrent-Since-Ns": "1795471742153619025"})
        )

        assert change(message("update", self.PATH, old=before, new=after)) is None

    def test_a_delete_marker_says_so(self) -> None:
        marker = {"Seaweed-X-Amz-Delete-Marker": "true", "Seaweed-X-Amz-Version-Id": self.ID}

        found = change(created(self.PATH, chunks=[], extended=marker))

        assert found is not None
        assert (found.key, found.name) == ("v/v.txt", "ObjectRemoved:DeleteMarkerCreated")
        assert found.version_id == self.ID

    def test_a_users_key_of_that_form_is_a_plain_key(self) -> None:
        found = change(created("/buckets/photos/x.versions/f.txt"))

        assert found is not None
        assert found.key == "x.versions/f.txt"
