"""The owner of one shard: who gets slots, and when they are free again. A state machine without I/O; it is told
what happened and when, and sends requests to executors, so that a simulation can run it against every fault.

used = slots granted + slots of closed or expired leases that are not confirmed. All times are this scheduler's
own monotonic seconds. Rules: docs/leases.md.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from lambent.kernel.leases import (
    FREED_SECONDS,
    LEASE_SECONDS,
    MOVED,
    NO_EXECUTOR,
    STALE,
    Ask,
    Close,
    Granted,
    Held,
    LeaseState,
    Open,
    Refused,
    Renewed,
    Reply,
    Resize,
)
from lambent.kernel.models import VersionKey
from lambent.scheduler.counts import ACCOUNT_FULL, ON_DEMAND, Counts
from lambent.scheduler.lease_index import Asked, LeaseIndex, OwnedLease, adopted
from lambent.scheduler.lease_news import HolderNews
from lambent.scheduler.lease_versions import Versions
from lambent.scheduler.nodes import Nodes, Wish

# An executor that has not said within so long that it opened a lease is passed over.
_OPEN_SECONDS = 1.5
# So long an ask waits for an executor that can be used, or for the end of a takeover. Short: whoever asked may
# be gone, and asks again otherwise.
ASK_SECONDS = 2.0
# And so long for idle slots that are asked back.
_RECLAIM_SECONDS = 1.0
# Slots of other functions are asked back no more often, for that looks at all leases.
_SQUEEZE_SECONDS = 0.1
# The other shards give back what they do not need so soon after the pool had too little.
_DENIED_SECONDS = 1.5
_DENIED_KEPT_SECONDS = 3.0
_REGROW_SECONDS = 0.25
_PRUNE_SECONDS = 10.0
_NEVER = float("-inf")

Request = Open | Resize | Close


class ShardOwner:
    """`send(executor, request)` sends it and answers its number, which rises by executor; `valid_until()`: when
    the lock of the shard can have lapsed; `grow(slots)` asks for a larger block of the account's pool, and
    `block_changed` is called when that is answered. `must_hear`: executors that may have leases of an earlier
    owner. `freed(uid)` is called when slots came back."""

    def __init__(
        self,
        shard: int,
        epoch: int,
        *,
        nodes: Nodes,
        counts: Counts,
        must_hear: Iterable[str],
        send: Callable[[str, Callable[[int], Request]], int],
        grow: Callable[[int], None],
        valid_until: Callable[[], float],
        now: float,
        freed: Callable[[str], None] = lambda uid: None,
    ) -> None:
        self.shard = shard
        self.epoch = epoch
        self.counts = counts
        self._nodes = nodes
        self._send = send
        self._grow = grow
        self._valid_until = valid_until
        self._freed = freed
        self._began = now
        self._unheard = set(must_hear)
        self._heard: set[str] = set()
        self._leases = LeaseIndex()
        self._reclaims: dict[str, dict[str, float]] = {}  # by uid: leases asked for idle slots, and when
        self._asks: dict[str, deque[Asked]] = {}
        self._versions = Versions()
        self._configured: set[str] = set()
        self._growing = False
        self._denied_since = self._denied_last = _NEVER
        self._squeezed = _NEVER
        self._numbers = itertools.count(1)
        self._news = HolderNews()
        self._prune_at = now + _PRUNE_SECONDS

    # ---- what holders ask -----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether all leases of earlier owners are known."""
        return not self._unheard

    def ask(self, ask: Ask, done: Callable[[Reply], None], now: float) -> None:
        """Wants slots; `done` is called with what became of it, now or later. Call `configure` before the first
        ask for a function."""
        asked = Asked(ask, done, now, now + ASK_SECONDS, ask.bucket)
        self._news.met(ask.holder, now)
        self._asks.setdefault(ask.key.uid, deque()).append(asked)
        self._serve(ask.key.uid, now)

    def renew(self, holder: str, held: Mapping[str, Held], now: float) -> Renewed:
        """A holder's leases go on, and what it does not need comes back."""
        self._news.met(holder, now)
        if now >= self._valid_until():
            return Renewed({}, wait=True)
        answer: dict[str, tuple[int, float]] = {}
        for lease_id, state in held.items():
            lease = self._leases.all.get(lease_id)
            if lease is None or lease.holder != holder or lease.closing or not lease.opened:
                continue
            lease.until = now + LEASE_SECONDS
            answer[lease_id] = (max(0, lease.slots - lease.adding - state.idle), LEASE_SECONDS)
            if state.idle and not lease.request:
                self._shrink(lease, max(0, lease.slots - state.idle), now)
        stale, freed = self._news.take(holder)
        return Renewed(answer, stale, freed, wait=not self.ready)

    def _shrink(self, lease: OwnedLease, slots: int, now: float, *, whole: bool = True) -> None:
        """`whole`: with no slots left the lease is over."""
        self._wanted(lease, lease.key.uid, now)
        if slots == 0 and whole:
            self._close(lease, now)
        else:
            self._request(lease, lambda number: Resize(number, self.shard, self.epoch, lease.id, slots), now)

    def _close(self, lease: OwnedLease, now: float) -> None:
        lease.closing = True
        self._request(lease, lambda number: Close(number, self.shard, self.epoch, lease.id), now)

    def _request(self, lease: OwnedLease, make: Callable[[int], Request], now: float) -> None:
        lease.request = self._send(lease.executor, make)
        lease.since = now

    # ---- what becomes of functions --------------------------------------------------------------------

    def configure(
        self, uid: str, *, reserved: int | None, provisioned: Mapping[str, int], generation: int, now: float
    ) -> None:
        """A function's limits, and the generation of $LATEST that runs, as the store has them."""
        if self._versions.deleted(uid):
            return
        if self._versions.rise(uid, generation):
            self._close_outdated(uid, now)
        self._configured.add(uid)
        if self.counts.configure(uid, reserved=reserved, provisioned=provisioned):
            self._came_free(uid, now)

    def known(self, uid: str) -> bool:
        """Whether `configure` was called."""
        return uid in self._configured

    def behind(self, key: VersionKey) -> bool:
        """Whether the version is newer than what is known to run."""
        return self._versions.behind(key)

    def changed(self, name: str) -> None:
        """Something of a function has changed: each holder hears of it at its next renewal."""
        self._news.changed(name)

    def supersede(self, uid: str, generation: int | None, done: Callable[[bool], None], now: float) -> None:
        """Nothing of $LATEST before `generation` starts any more (None: nothing of the function at all);
        `done(True)` is called once that is certain, `done(False)` if it never will be by this owner."""
        if generation is None:
            self._versions.delete(uid, now)
            self.counts.forget(uid)
            self._news.forget(uid)
        else:
            self._versions.rise(uid, generation)
        self._versions.wait(uid, done)
        self._close_outdated(uid, now)
        self._check_superseded(uid)

    def _close_outdated(self, uid: str, now: float) -> None:
        for lease in self._leases.of(uid):
            if self._versions.outdated(lease.key) and not lease.closing:
                self._close(lease, now)

    def _check_superseded(self, uid: str) -> None:
        """An executor that was not heard yet may have leases that nobody knows of."""
        if not self.ready or uid not in self._versions.waited_for:
            return
        outdated = self._versions.outdated
        if not any(outdated(lease.key) and not lease.closed for lease in self._leases.of(uid)):
            self._versions.certain(uid, True)

    # ---- what executors say ---------------------------------------------------------------------------

    def heard(
        self, executor: str, epoch: int | None, leases: Iterable[LeaseState], seen: int, now: float
    ) -> Mapping[str, float]:
        """An executor's beat, as far as it is of this shard; `epoch`: the one it goes by. The leases to renew,
        for how many seconds."""
        if epoch != self.epoch or now >= self._valid_until():
            return {}
        states = {state.id: state for state in leases}
        known = self._leases.on(executor)
        if executor in self._heard and not states and not known:
            return {}  # most of what is heard
        if executor not in self._heard:
            self._heard.add(executor)
            for state in states.values():
                if state.id not in self._leases.all:
                    self._adopt(executor, state, now)
            self._heard_one(executor, now)
        for lease in self._leases.on(executor):
            if not lease.request or lease.request <= seen:
                self._reconcile(lease, states.get(lease.id), now)
        for state in states.values():
            if state.id not in self._leases.all:  # it was taken as gone, and its executor was not
                self._adopt(executor, state, now)
                if state.open and not self._leases.all[state.id].closing:
                    self._close(self._leases.all[state.id], now)
        return {
            lease.id: lease.until - now
            for lease in self._leases.on(executor)
            if lease.opened and not lease.closing and lease.until > now
        }

    def _adopt(self, executor: str, state: LeaseState, now: float) -> None:
        """A lease of an earlier owner: its holder has its usual time to say that it lives."""
        lease = adopted(executor, state, now + LEASE_SECONDS)
        if lease is not None:
            self._leases.add(lease)
            self.counts.take(lease.key.uid, lease.bucket, lease.slots)
            self._close_outdated(lease.key.uid, now)

    def _heard_one(self, executor: str, now: float) -> None:
        if executor in self._unheard:
            self._unheard.discard(executor)
            if not self._unheard:
                self._became_ready(now)

    def _became_ready(self, now: float) -> None:
        for uid in self._versions.waited_for:
            self._check_superseded(uid)
        self._serve_all(now)

    def done(self, executor: str, request: int, lease_id: str, state: LeaseState | None, now: float) -> None:
        """An executor has answered a request, or a run under a closed lease has ended (`request` 0)."""
        lease = self._leases.all.get(lease_id)
        if lease is None or lease.executor != executor or (request and request != lease.request):
            return
        self._reconcile(lease, state, now)

    def _reconcile(self, lease: OwnedLease, state: LeaseState | None, now: float) -> None:
        """What an executor says of a lease is what counts from now on: it has seen all that it was asked."""
        lease.request = 0
        slots = 0
        if state is not None:
            lease.running = state.running
            lease.opened = True
            lease.closing = lease.closing or not state.open
            slots = state.slots if state.open else state.running
        else:
            lease.closing = True
        freed = lease.slots - slots
        if freed > 0:
            self._give(lease, freed)
        elif freed < 0:  # it was counted as gone too soon, or never should have been so many
            self.counts.take(lease.key.uid, lease.bucket, -freed)
            lease.slots = slots
        unwanted = self._answer_part(lease, state, now)
        if state is None or (lease.closing and slots == 0):
            self._remove(lease)
        if state is not None and state.open and lease.closing:
            self._close(lease, now)  # what was asked before got lost
        elif lease.closing:
            lease.closed = True
            self._check_superseded(lease.key.uid)
        elif unwanted and not lease.request:
            self._shrink(lease, max(0, lease.slots - unwanted), now)
        wanted_by, lease.wanted_by = lease.wanted_by, None
        if wanted_by is not None:
            self._reclaimed(wanted_by, lease.id)
        if freed > 0:
            self._came_free(lease.key.uid, now)
        if wanted_by is not None:
            self._serve(wanted_by, now)

    def _answer_part(self, lease: OwnedLease, state: LeaseState | None, now: float) -> int:
        """Tells who asked; how many slots nobody waits for any more."""
        asked, lease.asked = lease.asked, None
        added, lease.adding = lease.adding, 0
        if asked is None:
            return added  # it took too long: nobody knows of these slots
        if state is not None and state.open and not lease.closing:
            asked.granted.append(
                Granted(
                    lease.id,
                    self.epoch,
                    lease.executor,
                    lease.bucket,
                    lease.slots,
                    min(added, lease.slots),
                    lease.until - now,
                )
            )
        self._part_over(asked, now)
        return 0

    def _part_over(self, asked: Asked, now: float) -> None:
        asked.parts -= 1
        if asked.parts:
            return
        if asked.granted:
            asked.done(tuple(asked.granted))
            return
        uid = asked.ask.key.uid
        self._asks.setdefault(uid, deque()).appendleft(asked)
        self._serve(uid, now)

    def gone(self, executor: str, now: float) -> None:
        """An executor has ended, with everything that ran there."""
        self._heard.discard(executor)
        for lease in self._leases.on(executor):
            self._reconcile(lease, None, now)
        self._heard_one(executor, now)

    # ---- time -----------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """To be called a few times a second."""
        if self._unheard and now >= self._began + FREED_SECONDS:
            self._unheard.clear()
            self._became_ready(now)
        for executor in self._leases.executors:
            node = self._nodes.get(executor)
            if node is None or now - node.heard >= FREED_SECONDS:
                self.gone(executor, now)
        if now >= self._prune_at:
            self._prune(now)
        for lease in list(self._leases.all.values()):
            if lease.request and lease.asked is not None and now - lease.since > _OPEN_SECONDS:
                asked, lease.asked = lease.asked, None  # it stays counted until its executor has said something
                self._part_over(asked, now)
            elif lease.until <= now and not lease.closing and not lease.request:
                self._close(lease, now)
        for uid in list(self._asks):
            self._serve(uid, now)

    def _prune(self, now: float) -> None:
        self._prune_at = now + _PRUNE_SECONDS
        self._news.prune(now)
        self._configured.difference_update(self._versions.prune(now, self._leases.of))

    def lost(self, executor: str) -> None:
        """Its stream broke: what was asked of it may never have come, which its next beat tells."""
        for lease in self._leases.on(executor):
            if lease.request:
                lease.request = -1

    def close(self) -> None:
        """Somebody else owns the shard from now on: whoever asks is sent there."""
        for queue in self._asks.values():
            for asked in queue:
                asked.done(Refused(MOVED))
        self._asks.clear()
        self._versions.certain(None, False)
        for lease in self._leases.all.values():
            if lease.asked is not None:
                asked, lease.asked = lease.asked, None
                asked.parts -= 1
                if not asked.parts:
                    asked.done(tuple(asked.granted) or Refused(MOVED))

    # ---- granting -------------------------------------------------------------------------------------

    def block_changed(self, now: float, *, denied: bool = False, more: bool = False) -> None:
        """The shard's block of the account's pool has another size, or there was no more; `denied`: there was
        less than was asked for; `more`: what was asked for since is still on its way."""
        self._growing = more
        if denied:
            if now - self._denied_last > _DENIED_KEPT_SECONDS:
                self._denied_since = now
            self._denied_last = now
        self._serve_all(now)

    def squeeze(self, now: float) -> None:
        """Other shards need slots of the pool: idle ones are asked back from who holds them."""
        if now - self._squeezed < _SQUEEZE_SECONDS:
            return
        self._squeezed = now
        for lease in self._leases.with_idle(self._pooled):
            self._shrink(lease, lease.running, now, whole=False)

    def block_unknown(self) -> None:
        """Nobody could say whether there is more: that is no reason to refuse, it is asked for again."""
        self._growing = False
        for queue in self._asks.values():
            for asked in queue:
                asked.grown = _NEVER

    def _serve_all(self, now: float) -> None:
        for uid in list(self._asks):
            self._serve(uid, now)

    def _serve(self, uid: str, now: float) -> None:
        queue = self._asks.pop(uid, None)
        waiting: deque[Asked] = deque()
        while queue:
            asked = queue.popleft()
            if now >= self._valid_until():
                reply: Reply | None = Refused(MOVED)
            elif self._versions.outdated(asked.ask.key):
                reply = Refused(STALE)
            elif not self.ready:
                reply = None
            else:
                reply = self._grant(asked, now)
            if reply is None and not asked.parts:
                if now < asked.until:
                    waiting.append(asked)
                    continue
                reply = Refused(NO_EXECUTOR)
            if reply is not None:
                asked.done(reply)
        if waiting:
            waiting.extend(self._asks.get(uid, ()))  # those that came meanwhile
            self._asks[uid] = waiting

    def _grant(self, asked: Asked, now: float) -> Refused | None:
        """Sends requests for slots (then `parts` is not 0), or waits (None), or refuses."""
        uid = asked.ask.key.uid
        room, reason = self.counts.room(uid, asked.bucket, asked.ask.want, now)
        if room == 0 and reason == ACCOUNT_FULL and self._grows(asked, now):
            return None
        if room == 0 and not self._reclaiming(uid, now):
            self._reclaim(asked, pool=reason == ACCOUNT_FULL, now=now)
        if room == 0 and (self._reclaiming(uid, now) or (reason == ACCOUNT_FULL and self._others_give(now))):
            return None
        if room == 0 and asked.bucket != ON_DEMAND:
            asked.bucket = ON_DEMAND
            return self._grant(asked, now)
        if room == 0:
            self._news.starved(uid, asked.ask.holder, pooled=self._pooled(uid))
            return Refused(reason)
        if not self._place(asked, room, now) and asked.bucket != ON_DEMAND:
            asked.bucket = ON_DEMAND  # its environments are not there yet
            return self._grant(asked, now)
        return None

    def _grows(self, asked: Asked, now: float) -> bool:
        """Whether a larger block is on its way; asks for one if that may help."""
        if asked.grown == _NEVER:
            helps = self._others_give(now) or now - self._denied_last >= _SQUEEZE_SECONDS
        else:  # what it got may have been given back while it waited for an executor
            helps = self._others_give(now) or self._denied_last < asked.grown
        if helps and now - asked.grown >= _REGROW_SECONDS:
            asked.grown = now
            self._growing = True
            self._grow(asked.ask.want)
        return self._growing

    def _others_give(self, now: float) -> bool:
        """Whether the other shards may not have heard yet that there is too little."""
        return now - self._denied_since < _DENIED_SECONDS

    def _place(self, asked: Asked, slots: int, now: float) -> bool:
        ask = asked.ask
        busy: Mapping[str, int] = {}
        if asked.bucket != ON_DEMAND:
            busy = self._leases.slots_by_executor(ask.key.uid, asked.bucket)
        # What was sent before its answer to the claim might be done before it knows whose it is.
        among = self._heard.difference(ask.avoid) if ask.avoid else self._heard
        wish = Wish(ask.key, asked.bucket, ask.memory_mb, ask.digest, slots, busy, among)
        placed = self._nodes.place(wish, now)
        asked.parts += len(placed)
        for executor, share in placed:
            self._open(asked, executor, share, now)
        return bool(placed)

    def _open(self, asked: Asked, executor: str, slots: int, now: float) -> None:
        """More slots for a lease that the holder has there, else a new one."""
        ask = asked.ask
        lease = self._leases.extendable(ask, asked.bucket, executor)
        self.counts.take(ask.key.uid, asked.bucket, slots)
        self._nodes.granted(executor, ask.memory_mb, ask.key, slots)
        if lease is not None:
            lease.slots += slots
            whole = lease.slots
            lease.until = now + LEASE_SECONDS
            lease.adding, lease.asked = slots, asked
            self._request(lease, lambda number: Resize(number, self.shard, self.epoch, lease.id, whole), now)
            return
        new = OwnedLease(
            f"{self.shard}.{self.epoch}.{next(self._numbers)}",
            executor,
            ask.holder,
            ask.key,
            asked.bucket,
            ask.memory_mb,
            slots,
            now + LEASE_SECONDS,
            adding=slots,
            asked=asked,
        )
        self._leases.add(new)
        self._request(
            new,
            lambda number: Open(
                number,
                self.shard,
                self.epoch,
                new.id,
                new.key,
                new.bucket,
                new.holder,
                new.memory_mb,
                slots,
                LEASE_SECONDS,
            ),
            now,
        )

    # ---- taking back ----------------------------------------------------------------------------------

    def _reclaim(self, asked: Asked, *, pool: bool, now: float) -> None:
        """Idle slots that others hold go to who needs them. What runs is known to the executor alone, so it is
        asked to lower a lease as far as nothing runs."""
        uid, need = asked.ask.key.uid, asked.ask.want
        others = None
        if pool and now - self._squeezed >= _SQUEEZE_SECONDS:
            self._squeezed = now
            others = self._pooled
        for lease in self._leases.reclaimable(asked, others, now):
            if need <= 0:
                return
            share = min(need, lease.slots)
            lease.wanted_at = now
            self._wanted(lease, uid, now)
            self._shrink(lease, lease.slots - share, now, whole=False)
            need -= max(0, min(share, lease.slots - lease.running))

    def _pooled(self, uid: str) -> bool:
        # Nothing is kept of those that are deleted.
        return self._versions.deleted(uid) or self.counts.of(uid).reserved is None

    def _reclaiming(self, uid: str, now: float) -> bool:
        since = self._reclaims.get(uid)
        return since is not None and any(now - each < _RECLAIM_SECONDS for each in since.values())

    def _wanted(self, lease: OwnedLease, uid: str, now: float) -> None:
        """Slots of a lease may come free in a moment, for which a function's asks wait."""
        if lease.wanted_by is None:
            lease.wanted_by = uid
            self._reclaims.setdefault(uid, {})[lease.id] = now

    def _reclaimed(self, uid: str, lease_id: str) -> None:
        waiting = self._reclaims.get(uid, {})
        waiting.pop(lease_id, None)
        if not waiting:
            self._reclaims.pop(uid, None)

    # ---- counting -------------------------------------------------------------------------------------

    def _give(self, lease: OwnedLease, slots: int) -> None:
        lease.slots -= slots
        self.counts.give(lease.key.uid, lease.bucket, slots)
        self._nodes.granted(lease.executor, lease.memory_mb, lease.key, -slots)

    def _remove(self, lease: OwnedLease) -> None:
        if lease.slots:
            self._give(lease, lease.slots)
        self._leases.remove(lease)

    def _came_free(self, uid: str, now: float) -> None:
        self._news.came_free(uid, pooled=self._pooled(uid))
        self._freed(uid)
        self._serve(uid, now)
