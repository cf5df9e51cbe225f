"""What an environment does with its extensions: it waits for them in init and after an invocation, ends with
them, and gives them their time before it ends. AWS: "Lambda execution environment lifecycle", shutdown phase.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lambent.executor import extensions_api, limits
from lambent.executor.drivers.base import Exit, Sandbox
from lambent.executor.extensions import Extension, Extensions
from lambent.executor.function_log import FunctionLog
from lambent.executor.runtime_api import Answer, Posted, Waiting
from lambent.executor.subscribers import Subscribers
from lambent.kernel.log import Log
from lambent.kernel.models import FunctionVersion, Invocation, Response
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

# AWS: how long an environment may take to end: with external extensions, with internal ones only; and of that
# the runtime, without and with an internal one.
EXTERNAL_SECONDS, INTERNAL_SECONDS = 2.0, 0.5
RUNTIME_SECONDS, RUNTIME_WITH_INTERNAL_SECONDS = 0.3, 0.5
# Of that, what a subscriber may take for the telemetry that still waits: outside of the runtime, and in it.
_FLUSH_SECONDS, _FLUSH_INTERNAL_SECONDS = 0.5, 0.2
ENDING_SECONDS = EXTERNAL_SECONDS + 1.0
"""After the end of a runtime everything has ended by then."""


class Environment(Protocol):
    """What it needs of its environment. `external`: files of /opt/extensions."""

    target: FunctionVersion
    external: Sequence[str]

    def extensions_settled(self) -> None:
        """One has asked for its next event."""

    def runtime_ended(self) -> None:
        """By itself; the extensions have their time now, and then the sandbox ends as the runtime did."""

    def extension_failed(self, response: Response) -> None:
        """One has failed or crashed: nothing goes on in this environment. The message has no request id yet."""


class Attached:
    """The extensions of one start of a runtime."""

    def __init__(
        self,
        environment: Environment,
        sandbox: Sandbox,
        *,
        log: FunctionLog,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self.extensions = Extensions(environment.external)
        self._environment = environment
        self._sandbox = sandbox
        self._log = log
        self._clock = clock
        self._tasks = tasks
        self.subscribers = Subscribers(log, sandbox.sockets, clock=clock, tasks=tasks)
        self._launcher: Waiting | None = None
        self._runtime_gone = self._ending = False
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()

    def serve(self, method: str, path: str, posted: Posted, waiting: Waiting) -> Answer | None:
        """A call that is none of the Runtime API's."""
        return extensions_api.serve(self, method, path, posted, waiting)

    def initialised(self) -> None:
        """Nobody registers any more."""
        self.extensions.closed = True
        self.subscribers.initialised()
        for each in self.extensions:
            self._log.extension(each.name, "Ready", sorted(each.events))

    def invoke(self, invocation: Invocation, deadline_ms: int) -> None:
        if self.extensions:
            self.extensions.invoke(invocation, deadline_ms)

    def frozen(self, frozen: bool) -> None:
        if self.subscribers:
            self.subscribers.frozen(frozen)

    async def shut_down(self, reason: str) -> None:
        """Gives those who registered for it the end, and their time; the sandbox may then be killed. Nothing
        where there is none, or all have ended. Once: who comes later waits for the end that is under way, and
        does not kill in the middle of it."""
        if not self.extensions or self._sandbox.exited.done():
            return
        if self._ending:
            await self._ended.wait()
            return
        self._ending = True
        try:
            await self._end(reason)
        finally:
            self._ended.set()

    async def _end(self, reason: str) -> None:
        self._sandbox.exited.add_done_callback(lambda _: self._changed.set())
        external = self.extensions.external
        seconds = EXTERNAL_SECONDS if external else INTERNAL_SECONDS
        until = self._clock.monotonic() + seconds
        self._sandbox.thaw()
        internal = any(not each.external for each in self.extensions)
        if not self._runtime_gone:
            if internal:  # who listens in the runtime ends with it
                await self._flush(_FLUSH_INTERNAL_SECONDS)
            self._sandbox.signal(signal.SIGTERM)
            first = (RUNTIME_WITH_INTERNAL_SECONDS if internal else RUNTIME_SECONDS) if external else seconds
            await self._until(lambda: self._runtime_gone, self._clock.monotonic() + first)
        if external:
            await self._flush(_FLUSH_SECONDS)
            self.extensions.shut_down(reason, int((self._clock.now() + until - self._clock.monotonic()) * 1000))
            await self._until(lambda: not self.extensions.ending, until)

    async def _flush(self, seconds: float) -> None:
        """What comes after it goes out as it comes, as long as somebody takes it."""
        if not self.subscribers or self._sandbox.exited.done():
            return
        try:
            async with asyncio.timeout(seconds):
                await self.subscribers.flush()
        except TimeoutError:
            _log.info("A subscriber did not take the last of its telemetry.", sandbox=self._sandbox.id)

    async def _until(self, done: Callable[[], bool], until: float) -> None:
        while not done() and not self._sandbox.exited.done():
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return

    # ---- what extensions and their launcher say (extensions_api.Calls) --------------------------------

    def function_facts(self) -> dict[str, str]:
        target = self._environment.target
        return {
            "functionName": target.name,
            "functionVersion": target.version,
            "handler": target.handler,
            "accountId": target.role.split(":")[4],
        }

    def extension_registered(self, extension: Extension) -> None:
        self._release_launcher()

    def extension_waits(self, extension: Extension) -> None:
        self._environment.extensions_settled()

    def extension_failed(self, name: str, error_type: str, message: str, reason: str) -> None:
        self._fail(name, error_type, message, reason)

    def launcher_waits(self, waiting: Waiting) -> None:
        self._launcher = waiting
        self._release_launcher()

    def _release_launcher(self) -> None:
        launcher = self._launcher
        if launcher is not None and self.extensions.registered:
            self._launcher = None
            launcher.give(b"", b"{}")

    def close(self) -> None:
        """The environment is gone."""
        self.subscribers.close()

    def process_ended(self, document: Any, waiting: Waiting) -> None:
        if document.get("runtime"):
            if not self._runtime_gone and not self._ending:  # once: the function's code can say so, too
                self._environment.runtime_ended()
            self._runtime_gone = True
            self._changed.set()
            if not self._ending:  # else who ends it kills the launcher, too
                self._tasks.once("end of a runtime", self._end_with_runtime(waiting))
            return
        waiting.give(b"", b"{}")
        name = str(document.get("name"))
        extension = self.extensions.named(name)
        if extension is not None:
            extension.gone = True
        self._changed.set()
        if self._ending:
            return
        error = document.get("error")
        if error is not None:
            self._fail(name, "Extension.LaunchError", str(error))
            return
        text = limits.exit_text(exit_of(document.get("status")))
        self._fail(name, "Extension.Crash", text.removeprefix("Runtime exited with error: "))

    async def _end_with_runtime(self, waiting: Waiting) -> None:
        """The runtime has ended by itself: the extensions have their time, then the launcher ends as it did."""
        await self.shut_down("failure")
        waiting.give(b"", b"{}")

    def _fail(self, name: str, error_type: str, message: str, reason: str = "") -> None:
        if self._ending:
            return
        extension = self.extensions.named(name)
        events = sorted(extension.events) if extension is not None else []
        self._log.extension(name, error_type.removeprefix("Extension."), events, reason or message)
        self._environment.extension_failed(limits.failure(error_type, message))


def exit_of(status: object) -> Exit:
    """Of a wait status. The function's code can say anything in its place."""
    if not isinstance(status, int) or not 0 <= status <= 0xFFFF:
        return Exit(code=1)
    if os.WIFSIGNALED(status):
        return Exit(signal=os.WTERMSIG(status))
    return Exit(code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)
