"""The EnvironmentHost port: which environment takes an execution, and when environments start, stop and die.

One pool per (uid, version, generation). The most recently used idle environment is taken first, so that the
others can stop. An execution that finds none waits in its pool; every environment that becomes idle serves the
first one waiting, whichever start it was meant for. Memory is reserved whole, as the limits are; under pressure
the least recently used idle environment of any function goes.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Mapping, Sequence

from lambent.executor import limits, traces
from lambent.executor.drivers.base import Driver, EnvironmentSpec, NoRoom, Sandbox
from lambent.executor.environment import Environment
from lambent.executor.environment_states import EnvironmentState
from lambent.executor.execution import Execution
from lambent.executor.image_cache import ImageCache
from lambent.executor.launching import Asked, HostConfig, Launcher
from lambent.executor.meter import Meter
from lambent.executor.pools import ON_DEMAND, Pool, PoolKey, Slot
from lambent.executor.restore import Restore
from lambent.executor.runtimes.registry import Runtimes
from lambent.executor.templates import TemplateOwner, Templates
from lambent.executor.trees import Trees
from lambent.kernel import metrics, tracing
from lambent.kernel.errors import (
    LambdaError,
    ServiceException,
    TooManyRequestsException,
)
from lambent.kernel.log import Log
from lambent.kernel.models import Enforcement, FunctionVersion, Invocation, Outcome, Report, VersionKey
from lambent.kernel.ports import Clock, Kept, Lease, LogStore
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
# How long an execution waits for an environment that has answered before a new one is started for it.
_PATIENCE_SECONDS = 0.01
_ROOM_SECONDS = 1.0
INIT_FAILURE = "FUNCTION_ERROR_INIT_FAILURE"
_COLLECT_SECONDS = 60.0


class Host:
    """`ports.EnvironmentHost` on this machine."""

    def __init__(
        self,
        config: HostConfig,
        *,
        driver: Driver,
        trees: Trees,
        runtimes: Runtimes,
        logs: LogStore,
        meter: Meter,
        clock: Clock,
        images: ImageCache,
    ) -> None:
        self._config = config
        self._driver = driver
        self._trees = trees
        self._clock = clock
        self._tasks = Tasks("executor", on_death=None)
        self._images = images
        self._launcher = Launcher(
            config, trees, runtimes, logs, meter, clock, self._tasks, self._sandbox, images
        )
        self._templates = Templates(driver, self._tasks, self._template)
        self._pools: dict[PoolKey, Pool] = {}
        self._pool_of: dict[Environment, Pool] = {}
        self._busy: set[Execution] = set()
        self._disposals: dict[Environment, asyncio.Task[None]] = {}
        self._reserved_mb = 0
        self._start_slots = asyncio.Semaphore(config.starts_at_once)
        self._stopping = False

    async def open(self) -> None:
        """Reaps what an earlier run left, and gets ready."""
        await self._driver.open()
        await self._images.open()
        metrics.environments.labels("parked").set_function(lambda: self._driver.parked)
        self._tasks.forever("reaper", self._stop_idle())
        self._tasks.forever("tree collector", self._collect_trees())

    # ---- EnvironmentHost ------------------------------------------------------------------------------

    def invoke(self, invocation: Invocation, lease: Lease) -> Execution:
        if tracing.active is not None:
            return traces.traced(invocation, lambda under: self._invoke(under, lease))
        return self._invoke(invocation, lease)

    def _invoke(self, invocation: Invocation, lease: Lease) -> Execution:
        execution = Execution(invocation, lease, asked=self._clock.monotonic())
        if self._stopping:
            execution.fail(ServiceException("The server is stopping. Try again in a moment."))
            return execution
        key = invocation.target.key, lease.bucket
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(invocation.target, lease.bucket)
        self._busy.add(execution)
        execution.cancelled = functools.partial(self._cancel, pool, execution)
        pool.label.concurrent.inc()
        execution.report.add_done_callback(functools.partial(self._over, pool, execution))
        while pool.idle:
            environment = pool.idle.pop()
            if environment.wake():
                environment.begin(execution)
                return execution
        self._pools[key] = pool  # forgotten by now, if its last environment was found dead
        pool.waiting.append(execution)
        self._start_what_is_missing(pool)
        return execution

    def _cancel(self, pool: Pool, execution: Execution) -> None:
        if execution in pool.waiting:
            pool.waiting.remove(execution)
            execution.fail(ServiceException("The invocation was cancelled before it began."))
            return
        for environment in pool.environments:
            if environment.runs(execution):
                environment.cut_off()
                return

    async def prepare(self, target: FunctionVersion) -> None:
        expected = await self._launcher.fetched(target)
        if expected is not None:
            self._driver.expect(expected)
        if target.restores:
            await self._templates.prepare(target)

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        self._templates.forget_function(uid, version, keep)
        for (key, _), pool in list(self._pools.items()):
            if key.uid == uid and key != keep and version in (None, key.version):
                pool.wanted = 0
                for environment in list(pool.environments):
                    environment.stop()
                self._forget_if_empty(pool)

    def enforcement(self) -> Sequence[Enforcement]:
        return self._driver.enforcement()

    def warm(self) -> Mapping[VersionKey, int]:
        """Idle on-demand environments."""
        return {
            key: len(pool.idle)
            for (key, bucket), pool in self._pools.items()
            if pool.idle and bucket == ON_DEMAND
        }

    def provision(self, target: FunctionVersion, bucket: str, wanted: int, tags: Mapping[str, str]) -> None:
        key = target.key, bucket
        pool = self._pools.get(key)
        if pool is None:
            if wanted == 0:
                return
            pool = self._pools[key] = Pool(target, bucket)
        if wanted > pool.wanted:
            pool.failed, pool.failures, pool.not_before = "", 0, 0.0
        pool.wanted, pool.tags = wanted, tags
        for environment in pool.spare:
            environment.stop()
        self._start_what_is_kept(pool)
        self._forget_if_empty(pool)

    def kept_targets(self) -> Sequence[Pool]:
        """The pools of allocations."""
        return [pool for pool in self._pools.values() if pool.wanted]

    def provisioned(self) -> Sequence[Kept]:
        return [pool.kept() for pool in self._pools.values() if pool.wanted]

    # ---- starting -------------------------------------------------------------------------------------

    def _start_what_is_missing(self, pool: Pool) -> None:
        """One start for each execution that neither a start under way nor an environment that has just answered
        will serve. A client's next request often comes before the runtime has asked for it: a cold start for
        that would cost a hundred times the wait, and leave one environment too many."""
        while len(pool.waiting) > pool.starting + len(pool.answered):
            self._start_one(pool)
        if len(pool.waiting) > pool.starting and pool.patience is None:
            loop = asyncio.get_running_loop()
            pool.patience = loop.call_later(_PATIENCE_SECONDS, self._patience_is_over, pool)

    def _start_what_is_kept(self, pool: Pool) -> None:
        """What an allocation lacks; after a failure a while later."""
        if self._stopping or not pool.short:
            return
        left = pool.not_before - self._clock.monotonic()
        if left > 0:
            self._tasks.once("provision later", self._provision_later(pool, left))
            return
        for _ in range(pool.short):
            self._start_one(pool)

    async def _provision_later(self, pool: Pool, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._start_what_is_kept(pool)

    def _patience_is_over(self, pool: Pool) -> None:
        pool.patience = None
        while len(pool.waiting) > pool.starting and not self._stopping:
            self._start_one(pool)

    def _start_one(self, pool: Pool) -> None:
        pool.starting += 1
        pool.unmade += 1
        self._tasks.once(f"start {pool.target.name}", self._start(pool))

    async def _start(self, pool: Pool) -> None:
        environment: Environment | None = None
        error: LambdaError | None = None
        unmade = True
        asked = self._clock.monotonic()
        # Who waits for it, for the trace.
        cause = pool.waiting[min(pool.starting, len(pool.waiting)) - 1].invocation if pool.waiting else None
        try:
            await self._room_in_memory(pool)
            async with Slot(self._start_slots):
                # Else it was served by another environment meanwhile.
                if pool.waiting or len(pool.environments) < pool.wanted:
                    environment = self._new_environment(pool)
                    unmade = False
                    pool.unmade -= 1
                    await environment.start()
        except LambdaError as failure:
            error = failure
        except Exception as failure:
            _log.error("An environment could not be started.", function=pool.target.name, exc_info=failure)
            error = limits.platform_error(failure)
        finally:
            pool.starting -= 1
            pool.unmade -= unmade
        if error is not None:
            pool.label.start_failures.inc()
            if environment is not None:
                self._drop(pool, environment)
            if pool.wanted and not pool.waiting:
                pool.keep_failed(pool.failed, self._clock.monotonic())
                _log.warning(
                    "A provisioned environment could not be started; it is tried again.",
                    function=pool.target.name,
                    why=error.message,
                )
            self._refuse(pool, error)
        elif environment is not None:
            pool.label.start.observe(self._clock.monotonic() - asked)
            if tracing.active is not None and cause is not None:
                now = self._clock.monotonic()
                traces.started(cause, environment, took=now - asked, init=now - environment.init_begun)
            if environment.state is EnvironmentState.INIT_FAILED:
                pool.label.init_failures.inc()
                if pool.wanted and not pool.waiting:
                    pool.keep_failed(INIT_FAILURE, self._clock.monotonic())
                    self._drop(pool, environment)
                else:
                    self.environment_idle(environment)
            elif pool.wanted:
                pool.failed, pool.failures = "", 0
        if not self._stopping:
            self._start_what_is_missing(pool)
            self._start_what_is_kept(pool)
        self._forget_if_empty(pool)

    def _refuse(self, pool: Pool, error: LambdaError) -> None:
        """Fails the execution that waits longest. One that memory is short for, and that has not waited long
        itself, goes on waiting for an environment that is busy now."""
        if not pool.waiting:
            return
        waited = self._clock.monotonic() - pool.waiting[0].asked
        if isinstance(error, TooManyRequestsException) and pool.environments and waited < _ROOM_SECONDS:
            return
        if isinstance(error, TooManyRequestsException):
            name = metrics.function_label(pool.target.name)
            metrics.throttles.labels(name, error.reason).inc()
        pool.waiting.popleft().fail(error)

    def _new_environment(self, pool: Pool) -> Environment:
        target = pool.target
        command = self._launcher.command(target)
        self._reserve(target.memory_size)
        asked = Asked(
            self,
            pool.waiting[0].invocation.tags if pool.waiting else pool.tags,
            provisioned=pool.bucket != ON_DEMAND,
            restore=Restore(template=False) if target.restores else None,
            snapshot=self._templates.snapshot(target),
        )
        environment = self._launcher.environment(target, command, asked)
        pool.environments.add(environment)
        self._pool_of[environment] = pool
        return environment

    def _template(self, target: FunctionVersion) -> Environment:
        """One that a snapshot is taken of."""
        asked = Asked(TemplateOwner(), restore=Restore(template=True))
        return self._launcher.environment(target, self._launcher.command(target), asked)

    async def _room_in_memory(self, pool: Pool) -> None:
        """Waits for a moment if memory is short and the function has environments that may become free: that is
        better for the caller than a throttle. Bounded, so that nothing hangs."""
        until = self._clock.monotonic() + _ROOM_SECONDS
        while pool.environments and pool.waiting and self._clock.monotonic() < until:
            if self._reserved_mb + pool.target.memory_size <= self._config.memory_mb or self._idle():
                return
            await self._clock.sleep(_ROOM_SECONDS / 40)

    def _idle(self) -> list[Environment]:
        """Those that may be stopped for want of room."""
        return [environment for pool in self._pools.values() for environment in pool.spare]

    def _reserve(self, memory_mb: int) -> None:
        while self._reserved_mb + memory_mb > self._config.memory_mb:
            idle = self._idle()
            if not idle:
                raise TooManyRequestsException(
                    "ConcurrentInvocationLimitExceeded",
                    f"Rate Exceeded. This machine's memory for environments ({self._config.memory_mb} MB, "
                    "LAMBENT_MEMORY_MB) is in use.",
                )
            min(idle, key=lambda environment: environment.idle_since).stop()
        self._reserved_mb += memory_mb

    async def _sandbox(self, spec: EnvironmentSpec) -> Sandbox:
        """From the driver. Where the host has no room, idle environments go first, the least recently used one
        by one: else one function's could keep another from running for as long as they are kept alive."""
        while True:
            try:
                sandbox = await self._driver.start(spec)
                metrics.environment_starts.labels(sandbox.start).inc()
                return sandbox
            except NoRoom:
                idle = self._idle()
                if not idle:
                    raise
                oldest = min(idle, key=lambda environment: environment.idle_since)
                oldest.stop()
                await asyncio.shield(self._disposals[oldest])

    # ---- what environments say (Owner) ----------------------------------------------------------------

    def environment_answered(self, environment: Environment) -> None:
        pool = self._pool_of.get(environment)
        if pool is not None and not environment.condemned:
            pool.answered.add(environment)

    def environment_idle(self, environment: Environment) -> None:
        pool = self._pool_of.get(environment)
        if pool is not None:
            pool.answered.discard(environment)
        if pool is None:
            environment.stop()
        elif pool.waiting:
            environment.begin(pool.waiting.popleft())
        else:
            pool.idle.append(environment)

    def environment_gone(self, environment: Environment) -> None:
        pool = self._pool_of.get(environment)
        if pool is not None:
            self._drop(pool, environment)
            self._start_what_is_kept(pool)
            self._forget_if_empty(pool)

    def execution_ended(self, environment: Environment, execution: Execution, report: Report) -> None:
        pool = self._pool_of.get(environment)
        if pool is None:
            return
        series = pool.label
        series.outcomes[report.outcome].inc()
        series.duration.observe(report.duration_ms / 1000)
        series.billed.inc(report.billed_ms)
        series.gb_seconds.inc(report.billed_ms * report.memory_size / 1_024_000)
        series.memory.observe(report.max_memory_used / (report.memory_size << 20))
        if report.init_ms is not None:
            series.init.observe(report.init_ms / 1000)
        if report.outcome is not Outcome.SUCCESS:
            series.errors.inc()

    def _over(self, pool: Pool, execution: Execution, _: object) -> None:
        """By the report, and so in every way in which an execution can end."""
        self._busy.discard(execution)
        pool.label.concurrent.dec()

    def _drop(self, pool: Pool, environment: Environment) -> None:
        pool.environments.discard(environment)
        self._pool_of.pop(environment, None)
        pool.answered.discard(environment)
        if environment in pool.idle:
            pool.idle.remove(environment)
        self._reserved_mb -= environment.target.memory_size
        disposal = self._tasks.once(f"dispose {environment.id}", environment.dispose())
        self._disposals[environment] = disposal
        disposal.add_done_callback(lambda _: self._disposals.pop(environment, None))

    def _forget_if_empty(self, pool: Pool) -> None:
        if pool.over and self._pools.get(pool.key) is pool:
            del self._pools[pool.key]

    # ---- stopping -------------------------------------------------------------------------------------

    async def _stop_idle(self) -> None:
        while True:
            await self._clock.sleep(min(1.0, self._config.keep_alive / 4))
            try:
                self._count_states()
                before = self._clock.monotonic() - self._config.keep_alive
                for pool in list(self._pools.values()):
                    for environment in [e for e in pool.spare if e.idle_since < before]:
                        environment.stop()
            except OSError as failure:  # out of descriptors, say: the next round may have some
                _log.error("Idle environments could not be stopped.", failure=failure)

    def _count_states(self) -> None:
        counts = Counter(e.state for pool in self._pools.values() for e in pool.environments)
        for state in EnvironmentState:
            metrics.environments.labels(state.value).set(counts[state])
        metrics.memory_reserved.set(self._reserved_mb << 20)
        metrics.memory_limit.set(self._config.memory_mb << 20)

    async def _collect_trees(self) -> None:
        """Unpacked code that no environment uses goes once the cache is over its size, least recently used
        first."""
        while True:
            await self._clock.sleep(_COLLECT_SECONDS)
            try:
                await self._trees.collect(self._config.cache_mb << 20)
                await self._images.collect(self._config.cache_mb << 20)
            except OSError as failure:
                _log.error("Unpacked code could not be removed.", failure=failure)

    async def drain(self, seconds: float) -> int:
        """No new work; waits for what runs, at most so long; how many executions were cut off."""
        self._stopping = True
        running = [execution.report for execution in self._busy]
        late = 0
        if running:
            _, rest = await asyncio.wait(running, timeout=seconds)
            late = len(rest)
        return late

    async def close(self) -> None:
        """Ends every environment, cut off or not, and undoes what was changed on the host."""
        self._stopping = True
        for pool in list(self._pools.values()):
            while pool.waiting:
                execution = pool.waiting.popleft()
                execution.fail(limits.stopped())
            for environment in list(pool.environments):
                self._drop(pool, environment)
        await self._tasks.drain(10.0)
        await self._driver.close()
