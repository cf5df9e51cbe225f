"""Which shards this scheduler owns, because leases of one shard must be granted by one process at a time, and
by another one soon after that has died.

`wanted` decides; `ShardKeeper` does it, each half second, over `ports.ShardLocks`. A lock is believed in by
this process's own clock, from before its renewal was sent and for a second less than it stands, so that a
process that was paused knows that it has lost before it does anything else.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import ShardOwner
from lambent.kernel.ports import Clock, Members, ShardLocks
from lambent.kernel.store.connection import shard_of
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

EVERY_SECONDS = 0.5
TTL_SECONDS = 4.0
VALID_SECONDS = TTL_SECONDS - 1.0
_SILENT_SECONDS = 3.0  # a scheduler's share goes to the others before its locks end
_STRANDED_SECONDS = 2.0  # a shard that nobody took for so long is taken beyond one's share
_ALONE_SECONDS = 30.0  # and is not given away at once again to the same ones who did not take it
_HAND_OVER_SECONDS = 10.0


class Decision(NamedTuple):
    """Shards to claim now, in this order, and those to give away (one at most)."""

    claim: tuple[int, ...]
    release: tuple[int, ...]


def wanted(shards: int, me: str, schedulers: Sequence[str], owners: Mapping[int, ShardOwner]) -> Decision:
    """What `me` does of the shards 0 to `shards` - 1. `schedulers`: ids of those that live, `me` or not.

    Shares differ by one at most and add up to all shards; who holds most has the larger ones, so that little
    moves. One is given away only while none is free: whoever is to have it has taken the last one then.
    """
    live = sorted({*schedulers, me})
    holding = Counter(owner.owner for shard, owner in owners.items() if shard < shards)
    base, larger = divmod(shards, len(live))
    ranked = sorted(live, key=lambda id: (-holding[id], id))
    room = {id: base + (rank < larger) - holding[id] for rank, id in enumerate(ranked)}
    free = [shard for shard in range(shards) if shard not in owners]
    if room[me] < 0:
        mine = [shard for shard, owner in owners.items() if owner.owner == me and shard < shards]
        return Decision((), () if free else (max(mine),))
    return Decision(_in_order(free, me, dict(room))[: room[me]], ())


def _in_order(free: Sequence[int], me: str, room: dict[str, int]) -> tuple[int, ...]:
    """First those that the others will leave to `me`, if they see what it sees: claims seldom collide then."""
    mine: list[int] = []
    others: list[int] = []
    for shard in free:
        taker = min(room, key=lambda id: (-room[id], id))
        room[taker] -= 1
        (mine if taker == me else others).append(shard)
    return (*mine, *others)


@dataclass(slots=True)
class _Held:
    epoch: int
    until: float


class ShardKeeper:
    """Holds this scheduler's shards. `me`: its member id, of this process alone; `address`: where it answers.

    `on_claimed(shard, epoch)`: it is ours from now; `on_lost(shard)`: it is not any more; `on_release(shard)`
    is awaited before a shard is given away, which is ours until then; `on_lost` follows if it raises or takes
    more than 10 s. The first two must not raise: a loop of the keeper would end, which `on_death` hears.
    """

    def __init__(
        self,
        me: str,
        address: str,
        *,
        shards: int,
        locks: ShardLocks,
        members: Members,
        clock: Clock,
        on_claimed: Callable[[int, int], None],
        on_lost: Callable[[int], None],
        on_release: Callable[[int], Awaitable[None]],
        on_death: Callable[[str, BaseException | None], None] | None = None,
    ) -> None:
        self._me, self._address, self._shards = me, address, shards
        self._locks, self._members, self._clock = locks, members, clock
        self._on_claimed, self._on_lost, self._on_release = on_claimed, on_lost, on_release
        self._tasks = Tasks("shard keeper", on_death=on_death)
        self._held: dict[int, _Held] = {}
        self._giving: dict[int, asyncio.Task[None]] = {}
        self._free_since: dict[int, float] = {}
        self._alone_until = float("-inf")

    # What the rest of the scheduler asks

    def held_until(self, shard: int) -> float:
        """The time of `Clock.monotonic` until which the shard is surely ours; -inf: it is not."""
        held = self._held.get(shard)
        return float("-inf") if held is None else held.until

    def epoch(self, shard: int) -> int | None:
        """That of our tenure; None: the shard is not ours now, whether or not `on_lost` has said so yet."""
        held = self._held.get(shard)
        return held.epoch if held is not None and self._clock.monotonic() < held.until else None

    def epoch_of(self, uid: str) -> int | None:
        """`epoch` of the shard that a function's leases are in."""
        return self.epoch(shard_of(uid, self._shards))

    def held(self) -> Mapping[int, int]:
        """{shard: epoch} of all that are ours now."""
        epochs = {shard: self.epoch(shard) for shard in self._held}
        return {shard: epoch for shard, epoch in epochs.items() if epoch is not None}

    # Its life

    def start(self) -> None:
        """Needs a running loop. A renewal never waits for a listing, nor the end of a lock for a renewal."""
        for name, step in (("watch", self._watch), ("renew", self._renew), ("balance", self._balance)):
            self._tasks.forever(name, self._repeat(step))

    async def close(self) -> None:
        """Gives everything away at once: each shard as `on_release` is done with it, in 3 s at most."""
        for shard in self._held.keys() - self._giving.keys():
            self._give(shard)
        await self._tasks.drain(VALID_SECONDS)
        for shard in list(self._held):
            self._lose(shard, "The scheduler ends.")
        try:
            # Also what a claim took whose answer was not waited for.
            await self._release_unknown(await self._locks.owners())
        except LambdaError as failure:
            _log.warning("Shards are free only when their locks end.", why=failure.message)

    async def _repeat(self, step: Callable[[], Awaitable[float]]) -> None:
        answered = True
        while True:
            self._expire()
            pause = EVERY_SECONDS
            try:
                pause = await step()
                answered = True
            except LambdaError as failure:
                if answered:
                    _log.warning("Shards cannot be renewed or taken for now.", why=failure.message)
                answered = False
            await self._clock.sleep(pause)

    # What ends by itself

    async def _watch(self) -> float:
        ends = min((held.until for held in self._held.values()), default=float("inf"))
        return min(EVERY_SECONDS, max(0.0, ends - self._clock.monotonic()))

    def _expire(self) -> None:
        now = self._clock.monotonic()
        for shard in [shard for shard, held in self._held.items() if held.until <= now]:
            self._lose(shard, "Not renewed in time.")

    def _lose(self, shard: int, why: str) -> None:
        held = self._held.pop(shard)
        giving = self._giving.get(shard)
        if giving is not None and giving is not asyncio.current_task():
            giving.cancel()
        _log.warning("A shard is lost.", shard=shard, epoch=held.epoch, why=why)
        self._on_lost(shard)

    # What is renewed

    async def _renew(self) -> float:
        before = self._clock.monotonic()
        asked = dict(self._held)
        if not asked:
            return EVERY_SECONDS
        epochs = {shard: held.epoch for shard, held in asked.items()}
        kept = await self._locks.renew(self._me, epochs, TTL_SECONDS)
        self._expire()
        for shard, held in asked.items():
            if self._held.get(shard) is not held:
                continue
            if shard in kept:
                held.until = max(held.until, before + VALID_SECONDS)
            else:
                self._lose(shard, "Its lock is another one's, or had ended.")
        return EVERY_SECONDS

    # What is taken and given

    async def _balance(self) -> float:
        schedulers = [
            member.id
            for member in await self._members.list("scheduler")
            if member.live and member.age <= _SILENT_SECONDS
        ]
        owners = await self._release_unknown(await self._locks.owners())
        self._expire()
        if self._stranded(owners):
            schedulers = []
        decision = wanted(self._shards, self._me, schedulers, owners)
        end = self._clock.monotonic() + EVERY_SECONDS
        for shard in decision.claim:
            # What a slow server leaves for later is decided on what is so by then.
            if shard not in self._giving and self._clock.monotonic() < end:
                await self._claim(shard)
        for shard in decision.release:
            if shard in self._held and not self._giving:
                self._give(shard)
        return EVERY_SECONDS

    async def _release_unknown(self, owners: Mapping[int, ShardOwner]) -> Mapping[int, ShardOwner]:
        """Frees what is ours there and not here: lost by our clock before the lock's end, or claimed by a call
        whose answer never came. The rest."""
        known = dict(owners)
        for shard, owner in owners.items():
            held = self._held.get(shard)
            if owner.owner != self._me or shard in self._giving:
                continue
            if held is None or held.epoch != owner.epoch:
                await self._locks.release(shard, self._me, owner.epoch)
                del known[shard]
        return known

    def _stranded(self, owners: Mapping[int, ShardOwner]) -> bool:
        """Whether others who say that they live are not to be counted on: they take no shards."""
        now = self._clock.monotonic()
        free = [shard for shard in range(self._shards) if shard not in owners]
        self._free_since = {shard: self._free_since.get(shard, now) for shard in free}
        if any(now - since >= _STRANDED_SECONDS for since in self._free_since.values()):
            if now >= self._alone_until:
                _log.warning("Shards that another scheduler should own are taken.", shards=len(free))
            self._alone_until = now + _ALONE_SECONDS
        return now < self._alone_until

    async def _claim(self, shard: int) -> None:
        before = self._clock.monotonic()
        epoch = await self._locks.claim(shard, self._me, self._address, TTL_SECONDS)
        self._expire()
        if epoch is None or self._clock.monotonic() >= before + VALID_SECONDS:
            return  # the next look at the owners frees what came too late
        self._held[shard] = _Held(epoch, before + VALID_SECONDS)
        _log.info("A shard is ours.", shard=shard, epoch=epoch)
        self._on_claimed(shard, epoch)

    def _give(self, shard: int) -> None:
        task = self._tasks.once(f"give shard {shard}", self._hand_over(shard, self._held[shard]))
        self._giving[shard] = task
        task.add_done_callback(lambda _: self._giving.pop(shard, None))

    async def _hand_over(self, shard: int, held: _Held) -> None:
        try:
            async with asyncio.timeout(_HAND_OVER_SECONDS):
                await self._on_release(shard)
        except Exception as failure:
            _log.error("A shard was not handed over well.", shard=shard, why=repr(failure), exc_info=failure)
            if self._held.get(shard) is held:
                self._lose(shard, "What it needed before it goes has failed.")
        self._expire()
        # Not ours any more before it can be another's.
        if self._held.get(shard) is held:
            del self._held[shard]
        try:
            await self._locks.release(shard, self._me, held.epoch)
        except LambdaError as failure:
            _log.warning("A shard is free only when its lock ends.", shard=shard, why=failure.message)
        else:
            _log.info("A shard is given away.", shard=shard, epoch=held.epoch)
