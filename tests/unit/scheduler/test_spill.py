"""spill.py: large payloads lie in the blob store for as long as an item names them."""

from collections.abc import Mapping

import pytest
from unit.scheduler.samples import event

from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.blobs.probe import check_shared
from lambent.kernel.clock import TestClock
from lambent.kernel.models import Event
from lambent.kernel.store.memory import MemoryStore
from lambent.scheduler.spill import UNTOUCHED_SECONDS, Spill

LARGE = 1000


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def blobs(clock: TestClock) -> MemoryBlobs:
    return MemoryBlobs(clock=clock)


@pytest.fixture
def spill(blobs: MemoryBlobs) -> Spill:
    return Spill(blobs, large=LARGE)


def large(number: int = 1, lane: str = "uid") -> Event:
    return Event(f"request-{number}", lane, "f", b"x" * (LARGE + 1), 0.0)


async def swept(spill: Spill, in_use: Mapping[str, frozenset[str] | None]) -> int:
    async def names_of(lane: str) -> frozenset[str] | None:
        return in_use[lane]

    return await spill.sweep(names_of)


async def test_a_small_payload_stays_in_the_queue(spill: Spill, blobs: MemoryBlobs) -> None:
    assert await spill.keep(Event("r", "uid", "f", b"x" * LARGE, 0.0)) is None
    assert await spill.keep(event()) is None
    assert list(await blobs.named(untouched_seconds=0)) == []


async def test_a_large_one_is_named_by_its_event_and_goes_when_dropped(
    spill: Spill, blobs: MemoryBlobs
) -> None:
    name = await spill.keep(large())
    assert name is not None and name.startswith("uid/request-1.")
    assert await spill.read(name) == large().payload
    await spill.drop(name)
    assert list(await blobs.named(untouched_seconds=0)) == []


async def test_two_events_of_one_request_have_a_blob_each(spill: Spill) -> None:
    first, second = await spill.keep(large()), await spill.keep(large())
    assert first is not None and second is not None and first != second
    await spill.drop(first)
    assert await spill.read(second) == large().payload


async def test_the_sweep_deletes_what_no_item_names_and_leaves_the_rest(
    spill: Spill, blobs: MemoryBlobs, clock: TestClock
) -> None:
    used, orphan = await spill.keep(large(1)), await spill.keep(large(2))
    other = await spill.keep(large(3, lane="uid-b"))
    assert used is not None and orphan is not None and other is not None
    await clock.advance(UNTOUCHED_SECONDS)
    fresh = await spill.keep(large(4))
    assert await swept(spill, {"uid": frozenset({used}), "uid-b": None}) == 1
    assert set(await blobs.named(untouched_seconds=0)) == {used, other, fresh}


async def test_the_sweep_leaves_the_object_by_which_roles_know_their_store(
    spill: Spill, blobs: MemoryBlobs, clock: TestClock
) -> None:
    marks = MemoryStore()
    await check_shared(blobs, marks)
    await clock.advance(UNTOUCHED_SECONDS)
    assert await swept(spill, {}) == 0
    await check_shared(blobs, marks)


async def test_one_that_an_item_took_over_during_the_sweep_stays(spill: Spill, clock: TestClock) -> None:
    name = await spill.keep(large())
    assert name is not None
    await clock.advance(UNTOUCHED_SECONDS)

    async def moved_meanwhile(lane: str) -> frozenset[str]:
        await spill.again(name)
        return frozenset()

    await spill.sweep(moved_meanwhile)
    assert await spill.read(name) == large().payload
