"""Looking up images: nothing waits for one that hangs, and those that hang do not pile up."""

import asyncio
import threading
import time

import pytest

from lambent.gateway.image_lookups import Lookups
from lambent.kernel.images.source import ImageError


async def test_what_is_found_is_told_and_what_is_not() -> None:
    lookups = Lookups(at_once=1)
    assert await lookups.find(lambda until: f"{0 < until - time.monotonic() <= 30}") == "True"

    def fails(_: float) -> str:
        raise ImageError("not there")

    for _ in range(2):
        with pytest.raises(ImageError, match="not there"):
            await lookups.find(fails)
    assert await lookups.find(lambda _: "again") == "again"


async def test_what_hangs_is_given_up_and_counts_until_it_has_ended() -> None:
    go, begun = threading.Event(), []

    def hangs(_: float) -> str:
        begun.append(threading.current_thread())
        assert go.wait(60)
        return "late"

    lookups = Lookups(seconds=0.1, at_once=2)
    loop = asyncio.get_running_loop()
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_later(0.005, turn)

    turn()
    found = await asyncio.gather(*(lookups.find(hangs) for _ in range(6)), return_exceptions=True)
    assert [str(each) for each in found] == ["it could not be looked up within 0.1 seconds"] * 6
    assert len(begun) == 2, "the others had no thread"
    assert turns > 3, "the loop went on"
    with pytest.raises(ImageError):
        await lookups.find(lambda _: "x")
    go.set()
    for thread in begun:
        await asyncio.to_thread(thread.join)
    assert await Lookups.find(lookups, lambda _: "free again") == "free again"


async def test_who_stops_waiting_takes_no_thread_away() -> None:
    go = threading.Event()
    lookups = Lookups(at_once=1)
    waiting = [asyncio.ensure_future(lookups.find(lambda _: str(go.wait(60)))) for _ in range(3)]
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    go.set()
    assert await lookups.find(lambda _: "x") == "x"
