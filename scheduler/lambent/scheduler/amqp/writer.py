"""The one thread that publishes: it takes all that has gathered, makes the queues that are not there yet, sends
the batch and answers when the broker has confirmed each message.

New events fail fast (their caller gets an error and may come again); what takes a delivered item's place is
repeated until it is stored, since nobody else could.
"""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.events import Line
from lambent.kernel.log import Log
from lambent.scheduler.amqp.known import Known
from lambent.scheduler.amqp.link import DUE, FIRST_PUT, FOR, Link, LinkError, Message, Refused, Unroutable
from lambent.scheduler.amqp.names import CRADLE, UNREADABLE, Place, parse

_log = Log(__name__)
_GIVE_UP_SECONDS = 5.0  # a publish that waited longer than this is refused unsent
_MAX_BATCH = 256
_MAX_BATCH_BYTES = 16 << 20
_MAX_WAITING_BYTES = 64 << 20
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
_REST_SECONDS = 3600.0
_DETOUR_MS = 1000  # where what must not be refused waits, when its line is full


@dataclass(slots=True)
class Job:
    """Messages that are stored all or repeated. `done(error)` is called in the writer's thread. `persist`:
    repeated until stored; else they are new events, which count against a lane's bound."""

    messages: list[Message]
    done: Callable[[EventQueueUnavailable | None], None]
    persist: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return sum(len(message.body) for message in self.messages)


