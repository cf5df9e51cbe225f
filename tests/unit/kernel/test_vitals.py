"""vitals.py: the loop's lag, Redis, and the end of deleted functions' series."""

from collections.abc import Mapping

import pytest
from samples import function

from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.tasks import Tasks
from lambent.kernel.usage import Usage, UsageBatch, UsageKey
from lambent.kernel.vitals import GRACE_SECONDS, Vitals


class Ledger:
    """A `ports.UsageLedger` that only knows what is missing."""

    lost = 0

    async def mark(self, executor: str) -> int:
        raise NotImplementedError

    async def add(self, batch: UsageBatch, *, after: int) -> int:
        raise NotImplementedError

    async def read(self, start: int, end: int) -> Mapping[UsageKey, Usage]:
        raise NotImplementedError

    async def missing(self) -> int:
        return self.lost


class World:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.store = MemoryStore()
        self.ledger = Ledger()
        self.vitals = Vitals(
            store=self.store,
            ledger=self.ledger,
            resolve=self.store.get,
            slots=lambda: 3,
            clock=self.clock,
        )


def value(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(metrics, "_functions", set())
    return World()


async def test_the_series_of_a_deleted_function_end_after_a_while(world: World) -> None:
    await world.store.create(function("stays-here"))
    for name in ("stays-here", "deleted-here"):
        metrics.events_dropped.labels(metrics.function_label(name)).inc()
    await world.vitals.look()
    await world.clock.advance(GRACE_SECONDS - 1)
    await world.vitals.look()
    assert value("lambent_async_events_dropped_total", function="deleted-here") == 1
    await world.clock.advance(1)
    await world.vitals.look()
    assert value("lambent_async_events_dropped_total", function="deleted-here") is None
    assert value("lambent_async_events_dropped_total", function="stays-here") == 1


async def test_a_function_that_is_made_again_keeps_its_series(world: World) -> None:
    metrics.events_dropped.labels(metrics.function_label("again")).inc()
    await world.vitals.look()
    await world.store.create(function("again"))
    await world.vitals.look()
    await world.store.delete("again")
    await world.clock.advance(GRACE_SECONDS)
    await world.vitals.look()
    assert value("lambent_async_events_dropped_total", function="again") is not None


async def test_limits_and_missing_records_are_shown(world: World) -> None:
    await world.store.create(function("limited"))
    await world.store.set_reserved_concurrency("limited", 5)
    metrics.function_label("limited")
    world.ledger.lost = 9
    await world.vitals.look()
    assert value("lambent_reserved_concurrency", function="limited") == 5
    assert value("lambent_usage_missing_records") == 9


async def test_an_outage_is_a_number_and_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.vitals.ping()
    assert value("lambent_redis_up") == 1
    down = True

    async def ping() -> None:
        if down:
            raise ServiceException("Redis is down.")

    monkeypatch.setattr(world.store, "ping", ping)
    await world.vitals.ping()
    assert value("lambent_redis_up") == 0
    tasks = Tasks("test")

    async def missing() -> int:
        raise ServiceException("Redis is down.")

    monkeypatch.setattr(world.ledger, "missing", missing)
    running = [
        tasks.forever("series", world.vitals.run_series()),
        tasks.forever("ping", world.vitals.run_redis()),
    ]
    await world.clock.advance(1)
    down = False
    await world.clock.advance(20)
    assert value("lambent_redis_up") == 1
    assert not any(task.done() for task in running)
    await tasks.drain(1)


async def test_lag_is_what_a_sleep_is_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = world.clock.sleep

    async def late(seconds: float) -> None:
        await real(seconds + 0.5)

    monkeypatch.setattr(world.clock, "sleep", late)
    before = value("lambent_event_loop_lag_seconds_sum") or 0.0
    tasks = Tasks("test")
    tasks.forever("lag", world.vitals.run_second())
    await world.clock.advance(0)  # it sleeps
    await world.clock.advance(1.5)
    assert value("lambent_event_loop_lag_seconds_sum") == pytest.approx(before + 0.5)
    assert value("lambent_lease_slots") == 3
    await tasks.drain(1)
