"""The state machine of one execution environment: starting, idle, busy, frozen, dead.

It makes no system call (a driver's Sandbox does) and decides nothing about who runs where (the host does). Two
rules shape it. A caller's fate never reaches the environment: only the runtime's own calls and its exit move
the machine. And nothing dirty is used again: after a timeout, a crash or an oversized response the environment
dies, and the host makes another. AWS: "Lambda execution environment lifecycle".
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from lambent.executor import limits, responses
from lambent.executor.attached import ENDING_SECONDS, Attached
from lambent.executor.drivers.base import Exit, Sandbox
from lambent.executor.ending import Ending
from lambent.executor.environment_states import EnvironmentState, InitFailed, Owner, TooMany
from lambent.executor.execution import Execution
from lambent.executor.function_log import FunctionLog
from lambent.executor.meter import Meter
from lambent.executor.output import Output
from lambent.executor.restore import NEXT, Restore
from lambent.executor.runtime_api import (
    ACCEPTED,
    Answer,
    Budget,
    Posted,
    RuntimeConnection,
    Waiting,
    next_head,
    refusal,
)
from lambent.executor.runtimes.entrypoint import NotStartable
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import FunctionVersion, Outcome, Report, Response
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

# A timer of the loop may go off so much too soon; an init that had its ten seconds must not be told as less.
_EARLY_SECONDS = 0.002
# A runtime client has one or two; extensions and telemetry have some more.
_MAX_CONNECTIONS = 64


class Environment(Ending):
    """One environment. `launch` starts a runtime process for it; called again for a suppressed init. It raises
    LambdaError, and NotStartable, which is the function's."""

    def __init__(
        self,
        environment_id: str,
        target: FunctionVersion,
        *,
        launch: Callable[[], Awaitable[Sandbox]],
        owner: Owner,
        clock: Clock,
        log: FunctionLog,
        tasks: Tasks,
        meter: Meter,
        tags: Mapping[str, str],
        freeze_after: float,
        restore: Restore | None = None,
    ) -> None:
        self.id = environment_id
        self.target = target
        self.key = target.key
        self.state = EnvironmentState.STARTING
        self.idle_since = 0.0
        self.init_seconds = limits.INIT_SECONDS
        self._cut = False
        self.condemned = False  # busy now; to be stopped when done (its function was changed or deleted)
        self._launch = launch
        self._owner = owner
        self._clock = clock
        self.log = log
        self._tasks = tasks
        self._meter = meter
        self._tags = tags
        self._freeze_after = freeze_after
        self._restore = restore
        self._restore_ms: float | None = None
        self.init_failure: InitFailed | None = None
        self._loop = asyncio.get_running_loop()
        self._sandbox: Sandbox | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[RuntimeConnection] = set()
        self._budget = Budget()
        self._waiting: Waiting | None = None
        self._initialised: asyncio.Future[None] | None = None
        self._init_error: Response | None = None
        self._init_ms: float | None = None
        self._execution: Execution | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._freezer: asyncio.TimerHandle | None = None
        self._init_begun = 0.0
        self._output: Output | None = None
        self._dropping = asyncio.Lock()
        self._peak = 0
        self._cpu_us = 0
        self._attached: Attached | None = None
        self.external: Sequence[str] = ()
        """Names of the external extensions that `launch` has started; set by it."""

    # ---- starting -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """The init phase. Afterwards the environment is idle, or its init has failed and runs once more inside
        the first invocation. Raises LambdaError when the platform could not start it; it is dead then."""
        if self._restore is None:
            self.log.init_started("init")
        try:
            took = await self._init(self.init_seconds)
        except InitFailed as failure:
            self.init_failure = failure
            if self._restore is not None and (error := self._restore.failed(failure)) is not None:
                await self._restore_failed(failure)
                raise error from None
            self._log_init_failure(failure, phase="init")
            peak, cpu_us = self._used()
            self._meter.init_failed(
                self.target,
                self._tags,
                init_ms=(self._clock.monotonic() - self._init_begun) * 1000,
                peak_memory=peak,
                cpu_us=cpu_us,
            )
            await self._drop_sandbox(failed=failure)
            if self.state is EnvironmentState.STARTING:
                self.state = EnvironmentState.INIT_FAILED
            return
        except BaseException:
            self.state = EnvironmentState.DEAD
            await self._drop_sandbox()
            raise
        if self._restore is not None and self._restore.restored:
            self._restore_ms = took * 1000
            self.log.restore_ended(self._restore_ms)
        else:
            self._init_ms = took * 1000
            self.log.init_ended(self._init_ms, phase="init")
        self._become_idle()

    async def _restore_failed(self, failure: InitFailed) -> None:
        ms = (self._clock.monotonic() - self._init_begun) * 1000
        error_type = failure.response.error_type if failure.status == "error" else None
        self.log.restore_ended(ms, status=failure.status, error_type=error_type)
        self.state = EnvironmentState.DEAD
        await self._drop_sandbox(failed=failure)

    def kept(self) -> Sandbox:
        """That of a template whose init is over: what a snapshot is taken of."""
        if self._sandbox is None:
            raise RuntimeError("a template without a sandbox")
        if self._freezer is not None:
            self._freezer.cancel()
            self._freezer = None
        self._thaw()
        return self._sandbox

    async def _init(self, seconds: float) -> float:
        """Starts the runtime and waits for its first `next`; how long that took, in seconds."""
        self._init_error = None
        initialised = self._initialised = self._loop.create_future()
        try:
            launched = self._clock.monotonic()
            sandbox = self._sandbox = await self._launched()
            self._cpu_us = 0
            if self._cut:
                sandbox.kill()
            begun = self._init_begun = self._clock.monotonic()
            if self._restore is not None:
                seconds = self._restore.begun(sandbox, self.log, seconds)
                if self._restore.restored:  # what an init has before it begins is the restore itself here
                    begun = self._init_begun = launched
            self._attached = Attached(self, sandbox, log=self.log, clock=self._clock, tasks=self._tasks)
            self._output = Output(sandbox.output, self.log.output)
            sandbox.exited.add_done_callback(lambda done: self._exited(sandbox, done))
            self._server = await self._loop.create_server(self._connection, sock=sandbox.listener)
            timer = self._loop.call_later(seconds + _EARLY_SECONDS, self._init_timed_out, seconds)
            try:
                await initialised
            finally:
                timer.cancel()
            if sandbox.exited.done():  # it asked for an event and died, in one turn of the loop
                raise self._init_exit(sandbox.exited.result())
            self._drain_output()
            self._attached.initialised()
        finally:
            self._initialised = None
            if initialised.done() and not initialised.cancelled():
                initialised.exception()  # it may have failed while the launch did
        sandbox.initialised()
        return self._clock.monotonic() - begun

    async def _launched(self) -> Sandbox:
        try:
            return await self._launch()
        except NotStartable as failure:
            self._init_begun = self._clock.monotonic()
            raise InitFailed("error", limits.not_startable(self._asked, failure.kind, str(failure))) from None

    @property
    def _asked(self) -> str:
        """Whose error a failed init is: a suppressed one is part of an invocation, whose caller gets it as the
        answer."""
        return self._execution.invocation.request_id if self._execution is not None else ""

    def _connection(self) -> asyncio.Protocol:
        if len(self._connections) >= _MAX_CONNECTIONS:
            return TooMany()
        greeting = self._restore.greeting() if self._restore is not None else None
        connection = RuntimeConnection(self, self._budget, greeting)
        self._connections.add(connection)
        return connection

    def _init_timed_out(self, seconds: float) -> None:
        timeout = limits.timed_out("", seconds)
        self._fail_init(InitFailed("timeout", timeout))

    def _fail_init(self, failure: InitFailed) -> None:
        if self._initialised is not None and not self._initialised.done():
            self._initialised.set_exception(failure)

    def _log_init_failure(self, failure: InitFailed, *, phase: str) -> None:
        ms = (self._clock.monotonic() - self._init_begun) * 1000
        error_type = failure.response.error_type if failure.status == "error" else None
        self.log.init_ended(ms, phase=phase, status=failure.status, error_type=error_type)

    @property
    def starting(self) -> bool:
        return self.state is EnvironmentState.STARTING

    @property
    def init_begun(self) -> float:
        """When the runtime was there and its init began; monotonic."""
        return self._init_begun

    # ---- an invocation --------------------------------------------------------------------------------

    def wake(self) -> bool:
        """Before `begin`: whether an idle environment still lives. One that died since it was used is found
        here at the latest, before an event is lost in it."""
        if self.state is EnvironmentState.INIT_FAILED:
            return True
        try:
            self._thaw()
            alive = self._sandbox is not None and self._sandbox.alive()
        except OSError as failure:
            _log.warning("An idle environment cannot be looked at.", environment=self.id, failure=failure)
            alive = False
        if not alive:
            _log.warning(
                "An environment died between invocations.", environment=self.id, function=self.target.name
            )
            self._die()
        return alive

    def begin(self, execution: Execution) -> None:
        """Gives an idle environment, or one whose init failed, an invocation."""
        self._execution = execution
        self.log.tail = execution.tail
        execution.begun = self._clock.monotonic()
        if self.state is EnvironmentState.INIT_FAILED:
            self.state = EnvironmentState.BUSY
            self._tasks.once(f"suppressed init {self.id}", self._begin_with_init(execution))
            return
        try:
            self._thaw()
            self.state = EnvironmentState.BUSY
            execution.init_ms, self._init_ms = self._init_ms, None
            execution.restore_ms, self._restore_ms = self._restore_ms, None
            self._hand_over(execution, self.target.timeout)
        except Exception as failure:
            self._fail(failure)

    async def _begin_with_init(self, execution: Execution) -> None:
        try:
            await self._init_again(execution)
        except Exception as failure:
            self._fail(failure)

    async def _init_again(self, execution: Execution) -> None:
        """AWS's suppressed init: after a failed init it runs again inside the first invocation, under the
        function's timeout, and its time counts as Duration."""
        self.log.init_started("invoke")
        try:
            took = await self._init(self.target.timeout)
        except InitFailed as failure:
            self._log_init_failure(failure, phase="invoke")
            self.log.started(execution.invocation)
            if failure.status == "timeout":
                self._answer_timeout(execution)
            else:
                self._answer_crash(execution, Outcome.INIT_ERROR, failure.response)
            self.state = EnvironmentState.DEAD
            try:
                await self._drop_sandbox(failed=failure)
            finally:
                self._complete(execution)
                self._owner.environment_gone(self)
            return
        self.log.init_ended(took * 1000, phase="invoke")
        left = execution.begun + self.target.timeout - self._clock.monotonic()
        self._hand_over(execution, max(0.0, left))

    def _hand_over(self, execution: Execution, seconds: float) -> None:
        invocation = execution.invocation
        self.log.started(invocation)
        self._timer = self._loop.call_later(seconds, self._timed_out)
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            raise RuntimeError("an environment was handed an event while its runtime did not wait in next")
        deadline = int((self._clock.now() + seconds) * 1000)
        waiting.give(next_head(invocation, deadline), invocation.payload)
        if self._attached is not None:
            self._attached.invoke(invocation, deadline)

    def _timed_out(self) -> None:
        try:
            self._time_is_over()
        except Exception as failure:
            self._fail(failure)

    def _time_is_over(self) -> None:
        execution, sandbox = self._execution, self._sandbox
        if execution is None or sandbox is None:
            raise RuntimeError("a timeout without an execution")
        if not execution.answered:
            self._drain_output()
            self._answer_timeout(execution)
        self.state = EnvironmentState.DEAD
        if sandbox.exited.done():
            self._complete(execution)
            self._owner.environment_gone(self)
        else:
            self._end(sandbox, "timeout")  # `_exited` completes the execution once everything is dead

    def _fail(self, failure: Exception) -> None:
        """The platform's own fault in the middle of things: it is told, and nobody waits for ever, no slot and
        no memory stays taken."""
        _log.error(
            "An environment failed by the platform's fault.",
            environment=self.id,
            function=self.target.name,
            exc_info=None if isinstance(failure, LambdaError) else failure,
            why=str(failure),
        )
        self.state = EnvironmentState.DEAD
        execution, self._execution = self._execution, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if execution is not None:
            execution.fail(limits.platform_error(failure))
        self._owner.environment_gone(self)  # which disposes of it

    # ---- the runtime's calls (RuntimeCalls) -----------------------------------------------------------

    def next_called(self, waiting: Waiting) -> Answer | None:
        if self._initialised is not None and not self._initialised.done():
            self._waiting = waiting
            self.extensions_settled()
            return None
        execution = self._execution
        if self.state is EnvironmentState.BUSY and execution is not None and execution.answered:
            self._waiting = waiting
            self.extensions_settled()
            return None
        return refusal(
            403,
            "InvalidStateTransition",
            f"State transition from {self.state} to Ready failed for runtime. "
            "Error: State transition is not allowed",
        )

    def extensions_settled(self) -> None:
        """The runtime or an extension asks for more: what they all waited for is over, once they all do."""
        attached = self._attached
        if self._waiting is None:
            return
        if self._initialised is not None:
            if not self._initialised.done() and (attached is None or attached.extensions.settled):
                self._initialised.set_result(None)
            return
        execution = self._execution
        if execution is None or not execution.answered or self.state is not EnvironmentState.BUSY:
            return
        if attached is None or not attached.extensions.busy:
            self._complete(execution)
            self._become_idle()

    def runtime_ended(self) -> None:
        """See `Attached`: its exit is the answer, even if its extensions take until the timeout."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(ENDING_SECONDS, self._timed_out)

    def extension_failed(self, response: Response) -> None:
        """See `Attached`: an execution under way fails with it, and the environment is not used again."""
        execution, sandbox = self._execution, self._sandbox
        told = limits.with_request(response, self._asked)
        if self._initialised is not None:
            self._fail_init(InitFailed("error", told))
            return
        if execution is not None and not execution.answered:
            self._answer_crash(execution, Outcome.CRASH, told)
        if execution is None:
            self._die()
        elif sandbox is not None:
            self.state = EnvironmentState.DEAD
            self._end(sandbox, "failure")

    def other_called(self, method: str, path: str, posted: Posted, waiting: RuntimeConnection) -> Answer | None:
        if self._restore is not None and (method, path) == ("GET", NEXT):
            answer = self._restore.next(initialising=self._initialised is not None)
            if answer is None and self._initialised is not None and not self._initialised.done():
                self._initialised.set_result(None)
            return answer
        if self._attached is None:
            return refusal(404, "NotFound", f"There is no {method} {path}.")
        return self._attached.serve(method, path, posted, waiting)

    def init_error_posted(self, posted: Posted) -> Answer:
        if self._initialised is None:
            return refusal(403, "InvalidStateTransition", "Init has ended; post invocation errors instead.")
        self._init_error = responses.error(posted).response
        return ACCEPTED

    def broken(self, failure: Exception) -> None:
        """A call of the runtime could not be served by our own fault."""
        self._fail(failure)

    def hung_up(self, waiting: RuntimeConnection) -> None:
        """A runtime that hangs up while it waits in `next` is ending: nothing more is given to it."""
        self._connections.discard(waiting)
        if self._attached is not None:
            self._attached.extensions.hung_up(waiting)
        if waiting is self._waiting and self._sandbox is not None:
            self._waiting = None
            if self.state in (EnvironmentState.IDLE, EnvironmentState.FROZEN):
                self._die()

    def _answer_is_out(self) -> None:
        self._owner.environment_answered(self)

    def _execution_is_over(self, execution: Execution, numbers: Report) -> None:
        self._owner.execution_ended(self, execution, numbers)

    def _running(self, request_id: str) -> Execution | None:
        execution = self._execution
        if execution is None or execution.answered or execution.invocation.request_id != request_id:
            return None
        return execution

    # ---- idle and gone --------------------------------------------------------------------------------

    def _become_idle(self) -> None:
        if self.condemned:
            self._die()
            return
        self.state = EnvironmentState.IDLE
        self.idle_since = self._clock.monotonic()
        self._owner.environment_idle(self)
        # The host may have begun the next invocation in that call.
        if self.state is EnvironmentState.IDLE and self._freezer is None:
            self._freezer = self._loop.call_later(self._freeze_after, self._freeze)

    def _freeze(self) -> None:
        """The timer is not moved at each invocation (that costs more than it saves): it looks at how long the
        environment has been idle by now, and comes again."""
        self._freezer = None
        if self.state is not EnvironmentState.IDLE or self._sandbox is None:
            return
        left = self.idle_since + self._freeze_after - self._clock.monotonic()
        if left > 0.0005:
            self._freezer = self._loop.call_later(left, self._freeze)
            return
        if self._attached is not None:
            self._attached.frozen(True)
        self._sandbox.freeze()
        self.state = EnvironmentState.FROZEN

    def _thaw(self) -> None:
        if self.state is EnvironmentState.FROZEN and self._sandbox is not None:
            self._sandbox.thaw()
            self.state = EnvironmentState.IDLE
            if self._attached is not None:
                self._attached.frozen(False)

    def _die(self) -> None:
        self.state = EnvironmentState.DEAD
        if self._sandbox is not None and not (self._attached is not None and self._attached.extensions):
            self._sandbox.kill()  # else `dispose` gives its extensions their time
        self._owner.environment_gone(self)

    def stop(self) -> None:
        """Stops an idle environment now, a busy one when its invocation has ended."""
        # One that is ending under an execution is gone by itself once that is metered and reported.
        if self.state in (EnvironmentState.BUSY, EnvironmentState.STARTING) or self._execution is not None:
            self.condemned = True
        else:  # a dead one too, if it is still held anywhere
            self._die()

    def runs(self, execution: Execution) -> bool:
        """Whether it has this execution, and not answered it."""
        return self._execution is execution and not execution.answered

    def _exited(self, sandbox: Sandbox, done: "asyncio.Future[Exit]") -> None:
        if sandbox is not self._sandbox or done.cancelled():
            return
        try:
            self._ended(done.result())
        except Exception as failure:
            self._fail(failure)

    def _init_exit(self, end: Exit) -> InitFailed:
        _, response = limits.exited(self._asked, end)
        return InitFailed("error", self._init_error or response)

    def _ended(self, end: Exit) -> None:
        self._drain_output()
        if self._initialised is not None:
            self._fail_init(self._init_exit(end))  # if init is done already, `_init` finds the exit itself
            return
        execution, was = self._execution, self.state
        self.state = EnvironmentState.DEAD
        if execution is not None:
            if not execution.answered:
                outcome, response = limits.exited(execution.invocation.request_id, end)
                self._answer_crash(execution, outcome, response)
            self._complete(execution)
        elif was is not EnvironmentState.DEAD:
            _log.warning(
                "A runtime process ended between invocations.",
                environment=self.id,
                function=self.target.name,
                end=limits.exit_text(end),
            )
        self._owner.environment_gone(self)
