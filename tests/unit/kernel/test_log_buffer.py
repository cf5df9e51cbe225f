"""Log lines that wait: a byte budget, oldest dropped first, each drop counted, and told once a minute."""

import logging

import pytest

from lambent.kernel import metrics
from lambent.kernel.clock import TestClock
from lambent.kernel.store.log_buffer import Dropped, Line, LogBuffer, make_line


def line(number: int, size: int = 100) -> Line:
    return make_line("group", "stream", number, "x" * (size - 64))


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def dropped(clock: TestClock) -> Dropped:
    return Dropped(clock)


@pytest.fixture
def buffer(dropped: Dropped) -> LogBuffer:
    return LogBuffer(1000, dropped)


def test_lines_leave_in_order_up_to_a_size(buffer: LogBuffer) -> None:
    buffer.add(line(n) for n in range(5))
    assert [taken.at for taken in buffer.take(250)] == [0, 1, 2]
    assert [taken.at for taken in buffer.take(10_000)] == [3, 4]
    assert buffer.take(1) == []


def test_the_oldest_go_when_the_budget_is_spent(buffer: LogBuffer, dropped: Dropped) -> None:
    before = metrics.log_lines_dropped._value.get()
    buffer.add(line(n) for n in range(13))
    assert [taken.at for taken in buffer.take(10_000)] == list(range(3, 13))
    assert dropped.total == 3
    assert metrics.log_lines_dropped._value.get() - before == 3


def test_what_is_put_back_is_the_oldest_again_within_the_budget(buffer: LogBuffer, dropped: Dropped) -> None:
    buffer.add(line(n) for n in range(10))
    taken = buffer.take(300)
    buffer.add([line(10), line(11)])
    buffer.put_back(taken)
    assert [each.at for each in buffer.take(10_000)] == list(range(2, 12))
    assert dropped.total == 2


def test_a_forgotten_group_frees_its_bytes_and_is_no_drop(buffer: LogBuffer, dropped: Dropped) -> None:
    buffer.add([line(1), make_line("gone", "s", 2, "x" * 800)])
    buffer.forget("gone")
    buffer.add(line(n) for n in range(2, 11))
    assert len(buffer) == 10
    assert dropped.total == 0


async def test_drops_are_told_once_a_minute_with_their_number(
    dropped: Dropped, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lambent")
    for _ in range(3):
        dropped.add(2, "too fast")
    assert [record.fields["lines"] for record in caplog.records] == [2]  # type: ignore[attr-defined]
    await clock.advance(60)
    dropped.add(1, "too fast")
    assert [record.fields["lines"] for record in caplog.records] == [2, 5]  # type: ignore[attr-defined]
    dropped.tell()
    assert len(caplog.records) == 2
