"""`ports.Dispatcher` for one process: grants slots, counts them until they come back, and says no as AWS does.

It runs on the event loop only, so counting needs no lock; `acquire` is on the way of every invocation and does
nothing but arithmetic. The limits themselves are kept in `counts`, as those of a cluster are.
"""

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from lambent.kernel.errors import TooManyRequestsException
from lambent.kernel.log import Log
from lambent.kernel.metrics import throttled
from lambent.kernel.models import Function, FunctionVersion, Provisioned, VersionKey
from lambent.kernel.ports import Clock, Keeper, Lease
from lambent.scheduler.allocations import allocated_versions, told
from lambent.scheduler.counts import ON_DEMAND, Counts

_log = Log(__name__)
_LEASE_SECONDS = 3.0
_SEEN_SECONDS = 1.0
Version = Callable[[Function, int], Awaitable[FunctionVersion | None]]


class ReleasedTwice(AssertionError):
    """More slots were given back than were granted."""


class LocalDispatcher:
    """Slots of one executor. `strict`: a double release raises (tests); else it is logged and ignored.

    `freed` are called with a function's uid each time slots come back, after the count has changed. Call
    `keep_by` before a function with an allocation is configured."""

    def __init__(self, executor_id: str, account_limit: int, clock: Clock, *, strict: bool = False) -> None:
        self._executor = executor_id
        self._clock = clock
        self._strict = strict
        self._counts = Counts(account_limit, carves=True)
        self._granted: dict[str, int] = {}  # lease id -> slots out
        self._numbers = itertools.count(1)
        self.freed: list[Callable[[str], None]] = []
        self._keeper: Keeper | None = None
        self._version: Version | None = None
        self._kept: dict[str, dict[tuple[VersionKey, str], FunctionVersion]] = {}

    def keep_by(self, keeper: Keeper, version: "Version") -> None:
        """What keeps environments in this process, and `version(function, number)`."""
        self._keeper, self._version = keeper, version

    async def configure(self, function: Function) -> None:
        """At start call it for every function with a reservation, since the shared pool shrinks by it whether
        or not the function runs."""
        if self._configure(function):
            self._tell(function.uid)
        if function.provisioned or function.uid in self._kept:
            await self._keep(function)

    async def _keep(self, function: Function) -> None:
        """Has kept what the allocations ask for, and nothing else of the function."""
        if self._keeper is None or self._version is None:
            return
        wanted = await allocated_versions(function, self._version)
        kept = {(target.key, qualifier): target for qualifier, target in wanted.items()}
        for (key, bucket), target in self._kept.pop(function.uid, {}).items():
            if (key, bucket) not in kept:
                self._keeper.provision(target, bucket, 0, {})
        for qualifier, target in wanted.items():
            self._keeper.provision(target, qualifier, function.allocations[qualifier], function.tags)
        if kept:
            self._kept[function.uid] = kept

    async def run(self) -> None:
        """Learns once a second how many environments there are, for ever: the rate at which a function may grow
        is one of environments."""
        while True:
            await self._clock.sleep(_SEEN_SECONDS)
            self.look()

    def look(self) -> None:
        """One look."""
        idle: Counter[str] = Counter()
        for key, count in self._keeper.warm().items() if self._keeper is not None else ():
            idle[key.uid] += count
        for uid, each in list(self._counts):
            self._counts.seen(uid, idle[uid] + each.on_demand)

    async def provisioned(self, function: Function) -> Mapping[str, Provisioned]:
        return told(function, self._keeper.provisioned() if self._keeper is not None else ())

    def _configure(self, function: Function) -> bool:
        return self._counts.configure(
            function.uid, reserved=function.reserved_concurrency, provisioned=function.allocations
        )

    async def forget(self, function: Function) -> None:
        for (_, bucket), target in self._kept.pop(function.uid, {}).items():
            if self._keeper is not None:
                self._keeper.provision(target, bucket, 0, {})
        self._counts.forget(function.uid)
        self._tell(function.uid)

    async def acquire(
        self, function: Function, target: FunctionVersion, *, holder: str, slots: int = 1, alias: str = ""
    ) -> Lease:
        uid, counts = function.uid, self._counts
        if counts.of(uid).reserved != function.reserved_concurrency and self._configure(function):
            self._tell(uid)
        now = self._clock.monotonic()
        bucket = function.bucket_of(target, alias) if function.provisioned else ON_DEMAND
        if bucket != ON_DEMAND and counts.room(uid, bucket, slots, now)[0] < slots:
            bucket = ON_DEMAND  # spillover
        room, reason = counts.room(uid, bucket, slots, now)
        if room < slots:
            throttled(function.name, reason)
            raise TooManyRequestsException(reason)
        counts.take(uid, bucket, slots)
        lease = Lease(
            id=f"{holder}-{next(self._numbers)}",
            epoch=1,
            key=target.key,
            executor=self._executor,
            slots=slots,
            seconds=_LEASE_SECONDS,
            bucket=bucket,
        )
        self._granted[lease.id] = slots
        return lease

    def release(self, lease: Lease, *, slots: int = 1) -> None:
        out = self._granted.get(lease.id, 0)
        if slots > out:
            if self._strict:
                raise ReleasedTwice(f"{slots} slots of lease {lease.id} given back, {out} were out")
            _log.error("Slots were given back twice.", lease=lease.id, slots=slots, out=out)
            slots = out
        if slots == 0:
            return
        if slots == out:
            del self._granted[lease.id]
        else:
            self._granted[lease.id] = out - slots
        self._counts.give(lease.key.uid, lease.bucket, slots)
        self._tell(lease.key.uid)

    def not_taken(self, lease: Lease, reason: str) -> None:
        self.release(lease)

    async def supersede(self, function: Function) -> None:
        """In one process every invocation sees the store's news at once."""

    def _tell(self, uid: str) -> None:
        for freed in self.freed:
            freed(uid)

    @property
    def used(self) -> int:
        """Slots out in all."""
        return sum(self._granted.values())

    def used_by(self, uid: str) -> int:
        """Slots out of one function."""
        return self._counts.out_of(uid)
