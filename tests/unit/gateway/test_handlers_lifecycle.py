"""The background half of creations and updates: failure, deletion meanwhile, a store that does not answer, and
a server that died in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from handler_world import World

from lambent.gateway.handlers.lifecycle import resume
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import (
    ImageAccessDenied,
    ImageDeleted,
    InvalidImage,
    InvalidRuntimeException,
    InvalidZipFileException,
    LambdaError,
    ServiceException,
)
from lambent.kernel.models import Function, FunctionVersion
from lambent.kernel.store.memory import MemoryStore


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(1)
    assert made.deaths == []


FAILURES: list[tuple[BaseException, str]] = [
    (InvalidZipFileException("Lambda could not unzip it."), "InvalidZipFileException"),
    (InvalidRuntimeException("python3.11 is gone."), "InvalidRuntime"),
    (ImageDeleted("It is gone."), "ImageDeleted"),
    (ImageAccessDenied("It wants a password."), "ImageAccessDenied"),
    (InvalidImage("It is damaged."), "InvalidImage"),
    (ServiceException("No space left."), "InternalError"),
    (OSError("No space left on device"), "InternalError"),
]


@pytest.mark.parametrize(("failure", "code"), FAILURES)
async def test_a_creation_that_cannot_be_prepared_fails_and_says_why(
    world: World, failure: BaseException, code: str
) -> None:
    world.host.failure = failure
    created = await world.create()
    await world.idle()
    failed = await world.configuration()
    assert (failed["State"], failed["StateReasonCode"]) == ("Failed", code)
    assert failed["LastUpdateStatus"] == "Failed"
    if isinstance(failure, LambdaError):
        assert failed["StateReason"] == failure.message
    assert failed["RevisionId"] != created["RevisionId"]


@pytest.mark.parametrize(("failure", "code"), FAILURES)
async def test_an_update_that_cannot_be_prepared_fails_and_the_old_goes_on_serving(
    world: World, failure: BaseException, code: str
) -> None:
    await world.active()
    old = (await world.stored()).to_run
    world.host.failure = failure
    await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two")
    await world.idle()
    failed = await world.configuration()
    assert (failed["State"], failed["LastUpdateStatus"]) == ("Active", "Failed")
    assert failed["LastUpdateStatusReasonCode"] == code
    assert failed["LastUpdateStatusReason"]
    assert (await world.stored()).to_run == old
    assert world.host.stopped == []


async def test_an_update_after_a_failed_one_serves_the_last_good_one_meanwhile(world: World) -> None:
    await world.active()
    good = (await world.stored()).to_run
    world.host.failure = ServiceException("no")
    await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip two")
    await world.idle()
    world.host.failure = None
    world.host.go.clear()
    await world.call("UpdateFunctionCode", FunctionName="my-fn", ZipFile=b"zip three")
    assert (await world.stored()).to_run == good
    world.host.go.set()
    await world.idle()
    stored = await world.stored()
    assert stored.to_run is stored.latest
    assert (await world.configuration())["LastUpdateStatus"] == "Successful"
    assert stored.latest.generation == good.generation + 2


async def test_a_failed_function_is_repaired_by_an_update(world: World) -> None:
    world.host.failure = InvalidZipFileException("bad")
    await world.create()
    await world.idle()
    world.host.failure = None
    answer = await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Handler="ok.main")
    assert (answer["State"], answer["LastUpdateStatus"]) == ("Failed", "InProgress")
    await world.idle()
    repaired = await world.configuration()
    assert (repaired["State"], repaired["LastUpdateStatus"]) == ("Active", "Successful")
    assert not {"StateReason", "StateReasonCode"} & repaired.keys()


@pytest.mark.parametrize("failure", [None, ServiceException("no")])
async def test_a_function_deleted_while_it_is_created_stays_deleted(
    world: World, failure: BaseException | None
) -> None:
    world.host.go.clear()
    world.host.failure = failure
    await world.create()
    await world.host.asked()
    await world.call("DeleteFunction", FunctionName="my-fn")
    world.host.go.set()
    await world.idle()
    assert await world.store.get("my-fn") is None


async def test_the_task_of_a_deleted_function_leaves_its_successor_alone(world: World) -> None:
    world.host.go.clear()
    await world.create()
    await world.host.asked()
    await world.call("DeleteFunction", FunctionName="my-fn")
    second = await world.create(Code={"ZipFile": b"second"})
    await world.host.asked(2)
    world.host.failure = None
    world.host.go.set()
    await world.idle()
    now = await world.configuration()
    assert (now["State"], now["CodeSha256"]) == ("Active", second["CodeSha256"])
    assert (await world.stored()).latest.generation == 1


async def test_a_deletion_in_the_moment_of_the_last_write_stands() -> None:
    class Deleting(MemoryStore):
        async def replace(
            self, function: Function, *, expect_revision: str, publish: FunctionVersion | None = None
        ) -> int:
            await self.delete(function.name)
            return await super().replace(function, expect_revision=expect_revision)

    world = World(store=Deleting())
    await world.create()
    await world.idle()
    assert await world.store.get("my-fn") is None
    assert (world.deaths, len(world.host.prepared)) == ([], 1)


async def test_tags_and_concurrency_set_while_it_is_created_are_kept(world: World) -> None:
    world.host.go.clear()
    await world.create(Tags={"a": "1"})
    await world.host.asked()
    arn = (await world.configuration())["FunctionArn"]
    await world.call("TagResource", Resource=arn, Tags={"b": "2"})
    await world.store.set_reserved_concurrency("my-fn", 5)
    world.host.go.set()
    await world.idle()
    stored = await world.stored()
    assert (stored.tags, stored.reserved_concurrency) == ({"a": "1", "b": "2"}, 5)
    assert (await world.configuration())["State"] == "Active"


async def test_what_was_under_way_when_the_server_died_is_finished_at_the_next_start() -> None:
    before = World()
    await before.active("done")
    await before.active("updating")
    before.host.go.clear()
    await before.create("creating")
    await before.call("UpdateFunctionConfiguration", FunctionName="updating", Timeout=9)
    await before.host.asked(4)
    assert await before.tasks.drain(0) == 2  # dies with both under way

    after = World(store=before.store)
    assert (await after.configuration("creating"))["State"] == "Pending"
    assert await resume(after.services) == 2
    await after.idle()
    assert sorted(version.name for version in after.host.prepared) == ["creating", "updating"]
    for name in ("creating", "updating", "done"):
        settled = await after.configuration(name)
        assert (settled["State"], settled["LastUpdateStatus"]) == ("Active", "Successful")
    assert (await after.configuration("updating"))["Timeout"] == 9
    assert (await after.stored("updating")).serving is None
    assert await resume(after.services) == 0


async def test_a_start_looks_at_every_page_of_functions() -> None:
    before = World()
    before.host.go.clear()
    for number in range(101):
        await before.create(f"f{number:03}")
    await before.tasks.drain(0)
    after = World(store=before.store)
    assert await resume(after.services) == 101
    await after.idle()
    assert (await after.configuration("f100"))["State"] == "Active"


class Flaky(MemoryStore):
    """Runs `before` each write and `after` it; either may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    async def create(self, function: Function, *, publish: FunctionVersion | None = None) -> None:
        self.before()
        await super().create(function, publish=publish)
        self.after()

    async def replace(
        self, function: Function, *, expect_revision: str, publish: FunctionVersion | None = None
    ) -> int:
        self.before()
        number = await super().replace(function, expect_revision=expect_revision, publish=publish)
        self.after()
        return number


