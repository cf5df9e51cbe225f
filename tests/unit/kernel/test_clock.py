"""The test clock stands still, jumps, and wakes sleepers in the order of their times."""

import asyncio

from lambent.kernel.clock import SystemClock, TestClock


async def test_sleepers_wake_in_order_and_see_their_own_time() -> None:
    clock, woken = TestClock(now=1000.0), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic(), clock.now()))

    sleepers = [asyncio.ensure_future(sleep(seconds)) for seconds in (3, 1, 2, 9)]
    await clock.settle()
    await clock.advance(5)
    assert woken == [(1, 1.0, 1001.0), (2, 2.0, 1002.0), (3, 3.0, 1003.0)]
    assert (clock.monotonic(), clock.now()) == (5.0, 1005.0)
    await clock.advance(4)
    await asyncio.gather(*sleepers)


async def test_a_sleeper_that_sleeps_again_wakes_within_one_advance() -> None:
    clock, ticks = TestClock(), []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    ticking = asyncio.ensure_future(tick())
    await clock.settle()
    await clock.advance(10)
    await ticking
    assert ticks == [1, 2, 3]


async def test_a_cancelled_sleeper_does_no_harm() -> None:
    clock = TestClock()
    sleeper = asyncio.ensure_future(clock.sleep(1))
    await clock.settle()
    sleeper.cancel()
    await clock.advance(2)
    assert sleeper.cancelled()


async def test_the_system_clock_goes_on() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() >= before + 0.001
    assert clock.now() > 1_700_000_000
