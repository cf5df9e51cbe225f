"""What the owner of a shard, the executors and the holders of leases say to each other, and the times that they
keep to: one file, because the limits are exact only if all three mean the same.

A lease is a number of slots, the right to run so many invocations of one version at once on one executor. The
shard's owner grants it, an executor checks every invocation against it, a holder (a gateway, or the reader of
lanes) spends it. Only durations cross processes; each side counts on its own monotonic clock, in seconds.
Slots that were granted are counted until the executor has said that they are not used and never will be.
"""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from lambent.kernel.models import VersionKey

# A holder may use a lease for so long after the question that was answered with it. Longer than a takeover
# takes, so that steady traffic does not notice one; idle slots do not wait for it, the owner takes them back.
LEASE_SECONDS = 8.0
# Before the end: an invocation is not begun when a lease has less left.
LEASE_MARGIN = 1.0
BEAT_SECONDS = 1.0
# An executor ends a shard's runs when the owner has been silent for so long, counted from when it sent the last
# beat that was answered; an owner takes an executor's runs as ended when it has not heard it for longer.
SILENT_SECONDS = 15.0
FREED_SECONDS = SILENT_SECONDS + 3.0


def shard_of(uid: str, shards: int) -> int:
    """The shard that a function's leases are of."""
    return zlib.crc32(uid.encode()) % shards


class LeaseState(NamedTuple):
    """A lease as its executor has it. `running`: invocations under way. Not `open`: takes no more."""

    id: str
    shard: int
    key: VersionKey
    bucket: str
    holder: str
    memory_mb: int
    slots: int
    running: int
    open: bool


class KeptState(NamedTuple):
    """Environments of a provisioned allocation on an executor; `wanted`: how many it keeps."""

    key: VersionKey
    bucket: str
    started: int
    ready: int
    failed: str = ""
    wanted: int = 0


class Beat(NamedTuple):
    """An executor to a scheduler, once a second and whenever a shard is claimed: everything that it has of the
    shards in `epochs` ({shard: the epoch it goes by}). `seen`: the number of the last request of this scheduler
    that it has done. `granted_mb`: memory of all slots that are out there; `warm`: idle environments;
    `cached`: digests of code that is unpacked there. `replaces`: an executor whose environments are gone for
    certain, since this one has taken over its folder."""

    executor: str
    number: int
    seen: int
    epochs: Mapping[int, int]
    leases: tuple[LeaseState, ...]
    memory_mb: int
    granted_mb: int
    warm: Mapping[VersionKey, int]
    cached: frozenset[str] = frozenset()
    kept: tuple[KeptState, ...] = ()
    draining: bool = False
    replaces: str = ""


class Done(NamedTuple):
    """An executor has done what a request asked, or refused it (`state` None and a `reason`); also sent when a
    run under a closed lease ends (`request` 0)."""

    request: int
    lease: str
    state: LeaseState | None
    reason: str = ""


class Bye(NamedTuple):
    """The executor has ended all its environments."""

    executor: str


class Claim(NamedTuple):
    """A scheduler owns a shard from now on. Answered by a beat."""

    request: int
    shard: int
    epoch: int


class Answer(NamedTuple):
    """To a beat, by its number: `renew` the leases for so many seconds more."""

    number: int
    epochs: Mapping[int, int]
    renew: Mapping[str, float]


class Open(NamedTuple):
    """Takes invocations of a new lease."""

    request: int
    shard: int
    epoch: int
    lease: str
    key: VersionKey
    bucket: str
    holder: str
    memory_mb: int
    slots: int
    seconds: float


class Resize(NamedTuple):
    """Another number of slots, but never fewer than are running."""

    request: int
    shard: int
    epoch: int
    lease: str
    slots: int


class Close(NamedTuple):
    """Takes no more invocations of a lease."""

    request: int
    shard: int
    epoch: int
    lease: str


class Keep(NamedTuple):
    """Keeps so many environments of a provisioned allocation initialised. `target`: the stored form of the
    FunctionVersion; `tags` the function's."""

    request: int
    shard: int
    epoch: int
    key: VersionKey
    bucket: str
    wanted: int
    target: bytes
    tags: Mapping[str, str]


FromExecutor = Beat | Done | Bye
ToExecutor = Claim | Answer | Open | Resize | Close | Keep


class Ask(NamedTuple):
    """A holder asks for slots. `bucket`: a provisioned qualifier, or "on-demand"; `name` of the function, for
    the store and for metrics; `digest` of its code; `avoid`: executors that the holder cannot reach now."""

    holder: str
    name: str
    key: VersionKey
    bucket: str
    memory_mb: int
    digest: str
    want: int
    avoid: tuple[str, ...] = ()


class Granted(NamedTuple):
    """Slots on an executor, more of a lease that is known or a new one: `slots` is its whole number now."""

    lease: str
    epoch: int
    executor: str
    bucket: str
    slots: int
    added: int
    seconds: float


class Refused(NamedTuple):
    """No slots. `reason`: AWS's Reason for a throttle; or "stale" (the version is not what runs now: look in
    the store), "moved" (another scheduler owns the shard), "no executor"."""

    reason: str


STALE, MOVED, NO_EXECUTOR = "stale", "moved", "no executor"

Reply = tuple[Granted, ...] | Refused


class Held(NamedTuple):
    """What a holder says of a lease: `running` under it now, and `idle` slots that it gives back and does not
    use any more."""

    running: int
    idle: int


class Renewed(NamedTuple):
    """To a holder: {lease: (slots, seconds more)}; a missing lease is over. `wait`: the owner is new and
    does not know all leases yet, so that nothing is over. `stale`: names of functions that have changed;
    `freed`: uids that may be asked for again."""

    leases: Mapping[str, tuple[int, float]]
    stale: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()
    wait: bool = False
