"""What really runs, as nobody in the cluster can know it: every environment's beginning and end."""

from collections import Counter
from dataclasses import dataclass, field

from lambent.kernel.models import VersionKey


@dataclass
class Truth:
    """`limits`: reserved slots by uid; `pool`: slots of all others together. `violations` has a text for each
    rule that was broken."""

    limits: dict[str, int]
    pool: int
    running: Counter[str] = field(default_factory=Counter)
    peaks: Counter[str] = field(default_factory=Counter)
    pooled: int = 0
    pool_peak: int = 0
    begun: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    """The generation before which nothing may begin, by uid."""
    violations: list[str] = field(default_factory=list)
    full: dict[str, float] = field(default_factory=dict)
    """When a limit's slots were last all in use, by uid; "" is the pool."""
    early: int = 0

    def begins(self, key: VersionKey, now: float) -> None:
        self.begun += 1
        uid = key.uid
        self.running[uid] += 1
        count = self.running[uid]
        if count > self.peaks[uid]:
            self.peaks[uid] = count
        limit = self.limits.get(uid)
        if limit is not None and count >= limit:
            self.full[uid] = now
        if limit is None:
            self.pooled += 1
            self.pool_peak = max(self.pool_peak, self.pooled)
            if self.pooled >= self.pool:
                self.full[""] = now
            if self.pooled > self.pool:
                self.violations.append(f"{now:.3f}: {self.pooled} of the pool's {self.pool} run")
        elif count > limit:
            self.violations.append(f"{now:.3f}: {count} of {uid} run, {limit} are reserved")
        if key.generation < self.settled.get(uid, 0):
            self.violations.append(f"{now:.3f}: {uid} began generation {key.generation} after its update")

    def ends(self, key: VersionKey, now: float) -> None:
        limit = self.limits.get(key.uid)
        if limit is not None and self.running[key.uid] >= limit:
            self.full[key.uid] = now
        self.running[key.uid] -= 1
        if limit is None:
            if self.pooled >= self.pool:
                self.full[""] = now
            self.pooled -= 1

    def refused(self, uid: str, now: float) -> None:
        """A limit was given as the reason. Early: not all its slots have been in use within the last second."""
        which = uid if uid in self.limits else ""
        full = self.running[uid] >= self.limits[uid] if which else self.pooled >= self.pool
        if not full and now - self.full.get(which, float("-inf")) > 1.0:
            self.early += 1
