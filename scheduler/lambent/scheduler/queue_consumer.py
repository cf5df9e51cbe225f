"""The one thread that reads from the broker: it serves a waiting `consume`, keeps what runs alive in
between, and otherwise blocks on the server, so that an idle queue costs nothing.

A lost connection is opened again with a growing pause; the broker still knows what is whose.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.kernel.events import Line, Room
from lambent.kernel.log import Log
from lambent.scheduler.queue_names import parse_queue
from lambent.scheduler.transport.streams import Channel, close_channel

_log = Log(__name__)
_IDLE_SECONDS = 30.0  # how long it sleeps at most while nobody consumes
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(slots=True)
class Request:
    """A `consume` that waits. `deadline` by time.monotonic."""

    room: Room
    deadline: float
    future: "asyncio.Future[Sequence[Any]]"


class Consumer:
    """`request`, `wake` and `stop` are for the event loop's thread. `interrupt` asks the writer to end this
    thread's blocked read."""

    def __init__(
        self,
        connect: Callable[[], Channel],
        interrupt: Callable[[Any], None],
        *,
        limit: int,
    ) -> None:
        self._connect = connect
        self._interrupt = interrupt
        self._limit = limit
        self._state = threading.Condition()
        self._request: Request | None = None
        self._woken = False
        self._stopping = False
        self._spare: list[Any] = []  # read for a caller that went away
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="lambent queue consumer", daemon=True)
        self._channel: Channel | None = None
        self._failures = 0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def request(self, room: Room, wait: float) -> "asyncio.Future[Sequence[Any]]":
        """Messages of these lines, within `wait` seconds; one at a time."""
        future: asyncio.Future[Sequence[Any]] = asyncio.get_running_loop().create_future()
        with self._state:
            if self._request is not None and not self._request.future.done():
                raise RuntimeError("consume is called while another consume waits")
            self._request = Request(room, time.monotonic() + wait, future)
        self._rouse()
        return future

    def wake(self) -> None:
        """Ends a waiting request, with what there is."""
        with self._state:
            if self._request is None:
                return
            self._woken = True
        self._rouse()

    def stop(self) -> None:
        with self._state:
            self._stopping = True
        self._rouse()

    def join(self) -> None:
        self._thread.join()

    def forget(self, tags: Sequence[str]) -> None:
        """These deliveries are ended. For any thread."""
        channel = self._channel
        if channel is not None:
            channel.forget(tags)

    def _rouse(self) -> None:
        with self._state:
            self._state.notify()
        channel = self._channel
        if channel is not None and channel.waiting:
            self._interrupt(channel)

    # in the consumer's thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._serve()
                self._failures = 0
            except Exception as error:
                # A broker's failure of any kind must not end the only reader; it is said once and tried again.
                if self._failures == 0:
                    _log.warning("Reading from the event queue failed; trying again.", error=repr(error))
                self._failures += 1
                self._answer(self._request, [])
                self._pause(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1])
        self._answer(self._request, [])
        if self._channel is not None:
            close_channel(self._channel)

    def _pause(self, seconds: float) -> None:
        with self._state:
            self._state.wait_for(lambda: self._stopping, seconds)

    def _serve(self) -> None:
        """One turn: read for the request, or block until there is something to do."""
        if self._channel is None:
            self._channel = self._connect()
        request = self._request
        room = self._room(request)
        messages = self._spare_for(room) or self._channel.get_many(room, self._limit)
        now = time.monotonic()
        if request is not None and (messages or self._woken or now >= request.deadline):
            self._answer(request, messages)
            return
        if request is None:  # and so no room, and nothing was read
            with self._state:
                self._state.wait_for(lambda: self._news(None), min(_IDLE_SECONDS, self._channel.upkeep_in()))
            return
        self._channel.wait(request.deadline - now, unless=lambda: self._news(request))

    def _news(self, request: Request | None) -> bool:
        return self._stopping or self._request is not request or (self._woken and request is not None)

    @staticmethod
    def _room(request: Request | None) -> Callable[[str], int]:
        def of(queue: str) -> int:
            named = parse_queue(queue)
            if named is None or named[0] is Line.DEAD:
                return -1  # nobody reads it: not to be looked at again
            return 0 if request is None else request.room.of(*named)

        return of

    def _spare_for(self, room: Callable[[str], int]) -> list[Any]:
        taken: dict[str, int] = {}
        fits: list[Any] = []
        rest: list[Any] = []
        with self._state:
            for message in self._spare:
                queue = message.delivery_info["routing_key"]
                if taken.get(queue, 0) < room(queue):
                    taken[queue] = taken.get(queue, 0) + 1
                    fits.append(message)
                else:
                    rest.append(message)
            self._spare = rest
        return fits

    def _keep(self, messages: list[Any]) -> None:
        with self._state:
            self._spare += messages

    def _answer(self, request: Request | None, messages: list[Any]) -> None:
        """Ends this request; what its caller can no longer take is kept for the next one."""
        with self._state:
            if self._request is request:
                self._request, self._woken = None, False
        if request is None:
            self._keep(messages)
            return

        def resolve() -> None:
            if request.future.done():
                self._keep(messages)
            else:
                request.future.set_result(messages)

        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(resolve)
