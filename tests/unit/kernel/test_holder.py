"""holder.py: slots are spent without asking, asked for once for all who wait, and given back."""

import asyncio
from collections.abc import Mapping

import pytest
from samples import function

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import NotStarted, ServiceException, TooManyRequestsException
from lambent.kernel.holder import LeaseHolder
from lambent.kernel.leases import MOVED, STALE, Ask, Granted, Held, Refused, Renewed, Reply, shard_of
from lambent.kernel.ports import Lease
from lambent.kernel.tasks import Tasks

F = function("f")
SHARD = shard_of(F.uid, 16)
FULL = "ReservedFunctionConcurrentInvocationLimitExceeded"


def grant(slots: int = 1, added: int | None = None, *, lease: str = "l", executor: str = "x") -> Granted:
    return Granted(lease, 1, executor, "on-demand", slots, slots if added is None else added, 8.0)


class Link:
    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.replies: list[Reply] = []
        self.renewals: list[Mapping[int, Mapping[str, Held]]] = []
        self.answer: Renewed | None = Renewed({})
        self.slow: asyncio.Event | None = None

    async def ask(self, shard: int, ask: Ask) -> Reply:
        assert shard == SHARD
        self.asks.append(ask)
        if self.slow is not None:
            await self.slow.wait()
        return self.replies.pop(0)

    async def renew(self, holder: str, held: Mapping[int, Mapping[str, Held]]) -> Mapping[int, Renewed]:
        self.renewals.append(held)
        return {} if self.answer is None else {shard: self.answer for shard in held}


class World:
    def __init__(self, *replies: Reply) -> None:
        self.clock = TestClock()
        self.link = Link()
        self.link.replies += replies
        self.stale: list[str] = []
        self.freed: list[str] = []
        self.holder = LeaseHolder(
            "h",
            self.link,
            shards=16,
            clock=self.clock,
            tasks=Tasks("test"),
            stale=self.stale.append,
            freed=self.freed.append,
        )

    async def acquire(self) -> Lease:
        return await self.holder.acquire(F, F.to_run)


async def test_a_free_slot_is_used_again_without_asking() -> None:
    world = World((grant(),))
    for _ in range(5):
        world.holder.release(await world.acquire())
    assert len(world.link.asks) == 1


async def test_all_who_wait_are_asked_for_at_once() -> None:
    world = World((grant(3),))
    leases = await asyncio.gather(*(world.acquire() for _ in range(3)))
    assert [ask.want for ask in world.link.asks] == [3]
    assert world.holder.running == 3
    for lease in leases:
        world.holder.release(lease)
    assert (world.holder.running, world.holder.slots) == (0, 3)


async def test_who_waits_gets_the_slot_that_is_released() -> None:
    world = World((grant(),), Refused(FULL))
    first = await world.acquire()
    waiting = asyncio.ensure_future(world.acquire())
    await asyncio.sleep(0)
    world.holder.release(first)
    assert (await waiting).id == "l"


async def test_a_refusal_is_awss_and_stale_means_look_again() -> None:
    world = World(Refused(FULL), Refused(STALE))
    with pytest.raises(TooManyRequestsException) as throttled:
        await world.acquire()
    assert throttled.value.reason == FULL
    with pytest.raises(NotStarted) as stale:
        await world.acquire()
    assert stale.value.reason == "stale"


