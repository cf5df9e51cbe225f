"""The environments of one version and bucket, and the executions that wait for one; the records that `host`
works on."""

import asyncio
from collections import deque
from collections.abc import Mapping

from lambent.executor.environment import Environment
from lambent.executor.execution import Execution
from lambent.kernel import metrics
from lambent.kernel.models import FunctionVersion, Outcome, VersionKey
from lambent.kernel.ports import Kept

ON_DEMAND = "on-demand"
_SLOT_SECONDS = 0.5
# After the init of a provisioned environment has failed, the next try waits; then twice as long, and so on.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

PoolKey = tuple[VersionKey, str]


class Pool:
    """The environments of one version and the executions that wait for one."""

    __slots__ = (
        "answered",
        "bucket",
        "environments",
        "failed",
        "failures",
        "idle",
        "label",
        "not_before",
        "patience",
        "starting",
        "tags",
        "target",
        "unmade",
        "waiting",
        "wanted",
    )

    def __init__(self, target: FunctionVersion, bucket: str = ON_DEMAND) -> None:
        self.target = target
        self.bucket = bucket
        self.environments: set[Environment] = set()
        self.idle: list[Environment] = []
        self.waiting: deque[Execution] = deque()
        self.starting = 0
        self.answered: set[Environment] = set()
        self.patience: asyncio.TimerHandle | None = None
        self.label = Series(target.name)
        self.unmade = 0  # starts that have not come to an environment yet
        self.wanted = 0  # environments that are kept initialised, of an allocation
        self.tags: Mapping[str, str] = {}
        self.failed = ""
        self.failures = 0
        self.not_before = 0.0

    @property
    def key(self) -> PoolKey:
        return self.target.key, self.bucket

    @property
    def short(self) -> int:
        """Environments that are missing of what is to be kept, and not on their way."""
        return max(0, self.wanted - len(self.environments) - self.unmade)

    @property
    def spare(self) -> list[Environment]:
        """Idle environments that may be stopped, the least recently used first."""
        return self.idle[: max(0, len(self.environments) - self.wanted)]

    @property
    def over(self) -> bool:
        """Whether nothing needs it any more."""
        return not (self.environments or self.waiting or self.starting or self.wanted)

    def keep_failed(self, reason: str, now: float) -> float:
        """One that was to be kept could not be initialised; seconds until the next try."""
        self.failed = reason
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * float(2 ** min(self.failures, 6)))
        self.failures += 1
        self.not_before = now + pause
        return pause

    def kept(self) -> Kept:
        """As AWS tells it: allocated and available."""
        ready = len(self.environments) - sum(e.starting for e in self.environments)
        started = len(self.environments) + self.unmade
        return Kept(self.target.key, self.bucket, self.wanted, started, ready, self.failed)


class Slot:
    """A place among the cold starts under way, given back at the end or after a moment: a long init is the
    function's own affair and must not keep others from starting."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._timer = asyncio.get_running_loop().call_later(_SLOT_SECONDS, self._give_back)

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._slots.release()


class Series:
    """A function's own metric series, looked up once."""

    __slots__ = (
        "billed",
        "concurrent",
        "duration",
        "errors",
        "gb_seconds",
        "init",
        "init_failures",
        "memory",
        "outcomes",
        "start",
        "start_failures",
    )

    def __init__(self, name: str) -> None:
        label = metrics.function_label(name)
        self.duration = metrics.duration.labels(label)
        self.init = metrics.init_duration.labels(label)
        self.start = metrics.cold_start_duration.labels(label)
        self.init_failures = metrics.init_failures.labels(label)
        self.start_failures = metrics.start_failures.labels(label)
        self.memory = metrics.memory_used.labels(label)
        self.billed = metrics.billed.labels(label)
        self.gb_seconds = metrics.billed_gb_seconds.labels(label)
        self.errors = metrics.errors.labels(label)
        self.concurrent = metrics.concurrent.labels(label)
        self.outcomes = {outcome: metrics.invocations.labels(label, outcome.value) for outcome in Outcome}
