"""What every long-running command is: signals that stop it in an order, tasks without which it must not go on,
and a second signal that cuts the waiting short."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import uvloop

from lambent.cli.client import Failed, err, read_settings, say
from lambent.cli.descriptors import raise_limit
from lambent.cli.wiring import make_tracer
from lambent.kernel import log, tracing
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.settings import Settings, unknown_variables
from lambent.kernel.tasks import Tasks

_log = Log(__name__)


class Process:
    """One run of a role. Subclasses give `main`, which serves until `signalled`, and `finish`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.tasks = Tasks("lambent", on_death=self._task_died)
        self.signalled = asyncio.Event()
        self.serving = False
        # Names of the tasks without which it would hang in silence.
        self._vital: set[str] = set()
        self._starting: asyncio.Task[Any] | None = None
        self._code = 0

    async def main(self) -> None:
        """Starts everything, waits for `signalled`, and stops it."""
        raise NotImplementedError

    async def run(self) -> int:
        """The exit code. Raises Failed when it can't start."""
        loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signal)
        try:
            await self.main()
        except asyncio.CancelledError:
            if self._starting is None or not self._starting.cancelling():
                raise
            self._starting.uncancel()
            say("Stopped before it served.")
        finally:
            await self.tasks.drain(5.0)
        return self._code

    def _signal(self) -> None:
        if self._starting is not None and not self.serving and not self._starting.cancelling():
            self._starting.cancel()  # what has been started so far is stopped on the way out
        self.signalled.set()

    def _task_died(self, name: str, failure: BaseException | None) -> None:
        """A part that should run forever has ended: a server that goes on without it would hang in silence."""
        if name not in self._vital or self.signalled.is_set():
            return
        _log.error(
            "Stopping, since a part that should run forever has ended.", part=name, failure=repr(failure)
        )
        self._code = 1
        self.signalled.set()

    def forever(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Its end is the process's."""
        self._vital.add(self.tasks.forever(name, work).get_name())

    async def served(self) -> None:
        """Serves until a signal comes."""
        self.serving = True
        await self.signalled.wait()
        say("Stopping: waiting for what runs. Once more to cut it off.")

    async def bounded(self, seconds: float, *work: Coroutine[Any, Any, Any]) -> None:
        """Waits for `work`, at most so long or until a second signal."""
        self.signalled.clear()

        async def all_done() -> None:
            await asyncio.gather(*work)

        async def again() -> None:
            await self.signalled.wait()

        waiting = [self.tasks.once("drain", all_done()), self.tasks.once("second signal", again())]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def run(make: Callable[[Settings], Process], flags: Mapping[str, Any]) -> int:
    """Reads the settings and runs a role; the exit code. Raises Failed when it can't start."""
    settings = read_settings(flags)
    log.configure(form=settings.log_format, level=settings.log_level)
    for problem in unknown_variables(os.environ):
        say(f"warning: {problem}", style="yellow", to=err)
    raise_limit()
    tracing.active = make_tracer(settings)

    async def main() -> int:
        return await make(settings).run()

    try:
        return uvloop.run(main())
    except LambdaError as failure:
        raise Failed(failure.message) from None
    finally:
        if tracing.active is not None:
            tracing.active.close()
            tracing.active = None
