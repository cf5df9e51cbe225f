"""What a process tells of itself by looking now and then: how late its event loop is, whether Redis answers,
and which functions are still there, so that the series of deleted ones end."""

import asyncio
from collections.abc import Awaitable, Callable

from lambent.kernel import metrics
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Function
from lambent.kernel.ports import Clock, FunctionStore, UsageLedger

_log = Log(__name__)
_LAG_SECONDS = 1.0
_PING_SECONDS = 5.0
_PING_TIMEOUT = 5.0
_SERIES_SECONDS = 15.0
# So long the series of a function that is not there stay: Prometheus must see their last values.
GRACE_SECONDS = 300.0


class Vitals:
    """`resolve(name)` gives a function or None, from a cache if there is one; `slots()` those that are granted
    here, if this is who grants them. Run `run_second`, `run_redis` and `run_series` under `Tasks.forever`."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        ledger: UsageLedger,
        resolve: Callable[[str], Awaitable[Function | None]],
        slots: Callable[[], int] | None = None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._resolve = resolve
        self._slots = slots
        self._clock = clock
        self._absent: dict[str, float] = {}  # function -> monotonic time since when it is not there

    async def run_second(self) -> None:
        """A sleep that ends late has waited for whatever held the loop."""
        while True:
            if self._slots is not None:
                metrics.lease_slots.set(self._slots())
            before = self._clock.monotonic()
            await self._clock.sleep(_LAG_SECONDS)
            metrics.loop_lag.observe(max(0.0, self._clock.monotonic() - before - _LAG_SECONDS))

    async def run_redis(self) -> None:
        """An outage is said by those who need Redis; here it is a number."""
        while True:
            await self.ping()
            await self._clock.sleep(_PING_SECONDS)

    async def ping(self) -> None:
        """One look at Redis."""
        before = self._clock.monotonic()
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                await self._store.ping()
        except (LambdaError, TimeoutError):
            metrics.redis_up.set(0)
            return
        metrics.redis_up.set(1)
        metrics.redis_ping.set(self._clock.monotonic() - before)

    async def run_series(self) -> None:
        """Asks about the functions that have series, which are few, and never about all."""
        while True:
            try:
                await self.look()
            except LambdaError as failure:
                _log.debug("Functions and usage cannot be looked at.", why=failure.message)
            await self._clock.sleep(_SERIES_SECONDS)

    async def look(self) -> None:
        """Raises LambdaError while Redis does not answer; series stay as they are then."""
        for name in metrics.known_functions():
            function = await self._resolve(name)
            if function is not None:
                self._absent.pop(name, None)
                metrics.show_reserved(name, function.reserved_concurrency)
            elif (
                self._clock.monotonic() - self._absent.setdefault(name, self._clock.monotonic())
                >= GRACE_SECONDS
            ):
                del self._absent[name]
                metrics.forget(name)
        metrics.ledger_missing.set(await self._ledger.missing())
