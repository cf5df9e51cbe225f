"""The part of an environment that ends it: its extensions have their time, everything is killed and freed, and
nobody is left waiting."""

import asyncio
from abc import abstractmethod

from lambent.executor import limits
from lambent.executor.answering import Answering
from lambent.executor.drivers.base import Exit, Sandbox
from lambent.executor.environment_states import EnvironmentState, InitFailed
from lambent.executor.output import Output
from lambent.executor.runtime_api import RuntimeConnection, Waiting
from lambent.kernel.tasks import Tasks


class Ending(Answering):
    """See `Environment`."""

    state: EnvironmentState
    _connections: set[RuntimeConnection]
    _cut: bool
    _dropping: asyncio.Lock
    _freezer: asyncio.TimerHandle | None
    _output: Output | None
    _server: asyncio.Server | None
    _tasks: Tasks
    _waiting: Waiting | None

    @abstractmethod
    def _fail_init(self, failure: InitFailed) -> None:
        """Of an init that is under way; nothing otherwise."""

    @abstractmethod
    def _init_exit(self, end: Exit) -> InitFailed:
        """Its process has ended so."""

    def _end(self, sandbox: Sandbox, reason: str) -> None:
        """Kills everything, after its extensions have had their time, if there are any."""
        attached = self._attached
        if attached is None or not attached.extensions:
            sandbox.kill()
            return

        async def end() -> None:
            try:
                await attached.shut_down(reason)
            finally:
                sandbox.kill()

        self._tasks.once(f"end {self.id}", end())

    def cut_off(self) -> None:
        """Kills everything, since nobody wants the answer any more; the exit ends the execution."""
        self._cut = True
        self.log.cancelled()
        if self._sandbox is not None:  # else a suppressed init is about to launch it
            self._sandbox.kill()

    async def dispose(self) -> None:
        """Frees everything; idempotent. An execution under way is ended with an error, never left waiting."""
        self.state = EnvironmentState.DEAD
        # A start that waits for init would wait its ten seconds out.
        self._fail_init(self._init_exit(Exit(signal=9)))
        try:
            if self._attached is not None:
                await self._attached.shut_down("spindown")
        finally:
            try:
                await self._drop_sandbox()
            finally:
                execution, self._execution = self._execution, None
                if execution is not None:
                    execution.fail(limits.stopped())

    async def _drop_sandbox(self, *, failed: InitFailed | None = None) -> None:
        """Whoever comes while it is under way waits for it: nothing is left when it returns. `failed`: an init,
        after which extensions have their time as at any end."""
        async with self._dropping:
            self._used()
            sandbox, self._sandbox = self._sandbox, None  # what it does from here on is no news
            for handle in (self._timer, self._freezer):
                if handle is not None:
                    handle.cancel()
            self._timer = self._freezer = None
            self._waiting = None
            try:
                if failed is not None and self._attached is not None:
                    await self._attached.shut_down("timeout" if failed.status == "timeout" else "failure")
            finally:
                self._hang_up()
                if sandbox is not None:
                    if self._output is not None:
                        self._output.close()
                        self._output = None
                    await sandbox.dispose()

    def _hang_up(self) -> None:
        server, self._server = self._server, None
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.close()
        if server is not None:
            server.close()
        for connection in list(self._connections):
            connection.close()
        self._connections.clear()

    def _drain_output(self) -> None:
        """What was written by now belongs to this invocation's log; it may still be in the pipe."""
        if self._output is not None:
            self._output.drain()
            self._output.finish_line()
