"""What tests of the gateway's handlers stand on: the store's and blobs' twins, a host whose `prepare` a test
holds and fails, and calls by operation name, as the protocol layer makes them."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from lambent.gateway.code_urls import CodeUrls
from lambent.gateway.operations import OPERATIONS
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.services import Call, Services
from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.events import FailingTarget
from lambent.kernel.models import Archive, Function, FunctionVersion, VersionKey
from lambent.kernel.ports import Clock, EnvironmentHost, EventQueue, FunctionStore, LogStore
from lambent.kernel.settings import Settings
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.tasks import Tasks
from lambent.scheduler.dispatcher import LocalDispatcher

ROLE = "arn:aws:iam::123456789012:role/r"
NOT_A_ZIP = b"not a zip"
_PROTOCOL = LambdaProtocol()


class FakeHost:
    """Prepares at once, unless held; fails if told to; writes down what it was asked."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.failure: BaseException | None = None
        self.prepared: list[FunctionVersion] = []
        self.stopped: list[tuple[str, str | None, VersionKey | None]] = []
        self.stop_failure: BaseException | None = None
        self._asked = asyncio.Condition()

    async def prepare(self, target: FunctionVersion) -> None:
        async with self._asked:
            self.prepared.append(target)
            self._asked.notify_all()
        await self.go.wait()
        if self.failure is not None:
            raise self.failure

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        self.stopped.append((uid, version, keep))
        if self.stop_failure is not None:
            raise self.stop_failure

    async def asked(self, times: int = 1) -> None:
        """Waits until `prepare` was entered so often."""
        async with self._asked:
            await asyncio.wait_for(self._asked.wait_for(lambda: len(self.prepared) >= times), 5)


class FakeCode:
    """Takes anything but NOT_A_ZIP; `unzipped` gives the unzipped size of some data."""

    def __init__(self) -> None:
        self.unzipped: dict[bytes, int] = {}
        self.problems: dict[str, str] = {}
        self.warnings: dict[str, str] = {}
        self.before_inspect: Callable[[], Awaitable[None]] | None = None

    async def inspect(self, data: bytes, *, layer: bool) -> Archive:
        if self.before_inspect is not None:
            await self.before_inspect()
        if data == NOT_A_ZIP:
            raise InvalidParameterValueException(
                "Could not unzip uploaded file. Please check your file, then try to upload again."
            )
        return Archive(hashlib.sha256(data).hexdigest(), len(data), self.unzipped.get(data, len(data) * 2))

    def runtime_problem(self, runtime: str) -> tuple[str | None, str | None]:
        return self.problems.get(runtime), self.warnings.get(runtime)


class FakeQueue:
    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.waiting = 0
        self.failure: BaseException | None = None

    async def drop_lane(self, lane: str) -> int:
        if self.failure is not None:
            raise self.failure
        self.dropped.append(lane)
        return self.waiting


class World:
    """Services over twins and fakes. `call` runs an operation; `idle` waits for every background task."""

    def __init__(self, *, store: FunctionStore | None = None, clock: Clock | None = None) -> None:
        self.store: FunctionStore = store or MemoryStore()
        self.clock = TestClock(1_769_860_800.0)
        self.blobs = MemoryBlobs(clock=self.clock)
        self.host, self.code, self.queue = FakeHost(), FakeCode(), FakeQueue()
        self.deaths: list[tuple[str, BaseException | None]] = []
        self.tasks = Tasks("world", on_death=lambda name, why: self.deaths.append((name, why)))
        self.s3: dict[tuple[str, str, str | None], bytes] = {}
        self.warnings: list[str] = []
        self.target_problems: dict[str, str] = {}
        self.failing: list[FailingTarget] = []
        self.dead_letters: list[tuple[str, int]] = []
        self.dispatcher = LocalDispatcher("executor", 1000, self.clock, strict=True)
        self.urls = CodeUrls(b"key", self.clock)
        self.services = Services(
            settings=Settings.model_validate(
                {"account_id": "123456789012", "region": "us-east-1", "concurrent_executions": 1000}
            ),
            store=self.store,
            blobs=self.blobs,
            code=self.code,
            queue=cast(EventQueue, self.queue),
            host=cast(EnvironmentHost, self.host),
            dispatcher=self.dispatcher,
            logs=cast(LogStore, None),
            clock=clock or self.clock,
            tasks=self.tasks,
            code_urls=self.urls,
            fetch_s3=self._fetch_s3,
            target_problem=lambda target: self.target_problems.get(target.arn),
            failing_targets=lambda: self.failing,
            take_dead_letters=self._take_dead_letters,
        )

    async def _take_dead_letters(self, function: Function, limit: int) -> int:
        self.dead_letters.append((function.name, limit))
        return 3

    async def _fetch_s3(self, bucket: str, key: str, version: str | None) -> bytes:
        return self.s3[bucket, key, version]

    async def call(self, operation: str, **members: Any) -> Mapping[str, Any]:
        """The operation's output, an empty one as {}; warnings go to `self.warnings`."""
        call = Call(request_id="request-1", base_url="http://127.0.0.1:9000")
        answer = await OPERATIONS[operation](self.services, call, members)
        self.warnings = call.warnings
        _PROTOCOL.serialise(operation, answer)  # raises for a member that AWS's model has not
        return answer or {}

    async def create(self, name: str = "my-fn", **changes: Any) -> Mapping[str, Any]:
        """CreateFunction with the least that it needs."""
        members: dict[str, Any] = {
            "FunctionName": name,
            "Runtime": "python3.11",
            "Handler": "app.handler",
            "Role": ROLE,
            "Code": {"ZipFile": b"zip one"},
        }
        return await self.call("CreateFunction", **(members | changes))

    async def active(self, name: str = "my-fn", **changes: Any) -> Mapping[str, Any]:
        """Creates and waits until it is Active; its configuration."""
        await self.create(name, **changes)
        await self.idle()
        return await self.configuration(name)

    async def configuration(self, name: str = "my-fn") -> Mapping[str, Any]:
        return await self.call("GetFunctionConfiguration", FunctionName=name)

    async def stored(self, name: str = "my-fn") -> Function:
        function = await self.store.get(name)
        assert function is not None
        return function

    async def idle(self) -> None:
        """Waits until no background task is left."""
        async with asyncio.timeout(20):
            while running := [task for task in asyncio.all_tasks() if task.get_name().startswith("world: ")]:
                await asyncio.wait(running)