class Writer:
    """`most`: events of a lane (0: any number); `settle`: seconds in which a new queue may
    forget what it takes (0: it keeps it from the start)."""

    def __init__(self, connect: Callable[[], Link], known: Known, *, most: int, settle: float) -> None:
        self._connect = connect
        self._known = known
        self._most = most
        self._settle_seconds = settle
        # Beyond the bound, for what comes back to its lane: the broker's own bound knows no difference.
        self._hard = most + most // 10 + _MAX_BATCH if most else 0
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._ready = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lambent queue writer", daemon=True)
        self._link: Link | None = None
        self._failures = 0
        self._open_at: float | None = 0.0  # when to connect although there is nothing to do: to mend
        self._again: list[Job] = []
        self._again_at = 0.0
        self._declared: set[str] = set()
        self._young: dict[str, float] = {}  # made here, and when they are settled
        self._doubtful: set[str] = set()  # the connection was lost while they were young
        self._cradled: Counter[str] = Counter()  # by queue, what this process has in the cradle
        self._cradle_at: float | None = None  # when to look into the cradle
        self._hold_until = 0.0  # no work of our own accord before that
        self._places_left: dict[str, int] = {}  # of a bounded queue: messages until it is to be looked at

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No more jobs; what waits is sent once more or refused. Returns at once; `join` in a thread."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()

    def join(self) -> None:
        self._thread.join()

    def put(self, job: Job) -> None:
        """Queues a job. Raises EventQueueUnavailable when too much waits already."""
        with self._ready:
            if self._stopping:
                raise refused("the server is stopping")
            if not job.persist and self._bytes > _MAX_WAITING_BYTES:
                raise refused("too many wait to be stored")
            self._jobs.append(job)
            self._bytes += job.size
            self._ready.notify_all()

    def forget(self, queues: Sequence[str]) -> None:
        """They were deleted."""
        with self._ready:
            self._declared -= set(queues)
            self._doubtful -= set(queues)
            for queue in queues:
                self._places_left.pop(queue, None)
                self._cradled.pop(queue, None)
                self._young.pop(queue, None)

    def cradled(self) -> Counter[str]:
        """By queue, how many messages that this process stored lie in the cradle."""
        with self._ready:
            return +self._cradled

    def await_moved(self, queues: Sequence[str]) -> None:
        """Until nothing that this process stored for them lies in the cradle, but not for much longer than it
        should take. In a thread beside."""
        with self._ready:
            self._ready.wait_for(
                lambda: not any(self._cradled[queue] for queue in queues),
                self._settle_seconds + _GIVE_UP_SECONDS,
            )

    # in the writer's thread

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(
                    lambda: self._jobs or self._stopping or self._due_in() <= 0,
                    self._due_in(),
                )
                if not self._jobs and self._stopping and not self._again:
                    break
                batch = self._take()
                if self._again and (self._stopping or self._again_in() <= 0):
                    batch, self._again = self._again + batch, []
            self._work(batch)
        self._disconnect()

    def _again_in(self) -> float:
        return self._again_at - time.monotonic() if self._again else _REST_SECONDS

    def _due_in(self) -> float:
        now = time.monotonic()
        own = [end for end in (self._open_at, self._cradle_at, *self._young.values()) if end is not None]
        return min(self._again_in(), max(min(own, default=now + _REST_SECONDS), self._hold_until) - now)

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        size = 0
        while self._jobs and len(batch) < _MAX_BATCH and size < _MAX_BATCH_BYTES:
            job = self._jobs.popleft()
            size += job.size
            batch.append(job)
        self._bytes -= size
        return batch

    def _work(self, batch: list[Job]) -> None:
        now = time.monotonic()
        fresh: list[Job] = []
        for job in batch:
            if not job.persist and now - job.since > _GIVE_UP_SECONDS:
                job.done(refused("the event queue's server does not answer"))
            else:
                fresh.append(job)
        sent: list[Job] = []
        try:
            link = self._open()
            self._settle(link)
            self._empty_cradle(link)
            if not fresh:
                return
            sent = self._within_bounds(link, fresh)
            self._make_queues(link, [message.queue for job in sent for message in job.messages])
            messages = [message for job in sent for message in job.messages]
            self._mark_young(messages)
            answers = iter(link.publish(messages))
        except Exception as error:
            # Whatever it was, these were not confirmed: their callers must hear of it, and the thread must
            # live.
            self._failed(error)
            for job in sent or fresh:
                self._repeat_or_refuse(job, error)
            return
        self._failures = 0
        for job in sent:
            self._answer(job, [next(answers) for _ in job.messages])

    def _answer(self, job: Job, answers: Sequence[LinkError | None]) -> None:
        pairs = list(zip(job.messages, answers, strict=True))
        self._count_cradled([message.queue for message, answer in pairs if message.young and answer is None], 1)
        gone = [message.queue for message, answer in pairs if isinstance(answer, Unroutable)]
        if gone:  # deleted by somebody else: made again, with the next try
            self.forget(gone)
            self._known.forget(gone)
        left = [message for message, answer in pairs if answer is not None]
        if not left:
            job.done(None)
            return
        job.messages = left
        if job.persist:
            for message, answer in pairs:
                if isinstance(answer, Refused):
                    message.queue = _detour(message.queue)
            self._repeat_or_refuse(job, next(answer for _, answer in pairs if answer is not None))
        elif gone and not self._stopping:
            self._repeat(job)
        else:
            job.done(refused("the function's queue is full, or has no server that leads it", full=True))

    def _repeat_or_refuse(self, job: Job, error: Exception) -> None:
        if job.persist and not self._stopping:
            self._repeat(job)
        else:
            refusal = refused(f"the event queue's server failed ({error})")
            refusal.certain = isinstance(error, LinkError) and error.certain
            refusal.__cause__ = error
            job.done(refusal)

    def _repeat(self, job: Job) -> None:
        self._again.append(job)
        step = min(max(self._failures, 1), len(_RETRY_SECONDS)) - 1
        self._again_at = time.monotonic() + _RETRY_SECONDS[step]

    def _within_bounds(self, link: Link, jobs: Sequence[Job]) -> list[Job]:
        """Refuses new events beyond the bound of their lane. The broker's own bound is soft, so it is counted
        here, and asked when what was free is used up."""
        if not self._most:
            return list(jobs)
        fits: list[Job] = []
        for job in jobs:
            queue = job.messages[0].queue
            if not job.persist and not self._place(link, queue):
                job.done(refused(f"the function's queue is full ({self._most} events)", full=True))
            else:
                fits.append(job)
        return fits

    def _open(self) -> Link:
        if self._link is not None:
            return self._link
        link = self._connect()
        try:
            if not self._known.complete.wait(_GIVE_UP_SECONDS / 2):
                raise Refused("it does not answer")
            with self._ready:
                self._ready.wait_for(lambda: self._stopping, self._known.usable - time.monotonic())
            self._mend(link)
        except BaseException:
            link.close()
            raise
        self._link, self._open_at = link, None
        if self._settle_seconds:
            self._cradle_at = time.monotonic()
        return link

    def _mend(self, link: Link) -> None:
        """Queues that were young when a connection ended, here or in a process that is no more: one that is out
        of order has never kept anything, and is made anew."""
        for queue in sorted({*self._doubtful, *self._known.unsettled()} - self._young.keys()):
            if not link.alive(queue) and not link.count(queue) and not link.alive(queue):
                _log.info("A queue that its server's end has broken is made anew.", queue=queue)
                link.delete(queue)
                link.declare(queue, most=self._bound_of(queue))
            self._young[queue] = time.monotonic() + self._settle_seconds
            self._declared.add(queue)
            self._doubtful.discard(queue)

    def _settle(self, link: Link) -> None:
        """Tells of the queues that are young no more: they are read from now on."""
        now = time.monotonic()
        settled = [queue for queue, end in self._young.items() if end <= now]
        if settled:
            link.announce(settled, settled=True)
            self._known.add((queue, True) for queue in settled)
            for queue in settled:
                self._young.pop(queue, None)
            self._cradle_at = now

    def _count_cradled(self, queues: Sequence[str], by: int) -> None:
        with self._ready:
            for queue in queues:
                self._cradled[queue] = max(0, self._cradled[queue] + by)
            self._ready.notify_all()

    def _empty_cradle(self, link: Link) -> None:
        """Moves messages to their queues that are settled now. Added before ended; of a queue that was deleted
        they go."""
        if self._cradle_at is None or self._cradle_at > time.monotonic():
            return
        taken = link.take_many(CRADLE, _MAX_BATCH)
        copies = [_uncradled(message) for message in taken]
        self._mark_young(copies)
        ready = [index for index, copy in enumerate(copies) if not copy.young]
        answers = link.publish([copies[index] for index in ready]) if ready else []
        for index, answer in zip(ready, answers, strict=True):
            if answer is None or isinstance(answer, Unroutable):
                link.ack([taken[index].tag])
                taken[index].tag = None
                self._count_cradled([str(taken[index].headers.get(FOR))], -1)
        link.give_back([message.tag for message in taken if message.tag is not None])
        self._cradle_at = time.monotonic() if ready else None

    def _mark_young(self, messages: Sequence[Message]) -> None:
        for message in messages:
            message.young = message.queue in self._young or self._known.is_unsettled(message.queue)

    def _bound_of(self, queue: str) -> int:
        place = parse(queue)
        return self._hard if place is not None and place.line is Line.LANE and not place.step else 0

    def _place(self, link: Link, queue: str) -> bool:
        left = self._places_left.get(queue, 0)
        if left <= 0:
            left = self._most - (link.count(queue) or 0)
        self._places_left[queue] = left - 1
        return left > 0

    def _make_queues(self, link: Link, queues: Sequence[str]) -> None:
        """In this order: the queue, its name in the register, what is to lie in it. So a crash leaves a queue
        that nobody knows, but never one with anything in it."""
        new: list[str] = []
        for queue in dict.fromkeys(queues):
            place = parse(queue)
            leads_to = [] if place is None else [place._replace(step=0).queue]  # where waits end, first
            for each in dict.fromkeys([*leads_to, queue]):
                if each not in self._declared and each not in new:
                    made = link.declare(each, most=self._bound_of(each))
                    if self._settle_seconds and (made or each not in self._known) and parse(each) is not None:
                        self._young[each] = time.monotonic() + self._settle_seconds
                    new.append(each)
        unheard = [queue for queue in new if queue not in self._known and parse(queue) is not None]
        for settled in (False, True):
            some = [queue for queue in unheard if (queue not in self._young) is settled]
            if some:
                link.announce(some, settled=settled)
                self._known.add((queue, settled) for queue in some)
        self._declared |= set(new)

    def _failed(self, error: Exception) -> None:
        if self._failures == 0:
            _log.warning("The event queue's server did not take a batch.", error=repr(error))
        self._failures += 1
        self._hold_until = time.monotonic() + _RETRY_SECONDS[-1]
        if self._link is None or not self._link.blocked:  # a new one would have to find out again
            self._disconnect()

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        now = time.monotonic()
        self._doubtful |= self._young.keys()
        self._young.clear()
        if self._doubtful:
            self._open_at = now
        if link is not None:
            link.close()


def _uncradled(message: Message) -> Message:
    """For the queue that it was meant for, or at once for the line if it is due by now."""
    headers = {name: message.headers[name] for name in (FIRST_PUT, DUE) if name in message.headers}
    queue = str(message.headers.get(FOR, UNREADABLE))
    place = parse(queue)
    if place is not None and place.step and float(headers.get(DUE, 0)) <= time.time() * 1000:
        queue = place._replace(step=0).queue
    return Message(queue, message.body, message.id, headers)


def _detour(queue: str) -> str:
    place = parse(queue)
    return queue if place is None or place.step else Place(place.line, place.lane, _DETOUR_MS).queue


def refused(why: str, *, full: bool = False) -> EventQueueUnavailable:
    """Nothing was sent. `full`: it is this function's queue alone that takes no more."""
    refusal = EventQueueUnavailable(f"The event was not accepted: {why}. Send it again.")
    refusal.certain, refusal.full = True, full
    return refusal


def resolve(future: "asyncio.Future[Any]", error: BaseException | None, result: Any = None) -> None:
    """Ends a future of a loop, from any thread."""

    def end() -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(end)
