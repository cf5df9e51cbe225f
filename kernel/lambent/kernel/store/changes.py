"""News of changed functions for caches, over one pub/sub channel. Best effort: messages get lost with a
connection, so each reconnect says "*" (forget everything), and whoever needs certainty asks the store.

Channel `lambent:changes`; a message is a function's name. A store hears its own changes as well: a step whose
answer got lost is done by the server later than its caller gave up, and nothing else would tell of that.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from lambent.kernel.log import Log
from lambent.kernel.store.connection import LOST, text
from lambent.kernel.tasks import Tasks

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = Log(__name__)
CHANNEL = "lambent:changes"
EVERYTHING = "*"
_QUIET_SECONDS = 15.0
_CANCEL_SECONDS = 0.5
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)


class ChangeFeed:
    """Callbacks for changes made here (`tell`) and anywhere (heard while `listen` runs)."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[str], None]] = []
        self._tasks = Tasks("changes of functions")
        self._subscribed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    def add(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def tell(self, name: str) -> None:
        for callback in self._callbacks:
            callback(name)

    def start(self, client: "Redis") -> None:
        self._listening = self._tasks.forever("listen", self._listen(client))

    async def subscribed(self) -> None:
        """Waits until the channel is heard (again)."""
        await self._subscribed.wait()

    async def close(self) -> None:
        listening = self._listening
        while listening is not None and not listening.done():
            # redis-py swallows a cancellation that comes in the moment in which an answer does.
            listening.cancel()
            await asyncio.wait([listening], timeout=_CANCEL_SECONDS)
        await self._tasks.drain(0)

    async def _listen(self, client: "Redis") -> None:
        heard_before, failures = False, 0
        while True:
            pubsub = client.pubsub()
            try:
                await pubsub.subscribe(CHANNEL)
                # The confirmation; what is published from here on is heard.
                await pubsub.get_message(timeout=_QUIET_SECONDS)
                if heard_before:
                    self.tell(EVERYTHING)
                heard_before, failures = True, 0
                self._subscribed.set()
                await self._hear(pubsub)
            except (*LOST, RedisError) as failure:
                if failures == 0:
                    _log.warning("Changes of functions are not heard; connecting again.", failure=str(failure))
                self._subscribed.clear()
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    async def _hear(self, pubsub: Any) -> None:
        """Until the connection is lost; a quiet one is tried with a ping, for it may be half open."""
        asked = False
        while True:
            message = await pubsub.get_message(timeout=_QUIET_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError("no answer to a ping on the channel")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                self.tell(text(message["data"]))
