"""From the spool to the ledger, once."""

import asyncio
from pathlib import Path

import pytest

from lambent.executor import spool as spools
from lambent.executor.shipping import Shipping
from lambent.executor.spool import Spool
from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Outcome
from lambent.kernel.store.memory_usage import MemoryUsageLedger
from lambent.kernel.usage import UsageBatch, UsageRecord

AT = 1_764_072_000
RECORD = UsageRecord(
    *("", 0, AT * 1000, "f", "u", "$LATEST", "", "id", "sync", Outcome.SUCCESS, "x86_64"),
    *(128, 512, 0, 1500, 2, 900, 40 << 20, 2, 4, ()),
)


class Ledger(MemoryUsageLedger):
    """Fails as long as told; an answer can be lost after the work is done."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.lost_answers = 0

    async def add(self, batch: UsageBatch, *, after: int) -> int:
        if self.down:
            raise ServiceException("down")
        mark = await super().add(batch, after=after)
        if self.lost_answers:
            self.lost_answers -= 1
            raise ServiceException("no answer")
        return mark

    async def count(self) -> int:
        return sum(use.invocations for use in (await self.read(AT, AT + 60)).values())


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.clock, self.ledger = root, TestClock(), Ledger()
        self.spool = Spool(root / "now", max_bytes=1 << 20)
        self.shipping = Shipping(root, self.spool, self.ledger, self.clock)

    def execute(self, times: int) -> None:
        for _ in range(times):
            self.spool.append(RECORD)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def left_behind(root: Path, name: str, records: int) -> None:
    """What a killed run leaves."""
    spool = Spool(root / name, max_bytes=1 << 20)
    for _ in range(records):
        spool.append(RECORD)


async def run(world: World, seconds: float) -> None:
    """Lets it work for so long, threads included."""
    running = asyncio.ensure_future(world.shipping.run())
    for _ in range(int(seconds)):
        for _ in range(20):  # the threads that read what is left
            await asyncio.sleep(0.005)
        await world.clock.advance(1.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_each_second_ships_what_was_executed(world: World) -> None:
    world.execute(3)
    await run(world, 1)
    assert await world.ledger.count() == 3
    world.execute(2)
    await run(world, 1)
    assert await world.ledger.count() == 5
    assert metrics.ledger_lag._value.get() == 0


async def test_a_ledger_that_is_down_gets_everything_later_and_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ledger.down = True
    world.execute(3)
    await run(world, 3)
    assert metrics.ledger_lag._value.get() >= 1
    assert caplog.text.count("Usage is not in the ledger yet") == 1
    world.execute(2)
    world.ledger.down = False
    await run(world, 1)
    assert await world.ledger.count() == 5
    assert metrics.ledger_lag._value.get() == 0


async def test_an_answer_that_is_lost_counts_nothing_twice(world: World) -> None:
    world.ledger.lost_answers = 2
    world.execute(3)
    await run(world, 3)
    world.execute(1)
    await run(world, 1)
    assert await world.ledger.count() == 4
    assert await world.ledger.missing() == 0


async def test_what_a_killed_run_left_is_shipped_first_and_removed(world: World) -> None:
    left_behind(world.root, "before-1", 4)
    left_behind(world.root, "before-2", 0)
    await run(world, 2)
    assert await world.ledger.count() == 4
    assert [path.name for path in world.root.iterdir()] == ["now"]


async def test_a_killed_runs_shipped_part_is_not_shipped_again(world: World) -> None:
    left_behind(world.root, "before", 4)
    first = next(iter(spools.read_batches(world.root / "before", after=0, most=3)))
    await world.ledger.add(first, after=0)
    await run(world, 2)
    assert await world.ledger.count() == 4
    assert await world.ledger.missing() == 0


async def test_a_ledger_that_lost_records_has_them_counted_as_missing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.execute(3)
    await run(world, 1)
    world.ledger._marks["now"] = 1  # an older copy has taken over
    world.execute(1)
    await run(world, 1)
    assert await world.ledger.missing() == 2
    assert "has lost records" in caplog.text


async def test_closing_ships_the_rest_and_leaves_nothing(world: World) -> None:
    world.execute(3)
    await world.shipping.close()
    assert await world.ledger.count() == 3
    assert list(world.root.iterdir()) == []


async def test_closing_without_a_ledger_leaves_it_for_the_next_run(world: World) -> None:
    world.execute(3)
    world.ledger.down = True
    await world.shipping.close()
    world.ledger.down = False
    spool = Spool(world.root / "later", max_bytes=1 << 20)
    world.shipping = Shipping(world.root, spool, world.ledger, world.clock)
    await run(world, 2)
    assert await world.ledger.count() == 3
    assert [path.name for path in world.root.iterdir()] == ["later"]
