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

    def begins(self, key: VersionKey, now: float) -> None:
        self.begun += 1
        uid = key.uid
        self.running[uid] += 1
        count = self.running[uid]
        if count > self.peaks[uid]:
            self.peaks[uid] = count
        limit = self.limits.get(uid)
        if limit is None:
            self.pooled += 1
            self.pool_peak = max(self.pool_peak, self.pooled)
            if self.pooled > self.pool:
                self.violations.append(f"{now:.3f}: {self.pooled} of the pool's {self.pool} run")
        elif count > limit:
            self.violations.append(f"{now:.3f}: {count} of {uid} run, {limit} are reserved")
        if key.generation < self.settled.get(uid, 0):
            self.violations.append(f"{now:.3f}: {uid} began generation {key.generation} after its update")

    def ends(self, key: VersionKey) -> None:
        self.running[key.uid] -= 1
        if key.uid not in self.limits:
            self.pooled -= 1
