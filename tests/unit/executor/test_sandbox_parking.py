"""How many slots there are in all, and of which kinds, with a maker that makes nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from lambent.executor.drivers.base import EnvironmentSpec
from lambent.executor.drivers.sandbox import demand
from lambent.executor.drivers.sandbox.parking import Parking
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.drivers.sandbox.snapshotting import Taken
from lambent.executor.drivers.sandbox.spawning import ZygoteProcess
from lambent.kernel.tasks import Tasks

MOST = 4


class Maker:
    """Counts the slots that are there."""

    spare_uids = 1000

    def __init__(self) -> None:
        self.there: set[RunningSandbox] = set()
        self._tasks = Tasks("maker")

    async def make_slot(self, spec: EnvironmentSpec, zygote: ZygoteProcess | None) -> RunningSandbox:
        def release(sandbox: RunningSandbox, clean: bool) -> None:
            self.there.discard(sandbox)

        sandbox = RunningSandbox(spec.id, 1, spec.memory_mb << 20, tasks=self._tasks, release=release)
        self.there.add(sandbox)
        return sandbox

    async def open_zygote(self, spec: EnvironmentSpec, preload: Sequence[str]) -> ZygoteProcess:
        raise OSError("none is wanted")

    async def assign(
        self, spec: EnvironmentSpec, sandbox: RunningSandbox, restored: Taken | None = None
    ) -> None:
        self.there.discard(sandbox)

    def etc_files(self) -> dict[str, str]:
        return {}

    def holds(self, zygote: ZygoteProcess) -> bool:
        return False

    def needs(self, zygote: ZygoteProcess) -> bool:
        return False


@pytest.fixture
async def maker() -> Maker:
    return Maker()


@pytest.fixture
async def parking(maker: Maker) -> AsyncIterator[Parking]:
    made = Parking(maker, MOST)
    yield made
    for line in made._lines.values():
        line.parked.clear()
    await made.stop()


def kind(number: int) -> EnvironmentSpec:
    """Of a Node.js with another heap each."""
    argv = ("/var/runtime/bin/node", f"--max-old-space-size={number}")
    path = Path("/code")
    return EnvironmentSpec("one", argv, {}, path, path, None, (), 128 + number, 512, ahead_env={})


async def until(count: int, maker: Maker) -> None:
    async with asyncio.timeout(10):
        while len(maker.there) < count:
            await asyncio.sleep(0.01)


async def test_many_kinds_have_no_more_slots_than_there_may_be(parking: Parking, maker: Maker) -> None:
    for number in range(10):
        parking.expect(kind(number))
    await until(MOST, maker)
    await asyncio.sleep(0.3)  # in which more would be made
    assert parking.parked == len(maker.there) == MOST


async def test_a_slot_is_taken_by_its_own_kind(parking: Parking, maker: Maker) -> None:
    parking.expect(kind(1))
    await until(1, maker)
    assert await parking.start(kind(2)) is None
    taken = await parking.start(kind(1))
    assert taken is not None and taken.start == "parked" and taken.memory_limit == 129 << 20


async def test_kinds_that_nobody_asks_for_are_forgotten(
    parking: Parking, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    parking.expect(kind(1))
    await until(1, maker)
    taken = await parking.start(kind(1))
    assert taken is not None
    monkeypatch.setattr(demand, "SILENCE_SECONDS", 0.0)
    for line in parking._lines.values():
        line.parked.clear()
    before = len(parking._tasks)
    for number in range(2, 50):
        parking.expect(kind(number))
    assert len(parking._lines) == 1
    await asyncio.sleep(0.05)  # a task that is cancelled ends a moment later
    assert len(parking._tasks) <= before + 1
