"""Named, supervised background tasks, because a task that dies unseen is how a server hangs without an error.

`Tasks` is the only place that calls `create_task`. A task says whether it is expected to end; one that ends
against its expectation is logged and handed to `on_death`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lambent.kernel.log import Log

_log = Log(__name__)
_T = TypeVar("_T")


class Tasks:
    """The background tasks of one part, drained together."""

    def __init__(
        self, owner: str, *, on_death: Callable[[str, BaseException | None], None] | None = None
    ) -> None:
        self._owner = owner
        self._on_death = on_death
        self._tasks: dict[asyncio.Task[Any], bool] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def forever(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs until drained; its end before that is an error."""
        return self._start(name, work, forever=True)

    def once(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Runs to its end; only an exception is an error."""
        return self._start(name, work, forever=False)

    def _start(self, name: str, work: Coroutine[Any, Any, _T], *, forever: bool) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._tasks[task] = forever
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        forever = self._tasks.pop(task, False)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is None and (not forever or self._closing):
            return
        _log.error("A background task died.", task=task.get_name(), failure=repr(failure), exc_info=failure)
        if self._on_death is not None:
            self._on_death(task.get_name(), failure)

    async def drain(self, seconds: float) -> int:
        """Cancels what runs forever, waits at most `seconds` for the rest, then cancels that too; how many
        were cut off."""
        self._closing = True
        for task, forever in list(self._tasks.items()):
            if forever:
                task.cancel()
        rest = [task for task, forever in self._tasks.items() if not forever]
        late: set[asyncio.Task[Any]] = set()
        if rest:
            _, late = await asyncio.wait(rest, timeout=seconds)
            for task in late:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return len(late)
