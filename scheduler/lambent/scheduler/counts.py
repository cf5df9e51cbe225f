"""How many slots are out and how many more may go out, as plain numbers: the one place where limits are kept,
for one process as for the owner of a shard, so that both are exact in the same way.

AWS: "Understanding Lambda function scaling". An account has a limit; `reserved` of a function is carved out of
it, and the function can use exactly that many; a provisioned allocation of a qualifier counts in full, against
the reservation if there is one, else against the pool; what is beyond an allocation draws on what is left
(spillover). Each function gains up to 1,000 environments in 10 s, by a bucket that fills continuously.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ON_DEMAND = "on-demand"

RESERVED_FULL = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT_FULL = "ConcurrentInvocationLimitExceeded"
RESERVED_RATE = "ReservedFunctionInvocationRateLimitExceeded"
RATE = "FunctionInvocationRateLimitExceeded"

BURST_ENVIRONMENTS = 1000
ENVIRONMENTS_PER_SECOND = 100.0


class GivenBackTwice(AssertionError):
    """More slots came back than were out."""


@dataclass(slots=True)
class FunctionCount:
    """One function's numbers, over all its versions. `provisioned`: slots allocated to each qualifier, `busy`
    those of them that are out; `held`: what allocations count, at least what of them is out. `environments`:
    how many on-demand ones there may be by now; `tokens`: how many more may be started at once."""

    reserved: int | None = None
    on_demand: int = 0
    provisioned: dict[str, int] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    held: int = 0
    environments: int = 0
    tokens: float = float(BURST_ENVIRONMENTS)
    filled: float = 0.0
    deleted: bool = False

    @property
    def out(self) -> int:
        """Slots out of all its buckets."""
        return self.on_demand + sum(self.busy.values())

    def hold(self) -> int:
        """Counts `held` anew; by how much it changed."""
        before = self.held
        self.held = sum(
            max(self.provisioned.get(each, 0), self.busy.get(each, 0))
            for each in {*self.provisioned, *self.busy}
        )
        return self.held - before


class Counts:
    """Slots of the functions of one process (`carves`: reservations and allocations are taken out of `limit`
    here) or of one shard (they were taken out before: `limit` is the shard's block of the pool). All times are
    monotonic seconds."""

    def __init__(self, limit: int, *, carves: bool) -> None:
        self.limit = limit
        self._carves = carves
        self._functions: dict[str, FunctionCount] = {}
        self._carved = 0  # reserved slots of all functions
        self.pool_used = 0

    def __iter__(self) -> Iterator[tuple[str, FunctionCount]]:
        return iter(self._functions.items())

    def of(self, uid: str) -> FunctionCount:
        """A function's numbers; made when it is first asked for."""
        count = self._functions.get(uid)
        if count is None:
            count = self._functions[uid] = FunctionCount()
        return count

    def out_of(self, uid: str) -> int:
        """Slots that are out of one function."""
        count = self._functions.get(uid)
        return 0 if count is None else count.out

    @property
    def pool_free(self) -> int:
        """Slots that functions without a reservation may still take; negative when a reservation was made of
        slots that are out."""
        return self.limit - (self._carved if self._carves else 0) - self.pool_used

    def configure(self, uid: str, *, reserved: int | None, provisioned: Mapping[str, int]) -> bool:
        """A function's limits as they are from now on; whether anything changed. Slots that are out stay
        counted. A deleted function has none."""
        count = self.of(uid)
        if count.deleted or (count.reserved == reserved and count.provisioned == provisioned):
            return False
        before = self._drawn(count)
        self._carved += (reserved or 0) - (count.reserved or 0)
        count.reserved = reserved
        count.provisioned = dict(provisioned)
        count.hold()
        self.pool_used += self._drawn(count) - before
        return True

    def _drawn(self, count: FunctionCount) -> int:
        """What a function takes out of the pool."""
        if count.reserved is not None:
            return 0
        if self._carves:
            return count.on_demand + count.held
        # The allocations were taken out of the account's pool as reservations are.
        return count.on_demand + count.held - sum(count.provisioned.values())

    def room(self, uid: str, bucket: str, want: int, now: float) -> tuple[int, str]:
        """How many of `want` slots may go out now, and AWS's Reason if fewer; "" for an allocation that is
        full: then on-demand slots may be asked for."""
        count = self.of(uid)
        if bucket != ON_DEMAND:
            return min(want, max(0, count.provisioned.get(bucket, 0) - count.busy.get(bucket, 0))), ""
        if count.reserved is not None:
            free, full, rate = count.reserved - count.on_demand - count.held, RESERVED_FULL, RESERVED_RATE
        else:
            free, full, rate = self.pool_free, ACCOUNT_FULL, RATE
        room, reason = (want, "") if free >= want else (max(0, free), full)
        new = count.on_demand + room - count.environments
        if new > 0:
            self._fill(count, now)
            if new > count.tokens:
                room = max(0, room - new + int(count.tokens))
                reason = rate
        return room, reason

    @staticmethod
    def _fill(count: FunctionCount, now: float) -> None:
        filled = count.tokens + (now - count.filled) * ENVIRONMENTS_PER_SECOND
        count.tokens = min(float(BURST_ENVIRONMENTS), filled)
        count.filled = now

    def take(self, uid: str, bucket: str, slots: int) -> None:
        """Slots go out. Ask `room` first; what was found to be out already is taken all the same."""
        count = self.of(uid)
        before = self._drawn(count)
        if bucket == ON_DEMAND:
            count.on_demand += slots
            new = count.on_demand - count.environments
            if new > 0:
                count.environments += new
                count.tokens = max(0.0, count.tokens - new)
        else:
            count.busy[bucket] = count.busy.get(bucket, 0) + slots
            count.hold()
        self.pool_used += self._drawn(count) - before

    def give(self, uid: str, bucket: str, slots: int) -> None:
        """Slots come back. Raises GivenBackTwice."""
        count = self.of(uid)
        out = count.on_demand if bucket == ON_DEMAND else count.busy.get(bucket, 0)
        if slots > out:
            raise GivenBackTwice(f"{slots} slots of {uid} {bucket} came back, {out} were out")
        before = self._drawn(count)
        if bucket == ON_DEMAND:
            count.on_demand -= slots
        elif slots == out:
            del count.busy[bucket]
            count.hold()
        else:
            count.busy[bucket] = out - slots
            count.hold()
        self.pool_used += self._drawn(count) - before
        self._drop_if_over(uid, count)

    def seen(self, uid: str, environments: int) -> None:
        """How many on-demand environments a function has; those that are gone cost a start again."""
        count = self._functions.get(uid)
        if count is not None:
            count.environments = max(environments, count.on_demand)

    def forget(self, uid: str) -> None:
        """The function is deleted: its limits end; slots that are out are counted until they come back."""
        count = self._functions.get(uid)
        if count is not None:
            self.configure(uid, reserved=None, provisioned={})
            count.deleted = True
            self._drop_if_over(uid, count)

    def _drop_if_over(self, uid: str, count: FunctionCount) -> None:
        if count.deleted and count.out == 0:
            self._functions.pop(uid, None)
