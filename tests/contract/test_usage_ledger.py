"""What every UsageLedger must do: in memory, and over a real server."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
import redis

from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Outcome
from lambent.kernel.ports import UsageLedger
from lambent.kernel.store.memory_usage import MemoryUsageLedger
from lambent.kernel.store.usage import RedisUsageLedger
from lambent.kernel.usage import UsageBatch, UsageRecord, batch_of, key_of, used

NOW = 1_900_000_020 // 60 * 60  # rollups of the past would be gone at once
RECORD = UsageRecord(
    *("one", 1, NOW * 1000, "f", "u", "$LATEST", "", "id", "sync", Outcome.SUCCESS, "x86_64"),
    *(128, 512, 0, 1500, 2, 900, 40 << 20, 2, 4, (("team", "rouge \u00e9"),)),
)


@pytest.fixture(params=["memory", "redis"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[UsageLedger]:
    if request.param == "memory":
        yield MemoryUsageLedger()
        return
    made = RedisUsageLedger(request.getfixturevalue("redis_url"))
    yield made
    await made.close()


def batch(first: int, last: int, **changes: Any) -> UsageBatch:
    return batch_of([RECORD._replace(sequence=i, **changes) for i in range(first, last + 1)])


async def invocations(ledger: UsageLedger, start: int = NOW, end: int = NOW + 60) -> int:
    return sum(use.invocations for use in (await ledger.read(start, end)).values())


async def test_an_unknown_executor_has_no_mark_and_nothing_is_used(ledger: UsageLedger) -> None:
    assert await ledger.mark("one") == 0
    assert await ledger.read(NOW, NOW + 60) == {}
    assert await ledger.missing() == 0


async def test_a_batch_is_there_with_every_number(ledger: UsageLedger) -> None:
    assert await ledger.add(batch(1, 2), after=0) == 2
    assert await ledger.mark("one") == 2
    [(key, use)] = (await ledger.read(NOW, NOW + 60)).items()
    assert key == key_of(RECORD)
    expected = used(RECORD)
    expected.add(used(RECORD))
    assert asdict(use) == asdict(expected)


async def test_a_batch_that_comes_again_adds_nothing(ledger: UsageLedger) -> None:
    await ledger.add(batch(1, 3), after=0)
    assert await ledger.add(batch(1, 3), after=0) == 3
    assert await ledger.add(batch(1, 2), after=0) == 3
    assert await ledger.add(batch(2, 4), after=1) == 3
    assert await invocations(ledger) == 3
    assert await ledger.missing() == 0


async def test_what_never_came_is_counted_once(ledger: UsageLedger) -> None:
    await ledger.add(batch(1, 1), after=0)
    assert await ledger.add(batch(5, 6), after=1) == 6
    assert await ledger.add(batch(5, 6), after=1) == 6
    assert await ledger.missing() == 3
    assert await invocations(ledger) == 3


async def test_executors_are_counted_apart(ledger: UsageLedger) -> None:
    await ledger.add(batch(1, 2), after=0)
    await ledger.add(batch(1, 5, executor="two"), after=0)
    assert (await ledger.mark("one"), await ledger.mark("two")) == (2, 5)
    assert await invocations(ledger) == 7


async def test_the_largest_peak_stays(ledger: UsageLedger) -> None:
    for sequence, peak in ((1, 100), (2, 300), (3, 200)):
        await ledger.add(batch(sequence, sequence, peak_memory=peak), after=sequence - 1)
    [use] = (await ledger.read(NOW, NOW + 60)).values()
    assert use.peak_memory == 300


async def test_hours_and_days_hold_what_minutes_do(ledger: UsageLedger) -> None:
    day = NOW - NOW % 86_400
    for i, offset in enumerate((0, 59, 3600, 86_399, 86_400)):
        await ledger.add(batch(i + 1, i + 1, at=(day + offset) * 1000), after=i)
    assert await invocations(ledger, day, day + 86_400) == 4
    assert await invocations(ledger, day, day + 3600) == 2
    assert await invocations(ledger, day + 60, day + 86_460) == 3
    assert await invocations(ledger, day + 60, day + 120) == 0


async def test_rows_of_functions_of_one_name_stay_apart(ledger: UsageLedger) -> None:
    await ledger.add(batch(1, 1), after=0)
    await ledger.add(batch(2, 2, uid="v"), after=1)
    assert len(await ledger.read(NOW, NOW + 60)) == 2


async def test_rollups_go_when_their_time_is_over(redis_url: str) -> None:
    ledger = RedisUsageLedger(redis_url)
    await ledger.add(batch(1, 1), after=0)
    await ledger.close()
    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys("lambent:{usage}:*:[0-9]*")
        assert len(keys) == 3
        for key in keys:
            _, _, period, start = key.decode().split(":")
            kept = client.expiretime(key) - int(start)
            assert kept == {"minute": 8, "hour": 100, "day": 5 * 366}[period] * 86_400


async def test_what_a_newer_release_wrote_is_refused(redis_url: str) -> None:
    ledger = RedisUsageLedger(redis_url)
    await ledger.add(batch(1, 1), after=0)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"lambent:{{usage}}:minute:{NOW}", "v", "99")
    with pytest.raises(ServiceException, match="newer release"):
        await ledger.read(NOW, NOW + 60)
    await ledger.close()
