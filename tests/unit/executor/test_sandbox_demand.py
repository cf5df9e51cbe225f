"""How many environments are made ahead of need; time is what the test says."""

import pytest

from lambent.executor.drivers.sandbox.demand import SILENCE_SECONDS, Demand

PLENTY = 1000


def after(*arrivals: float, most: int = 16) -> Demand:
    demand = Demand(most)
    for arrival in arrivals:
        demand.arrived(arrival)
    return demand


def test_before_the_first_start_there_are_none() -> None:
    assert Demand(16).wanted(0.0, PLENTY) == 0


def test_one_start_has_two_made() -> None:
    assert after(100.0).wanted(100.0, PLENTY) == 2


def test_as_many_as_came_at_once_are_kept() -> None:
    assert after(*[100 + n / 10 for n in range(7)]).wanted(101.0, PLENTY) == 7


def test_starts_far_apart_are_no_burst() -> None:
    assert after(*[100.0 + 2 * n for n in range(7)]).wanted(112.0, PLENTY) == 2


def test_a_burst_is_remembered_the_less_the_longer_it_is_ago() -> None:
    demand = after(*[100.0] * 16)
    kept = [demand.wanted(100.0 + seconds, PLENTY) for seconds in range(0, 200, 10)]
    assert kept[0] == 16 and kept[3] == 8 and kept[6] == 4 and kept[-1] == 2
    assert kept == sorted(kept, reverse=True)


def test_a_smaller_burst_takes_nothing_from_a_larger_one() -> None:
    demand = after(*[100.0] * 16, 105.0)
    assert demand.wanted(105.0, PLENTY) == 15


def test_after_a_long_silence_there_are_none_and_a_start_ends_it() -> None:
    demand = after(*[100.0] * 16)
    assert not demand.silent(100.0 + SILENCE_SECONDS - 1)
    assert demand.silent(100.0 + SILENCE_SECONDS)
    assert demand.wanted(100.0 + SILENCE_SECONDS, PLENTY) == 0
    demand.arrived(1000.0)
    assert demand.wanted(1000.0, PLENTY) == 2


@pytest.mark.parametrize(
    ("most", "room", "kept"), [(4, PLENTY, 4), (16, 3, 3), (16, 0, 0), (16, -2, 0), (1, 9, 1)]
)
def test_never_more_than_the_setting_and_the_room(most: int, room: int, kept: int) -> None:
    assert after(*[100.0] * 500, most=most).wanted(100.5, room) == kept


def test_what_is_only_expected_is_no_burst() -> None:
    demand = after(100.0, 100.1)
    for moment in range(5):
        demand.expected(100.2 + moment / 10)
    assert demand.wanted(100.6, PLENTY) == 2
    fresh = Demand(16)
    fresh.expected(100.0)
    assert fresh.wanted(100.0, PLENTY) == 2
