"""Limits are kept in numbers alone; every rule of AWS's concurrency has its own test here."""

import random

import pytest

from lambent.scheduler.counts import (
    ACCOUNT_FULL,
    ON_DEMAND,
    RATE,
    RESERVED_FULL,
    RESERVED_RATE,
    Counts,
    GivenBackTwice,
)


def test_pool_is_shared_by_functions_without_reservation() -> None:
    counts = Counts(10, carves=True)
    counts.take("a", ON_DEMAND, 6)
    assert counts.room("b", ON_DEMAND, 5, 0.0) == (4, ACCOUNT_FULL)
    counts.give("a", ON_DEMAND, 1)
    assert counts.room("b", ON_DEMAND, 5, 0.0) == (5, "")


def test_reservation_is_carved_out_and_is_a_limit() -> None:
    counts = Counts(10, carves=True)
    counts.configure("a", reserved=4, provisioned={})
    assert counts.room("a", ON_DEMAND, 5, 0.0) == (4, RESERVED_FULL)
    assert counts.room("b", ON_DEMAND, 7, 0.0) == (6, ACCOUNT_FULL)


def test_a_shards_block_has_reservations_taken_out_already() -> None:
    counts = Counts(10, carves=False)
    counts.configure("a", reserved=4, provisioned={})
    counts.configure("c", reserved=None, provisioned={"live": 3})
    assert counts.room("b", ON_DEMAND, 11, 0.0) == (10, ACCOUNT_FULL)


def test_an_allocation_counts_in_full_and_spills_over() -> None:
    counts = Counts(10, carves=True)
    counts.configure("a", reserved=None, provisioned={"live": 3})
    assert counts.room("b", ON_DEMAND, 10, 0.0) == (7, ACCOUNT_FULL)
    assert counts.room("a", "live", 5, 0.0) == (3, "")
    counts.take("a", "live", 3)
    assert counts.room("a", "live", 1, 0.0) == (0, "")
    assert counts.room("a", ON_DEMAND, 8, 0.0) == (7, ACCOUNT_FULL)
    counts.give("a", "live", 3)
    assert counts.pool_free == 7


def test_reserved_equal_to_provisioned_leaves_nothing_on_demand() -> None:
    counts = Counts(10, carves=True)
    counts.configure("a", reserved=3, provisioned={"live": 3})
    assert counts.room("a", ON_DEMAND, 1, 0.0) == (0, RESERVED_FULL)


def test_an_allocation_that_shrinks_keeps_counting_what_is_out() -> None:
    counts = Counts(10, carves=True)
    counts.configure("a", reserved=None, provisioned={"live": 5})
    counts.take("a", "live", 4)
    counts.configure("a", reserved=None, provisioned={})
    assert counts.pool_free == 6
    assert counts.room("a", "live", 1, 0.0) == (0, "")
    counts.give("a", "live", 4)
    assert counts.pool_free == 10


def test_environments_grow_by_a_thousand_and_then_a_hundred_a_second() -> None:
    counts = Counts(100_000, carves=True)
    assert counts.room("a", ON_DEMAND, 1500, 0.0) == (1000, RATE)
    counts.take("a", ON_DEMAND, 1000)
    assert counts.room("a", ON_DEMAND, 1, 0.0) == (0, RATE)
    assert counts.room("a", ON_DEMAND, 200, 1.0) == (100, RATE)
    counts.give("a", ON_DEMAND, 1000)
    assert counts.room("a", ON_DEMAND, 1000, 1.0) == (1000, "")  # they are there
    counts.seen("a", 0)
    assert counts.room("a", ON_DEMAND, 1000, 2.0) == (200, RATE)
    counts.configure("a", reserved=2000, provisioned={})
    assert counts.room("a", ON_DEMAND, 1000, 2.0) == (200, RESERVED_RATE)


def test_slots_cannot_come_back_twice() -> None:
    counts = Counts(10, carves=True)
    counts.take("a", ON_DEMAND, 1)
    counts.give("a", ON_DEMAND, 1)
    with pytest.raises(GivenBackTwice):
        counts.give("a", ON_DEMAND, 1)


def test_a_deleted_function_is_counted_until_its_slots_are_back() -> None:
    counts = Counts(10, carves=True)
    counts.configure("a", reserved=5, provisioned={"1": 2})
    counts.take("a", ON_DEMAND, 2)
    counts.forget("a")
    assert counts.pool_free == 8
    counts.give("a", ON_DEMAND, 2)
    assert (counts.pool_free, list(counts)) == (10, [])


@pytest.mark.parametrize("carves", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_running_sums_are_what_counting_anew_gives(carves: bool, seed: int) -> None:
    draw = random.Random(seed)
    counts = Counts(1000, carves=carves)
    names, buckets = ["a", "b", "c"], [ON_DEMAND, "live", "2"]
    for _ in range(500):
        uid, bucket = draw.choice(names), draw.choice(buckets)
        step = draw.randrange(4)
        if step == 0:
            allocations = {each: draw.randrange(5) for each in draw.sample(["live", "2"], draw.randrange(3))}
            counts.configure(uid, reserved=draw.choice([None, 20, 50]), provisioned=allocations)
        elif step == 1:
            counts.take(uid, bucket, draw.randrange(1, 4))
        elif step == 2:
            one = counts.of(uid)
            out = one.on_demand if bucket == ON_DEMAND else one.busy.get(bucket, 0)
            if out:
                counts.give(uid, bucket, draw.randrange(1, out + 1))
        else:
            counts.forget(uid)
        drawn = 0
        for _, one in counts:
            held = sum(max(one.provisioned.get(each, 0), one.busy.get(each, 0)) for each in ("live", "2"))
            assert one.held == held
            if one.reserved is None:
                drawn += one.on_demand + held - (0 if carves else sum(one.provisioned.values()))
        assert counts.pool_used == drawn
        carved = sum(one.reserved or 0 for _, one in counts)
        assert counts.pool_free == 1000 - (carved if carves else 0) - drawn
