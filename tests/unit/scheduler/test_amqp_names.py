"""Names of queues, the steps that a delay is made of, and what is known of queues."""

import random

import pytest

from lambent.kernel.events import Line
from lambent.scheduler.amqp.known import Known
from lambent.scheduler.amqp.names import REGISTER, STEPS, Place, parse, step_of


@pytest.mark.parametrize(
    "place", [Place(Line.LANE, "u"), Place(Line.DEAD, "a.{b}"), Place(Line.OUTCOMES, "u", 125)]
)
def test_a_place_is_found_from_its_queue(place: Place) -> None:
    assert parse(place.queue) == place


def test_other_queues_are_no_places() -> None:
    assert [parse(queue) for queue in (REGISTER, "lambent.again.{u}", "lane.{u}", "celery")] == [None] * 4


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(-1, 0), (0, 0), (0.001, 125), (0.125, 125), (0.126, 250), (59.9999, 60_000), (60, 60_000), (61, 60_000)]
    + [(120, 120_000), (300, 240_000), (100_000, STEPS[-1])],
)
def test_the_first_step_of_a_delay(seconds: float, step: int) -> None:
    assert step_of(seconds) == step


def test_the_steps_of_any_delay_sum_up_to_it_and_no_more_than_the_smallest_beyond() -> None:
    for _ in range(2000):
        delay = left = random.uniform(0.0, 21_600.0)
        count = 0
        while step := step_of(left):
            left -= step / 1000
            count += 1
        assert -0.125 <= left <= 0 and count <= 20, delay


def test_a_queue_that_has_settled_stays_so() -> None:
    known, queue = Known(), Place(Line.LANE, "u").queue
    known.add([(queue, False)])
    assert known.is_unsettled(queue) and known.unsettled() == [queue]
    known.add([(queue, True)])
    known.add([(queue, False)])
    assert not known.is_unsettled(queue) and queue in known
    known.forget([queue])
    assert queue not in known and known.places("u") == []


def test_places_are_found_by_lane() -> None:
    known = Known()
    places = [Place(Line.LANE, "a"), Place(Line.LANE, "a", 125), Place(Line.DEAD, "b")]
    known.add((place.queue, True) for place in places)
    assert known.places("a") == places[:2]
    assert known.places() == places
