"""Who should own which shard, and the keeper that owns them, on a clock that jumps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Member, ShardOwner
from lambent.kernel.store.connection import shard_of
from lambent.kernel.store.memory_cluster import MemoryMembers, MemoryShardLocks
from lambent.scheduler.shards import TTL_SECONDS, VALID_SECONDS, Decision, ShardKeeper, wanted

SHARDS = 16
STEP = 0.125
TAKEOVER = 5.0
NEVER = float("-inf")


def owned(**shards: Sequence[int]) -> dict[int, ShardOwner]:
    return {shard: ShardOwner(id, "", 1) for id, held in shards.items() for shard in held}


# The decision


def test_alone_one_takes_all_that_is_free() -> None:
    decision = wanted(SHARDS, "a", [], {})
    assert sorted(decision.claim) == list(range(SHARDS)) and decision.release == ()
    decision = wanted(SHARDS, "a", ["a"], owned(a=range(4), dead=range(4, 8)))
    assert sorted(decision.claim) == list(range(8, SHARDS))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 20])
def test_what_all_claim_of_free_shards_is_each_shard_once_in_fair_shares(count: int) -> None:
    everyone = [f"s{i}" for i in range(count)]
    claims = [wanted(SHARDS, id, everyone, {}).claim for id in everyone]
    assert sorted(shard for claim in claims for shard in claim) == list(range(SHARDS))
    sizes = {len(claim) for claim in claims}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_fair_shares_stay_whoever_has_the_larger_ones(count: int) -> None:
    everyone = [f"s{i}" for i in range(count)]
    # The last ones have one more, if any has.
    owners = {shard: ShardOwner(everyone[-1 - shard % count], "", 1) for shard in range(SHARDS)}
    assert [wanted(SHARDS, id, everyone, owners) for id in everyone] == [Decision((), ())] * count


def test_one_is_given_away_at_a_time_and_none_while_one_is_free() -> None:
    everyone = ["a", "b"]
    assert wanted(SHARDS, "a", everyone, owned(a=range(16))) == Decision((), (15,))
    assert wanted(SHARDS, "a", everyone, owned(a=range(15))) == Decision((), ())
    assert wanted(SHARDS, "b", everyone, owned(a=range(15))) == Decision((15,), ())
    assert wanted(SHARDS, "a", everyone, owned(a=range(8), b=range(8, 16))) == Decision((), ())


def test_no_more_than_the_share_is_claimed() -> None:
    decision = wanted(SHARDS, "a", ["a", "b"], owned(a=range(6), dead=range(12, 16)))
    assert len(decision.claim) == 2 and not decision.release


def test_locks_of_shards_that_are_not_there_are_no_matter() -> None:
    assert wanted(2, "a", ["a", "b"], owned(a=(0, 7, 8), b=(1,))) == Decision((), ())


# The keeper


class Locks(MemoryShardLocks):
    """One keeper's way to the locks: it breaks when told, and can hold answers back."""

    def __init__(self, server: MemoryShardLocks) -> None:
        self._server = server
        self.down = False
        self.held_back: asyncio.Event | None = None

    def _check(self) -> None:
        if self.down:
            raise ServiceException("down")

    async def claim(self, shard: int, owner: str, address: str, ttl: float) -> int | None:
        self._check()
        epoch = await self._server.claim(shard, owner, address, ttl)
        if self.held_back:
            await self.held_back.wait()
        return epoch

    async def renew(self, owner: str, held: Mapping[int, int], ttl: float) -> frozenset[int]:
        self._check()
        kept = await self._server.renew(owner, held, ttl)
        if self.held_back:
            await self.held_back.wait()
        return kept

    async def release(self, shard: int, owner: str, epoch: int) -> None:
        self._check()
        await self._server.release(shard, owner, epoch)

    async def owners(self) -> Mapping[int, ShardOwner]:
        self._check()
        return await self._server.owners()


class Clock(TestClock):
    """One process's: its sleepers do not wake while it is paused, and time goes on."""

    def __init__(self, world: TestClock) -> None:
        self._world = world
        self._going = asyncio.Event()
        self._going.set()

    def now(self) -> float:
        return self._world.now()

    def monotonic(self) -> float:
        return self._world.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._world.sleep(seconds)
        await self._going.wait()

    def pause(self) -> None:
        self._going.clear()

    def resume(self) -> None:
        self._going.set()


