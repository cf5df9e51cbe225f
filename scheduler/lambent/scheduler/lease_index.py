"""What the owner of a shard remembers: leases, by executor and by function, and asks on their way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lambent.kernel.leases import Ask, Granted, LeaseState, Reply
from lambent.kernel.models import VersionKey

# Leases of other functions that give idle slots back for one ask.
_POOL_RECLAIMS = 64


@dataclass(slots=True, eq=False)
class Asked:
    """An ask on its way. `parts`: requests to executors that are not answered yet."""

    ask: Ask
    done: Callable[[Reply], None]
    until: float
    bucket: str
    parts: int = 0
    granted: list[Granted] = field(default_factory=list)
    reclaimed: bool = False
    grown: bool = False


@dataclass(slots=True, eq=False)
class OwnedLease:
    """A lease as the owner counts it. `slots` are counted; `adding` of them are not confirmed yet, for `asked`.
    `closed`: its executor has said so.
    `request`: the number of the request that is not answered, 0: none; `since`: when it was sent. `gone`: a
    function that this lease's slots were taken back for."""

    id: str
    executor: str
    holder: str
    key: VersionKey
    bucket: str
    memory_mb: int
    slots: int
    until: float
    opened: bool = False
    closing: bool = False
    closed: bool = False
    running: int = 0
    request: int = 0
    since: float = 0.0
    adding: int = 0
    asked: Asked | None = None
    wanted_by: str | None = None

    def idle(self) -> bool:
        """Whether slots may be asked back from it."""
        return self.opened and not self.closing and not self.request and self.slots > 0


class LeaseIndex:
    """All leases of a shard."""

    def __init__(self) -> None:
        self.all: dict[str, OwnedLease] = {}
        self._on: dict[str, dict[str, OwnedLease]] = {}
        self._of: dict[str, dict[str, OwnedLease]] = {}

    def on(self, executor: str) -> list[OwnedLease]:
        """Those on an executor."""
        return list(self._on.get(executor, {}).values())

    def of(self, uid: str) -> list[OwnedLease]:
        """Those of a function."""
        return list(self._of.get(uid, {}).values())

    @property
    def executors(self) -> list[str]:
        """Executors that have any."""
        return list(self._on)

    def add(self, lease: OwnedLease) -> None:
        self.all[lease.id] = lease
        self._on.setdefault(lease.executor, {})[lease.id] = lease
        self._of.setdefault(lease.key.uid, {})[lease.id] = lease

    def remove(self, lease: OwnedLease) -> None:
        self.all.pop(lease.id, None)
        for index, name in ((self._on, lease.executor), (self._of, lease.key.uid)):
            leases = index.get(name)
            if leases is not None:
                leases.pop(lease.id, None)
                if not leases:
                    del index[name]

    def extendable(self, ask: Ask, bucket: str, executor: str) -> OwnedLease | None:
        """A lease that the asking holder has on an executor and that may get more slots."""
        for lease in self._on.get(executor, {}).values():
            same = lease.holder == ask.holder and lease.key == ask.key and lease.bucket == bucket
            if same and lease.opened and not lease.closing and not lease.request:
                return lease
        return None

    def slots_by_executor(self, uid: str, bucket: str) -> dict[str, int]:
        """Slots of one bucket."""
        slots: dict[str, int] = {}
        for lease in self._of.get(uid, {}).values():
            if lease.bucket == bucket:
                slots[lease.executor] = slots.get(lease.executor, 0) + lease.slots
        return slots

    def reclaimable(self, asked: Asked, others: Callable[[str], bool] | None) -> Iterable[OwnedLease]:
        """Leases that may have idle slots for an ask, the likeliest first: of its own function and bucket, then
        those of functions for which `others` says yes (at most 64), if they are known to have some."""
        ask = asked.ask
        own = [
            lease
            for lease in self.of(ask.key.uid)
            if lease.idle()
            and lease.bucket == asked.bucket
            and not (lease.holder == ask.holder and lease.key == ask.key)
        ]
        own.sort(key=lambda lease: lease.running - lease.slots)
        yield from own
        if others is None:
            return
        rest = [
            lease
            for lease in self.all.values()
            if lease.key.uid != ask.key.uid
            and lease.idle()
            and lease.bucket == asked.bucket
            and lease.slots > lease.running
            and others(lease.key.uid)
        ]
        rest.sort(key=lambda lease: lease.running - lease.slots)
        yield from rest[:_POOL_RECLAIMS]


def adopted(executor: str, state: LeaseState, until: float) -> OwnedLease | None:
    """A lease of an earlier owner, or None if nothing of it is left."""
    slots = state.slots if state.open else state.running
    if slots == 0 and not state.open:
        return None
    return OwnedLease(
        state.id,
        executor,
        state.holder,
        state.key,
        state.bucket,
        state.memory_mb,
        slots,
        until,
        opened=True,
        closing=not state.open,
        closed=not state.open,
        running=state.running,
    )
