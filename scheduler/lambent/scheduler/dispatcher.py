"""`ports.Dispatcher` for one process: grants slots, counts them until they come back, and says no as AWS does.

It runs on the event loop only, so counting needs no lock; `acquire` is on the way of every invocation and does
nothing but arithmetic. Scaling rate, provisioned buckets and other executors come behind the same port.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lambent.kernel.errors import TooManyRequestsException
from lambent.kernel.log import Log
from lambent.kernel.metrics import function_label, throttles
from lambent.kernel.models import Function, FunctionVersion
from lambent.kernel.ports import Clock, Lease
from lambent.scheduler.placement import Pool, refusal

_log = Log(__name__)
_LEASE_SECONDS = 3.0


class ReleasedTwice(AssertionError):
    """More slots were given back than were granted."""


@dataclass(slots=True)
class _Account:
    """One function's slots, over all its versions. `newest`: the newest generation seen of each version, what
    holders should hold now."""

    used: int = 0
    reserved: int | None = None
    newest: dict[str, int] = field(default_factory=dict)
    deleted: bool = False


class LocalDispatcher:
    """Slots of one executor. `strict`: a double release raises (tests); else it is logged and ignored.

    `freed` are called with a function's uid each time slots come back, after the count has changed."""

    def __init__(self, executor_id: str, account_limit: int, clock: Clock, *, strict: bool = False) -> None:
        self._executor = executor_id
        self._limit = account_limit
        self._clock = clock
        self._strict = strict
        self._accounts: dict[str, _Account] = {}
        self._granted: dict[str, tuple[int, str, str]] = {}  # lease id -> (slots out, function uid, version)
        self._numbers = itertools.count(1)
        self._reserved = 0
        self._unreserved_used = 0
        self.freed: list[Callable[[str], None]] = []

    def set_reserved(self, uid: str, slots: int | None) -> None:
        """A function's reservation, or None; takes effect at once. At start call it for every function that has
        one, since the shared pool shrinks by it whether or not the function runs."""
        account = self._accounts.setdefault(uid, _Account())
        if account.reserved == slots:
            return
        self._reserved += (slots or 0) - (account.reserved or 0)
        if account.reserved is None:
            self._unreserved_used -= account.used
        elif slots is None:
            self._unreserved_used += account.used
        account.reserved = slots
        self._tell(uid)

    def forget(self, uid: str) -> None:
        """The function is deleted: its reservation ends; slots still out are counted until they come back."""
        account = self._accounts.get(uid)
        if account is not None:
            self.set_reserved(uid, None)
            account.deleted = True
            self._drop_if_over(uid, account)

    def _drop_if_over(self, uid: str, account: _Account) -> None:
        if account.deleted and account.used == 0:
            del self._accounts[uid]

    async def acquire(
        self, function: Function, target: FunctionVersion, *, holder: str, slots: int = 1
    ) -> Lease:
        uid = function.uid
        account = self._accounts.get(uid)
        if account is None:
            account = self._accounts[uid] = _Account()
        if account.reserved != function.reserved_concurrency:
            self.set_reserved(uid, function.reserved_concurrency)
        reason = refusal(
            slots=slots,
            pool=Pool(self._limit, self._reserved, self._unreserved_used),
            reserved=account.reserved,
            used=account.used,
        )
        if reason is not None:
            throttles.labels(function_label(function.name), reason).inc()
            raise TooManyRequestsException(reason)
        account.used += slots
        if account.reserved is None:
            self._unreserved_used += slots
        key = target.key
        if key.generation > account.newest.get(key.version, 0):
            account.newest[key.version] = key.generation
        lease = Lease(
            id=f"{holder}-{next(self._numbers)}",
            epoch=1,
            key=key,
            executor=self._executor,
            slots=slots,
            seconds=_LEASE_SECONDS,
        )
        self._granted[lease.id] = (slots, uid, key.version)
        return lease

    async def renew(self, holder: str, in_flight: Mapping[str, int]) -> Mapping[str, int]:
        """In one process nothing expires; a lease that is unknown is left out, and must be dropped."""
        generations: dict[str, int] = {}
        for lease_id in in_flight:
            granted = self._granted.get(lease_id)
            if granted is not None:
                generations[lease_id] = self._accounts[granted[1]].newest[granted[2]]
        return generations

    def release(self, lease: Lease, *, slots: int = 1) -> None:
        out, _, _ = self._granted.get(lease.id, (0, "", ""))
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
            self._granted[lease.id] = (out - slots, lease.key.uid, lease.key.version)
        uid = lease.key.uid
        account = self._accounts[uid]
        account.used -= slots
        if account.reserved is None:
            self._unreserved_used -= slots
        self._drop_if_over(uid, account)
        self._tell(uid)

    def _tell(self, uid: str) -> None:
        for freed in self.freed:
            freed(uid)

    @property
    def used(self) -> int:
        """Slots out in all."""
        return sum(slots for slots, _, _ in self._granted.values())

    def used_by(self, uid: str) -> int:
        """Slots out of one function."""
        account = self._accounts.get(uid)
        return account.used if account else 0
