"""Numbers of versions on a connection: the other side is told exactly when what it has is not what is meant."""

from dataclasses import replace

from remote_hosts import version

from lambent.kernel.models import State
from lambent.kernel.remote.targets import Numbers


def test_a_version_is_told_once() -> None:
    numbers = Numbers()
    assert [numbers.of(version(n)) for n in (1, 2, 1, 2)] == [(0, True), (1, True), (0, False), (1, False)]


def test_one_that_has_changed_in_any_way_is_told_again_under_its_number() -> None:
    numbers = Numbers()
    numbers.of(version(1))
    active = replace(version(1), state=State.ACTIVE)
    assert numbers.of(active) == (0, True)
    assert numbers.of(active) == (0, False)
    assert numbers.of(version(1)) == (0, True)


def test_the_least_recently_used_one_gives_its_number_away() -> None:
    numbers = Numbers(2)
    for n in (1, 2, 1):
        numbers.of(version(n))
    assert numbers.of(version(3)) == (1, True)
    assert numbers.of(version(1)) == (0, False)
    assert numbers.of(version(2)) == (1, True)


def test_one_that_could_not_be_told_is_told_the_next_time() -> None:
    numbers = Numbers(2)
    numbers.of(version(1))
    numbers.forget(version(1))
    assert numbers.of(version(1)) == (0, True)
    assert numbers.of(version(2)) == (1, True)
