"""The slots that a process holds and spends: a gateway, or the reader of lanes. While it has free ones nobody
is asked, neither a scheduler nor Redis; when it has none it asks the owner of the function's shard, once for
all who wait.

Rules: docs/leases.md. It runs on the event loop only.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lambent.kernel.errors import LambdaError, NotStarted, ServiceException, TooManyRequestsException
from lambent.kernel.leases import (
    BEAT_SECONDS,
    LEASE_MARGIN,
    MOVED,
    NO_EXECUTOR,
    STALE,
    Ask,
    Granted,
    Held,
    Refused,
    Renewed,
    Reply,
    shard_of,
)
from lambent.kernel.log import Log
from lambent.kernel.models import Function, FunctionVersion, VersionKey
from lambent.kernel.ports import Clock, Lease
from lambent.kernel.tasks import Tasks

ON_DEMAND = "on-demand"
# So long a request waits for slots while nobody can say yes or no: longer than a takeover takes.
WAIT_SECONDS = 20.0
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5)
_MOST_AT_ONCE = 1000
# A cache may be behind after an owner was not heard for so long.
_BEHIND_SECONDS = 3.0
# An executor that could not be reached from here is not asked for again for so long.
_AVOID_SECONDS = 5.0
_MOST_AVOIDED = 64
# An answer that took so long was waited for at the other end already.
_WAITED_SECONDS = 1.0
_log = Log(__name__)


class OwnerLink(Protocol):
    """The way to the owners of shards. Raises LambdaError: the owner cannot be reached, or is not known."""

    async def ask(self, shard: int, ask: Ask) -> Reply: ...

    async def renew(self, holder: str, held: Mapping[int, Mapping[str, Held]]) -> Mapping[int, Renewed]:
        """By shard; one that is missing in the answer was not reached."""


@dataclass(slots=True, eq=False)
class _Held:
    """A lease that is held. `peak` and `before`: the most that ran at once since the last renewal, and between
    that and the one before; `grants`: how often slots were added."""

    id: str
    pool: "_Pool"
    shard: int
    epoch: int
    executor: str
    bucket: str
    until: float
    slots: int = 0
    running: int = 0
    peak: int = 0
    before: int = 0
    grants: int = 0
    listed: bool = False
    dropped: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    slot: "asyncio.Future[Lease]"
    since: float


@dataclass(slots=True, eq=False)
class _Pool:
    """Slots of one version and bucket. `free`: leases with a free slot, the last used last."""

    key: VersionKey
    bucket: str
    shard: int
    free: list[_Held] = field(default_factory=list)
    leases: dict[str, _Held] = field(default_factory=dict)
    waiting: deque[_Waiter] = field(default_factory=deque)
    asking: bool = False


class LeaseHolder:
    """`name` is the holder's, unique in the cluster. `stale(name)`: a function has changed, or with "*" any may
    have; `freed(uid)`: slots of a function that was refused may be asked for again."""

    def __init__(
        self,
        name: str,
        link: OwnerLink,
        *,
        shards: int,
        clock: Clock,
        tasks: Tasks,
        stale: Callable[[str], None] = lambda name: None,
        freed: Callable[[str], None] | None = None,
        throttled: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self.name = name
        self._link = link
        self._shards = shards
        self._clock = clock
        self._tasks = tasks
        self._stale = stale
        self._freed = freed
        self._throttled = throttled
        self._pools: dict[tuple[VersionKey, str], _Pool] = {}
        self._held: dict[str, _Held] = {}
        self._answered: dict[int, float] = {}
        self._unreachable: dict[str, float] = {}  # executors, and when they were found to be
        self._given_up: dict[int, dict[str, Held]] = {}  # by shard: leases that are to be given back
        self._refused: dict[int, dict[str, None]] = {}  # by shard: uids that wait to hear of free slots

    # ---- slots ----------------------------------------------------------------------------------------

    async def acquire(self, function: Function, target: FunctionVersion, bucket: str = ON_DEMAND) -> Lease:
        """A slot. Raises TooManyRequestsException with AWS's Reason, NotStarted ("stale": resolve the version
        anew), ServiceException when no owner or executor was found in time."""
        now = self._clock.monotonic()
        pool = self._pools.get((target.key, bucket))
        if pool is not None and pool.free and not pool.waiting:
            held = self._take(pool, now)
            if held is not None:
                return _slot(held)
        if pool is None:
            pool = _Pool(target.key, bucket, shard_of(target.uid, self._shards))
            self._pools[target.key, bucket] = pool
        waiter = _Waiter(asyncio.get_running_loop().create_future(), now)
        pool.waiting.append(waiter)
        if not pool.asking:
            pool.asking = True
            self._tasks.once("ask for slots", self._ask(pool, target))
        try:
            return await waiter.slot
        except asyncio.CancelledError:
            if waiter.slot.done() and not waiter.slot.cancelled() and waiter.slot.exception() is None:
                self.release(waiter.slot.result())
            raise

    def _take(self, pool: _Pool, now: float) -> _Held | None:
        """A lease of the pool with one more running, or None."""
        while pool.free:
            held = pool.free[-1]
            if held.dropped or held.running >= held.slots or held.until - LEASE_MARGIN <= now:
                pool.free.pop()
                held.listed = False
                continue
            held.running += 1
            if held.running > held.peak:
                held.peak = held.running
            return held
        return None

    def release(self, lease: Lease) -> None:
        """The run's report is there: the slot is free."""
        held = self._held.get(lease.id)
        if held is None:
            return
        held.running -= 1
        self._offer(held)

    def not_taken(self, lease: Lease, reason: str) -> None:
        """The executor refused an invocation under the lease, for a reason of NotStarted: what is held of it is
        not what was thought. In the place of `release`. For 5 s no slots on an executor that was "unreachable"
        are asked for, so that trying again leads elsewhere or waits."""
        if reason == "unreachable":
            self._unreachable[lease.executor] = self._clock.monotonic()
        held = self._held.get(lease.id)
        if held is None:
            return
        held.running -= 1
        if reason == "full":
            held.slots = min(held.slots, held.running)
        elif reason == "unknown":
            self._offer(held)  # its executor is new, and where it is will be known in a moment
        elif not held.dropped or held.running <= 0:
            if not held.dropped:
                self._given_up.setdefault(held.shard, {})[held.id] = Held(held.running, held.slots)
            self._drop(held)
            self._forget_if_empty(held.pool)

    def _avoided(self, now: float) -> tuple[str, ...]:
        for executor, since in list(self._unreachable.items()):
            if now - since >= _AVOID_SECONDS:
                del self._unreachable[executor]
        return tuple(self._unreachable)[-_MOST_AVOIDED:]

    def _offer(self, held: _Held) -> None:
        """Its free slots to those who wait, else it is listed."""
        if held.dropped:
            if held.running <= 0:
                self._held.pop(held.id, None)
            return
        if held.running < held.slots and not held.listed:
            held.listed = True
            held.pool.free.append(held)
        if held.pool.waiting:
            self._hand_out(held.pool)

    def _hand_out(self, pool: _Pool) -> None:
        now = self._clock.monotonic()
        while pool.waiting:
            if pool.waiting[0].slot.done():
                pool.waiting.popleft()
                continue
            held = self._take(pool, now)
            if held is None:
                return
            pool.waiting.popleft().slot.set_result(_slot(held))

    def _drop(self, held: _Held) -> None:
        held.dropped = True
        held.pool.leases.pop(held.id, None)
        if held.listed:
            held.listed = False
            held.pool.free.remove(held)
        if held.running <= 0:
            self._held.pop(held.id, None)

    # ---- asking ---------------------------------------------------------------------------------------

    async def _ask(self, pool: _Pool, target: FunctionVersion) -> None:
        tries = 0
        try:
            while self._trim(pool):
                sent = self._clock.monotonic()
                want = min(len(pool.waiting), _MOST_AT_ONCE)
                asked = list(pool.waiting)[:want]
                ask = Ask(
                    self.name,
                    target.name,
                    pool.key,
                    pool.bucket,
                    target.memory_size,
                    target.archive.digest,
                    want,
                    self._avoided(sent),
                )
                try:
                    reply = await self._link.ask(pool.shard, ask)
                except LambdaError as failure:
                    _log.info("The owner of a shard does not answer.", shard=pool.shard, why=failure.message)
                    reply = Refused(MOVED)
                if not isinstance(reply, Refused):
                    tries = 0
                    self._add(pool, reply, sent)
                    self._hand_out(pool)
                elif reply.reason in (MOVED, NO_EXECUTOR):
                    waited = self._clock.monotonic() - sent >= _WAITED_SECONDS
                    await self._clock.sleep(_RETRY_SECONDS[0 if waited else min(tries, 3)])
                    tries += 1
                    self._give_up(pool, reply.reason)
                else:
                    self._refuse(pool, target.name, asked, reply.reason)
        finally:
            pool.asking = False
            for waiter in pool.waiting:  # only after a defect, or at the stop
                if not waiter.slot.done():
                    waiter.slot.set_exception(ServiceException("The server is stopping. Try again."))
            pool.waiting.clear()
            self._forget_if_empty(pool)

    @staticmethod
    def _trim(pool: _Pool) -> bool:
        """Drops those who went away; whether anybody waits."""
        while pool.waiting and pool.waiting[0].slot.done():
            pool.waiting.popleft()
        return bool(pool.waiting)

    def _give_up(self, pool: _Pool, reason: str) -> None:
        before = self._clock.monotonic() - WAIT_SECONDS
        while pool.waiting and pool.waiting[0].since <= before:
            waiter = pool.waiting.popleft()
            if not waiter.slot.done():
                waiter.slot.set_exception(_nobody(reason))

    def _refuse(self, pool: _Pool, name: str, asked: list[_Waiter], reason: str) -> None:
        if reason != STALE and self._freed is not None:
            self._refused.setdefault(pool.shard, {})[pool.key.uid] = None
        if reason == STALE:
            self._stale(name)  # or the next try would ask for the same
        for waiter in asked:
            if waiter.slot.done():
                continue
            if reason == STALE:
                waiter.slot.set_exception(NotStarted("stale", "The version is not what runs now."))
            else:
                self._throttled(name, reason)
                waiter.slot.set_exception(TooManyRequestsException(reason))

    def _add(self, pool: _Pool, grants: tuple[Granted, ...], sent: float) -> None:
        for grant in grants:
            held = self._held.get(grant.lease)
            if held is None or held.dropped:
                held = _Held(grant.lease, pool, pool.shard, grant.epoch, grant.executor, grant.bucket, 0.0)
                self._held[held.id] = pool.leases[held.id] = held
            # A renewal's answer may have come first, and have counted them already.
            held.slots = max(held.slots, min(held.slots + grant.added, grant.slots))
            held.grants += 1
            held.until = max(held.until, sent + grant.seconds)
            if not held.listed:
                held.listed = True
                pool.free.append(held)

    def _forget_if_empty(self, pool: _Pool) -> None:
        if not (pool.leases or pool.waiting or pool.asking):
            if self._pools.get((pool.key, pool.bucket)) is pool:
                del self._pools[pool.key, pool.bucket]

    # ---- renewing -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renews what is held, for ever."""
        while True:
            await self._clock.sleep(BEAT_SECONDS)
            await self.renew()

    async def renew(self) -> None:
        """Tells each owner what is held of it, and gives back what was idle for two seconds."""
        held: dict[int, dict[str, Held]] = {}
        grants: dict[str, int] = {}
        for each in list(self._held.values()):
            if each.dropped:
                continue
            idle = each.slots - max(each.running, each.peak, each.before)
            each.before, each.peak = each.peak, each.running
            if idle > 0:
                each.slots -= idle
            held.setdefault(each.shard, {})[each.id] = Held(each.running, max(0, idle))
            grants[each.id] = each.grants
        given_up, self._given_up = self._given_up, {}
        for shard, leases in given_up.items():
            held.setdefault(shard, {}).update(leases)
        for shard in self._refused:
            held.setdefault(shard, {})
        if not held:
            return
        sent = self._clock.monotonic()
        answers = await self._link.renew(self.name, held)
        for shard, leases in held.items():
            answer = answers.get(shard)
            if answer is None:
                self._not_answered(leases, self._clock.monotonic())
            else:
                self._renewed(shard, leases, answer, sent, grants)

    def _renewed(
        self, shard: int, asked: Mapping[str, Held], answer: Renewed, sent: float, grants: Mapping[str, int]
    ) -> None:
        freed = dict.fromkeys(answer.freed)
        if sent - self._answered.get(shard, sent) > _BEHIND_SECONDS or answer.wait:
            freed.update(self._refused.get(shard, {}))  # a new owner does not know who was refused
        if sent - self._answered.get(shard, sent) > _BEHIND_SECONDS:
            self._stale("*")
        self._answered[shard] = sent
        for name in answer.stale:
            self._stale(name)
        for lease_id in asked:
            held = self._held.get(lease_id)
            if held is None or held.dropped:
                continue
            renewed = answer.leases.get(lease_id)
            if renewed is not None:
                slots, seconds = renewed
                held.until = max(held.until, sent + seconds)
                if held.grants == grants[lease_id]:
                    held.slots = slots
                    self._offer(held)
                if held.slots == 0 and held.running == 0:
                    self._drop(held)
            elif not answer.wait or held.until <= self._clock.monotonic():
                self._drop(held)
            self._forget_if_empty(held.pool)
        for uid in freed:
            self._tell_freed(shard, uid)

    def _tell_freed(self, shard: int, uid: str) -> None:
        refused = self._refused.get(shard, {})
        refused.pop(uid, None)
        if not refused:
            self._refused.pop(shard, None)
        if self._freed is not None:
            self._freed(uid)

    def _not_answered(self, leases: Mapping[str, Held], now: float) -> None:
        for lease_id in leases:
            held = self._held.get(lease_id)
            if held is not None and held.until <= now:
                self._drop(held)
                self._forget_if_empty(held.pool)

    @property
    def slots(self) -> int:
        """Slots held."""
        return sum(held.slots for held in self._held.values())

    @property
    def running(self) -> int:
        """Slots in use."""
        return sum(held.running for held in self._held.values())


def _slot(held: _Held) -> Lease:
    return Lease(held.id, held.epoch, held.pool.key, held.executor, 1, 0.0, held.bucket)


def _nobody(reason: str) -> LambdaError:
    if reason == NO_EXECUTOR:
        return ServiceException("No executor can take the invocation now. Try again; see `lambent executor`.")
    return ServiceException("No scheduler answers for this function now. Try again; see `lambent scheduler`.")