async def test_a_waiter_that_went_away_leaves_no_slot_in_use() -> None:
    world = World((grant(),))
    waiting = asyncio.ensure_future(world.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.holder.running == 0


async def test_a_lease_near_its_end_begins_nothing() -> None:
    world = World((grant(),), (grant(lease="m"),))
    world.holder.release(await world.acquire())
    await world.clock.advance(7.1)
    assert (await world.acquire()).id == "m"


async def test_idle_slots_are_given_back_at_the_second_renewal() -> None:
    world = World((grant(3),))
    lease, *rest = [await world.acquire()] + [await world.acquire() for _ in range(2)]
    for each in rest:
        world.holder.release(each)
    world.link.answer = Renewed({"l": (3, 8.0)})
    await world.holder.renew()
    await world.holder.renew()
    world.link.answer = Renewed({"l": (1, 8.0)})
    await world.holder.renew()
    assert [renewal[SHARD]["l"] for renewal in world.link.renewals] == [Held(1, 0), Held(1, 0), Held(1, 2)]
    assert world.holder.slots == 1
    world.holder.release(lease)


async def test_a_grant_that_a_renewal_has_counted_already_is_not_added_twice() -> None:
    world = World((grant(1),), (grant(2, 1),))
    await world.acquire()
    world.link.slow = asyncio.Event()
    waiting = asyncio.ensure_future(world.acquire())
    await asyncio.sleep(0)
    world.link.answer = Renewed({"l": (2, 8.0)})
    await world.holder.renew()
    assert await waiting
    world.link.slow.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.holder.slots == 2


async def test_a_lease_that_is_over_is_dropped_unless_a_new_owner_does_not_know_yet() -> None:
    world = World((grant(),), (grant(lease="m"),))
    world.holder.release(await world.acquire())
    world.link.answer = Renewed({}, wait=True)
    await world.holder.renew()
    assert world.holder.slots == 1
    world.link.answer = Renewed({})
    await world.holder.renew()
    assert world.holder.slots == 0
    assert (await world.acquire()).id == "m"


async def test_an_executor_that_cannot_be_reached_is_avoided_and_its_lease_given_back() -> None:
    world = World((grant(),), (grant(lease="m", executor="y"),), (grant(lease="n"),))
    world.holder.not_taken(await world.acquire(), "unreachable")
    assert (await world.acquire()).executor == "y"
    assert world.link.asks[1].avoid == ("x",)
    world.link.answer = Renewed({"m": (1, 8.0)})
    await world.holder.renew()
    assert world.link.renewals[0][SHARD]["l"] == Held(0, 1)
    await world.clock.advance(5.0)
    await world.acquire()
    assert world.link.asks[2].avoid == ()


async def test_a_full_lease_has_no_free_slots() -> None:
    world = World((grant(3),), (grant(lease="m"),))
    world.holder.not_taken(await world.acquire(), "full")
    assert (await world.acquire()).id == "m"


async def test_a_lease_on_an_executor_that_is_not_known_yet_is_kept_and_not_avoided() -> None:
    world = World((grant(),))
    lease = await world.acquire()
    world.holder.not_taken(lease, "unknown")
    assert (await world.acquire()).id == lease.id
    assert len(world.link.asks) == 1


async def test_a_stale_version_drops_what_is_cached_of_it() -> None:
    world = World(Refused("stale"))
    with pytest.raises(NotStarted) as raised:
        await world.acquire()
    assert (raised.value.reason, world.stale) == ("stale", ["f"])


async def test_whom_nobody_can_help_is_told_after_a_while() -> None:
    world = World(*[Refused(MOVED)] * 100)
    waiting = asyncio.ensure_future(world.acquire())
    for _ in range(60):
        await world.clock.advance(0.5)
    with pytest.raises(ServiceException, match="No scheduler answers"):
        await waiting
    assert len(world.link.asks) < 60


async def test_changes_and_freed_slots_are_passed_on_even_to_who_holds_nothing() -> None:
    world = World(Refused(FULL))
    with pytest.raises(TooManyRequestsException):
        await world.acquire()
    world.link.answer = Renewed({}, stale=("f",), freed=(F.uid,))
    await world.holder.renew()
    assert (world.stale, world.freed) == (["f"], [F.uid])
    await world.holder.renew()
    assert len(world.link.renewals) == 1, "nothing is held, and nothing is waited for"


async def test_a_gap_in_the_renewals_makes_all_that_is_cached_stale() -> None:
    world = World((grant(),))
    await world.acquire()
    world.link.answer = Renewed({"l": (1, 8.0)})
    await world.holder.renew()
    world.link.answer = None
    await world.clock.advance(2.0)
    await world.holder.renew()
    world.link.answer = Renewed({"l": (1, 8.0)})
    await world.clock.advance(2.0)
    await world.holder.renew()
    assert world.stale == ["*"]
