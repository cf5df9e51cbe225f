"""A real S3 server (SeaweedFS) for tests that are not about starting one: once for the run, by the product's
own starter, in a thread, since fixtures of a whole run have no event loop of their own."""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

from lambent.cli.s3_server import OwnS3
from lambent.kernel.clock import SystemClock
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

BUCKET = "blobs"
_SECONDS = 60.0
_PAGE = 2


class S3Server:
    """`url` answers from `start` on; any key is right. There is the bucket `BUCKET`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lambent-s3-")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3 server", daemon=True)
        self._tasks = Tasks("s3 server")
        self._webhook: asyncio.Server | None = None
        self._s3: OwnS3 | None = None
        self.url = ""

    def start(self) -> None:
        self._thread.start()
        self.url = self._do(self._start())
        client = self.client()
        try:
            client.create_bucket(Bucket=BUCKET)
        finally:
            client.close()

    def client(self) -> Any:
        """A boto3 client of it; to be closed."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def close(self) -> None:
        if self._thread.is_alive():
            self._do(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_SECONDS)
        self._loop.close()
        self._folder.cleanup()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _start(self) -> str:
        self._webhook = await asyncio.start_server(_accept, "127.0.0.1", 0)
        port = self._webhook.sockets[0].getsockname()[1]
        self._s3 = OwnS3(
            Path(self._folder.name) / "s3",
            webhook=f"http://127.0.0.1:{port}/",
            token="token",
            clock=SystemClock(),
            tasks=self._tasks,
        )
        return await self._s3.start()

    async def _stop(self) -> None:
        if self._s3 is not None:
            await self._s3.stop()
        if self._webhook is not None:
            self._webhook.close()
        await self._tasks.drain(1)


class TimedClient:
    """A client of the real server whose times follow a clock of the test's: what the server says of an object's
    age, and of its own time, is moved by what the clock has jumped since it began. Pages are short."""

    def __init__(self, client: Any, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._began = clock.now()
        self._written: dict[str, float] = {}
        # Called before each request with the operation and the key (or prefix).
        self.before: Callable[[str, str], None] = lambda operation, key: None

    def __getattr__(self, operation: str) -> Any:
        def call(**members: Any) -> Any:
            key = members.get("Key", members.get("Prefix", ""))
            self.before(operation, key)
            if operation == "list_objects_v2":
                members.setdefault("MaxKeys", _PAGE)
            answer = getattr(self._client, operation)(**members)
            if operation == "put_object":
                self._written[key] = self._jumped()
            elif operation == "head_object":
                answer["LastModified"] += timedelta(seconds=self._written[key])
            elif operation == "list_objects_v2":
                for each in answer.get("Contents", ()):
                    each["LastModified"] += timedelta(seconds=self._written[each["Key"]])
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            now = parsedate_to_datetime(headers["date"]) + timedelta(seconds=self._jumped())
            headers["date"] = format_datetime(now)
            return answer

        return call

    def _jumped(self) -> float:
        return self._clock.now() - self._began

    def close(self) -> None:
        self._client.close()


async def _accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It tells of every object that is made; nobody wants to know."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()
