"""The snapshots of versions: made once, made again when they are lost, and never kept for what has gone."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from playing import TARGET

from lambent.executor.drivers.base import NoSnapshot
from lambent.executor.environment_states import EnvironmentState
from lambent.executor.templates import Templates
from lambent.kernel.errors import InvalidRuntimeException, LambdaError, ServiceException, SnapStartException
from lambent.kernel.models import FunctionVersion
from lambent.kernel.tasks import Tasks

VERSION = replace(TARGET, version="1", snap_start="PublishedVersions")


class Kept:
    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.alive = True


class Stage:
    """A driver and environments that the test plays."""

    def __init__(self) -> None:
        self.tasks = Tasks("test")
        self.templates = Templates(self, self.tasks, self.make)  # type: ignore[arg-type]
        self.failure: Exception | None = None
        self.no_environment: LambdaError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.made = self.disposed = 0
        self.size = 1
        self.dropped: list[Any] = []
        self.said: list[str] = []
        self.state = EnvironmentState.IDLE
        self.init_failure = None
        self.log = self

    # ---- as the host and as an environment ------------------------------------------------------------

    def make(self, target: FunctionVersion) -> "Stage":
        if self.no_environment is not None:
            raise self.no_environment
        self.made += 1
        return self

    async def start(self) -> None:
        await self.gate.wait()

    def kept(self) -> None: ...

    async def dispose(self) -> None:
        self.disposed += 1

    def no_snapshot(self, why: str) -> None:
        self.said.append(why)

    # ---- as the driver --------------------------------------------------------------------------------

    async def snapshot(self, _: object) -> Kept:
        if self.failure is not None:
            raise self.failure
        return Kept(self.size)

    def drop(self, snapshot: Any) -> None:
        self.dropped.append(snapshot)


async def test_one_is_made_and_found_and_one_that_is_lost_is_made_again() -> None:
    stage = Stage()
    await asyncio.gather(*(stage.templates.prepare(VERSION) for _ in range(3)))
    found = stage.templates.snapshot(VERSION)
    assert isinstance(found, Kept) and (stage.made, stage.disposed) == (1, 1)
    assert stage.templates.snapshot(replace(VERSION, version="$LATEST")) is None
    found.alive = False
    assert stage.templates.snapshot(VERSION) is None
    await stage.tasks.drain(5)
    assert stage.made == 2 and stage.dropped == [found]
    assert stage.templates.snapshot(VERSION) not in (None, found)


@pytest.mark.parametrize("uid", [VERSION.uid, "another"])
async def test_one_of_a_version_that_goes_while_it_is_made_is_dropped(uid: str) -> None:
    stage = Stage()
    stage.gate.clear()
    making = asyncio.ensure_future(stage.templates.prepare(VERSION))
    await asyncio.sleep(0)
    stage.templates.forget_function(uid, VERSION.version, None)
    stage.gate.set()
    await making
    gone = uid == VERSION.uid
    assert len(stage.dropped) == gone and stage.disposed == 1
    assert (VERSION.key in stage.templates._kept) != gone


async def test_what_cannot_be_kept_is_told_and_not_tried_again() -> None:
    stage = Stage()
    stage.failure = NoSnapshot("it has threads")
    await stage.templates.prepare(VERSION)
    assert stage.said == ["it has threads"]
    assert stage.templates.snapshot(VERSION) is None
    await stage.tasks.drain(5)
    assert stage.made == 1


async def test_the_platforms_failure_is_tried_again() -> None:
    stage = Stage()
    stage.failure = ServiceException("no keeper")
    await stage.templates.prepare(VERSION)
    stage.failure = None
    await stage.templates.prepare(VERSION)
    assert stage.templates.snapshot(VERSION) is not None and stage.said == ["no keeper"]


async def test_an_environment_that_cannot_be_made_is_told_each_time_and_tried_again() -> None:
    stage = Stage()
    stage.no_environment = InvalidRuntimeException("gone")
    for _ in range(2):
        with pytest.raises(InvalidRuntimeException):
            await stage.templates.prepare(VERSION)
    stage.no_environment = None
    await stage.templates.prepare(VERSION)
    assert stage.templates.snapshot(VERSION) is not None


async def test_an_init_that_fails_is_the_functions() -> None:
    stage = Stage()
    stage.state = EnvironmentState.INIT_FAILED
    with pytest.raises(SnapStartException):
        await stage.templates.prepare(VERSION)
    assert stage.disposed == 1


async def test_together_they_are_bounded_and_the_least_recently_used_goes() -> None:
    stage = Stage()
    stage.size = 1 << 30
    versions = [replace(VERSION, version=str(number)) for number in (1, 2, 3)]
    for version in versions[:2]:
        await stage.templates.prepare(version)
    assert stage.templates.snapshot(versions[0]) is not None
    await stage.templates.prepare(versions[2])
    assert len(stage.dropped) == 1
    assert [stage.templates._kept[version.key].snapshot is None for version in versions] == [False, True, False]