class Outages:
    """Raises ServiceException the next `times` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise ServiceException("The function store does not answer.")


async def advance_until(clock: TestClock, idle: asyncio.Task[Any]) -> None:
    while not idle.done():
        await clock.advance(1)


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_store_that_does_not_answer_is_asked_again_until_the_state_is_written(where: str) -> None:
    store = Flaky()
    world = World(store=store)
    await world.active()
    world.host.go.clear()
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Timeout=9)
    await world.host.asked(2)
    setattr(store, where, Outages(1 if where == "after" else 7))
    world.host.go.set()
    await advance_until(world.clock, asyncio.ensure_future(world.idle()))
    assert (await world.configuration())["LastUpdateStatus"] == "Successful"
    stored = await world.stored()
    assert world.host.stopped[-1] == (stored.uid, "$LATEST", stored.latest.key)
    assert len(world.host.prepared) == 2
    assert world.deaths == []


@pytest.mark.parametrize("operation", ["create", "update"])
async def test_a_write_whose_answer_got_lost_is_settled_all_the_same(operation: str) -> None:
    store = Flaky()
    world = World(store=store)
    if operation == "update":
        await world.active()
    store.after = Outages(1)
    with pytest.raises(ServiceException):
        if operation == "update":
            await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Timeout=9)
        else:
            await world.create()
    await world.idle()
    settled = await world.configuration()
    assert (settled["State"], settled["LastUpdateStatus"]) == ("Active", "Successful")


async def test_a_write_that_did_not_happen_leaves_nothing_behind() -> None:
    store = Flaky()
    world = World(store=store)
    store.before = Outages(1)
    with pytest.raises(ServiceException):
        await world.create()
    await world.idle()
    assert await store.get("my-fn") is None
    assert (world.host.prepared, world.deaths) == ([], [])


async def test_old_environments_that_cannot_be_stopped_do_not_undo_the_update(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.active()
    world.host.stop_failure = ServiceException("no")
    await world.call("UpdateFunctionConfiguration", FunctionName="my-fn", Timeout=9)
    await world.idle()
    assert (await world.configuration())["LastUpdateStatus"] == "Successful"
    assert caplog.messages == ["Old environments were not stopped."]