class Scheduler:
    """A keeper with its own way to the server, and what it was told."""

    def __init__(self, id: str, world: "World") -> None:
        self.id, self.world = id, world
        self.locks, self.clock = Locks(world.locks), Clock(world.clock)
        self.registers = True
        self.told: list[tuple[str, int]] = []
        self.releasing: asyncio.Event | None = None
        self.failing = False
        self.keeper = ShardKeeper(
            *(id, f"{id}:1"),
            shards=SHARDS,
            locks=self.locks,
            members=world.members,
            clock=self.clock,
            on_claimed=self._claimed,
            on_lost=lambda shard: self.told.append(("lost", shard)),
            on_release=self._release,
        )

    def _claimed(self, shard: int, epoch: int) -> None:
        assert self.keeper.epoch(shard) == epoch
        self.told.append(("claimed", shard))

    async def _release(self, shard: int) -> None:
        self.told.append(("release", shard))
        if self.failing:
            raise ValueError("cannot")
        if self.releasing:
            try:
                await self.releasing.wait()
            except asyncio.CancelledError:
                self.told.append(("cut off", shard))
                raise

    def held(self) -> list[int]:
        return sorted(self.keeper.held())


class World:
    """Schedulers over one server. Whatever happens, no shard has two owners."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.locks, self.members = MemoryShardLocks(self.clock), MemoryMembers(self.clock)
        self.schedulers: dict[str, Scheduler] = {}
        self.longest_unowned = 0.0
        self._unowned: Counter[int] = Counter()

    async def join(self, *ids: str) -> list[Scheduler]:
        """Whose registrations are there from the start."""
        made = [Scheduler(id, self) for id in ids]
        self.schedulers |= {each.id: each for each in made}
        await self._register()
        for each in made:
            each.keeper.start()
        await self.clock.settle()
        return made

    async def leave(self, id: str) -> None:
        gone = self.schedulers.pop(id)
        await self.members.remove(id)
        await gone.keeper.close()

    async def _register(self) -> None:
        for each in self.schedulers.values():
            if each.registers:
                await self.members.register(Member(each.id, "scheduler"), 5)

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            await self._register()
            await self.clock.advance(STEP)
            self._look()

    def _look(self) -> None:
        owners = Counter(shard for each in self.schedulers.values() for shard in each.held())
        assert max(owners.values(), default=0) <= 1, "two owners of one shard"
        for shard in range(SHARDS):
            self._unowned[shard] = 0 if shard in owners else self._unowned[shard] + 1
        self.longest_unowned = max(self.longest_unowned, STEP * max(self._unowned.values()))

    def sizes(self) -> list[int]:
        return [len(each.held()) for each in self.schedulers.values()]

    def covered(self) -> bool:
        return sum(self.sizes()) == SHARDS


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    for each in made.schedulers.values():
        each.locks.down = False
        each.locks.held_back = each.releasing = None
        await each.keeper.close()
        assert not each.held()
    left = {owner.owner for owner in (await made.locks.owners()).values()}
    assert not left & made.schedulers.keys()


async def test_one_alone_holds_all_at_once_and_keeps_them(world: World) -> None:
    [a] = await world.join("a")
    assert a.held() == list(range(SHARDS))
    epochs = dict(a.keeper.held())
    await world.run(20)
    assert dict(a.keeper.held()) == epochs
    assert Counter(what for what, _ in a.told) == {"claimed": SHARDS}
    uid = "some-function"
    assert a.keeper.epoch_of(uid) == epochs[shard_of(uid, SHARDS)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
async def test_schedulers_that_start_at_once_have_fair_shares(world: World, count: int) -> None:
    await world.join(*(f"s{i}" for i in range(count)))
    await world.run(1)
    assert world.covered()
    assert max(world.sizes()) - min(world.sizes()) <= 1
    assert {what for each in world.schedulers.values() for what, _ in each.told} == {"claimed"}


async def test_validity_is_counted_from_before_the_renewal_was_sent(world: World) -> None:
    [a] = await world.join("a")
    assert a.keeper.held_until(0) == world.clock.monotonic() + VALID_SECONDS
    a.locks.held_back = asyncio.Event()
    await world.run(1)
    sent = 0.5
    a.locks.held_back.set()
    a.locks.held_back = None
    await world.clock.settle()
    assert a.keeper.held_until(0) == sent + VALID_SECONDS
    assert a.keeper.held_until(SHARDS) == NEVER


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_one_that_joins_gets_its_share_with_the_least_movement(world: World, count: int) -> None:
    before = await world.join(*(f"s{i}" for i in range(count)))
    await world.run(2)
    [new] = await world.join("new")
    world.longest_unowned = 0.0
    await world.run(SHARDS)
    assert world.covered() and max(world.sizes()) - min(world.sizes()) <= 1
    moved = [shard for each in before for what, shard in each.told if what == "release"]
    assert sorted(moved) == new.held(), "each shard that moved is the new one's now"
    assert world.longest_unowned <= 1.0
    assert not [shard for each in before for what, shard in each.told if what == "lost"]


async def test_one_that_leaves_frees_all_at_once_and_the_others_share_it(world: World) -> None:
    leaving, *others = await world.join("a", "b", "c")
    await world.run(2)
    held = leaving.held()
    await world.leave("a")
    assert [shard for what, shard in leaving.told if what == "release"] == held
    assert not set(held) & (await world.locks.owners()).keys()
    await world.run(1)
    assert world.covered() and world.sizes() == [8, 8]
    assert not [shard for each in others for what, shard in each.told if what == "release"]


async def test_a_crash_is_taken_over_within_the_bound(world: World) -> None:
    crashed, *_ = await world.join("a", "b", "c")
    await world.run(2.375)
    crashed.locks.down, crashed.registers = True, False
    world.longest_unowned = 0.0
    lost = crashed.held()
    await world.run(VALID_SECONDS)
    assert crashed.told[-len(lost) :] == [("lost", shard) for shard in lost]
    await world.run(TAKEOVER - VALID_SECONDS)
    assert world.covered() and sorted(world.sizes()) == [0, 8, 8]
    # Until its locks could end it did not own them any more; after that the others did.
    assert world.longest_unowned <= TAKEOVER - VALID_SECONDS


async def test_a_paused_owner_says_lost_before_anything_else(world: World) -> None:
    paused, _ = await world.join("a", "b")
    await world.run(2)
    held, said = paused.held(), len(paused.told)
    paused.clock.pause()
    paused.registers = False
    await world.run(10)
    assert paused.told[said:] == [] and paused.held() == [], "it does not run, and yet owns nothing"
    assert world.sizes() == [0, SHARDS]
    paused.clock.resume()
    await world.clock.settle()
    assert sorted(paused.told[said:]) == [("lost", shard) for shard in held]
    paused.registers = True
    await world.run(10)
    assert world.sizes() == [8, 8]


async def test_an_answer_that_comes_after_a_pause_takes_nothing_back(world: World) -> None:
    [a] = await world.join("a")
    await world.run(1)
    a.locks.held_back = answer = asyncio.Event()
    await world.run(0.5)
    a.clock.pause()  # the renewal is done at the server, and its answer waits here
    await world.run(VALID_SECONDS)
    said = len(a.told)
    a.locks.held_back = None
    answer.set()
    await world.clock.settle()
    assert a.told[said:] == [("lost", shard) for shard in range(SHARDS)] and a.held() == []
    a.clock.resume()
    await world.run(1)
    assert a.held() == list(range(SHARDS)), "its own locks of before are in its way no longer"


async def test_a_claim_whose_answer_comes_too_late_is_not_ours(world: World) -> None:
    gate = asyncio.Event()
    world.schedulers["a"] = late = Scheduler("a", world)
    late.locks.held_back = gate
    late.keeper.start()
    await world.clock.settle()
    await world.run(VALID_SECONDS)
    late.locks.held_back = None
    gate.set()
    await world.clock.settle()
    assert 0 not in late.held()
    await world.run(1)
    assert late.held() == list(range(SHARDS))
    assert [shard for what, shard in late.told if what == "claimed"].count(0) == 1


async def test_a_short_outage_changes_nothing(world: World) -> None:
    both = await world.join("a", "b")
    await world.run(2)
    epochs, told = [dict(each.keeper.held()) for each in both], [list(each.told) for each in both]
    for each in both:
        each.locks.down = True
    await world.run(VALID_SECONDS - 0.625)
    for each in both:
        each.locks.down = False
    await world.run(10)
    assert [dict(each.keeper.held()) for each in both] == epochs
    assert [each.told for each in both] == told


async def test_a_longer_outage_loses_all_and_later_epochs_are_greater(world: World) -> None:
    both = await world.join("a", "b")
    await world.run(2)
    before = {shard: epoch for each in both for shard, epoch in each.keeper.held().items()}
    for each in both:
        each.locks.down = True
    await world.run(VALID_SECONDS + 0.5)
    assert world.sizes() == [0, 0]
    assert sorted(shard for each in both for what, shard in each.told if what == "lost") == list(range(SHARDS))
    for each in both:
        each.locks.down = False
    await world.run(2)
    after = {shard: epoch for each in both for shard, epoch in each.keeper.held().items()}
    assert world.sizes() == [8, 8]
    assert all(after[shard] > before[shard] for shard in range(SHARDS))


async def test_a_lock_that_is_gone_at_the_server_is_lost_at_the_next_renewal(world: World) -> None:
    [a] = await world.join("a")
    await world.locks.release(3, "a", a.keeper.held()[3])
    stolen = await world.locks.claim(3, "thief", "", TTL_SECONDS)
    await world.clock.advance(0.5)
    assert a.told[-1] == ("lost", 3)
    assert (await world.locks.owners())[3].epoch == stolen


async def test_two_that_fight_never_own_the_same(world: World) -> None:
    both = await world.join("a", "b")
    for i in range(24):
        down = both[i % 2]
        down.locks.down = i % 3 == 0
        down.registers = i % 5 != 0
        both[(i + 1) % 2].locks.down = False
        await world.run(0.875)
    for each in both:
        each.locks.down, each.registers = False, True
    await world.run(40)
    assert world.sizes() == [8, 8]


async def test_a_shard_is_renewed_while_it_is_handed_over(world: World) -> None:
    [a] = await world.join("a")
    a.releasing = asyncio.Event()
    await world.join("b")
    await world.run(VALID_SECONDS * 2)
    assert world.sizes() == [SHARDS, 0]
    assert [shard for what, shard in a.told if what == "release"] == [SHARDS - 1], "one at a time"
    a.releasing.set()
    await world.run(SHARDS)
    assert world.sizes() == [8, 8]


async def test_a_hand_over_ends_when_its_shard_is_lost(world: World) -> None:
    [a] = await world.join("a")
    a.releasing = asyncio.Event()
    await world.join("b")
    await world.run(1)
    a.locks.down = True
    await world.run(TAKEOVER)
    assert a.told.count(("lost", SHARDS - 1)) == 1 and a.held() == []
    assert a.told.count(("cut off", SHARDS - 1)) == 1
    a.locks.down = False
    await world.run(SHARDS)
    assert world.covered()


async def test_a_hand_over_that_fails_gives_the_shard_away_all_the_same(world: World) -> None:
    [a] = await world.join("a")
    a.failing = True
    [b] = await world.join("b")
    await world.run(SHARDS)
    assert world.sizes() == [8, 8]
    assert [shard for what, shard in a.told if what == "lost"] == sorted(b.held(), reverse=True)


async def test_a_scheduler_that_registers_and_takes_nothing_does_not_keep_shards_unowned(world: World) -> None:
    [a, idle] = [Scheduler(id, world) for id in ("a", "idle")]
    world.schedulers |= {"a": a, "idle": idle}
    await world.run(STEP)
    a.keeper.start()
    await world.run(TAKEOVER)
    assert world.sizes() == [SHARDS, 0]
    released = [each for each in a.told if each[0] == "release"]
    await world.run(20)
    assert [each for each in a.told if each[0] == "release"] == released, "not to the same one again at once"
    idle.keeper.start()
    await world.run(40)
    assert world.sizes() == [8, 8]


async def test_closing_frees_what_a_claim_took_whose_answer_never_came(world: World) -> None:
    world.schedulers["a"] = late = Scheduler("a", world)
    late.locks.held_back = asyncio.Event()
    late.keeper.start()
    await world.clock.settle()
    assert list(await world.locks.owners()) == [0]
    late.locks.held_back = None
    await late.keeper.close()
    assert await world.locks.owners() == {}
