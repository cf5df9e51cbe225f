"""How usage is added up."""

from dataclasses import asdict

import pytest

from lambent.kernel.models import Outcome
from lambent.kernel.usage import (
    INIT,
    Period,
    Rollup,
    Usage,
    UsageRecord,
    batch_of,
    cover,
    from_line,
    key_of,
    rolled_up,
    to_line,
    used,
    widened,
)

DAY, HOUR = 86_400, 3600
NOON = 1_764_072_000  # 2025-11-25 12:00 UTC
RECORD = UsageRecord(
    executor="one",
    sequence=1,
    at=NOON * 1000 + 59_999,
    function="f",
    uid="u",
    version="$LATEST",
    alias="",
    request_id="id-1",
    trigger="sync",
    outcome=Outcome.SUCCESS,
    architecture="x86_64",
    memory_mb=256,
    ephemeral_mb=1024,
    init_us=120_000,
    duration_us=3_400,
    billed_ms=124,
    cpu_us=2_000,
    peak_memory=40 << 20,
    bytes_in=2,
    bytes_out=4,
    tags=(("team", "red"),),
)


def test_a_line_says_a_record() -> None:
    line = to_line(RECORD)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert from_line(line, "one") == RECORD


OTHER = to_line(RECORD).replace(b"success", b"so")


@pytest.mark.parametrize("line", [b"", b"{}", b"[1,2]", b"[", b"null", OTHER])
def test_another_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        from_line(line, "one")


def test_an_execution_is_one_invocation_and_what_it_used() -> None:
    use = used(RECORD)
    assert (use.invocations, use.errors, use.cold, use.failed_inits) == (1, 0, 1, 0)
    assert (use.mb_ms, use.ephemeral_mb_ms) == (256 * 124, 512 * 124)
    assert used(RECORD._replace(ephemeral_mb=512)).ephemeral_mb_ms == 0


def test_errors_and_timeouts_are_told_apart() -> None:
    for outcome, errors, timeouts in ((Outcome.ERROR, 1, 0), (Outcome.TIMEOUT, 1, 1), (Outcome.SUCCESS, 0, 0)):
        use = used(RECORD._replace(outcome=outcome))
        assert (use.errors, use.timeouts) == (errors, timeouts)


def test_a_failed_init_is_billed_and_no_invocation() -> None:
    use = used(RECORD._replace(trigger=INIT, outcome=Outcome.INIT_ERROR))
    assert (use.invocations, use.errors, use.cold, use.failed_inits, use.billed_ms) == (0, 0, 0, 1, 124)


def test_records_add_up_in_their_minute_hour_and_day() -> None:
    later = RECORD._replace(sequence=2, at=RECORD.at + 1, peak_memory=1)
    batch = batch_of([RECORD, later])
    assert (batch.first, batch.last) == (1, 2)
    found = rolled_up(batch.minutes)
    key = key_of(RECORD)
    counted = {rollup: rows[key].invocations for rollup, rows in found.items()}
    assert counted == {
        Rollup(Period.MINUTE, NOON): 1,
        Rollup(Period.MINUTE, NOON + 60): 1,
        Rollup(Period.HOUR, NOON): 2,
        Rollup(Period.DAY, NOON - 12 * HOUR): 2,
    }
    day = found[Rollup(Period.DAY, NOON - 12 * HOUR)][key]
    assert (day.billed_ms, day.peak_memory) == (248, 40 << 20)


def test_other_tags_are_another_row() -> None:
    other = RECORD._replace(sequence=2, tags=(("team", "blue"),))
    [rows] = batch_of([RECORD, other]).minutes.values()
    assert {key.tags for key in rows} == {RECORD.tags, other.tags}


def test_sums_add_and_peaks_do_not() -> None:
    one, two = Usage(invocations=1, peak_memory=5), Usage(invocations=2, peak_memory=3)
    one.add(two)
    assert asdict(one) == asdict(Usage(invocations=3, peak_memory=5))


def test_a_time_is_covered_by_few_rollups_that_touch_and_do_not_overlap() -> None:
    start, end = NOON - 3 * DAY + 61 * 60, NOON + 59 * 60
    rollups = list(cover(start, end))
    assert [rollup.period for rollup in rollups].count(Period.DAY) == 2
    assert len(rollups) == 59 + 10 + 2 + 12 + 59
    at = start
    for rollup in rollups:
        assert rollup.start == at
        at += rollup.period.seconds
    assert at == end


def test_nothing_covers_no_time() -> None:
    assert list(cover(NOON, NOON)) == []


def test_a_time_is_told_by_whole_minutes() -> None:
    assert widened(NOON + 1, NOON + 61, now=NOON + 100) == (NOON, NOON + 120)


@pytest.mark.parametrize(("age", "unit"), [(9 * DAY, HOUR), (200 * DAY, DAY)])
def test_where_minutes_are_not_kept_the_time_is_widened(age: int, unit: int) -> None:
    asked = (NOON - 90, NOON + 90)
    start, end = widened(*asked, now=NOON + age)
    assert start <= asked[0] and end >= asked[1]
    assert start % unit == end % unit == 0
    assert end - start <= 2 * unit
    assert all(rollup.period.seconds >= unit for rollup in cover(start, end))


def test_every_rollup_that_a_widened_time_asks_for_is_kept() -> None:
    for age in range(0, 210 * DAY, 7 * HOUR + 60):
        now = NOON + 17
        for rollup in cover(*widened(now - age, now - age / 3, now=now)):
            assert rollup.start + rollup.period.kept > now, (age, rollup)
