"""Work that may hang, in a thread of its own: the few of `asyncio.to_thread` are everybody's, and a stop waits
for them."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def in_a_thread(name: str, work: Callable[[], _T]) -> "asyncio.Future[_T]":
    """What becomes of `work`, which nothing stops."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as raised:
            failure = raised

        def finish() -> None:
            if done.cancelled():
                return
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(finish)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
