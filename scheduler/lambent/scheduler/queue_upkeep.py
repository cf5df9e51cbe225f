"""What the queue needs every few seconds while there is something in it: its numbers as metrics, and a bound
on the events that were given up.

The bound is per function and drops the oldest, loudly: dead events are a convenience, and must never take the
room that events need.
"""

from collections.abc import Sequence

from lambent.kernel import metrics
from lambent.kernel.errors import LambdaError
from lambent.kernel.events import LaneDepth
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock, EventQueue, FunctionStore

_log = Log(__name__)
_SECONDS = 5.0
_SWEEP_SECONDS = 3600.0
_PAGE = 200
_GAUGES = {
    "depth": metrics.queue_depth,
    "in_flight": metrics.queue_in_flight,
    "delayed": metrics.queue_delayed,
    "age": metrics.queue_age,
    "outcomes": metrics.queue_outcomes,
    "dead": metrics.queue_dead,
}


async def lane_names(store: FunctionStore, depths: Sequence[LaneDepth]) -> dict[str, str | None]:
    """{lane: name of its function, None for one that is deleted}. Raises ServiceException."""
    names: dict[str, str | None] = dict.fromkeys(depth.lane for depth in depths)
    after: str | None = None
    while rows := await store.page(after=after, limit=_PAGE):
        names |= {row.uid: row.name for row in rows if row.uid in names}
        after = rows[-1].name
    return names


def _only_dead(depth: LaneDepth) -> bool:
    """Nothing of it is read any more, and nobody can name its function to purge it."""
    return depth.dead > 0 and not (depth.ready or depth.in_flight or depth.delayed or depth.outcomes)


class QueueUpkeep:
    """`keep_dead`: dead events kept of each function. Run `run` under `Tasks.forever`."""

    def __init__(self, queue: EventQueue, *, store: FunctionStore, clock: Clock, keep_dead: int = 1000) -> None:
        self._queue = queue
        self._store = store
        self._names: dict[str, str | None] = {}
        self._clock = clock
        self._keep_dead = keep_dead
        self._shown: dict[str, dict[str, float]] = {}

    async def run(self) -> None:
        """Looks each few seconds; nothing of it depends on whether events come."""
        while True:
            await self.look()
            await self._clock.sleep(_SECONDS)

    async def run_sweep(self) -> None:
        """Deletes payloads of events that are gone, now and each hour; for `Tasks.forever`."""
        while True:
            try:
                await self._queue.sweep()
            except LambdaError as failure:
                _log.warning("Payloads of events that are gone stay for an hour more.", why=failure.message)
            await self._clock.sleep(_SWEEP_SECONDS)

    async def look(self) -> None:
        """One round. An outage is said by the queue already; the gauges stay as they are."""
        try:
            depths = await self._queue.lanes()
            if any(depth.lane not in self._names for depth in depths):
                self._names = await lane_names(self._store, depths)
            for depth in depths:
                if self._names.get(depth.lane) is None and _only_dead(depth):
                    # The server was down when the function was deleted, or a target took none of its outcomes.
                    await self._queue.drop_lane(depth.lane)
                    _log.warning(
                        "Dropped given-up events of a deleted function.", lane=depth.lane, events=depth.dead
                    )
                elif depth.dead > self._keep_dead:
                    await self._trim(depth)
        except LambdaError as failure:
            _log.debug("The queue cannot be looked at.", why=failure.message)
            return
        self._show(depths)

    def hide(self) -> None:
        """Another process shows the queue's numbers: those that were shown here would be counted twice."""
        if self._shown:
            self._show([])
            self._shown = {}

    async def _trim(self, depth: LaneDepth) -> None:
        dropped = await self._queue.trim_dead(depth.lane, keep=self._keep_dead)
        name = self._names.get(depth.lane) or depth.lane
        metrics.dead_discarded.labels(metrics.function_label(name)).inc(dropped)
        _log.warning(
            "The oldest events that were given up are discarded: a dead-letter queue would keep them.",
            function=name,
            events=dropped,
            kept=self._keep_dead,
        )

    def _show(self, depths: Sequence[LaneDepth]) -> None:
        """A lane that ran empty is shown as 0 once more, then not touched."""
        shown: dict[str, dict[str, float]] = {}
        for depth in depths:
            name = self._names.get(depth.lane)
            if name is None:
                continue  # its function is deleted
            numbers = shown.setdefault(metrics.function_label(name), dict.fromkeys(_GAUGES, 0.0))
            numbers["depth"] += depth.ready + depth.in_flight + depth.delayed
            numbers["in_flight"] += depth.in_flight
            numbers["delayed"] += depth.delayed
            numbers["age"] = max(numbers["age"], depth.oldest_age or 0.0)
            numbers["outcomes"] += depth.outcomes
            numbers["dead"] += depth.dead
        for label in filter(metrics.has_series, self._shown.keys() - shown.keys()):
            shown[label] = dict.fromkeys(_GAUGES, 0.0)
        for label, numbers in shown.items():
            for what, value in numbers.items():
                _GAUGES[what].labels(label).set(value)
        self._shown = {label: numbers for label, numbers in shown.items() if any(numbers.values())}
