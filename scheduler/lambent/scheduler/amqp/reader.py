"""The one thread that reads and acknowledges: each line that somebody has room for is subscribed to, with a
window of as many messages as there is room, and otherwise the thread blocks on the broker's socket.

A line without room is not read: what comes nevertheless goes back after a second, which is time enough for who
has ended something to say that there is room again, and ends the subscription. A window follows its line: what
is ended makes room for the next, so a line that is busy needs no new one.

When the connection is lost the broker gives all that was not acknowledged to the next one. What runs here goes
on: its message is known when it comes again, and is neither handed out twice nor, once it has ended, run again.
"""

import asyncio
import os
import select
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lambent.kernel.events import Line, Room
from lambent.kernel.log import Log
from lambent.scheduler.amqp.known import Known
from lambent.scheduler.amqp.link import DUE, FIRST_PUT, Link, LinkError, Message, give_back
from lambent.scheduler.amqp.names import Place, parse

_log = Log(__name__)
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
_ASIDE_SECONDS = 5.0
_HELD_SECONDS = 1.0
_REMEMBERED = 50_000  # ids of messages that were ended here


@dataclass(slots=True)
class _Request:
    """A `consume` that waits. `deadline` by time.monotonic."""

    room: Room
    deadline: float
    future: "asyncio.Future[Sequence[Message]]"
    seen: bool = False


@dataclass(slots=True)
class _Line:
    """A queue that is read. `window` 0: no subscription; `held`: sent to the present one and not settled;
    `allow`: how many more may be handed out; `since`: when (time.monotonic)
    the first of what is here came, or one was last handed out; `shut`: not to be read for now; `last`: when the
    newest that was read was first put (ms)."""

    place: Place
    consumer: int = 0
    window: int = 0
    held: int = 0
    allow: int = 0
    since: float = 0.0
    shut: bool = False
    here: "deque[Message]" = field(default_factory=deque)
    last: int | None = None


