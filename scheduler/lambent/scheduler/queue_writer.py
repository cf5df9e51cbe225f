"""The one thread that writes to the broker, because kombu is synchronous and a thread or a round trip per
publish would be the cost of every event: it takes all that has gathered, sends it as one batch, and answers
after the reply.

Publishes fail fast (their caller gets an error and may come again); acknowledgements and replacements are
repeated until they get through, since nobody else could."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kombu.exceptions import BatchPublishError
from kombu.messaging import Producer

from lambent.kernel.errors import EventQueueUnavailable
from lambent.kernel.log import Log
from lambent.scheduler.queue_operations import CONTENT_TYPE
from lambent.scheduler.transport.batch import QueuesNotStored
from lambent.scheduler.transport.streams import Channel, Replacement, close_channel
from lambent.scheduler.transport.wire import was_refused

_log = Log(__name__)
_GIVE_UP_SECONDS = 5.0  # a publish that waited longer than this is refused unsent
_MAX_BATCH = 256
_MAX_BATCH_BYTES = 16 << 20
_MAX_WAITING_BYTES = 64 << 20
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(slots=True)
class Job:
    """One thing to write; exactly one of the forms is set. `loop`: whose future it is."""

    future: "asyncio.Future[Any]"
    queue: str = ""
    body: bytes = b""
    delay_ms: int = 0
    call: Callable[[Any], Any] | None = None  # anything else that needs the channel; repeatable if `persist`
    ack: Sequence[str] | None = None
    replace: tuple[str, Sequence[Replacement]] | None = None
    persist: bool = False
    repeated: bool = False  # an earlier try failed, and may have been done all the same
    since: float = field(default_factory=time.monotonic)

    @property
    def publish(self) -> bool:
        return bool(self.queue)


Outcome = tuple[Job, Any, Exception | None]


class Writer:
    """Start it with `start`; `put` is for the event loop's thread only. `connect` opens a channel;
    `settled(tags)` is told of deliveries that are ended, in the writer's thread."""

    def __init__(self, connect: Callable[[], Channel], settled: Callable[[Sequence[str]], None]) -> None:
        self._connect = connect
        self._settled = settled
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._ready = threading.Condition()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="lambent queue writer", daemon=True)
        self._channel: Any = None
        self._producer: Any = None
        self._failures = 0
        self._again: list[Job] = []
        self._again_at = 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """No more jobs; what waits is sent once more or refused. Returns at once; `join` in a thread."""
        with self._ready:
            self._stopping = True
            self._ready.notify()

    def join(self) -> None:
        self._thread.join()

    def put(self, job: Job) -> "asyncio.Future[Any]":
        """Queues a job. Raises EventQueueUnavailable when too much waits already."""
        if self._stopping:
            raise _refused("the server is stopping")
        if job.publish and self._bytes > _MAX_WAITING_BYTES:
            raise _refused("too many wait to be stored")
        with self._ready:
            self._jobs.append(job)
            self._bytes += len(job.body)
            self._ready.notify()
        return job.future

    # in the writer's thread

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(
                    lambda: self._jobs or self._stopping or self._again_in() <= 0,
                    self._again_in() if self._again else None,
                )
                if not self._jobs and self._stopping and not self._again:
                    break
                batch = self._take()
                if self._again and (self._stopping or self._again_in() <= 0):
                    batch, self._again = self._again + batch, []
            self._work(batch)
        self._disconnect()

    def _again_in(self) -> float:
        return self._again_at - time.monotonic() if self._again else 1.0

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        size = 0
        while self._jobs and len(batch) < _MAX_BATCH and size < _MAX_BATCH_BYTES:
            job = self._jobs.popleft()
            size += len(job.body)
            batch.append(job)
        self._bytes -= size
        return batch

    def _work(self, batch: list[Job]) -> None:
        now = time.monotonic()
        outcomes: list[Outcome] = []
        publishes: list[Job] = []
        others: list[Job] = []
        for job in batch:
            if not job.publish:
                others.append(job)
            elif now - job.since > _GIVE_UP_SECONDS:
                outcomes.append((job, None, _refused("the event queue's server does not answer")))
            elif not job.future.cancelled():
                publishes.append(job)
        failure = self._publish(publishes, outcomes) if publishes else None
        if others:
            self._others(others, outcomes, failure)
        self._answer(outcomes)

    def _publish(self, jobs: list[Job], outcomes: list[Outcome]) -> Exception | None:
        try:
            producer = self._open()
            with producer.batch(max_size=len(jobs) + 1):
                for job in jobs:
                    producer.publish(
                        job.body,
                        routing_key=job.queue,
                        content_type=CONTENT_TYPE,
                        content_encoding="binary",
                        headers={"x-delay": job.delay_ms} if job.delay_ms > 0 else None,
                    )
        except QueuesNotStored as partly:
            # The server's clear answer for some queues, a full lane's most likely; the rest is stored.
            self._failed(partly)
            for job in jobs:
                error = partly.errors.get(job.queue)
                outcomes.append((job, None, None if error is None else _refusal(error)))
            return None
        except Exception as error:
            # Whatever it was, these were not confirmed: their callers must hear of it, and the thread must
            # live.
            self._failed(error)
            refusal = _refusal(error)
            outcomes.extend((job, None, refusal) for job in jobs)
            return error
        self._failures = 0
        outcomes.extend((job, None, None) for job in jobs)
        return None

    def _others(self, jobs: list[Job], outcomes: list[Outcome], failure: Exception | None) -> None:
        """Acknowledgements in one round trip, then replacements in one, then each other call. With a
        `failure` just seen they are not tried: each try may take a whole timeout, and publishes wait behind
        it."""
        groups: list[tuple[list[Job], Callable[[Any], Sequence[Any]]]] = []
        acks = [job for job in jobs if job.ack is not None]
        if acks:
            tags = [tag for job in acks for tag in job.ack or ()]
            groups.append((acks, lambda channel: [channel.ack_many(tags)] * len(acks)))
        replacing = [job for job in jobs if job.replace is not None]
        if replacing:
            items = [job.replace for job in replacing]
            groups.append((replacing, lambda channel: channel.replace_many(items)))
        groups += [([job], _alone(job.call)) for job in jobs if job.call is not None]
        for members, work in groups:
            try:
                if failure is not None:
                    raise failure
                self._open()
                results = work(self._channel)
            except Exception as error:
                # As above. Acknowledgements and replacements come again; a call's caller decides.
                if failure is None:
                    self._failed(error)
                failure = error
                self._repeat_or_refuse(members, error, outcomes)
                continue
            self._failures = 0
            for job, result in zip(members, results, strict=True):
                if job.ack is not None:
                    self._settled(job.ack)
                elif job.replace is not None:
                    self._settled([job.replace[0]])
                outcomes.append((job, result, None))

    def _repeat_or_refuse(self, jobs: list[Job], error: Exception, outcomes: list[Outcome]) -> None:
        for job in jobs:
            if job.persist and not self._stopping:
                job.repeated = True
                self._again.append(job)
            else:
                outcomes.append((job, None, _refusal(error)))
        step = min(max(self._failures, 1), len(_RETRY_SECONDS)) - 1
        self._again_at = time.monotonic() + _RETRY_SECONDS[step]

    def _open(self) -> Any:
        if self._producer is None:
            self._channel = self._connect()
            producer: Any = Producer
            self._producer = producer(self._channel, auto_declare=False)
        return self._producer

    def _failed(self, error: Exception) -> None:
        if self._failures == 0:
            _log.warning("The event queue's server did not take a batch.", error=repr(error))
        self._failures += 1
        if not isinstance(error, BatchPublishError):  # that one is the server's clear answer
            self._disconnect()

    def _disconnect(self) -> None:
        channel, self._channel, self._producer = self._channel, None, None
        if channel is not None:
            close_channel(channel)

    def _answer(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return

        def resolve() -> None:
            for job, result, error in outcomes:
                if job.future.done():
                    continue
                if error is None:
                    job.future.set_result(result)
                else:
                    job.future.set_exception(error)

        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(resolve)


def _alone(call: Callable[[Any], Any]) -> Callable[[Any], Sequence[Any]]:
    return lambda channel: [call(channel)]


def _refused(why: str) -> EventQueueUnavailable:
    """Nothing was sent."""
    refusal = EventQueueUnavailable(f"The event was not accepted: {why}. Send it again.")
    refusal.certain = True
    return refusal


def _refusal(error: Exception) -> EventQueueUnavailable:
    """What the caller hears. The server's own words are in it: out of memory, disk full, read-only."""
    text = str(error)
    if text.startswith("FULL "):
        refusal = _refused(f"the function's queue is full ({text[5:]})")
        refusal.full = True
    else:
        refusal = _refused(f"the event queue's server failed ({text})")
        # A clear answer to the step itself; after a lost connection or a missed fsync it may lie there all
        # the same.
        refusal.certain = was_refused(error)
    refusal.__cause__ = error
    return refusal
