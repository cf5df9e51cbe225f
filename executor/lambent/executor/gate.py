"""Which invocations an executor takes: those under a lease that a shard's owner has opened here, and no more at
once than the lease has slots. It is the last word on limits, since frames can be late, holders can be paused
and owners can be replaced; nothing here does I/O, so that a simulation can run it by the hundred.

Rules: docs/leases.md. All times are this executor's own monotonic seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lambent.kernel.errors import NotStarted
from lambent.kernel.leases import (
    SILENT_SECONDS,
    Answer,
    Beat,
    Claim,
    Close,
    Done,
    LeaseState,
    Open,
    Resize,
)
from lambent.kernel.models import VersionKey

Request = Claim | Open | Resize | Close
_FENCED, _UNKNOWN, _DRAINING = "fenced", "unknown", "draining"


@dataclass(slots=True)
class _Lease:
    id: str
    shard: int
    key: VersionKey
    bucket: str
    holder: str
    memory_mb: int
    slots: int
    until: float
    running: int = 0
    open: bool = True

    def state(self) -> LeaseState:
        return LeaseState(
            self.id,
            self.shard,
            self.key,
            self.bucket,
            self.holder,
            self.memory_mb,
            self.slots,
            self.running,
            self.open,
        )


@dataclass(slots=True)
class _Seat:
    """Who owns a shard. `heard`: when the last beat was sent that an owner answered, this one or one before."""

    epoch: int
    owner: str
    heard: float


class Gate:
    """The leases of one executor. `push(owner, done)` sends a scheduler word of a run that ended under a closed
    lease."""

    def __init__(self, push: Callable[[str, Done], None]) -> None:
        self._push = push
        self._leases: dict[str, _Lease] = {}
        self._seats: dict[int, _Seat] = {}
        self._seen: dict[str, int] = {}
        self.draining = False

    # ---- invocations ----------------------------------------------------------------------------------

    def begin(self, lease_id: str, key: VersionKey, now: float) -> None:
        """Takes a slot of the lease. Raises NotStarted."""
        lease = self._leases.get(lease_id)
        if lease is None or not lease.open or lease.key != key:
            raise NotStarted("draining" if self.draining else "closed", "The lease is not open here.")
        if lease.until <= now:
            self._shut(lease)
            raise NotStarted("expired", "The lease has ended.")
        if lease.running >= lease.slots:
            raise NotStarted("full", "All slots of the lease are in use.")
        if self._seats[lease.shard].heard + SILENT_SECONDS <= now:
            raise NotStarted("closed", "The owner of the lease's shard is silent.")
        lease.running += 1

    def end(self, lease_id: str) -> None:
        """The run's report is made: its slot is free."""
        lease = self._leases[lease_id]
        lease.running -= 1
        if not lease.open:
            seat = self._seats[lease.shard]
            self._push(seat.owner, Done(0, lease.id, lease.state()))
            self._forget_if_over(lease)

    # ---- the owners' requests -------------------------------------------------------------------------

    def connected(self, owner: str) -> None:
        """A scheduler's stream has begun anew: requests that were on the old one never come."""
        self._seen[owner] = 0

    def parted(self, owner: str) -> None:
        """The scheduler is gone."""
        self._seen.pop(owner, None)

    def request(self, owner: str, request: Request, now: float) -> Done | None:
        """Does what a scheduler asks; None for a claim, which a beat answers."""
        self._seen[owner] = request.request
        if isinstance(request, Claim):
            self._claim(owner, request)
            return None
        seat = self._seats.get(request.shard)
        if seat is None or seat.epoch != request.epoch or seat.owner != owner:
            return Done(request.request, request.lease, None, _FENCED)
        if isinstance(request, Open):
            return self._open(request, now)
        lease = self._leases.get(request.lease)
        if lease is None:
            return Done(request.request, request.lease, None, _UNKNOWN)
        if isinstance(request, Close):
            self._shut(lease)
            return Done(request.request, lease.id, lease.state())
        grows = request.slots > lease.slots
        if lease.open and not (grows and self.draining):
            lease.slots = max(request.slots, lease.running)
        return Done(request.request, lease.id, lease.state())

    def _claim(self, owner: str, claim: Claim) -> None:
        seat = self._seats.get(claim.shard)
        if seat is None or claim.epoch > seat.epoch:
            # A claim may have been on its way for long, while its sender counts from when it sent it: only the
            # answer to a beat says that what runs here is known to the new owner.
            heard = float("-inf") if seat is None else seat.heard
            self._seats[claim.shard] = _Seat(claim.epoch, owner, heard)

    def _open(self, request: Open, now: float) -> Done:
        if self.draining:
            return Done(request.request, request.lease, None, _DRAINING)
        lease = _Lease(
            request.lease,
            request.shard,
            request.key,
            request.bucket,
            request.holder,
            request.memory_mb,
            request.slots,
            now + request.seconds,
        )
        self._leases[lease.id] = lease
        return Done(request.request, lease.id, lease.state())

    def answered(self, owner: str, answer: Answer, sent: float, now: float) -> None:
        """A beat, sent at `sent`, was answered."""
        for shard, epoch in answer.epochs.items():
            seat = self._seats.get(shard)
            if seat is not None and seat.owner == owner and seat.epoch == epoch:
                seat.heard = max(seat.heard, sent)
        for lease_id, seconds in answer.renew.items():
            lease = self._leases.get(lease_id)
            if lease is None or not lease.open:
                continue
            seat = self._seats[lease.shard]
            if seat.owner == owner and answer.epochs.get(lease.shard) == seat.epoch:
                lease.until = max(lease.until, now + seconds)

    # ---- time -----------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Closes the leases whose time is over."""
        for lease in list(self._leases.values()):
            if lease.open and lease.until <= now:
                self._shut(lease)

    def abandoned(self, now: float) -> Sequence[str]:
        """Leases with runs whose shard's owner has been silent for too long: closed now, and their runs are to
        be ended."""
        ended: list[str] = []
        for lease in list(self._leases.values()):
            if self._seats[lease.shard].heard + SILENT_SECONDS <= now:
                self._shut(lease)
                if lease.running:
                    ended.append(lease.id)
        return ended

    def deadline(self) -> float | None:
        """When the first run must have ended unless an owner answers before; None: nothing runs. Whoever
        watches over this process must end everything then, for it may be paused at that time."""
        shards = {lease.shard for lease in self._leases.values() if lease.running}
        return min(self._seats[shard].heard for shard in shards) + SILENT_SECONDS if shards else None

    def drain(self) -> None:
        """No more invocations: every lease is closed, and the next beats say so."""
        self.draining = True
        for lease in list(self._leases.values()):
            self._shut(lease)

    def _shut(self, lease: _Lease) -> None:
        lease.open = False
        lease.slots = lease.running
        self._forget_if_over(lease)

    def _forget_if_over(self, lease: _Lease) -> None:
        """An owner takes a lease that a beat does not name as closed, with nothing running."""
        if not lease.open:
            lease.slots = lease.running
            if lease.running == 0:
                self._leases.pop(lease.id, None)

    # ---- beats ----------------------------------------------------------------------------------------

    @property
    def owners(self) -> frozenset[str]:
        """Schedulers that own a shard here."""
        return frozenset(seat.owner for seat in self._seats.values())

    @property
    def granted_mb(self) -> int:
        """Memory of all on-demand slots; provisioned environments are there whether or not they are used."""
        return sum(
            lease.slots * lease.memory_mb for lease in self._leases.values() if lease.bucket == "on-demand"
        )

    def goes_by(self, owner: str, shard: int, epoch: int) -> bool:
        """Whether a scheduler owns a shard by what is known here."""
        seat = self._seats.get(shard)
        return seat is not None and seat.owner == owner and seat.epoch == epoch

    @property
    def running(self) -> int:
        """Invocations under way."""
        return sum(lease.running for lease in self._leases.values())

    def beat(self, owner: str, facts: Beat, now: float) -> Beat:
        """What a scheduler is to know; `facts` has the executor's own numbers, the rest is filled in."""
        self.expire(now)
        epochs = {shard: seat.epoch for shard, seat in self._seats.items() if seat.owner == owner}
        leases = tuple(lease.state() for lease in self._leases.values() if lease.shard in epochs)
        return facts._replace(
            seen=self._seen.get(owner, 0),
            epochs=epochs,
            leases=leases,
            granted_mb=facts.granted_mb + self.granted_mb,
            draining=self.draining,
        )