class Reader:
    """`request`, `wake`, `settle` and the looks are for any thread. `later(message)`: it is not due yet; store
    it to wait for the rest and then `settle` it."""

    def __init__(
        self, connect: Callable[[], Link], known: Known, later: Callable[[Message], None], *, limit: int
    ) -> None:
        self._connect = connect
        self._known = known
        self._later = later
        self._limit = limit
        self._lock = threading.RLock()
        self._request: _Request | None = None
        self._woken = False
        self._stopping = False
        self._settled: list[tuple[str, Callable[[], None]]] = []
        self._orders: deque[Callable[[Link], None]] = deque()
        self._out: dict[str, Message] = {}  # by id: handed out, or on its way to wait
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._lines: dict[str, _Line] = {}
        self._thread = threading.Thread(target=self._run, name="lambent queue reader", daemon=True)
        self._link: Link | None = None
        self._failures = 0
        self._hears, self._bell = os.pipe()
        os.set_blocking(self._hears, False)
        os.set_blocking(self._bell, False)

    def start(self) -> None:
        self._thread.start()

    def request(self, room: Room, wait: float) -> "asyncio.Future[Sequence[Message]]":
        """Messages of these lines, within `wait` seconds; one at a time."""
        future: asyncio.Future[Sequence[Message]] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._request is not None and not self._request.future.done():
                raise RuntimeError("consume is called while another consume waits")
            self._request = _Request(room, time.monotonic() + wait, future)
        self._ring()
        return future

    def wake(self) -> None:
        """Ends a waiting request, with what there is."""
        with self._lock:
            if self._request is None:
                return
            self._woken = True
        self._ring()

    def settle(self, id: str, done: Callable[[], None]) -> None:
        """The message is ended; `done` is called, in the reader's thread, when the broker has been told, or
        will be as soon as it sends the message again."""
        with self._lock:
            self._settled.append((id, done))
        self._ring()

    @contextmanager
    def aside(self, queues: Sequence[str]) -> Iterator[None]:
        """Nothing of these is read inside, and what was read ahead is given back first, so that somebody else
        can do with them as he likes. In a thread beside. Raises LinkError when it takes too long."""
        if not self._order(lambda link: self._shut(link, queues)).wait(_ASIDE_SECONDS):
            raise LinkError("it does not answer")
        try:
            yield
        finally:
            self._order(lambda link: self._open(link, queues))

    def _order(self, work: Callable[[Link], None]) -> threading.Event:
        done = threading.Event()

        def run(link: Link) -> None:
            work(link)
            done.set()

        with self._lock:
            self._orders.append(run)
        self._ring()
        return done

    def stop(self) -> None:
        self._stopping = True
        self._ring()

    def join(self) -> None:
        self._thread.join()
        os.close(self._bell)
        os.close(self._hears)

    def forget(self, queues: Sequence[str]) -> None:
        """They were deleted."""
        with self._lock:
            for queue in queues:
                self._lines.pop(queue, None)

    def in_flight(self) -> dict[str, list[Message]]:
        """By queue, what was sent to this process and is not ended."""
        found: dict[str, list[Message]] = {}
        with self._lock:
            rows = [*self._out.values(), *(m for line in self._lines.values() for m in line.here)]
        for message in rows:
            found.setdefault(message.queue, []).append(message)
        return found

    def last_read(self, queue: str) -> int | None:
        """When the newest that was read of it was first put (ms since the epoch)."""
        line = self._lines.get(queue)
        return None if line is None else line.last

    def _ring(self) -> None:
        try:
            os.write(self._bell, b"!")
        except (BlockingIOError, OSError):
            pass  # it rings already, or the thread has ended

    # in the reader's thread

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
                self._disconnect()
                self._settle()
                self._answer(self._request, [])
                self._wait(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1], [])
        self._settle()
        self._answer(self._request, [])
        self._disconnect()
        self._known.complete.set()

    def _disconnect(self) -> None:
        """The broker will send again what is not settled."""
        link, self._link = self._link, None
        with self._lock:
            for line in self._lines.values():
                line.consumer = line.window = line.held = 0
                line.here.clear()
            for message in self._out.values():
                message.tag = None
        if link is not None:
            link.close()

    def _serve(self) -> None:
        """One turn: take what has come, answer if there is something, and wait for more."""
        if self._link is None:
            self._link = self._connect()
            self._known.usable = time.monotonic() + self._link.prepare()
            self._note(self._link, list(self._link.watch().items()))
            self._known.complete.set()
        link = self._link
        self._settle()
        while self._orders:
            self._orders[0](link)
            self._orders.popleft()
        with self._lock:
            request = self._request
        if request is not None and not request.seen:
            request.seen = True
            self._make_room(link, list(self._lines.values()), request.room)
        self._sort(link.arrived())
        self._note(link, link.heard())
        self._see_cancelled(link)
        now = time.monotonic()
        if request is not None:
            messages = self._hand_out()
            if messages or self._woken or now >= request.deadline:
                self._answer(request, messages)
                return
        self._give_back_stale(link)
        wait = link.rest() if request is None else min(link.rest(), request.deadline - now)
        if any(line.here for line in self._lines.values()):
            wait = min(wait, _HELD_SECONDS)
        self._wait(wait, link.files())

    def _wait(self, seconds: float, files: Sequence[int]) -> None:
        ready, _, _ = select.select([self._hears, *files], [], [], max(0.0, seconds))
        if self._hears in ready:
            os.read(self._hears, 4096)

    def _note(self, link: Link, queues: Sequence[tuple[str, bool]]) -> None:
        """One that is not settled is not read yet: it has nothing, and might not answer."""
        self._known.add(queues)
        new: list[_Line] = []
        for queue, settled in queues:
            place = parse(queue)
            if not settled or place is None or place.step or place.line is Line.DEAD:
                continue
            line = self._lines.get(queue) or _Line(place)
            self._unsubscribe(link, line)  # made anew: the broker may have said nothing of the old one's end
            new.append(line)
        with self._lock:
            self._lines |= {line.place.queue: line for line in new}
            request = self._request
        if new and request is not None and request.seen:
            self._make_room(link, new, request.room)

    def _shut(self, link: Link, queues: Sequence[str]) -> None:
        for queue in queues:
            line = self._lines.get(queue)
            if line is not None:
                line.shut = True
                with self._lock:
                    messages = list(line.here)
                    line.here.clear()
                self._unsubscribe(link, line)
                give_back(link, queue, messages)
                self._sort(link.arrived())  # what came until then goes back, too

    def _open(self, link: Link, queues: Sequence[str]) -> None:
        lines = [line for queue in queues if (line := self._lines.get(queue)) is not None]
        for line in lines:
            line.shut = False
        with self._lock:
            request = self._request
        if request is not None and request.seen:
            self._make_room(link, lines, request.room)

    def _see_cancelled(self, link: Link) -> None:
        """The broker ended a subscription: its queue is gone, or only the server that led it."""
        for queue, consumer in link.cancelled:
            line = self._lines.get(queue)
            if line is None or line.consumer != consumer:
                continue
            line.consumer = line.window = line.held = 0
            if link.count(queue) is None:
                self._known.forget([queue])
                self.forget([queue])
        link.cancelled.clear()

    def _make_room(self, link: Link, lines: Sequence[_Line], room: Room) -> None:
        """Windows after a request's room. One that is somewhat too small or too large stays: making one costs
        the broker a write."""
        for line in lines:
            if line.shut:
                continue
            queue = line.place.queue
            line.allow = min(self._limit, max(0, room.of(line.place.line, line.place.lane)))
            if line.allow == 0:
                continue
            can_come = line.window - line.held if line.window else 0
            if len(line.here) + can_come < (line.allow + 1) // 2:
                if line.window:
                    link.unsubscribe(queue)
                line.window, line.held = line.allow - len(line.here), 0
                line.consumer = link.subscribe(queue, line.window)

    @staticmethod
    def _unsubscribe(link: Link, line: _Line) -> None:
        if line.window:
            link.unsubscribe(line.place.queue)
        line.window = line.held = line.consumer = 0

    def _sort(self, messages: Sequence[Message]) -> None:
        link = self._link
        assert link is not None
        for message in messages:
            line = self._lines.get(message.queue)
            if line is None:
                continue  # its queue was deleted, and the message with it
            if message.consumer == line.consumer:
                line.held += 1
            if self._came_again(link, line, message):
                continue
            if float(message.headers.get(DUE, 0)) > time.time() * 1000:
                with self._lock:
                    self._out[message.id] = message
                self._later(message)
            elif line.shut:
                link.give_back([message.tag])
            else:
                with self._lock:
                    line.since = line.since if line.here else time.monotonic()
                    line.here.append(message)

    def _give_back_stale(self, link: Link) -> None:
        """What nobody has had room for is held no longer: it goes back, and no more is to come."""
        old = time.monotonic() - _HELD_SECONDS
        for line in self._lines.values():
            if line.here and line.since <= old:
                self._unsubscribe(link, line)
                with self._lock:
                    tags = [message.tag for message in line.here]
                    line.here.clear()
                link.give_back(tags)

    def _came_again(self, link: Link, line: _Line, message: Message) -> bool:
        """A copy of what has ended here goes; one of what runs here takes the lost one's place."""
        with self._lock:
            if message.id in self._ended:
                self._release(line, message)
                link.ack([message.tag])
                return True
            running = self._out.get(message.id)
            if running is None:
                return False
            if running.tag is not None:  # two copies: this one is too many
                self._release(line, message)
                link.ack([message.tag])
            else:
                running.tag, running.consumer = message.tag, message.consumer
            return True

    @staticmethod
    def _release(line: _Line | None, message: Message) -> None:
        if line is not None and line.window and message.consumer == line.consumer:
            line.held -= 1

    def _hand_out(self) -> list[Message]:
        """In turn, so that a long line leaves others theirs."""
        found: list[Message] = []
        now = time.monotonic()
        with self._lock:
            busy = [line for line in self._lines.values() if line.here and line.allow > 0]
            while busy and len(found) < self._limit:
                for line in busy:
                    if len(found) < self._limit:
                        message = line.here.popleft()
                        line.allow -= 1
                        line.since = now
                        line.last = message.headers.get(FIRST_PUT, line.last)
                        self._out[message.id] = message
                        found.append(message)
                busy = [line for line in busy if line.here and line.allow > 0]
        return found

    def _settle(self) -> None:
        with self._lock:
            settled, self._settled = self._settled, []
        link, tags = self._link, list[object]()
        for id, _ in settled:
            with self._lock:
                message = self._out.pop(id, None)
                self._ended[id] = None
                while len(self._ended) > _REMEMBERED:
                    self._ended.popitem(last=False)
                if message is None or message.tag is None:
                    continue
                line = self._lines.get(message.queue)
                self._release(line, message)
                if line is not None:
                    line.allow += 1  # who has ended it can take the next
                tags.append(message.tag)
        try:
            if link is not None:
                link.ack(tags)
        finally:
            for _, done in settled:
                done()

    def _answer(self, request: _Request | None, messages: Sequence[Message]) -> None:
        """Ends this request."""
        with self._lock:
            if self._request is request:
                self._request, self._woken = None, False
        if request is None:
            return

        def end() -> None:
            if request.future.done():
                self._take_back(messages)
            else:
                request.future.set_result(messages)

        loop = request.future.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(end)

    def _take_back(self, messages: Sequence[Message]) -> None:
        """Its caller went away before it heard of them."""
        with self._lock:
            for message in reversed(messages):
                if self._out.pop(message.id, None) is not None and message.queue in self._lines:
                    self._lines[message.queue].here.appendleft(message)
