"""Who listens to one environment: what its log says goes to each of them in its own form."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from lambent.executor.extensions import Extension
from lambent.executor.function_log import FunctionLog
from lambent.executor.runtime_api import Answer, refusal
from lambent.executor.telemetry import (
    LOGS,
    TELEMETRY,
    Buffer,
    Dropped,
    Subscription,
    encoded,
    events_for,
    subscription,
)
from lambent.executor.telemetry_delivery import Delivery, MakeSockets
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

# Of init, for those who subscribe in its course.
_KEPT_EVENTS, _KEPT_BYTES = 1000, 256 * 1024
_TOO_LATE = f"More than {_KEPT_EVENTS} events or {_KEPT_BYTES} bytes came before this subscription."
_TOLD = {TELEMETRY: "platform.telemetrySubscription", LOGS: "platform.logsSubscription"}


@dataclass(frozen=True, slots=True)
class _Subscriber:
    asked: Subscription
    delivery: Delivery
    task: "asyncio.Task[None]"


class Subscribers:
    """Those of one start of a runtime, by the identifiers of their extensions. `sockets`: as a Sandbox's."""

    def __init__(self, log: FunctionLog, sockets: MakeSockets, *, clock: Clock, tasks: Tasks) -> None:
        self._log = log
        self._sockets = sockets
        self._clock = clock
        self._tasks = tasks
        self._by_id: dict[str, _Subscriber] = {}
        # That init began was told before there was anyone to listen.
        self._kept: deque[tuple[float, str, Any]] | None = deque(
            [(clock.now(), "platform.initStart", log.init_record)]
        )
        self._kept_bytes = 0
        self._dropped: dict[str, Dropped] = {}
        """What could not be kept, by the kind of event: nobody is told of what was never meant for it."""
        log.events = self._event

    def __bool__(self) -> bool:
        return bool(self._by_id)

    def subscribe(self, extension: Extension, api: str, document: object, *, closed: bool) -> Answer:
        """A subscription made again replaces the one before. `closed`: it is too late."""
        kind = "Telemetry" if api == TELEMETRY else "Logs"
        if closed or self._kept is None:
            return refusal(403, f"{kind}.SubscriptionClosed", "Extensions can subscribe during init only.")
        try:
            asked = subscription(api, document)
        except ValueError as problem:
            return refusal(400, "ValidationError", str(problem))
        before = self._by_id.pop(extension.id, None)
        if before is not None:
            before.task.cancel()
        delivery = Delivery(Buffer(asked), self._sockets, self._clock)
        task = self._tasks.once(f"telemetry to {extension.name}", delivery.run())
        subscriber = self._by_id[extension.id] = _Subscriber(asked, delivery, task)
        for at, event, record in self._kept:
            self._send(subscriber, at, event, record)
        self._tell_dropped(subscriber)
        told = {"name": extension.name, "state": "Subscribed", "types": sorted(asked.types)}
        self._log.subscription(_TOLD[api], told)
        return Answer(200, b'"OK"')

    def initialised(self) -> None:
        """Nobody subscribes any more."""
        self._kept = None
        if not self._by_id:
            self._log.events = None

    def _event(self, kind: str, record: Any) -> None:
        at = self._clock.now()
        if self._kept is not None:
            self._keep(at, kind, record)
        for subscriber in self._by_id.values():
            self._send(subscriber, at, kind, record)

    def _keep(self, at: float, kind: str, record: Any) -> None:
        assert self._kept is not None
        size = len(encoded(at, kind, record))
        if len(self._kept) < _KEPT_EVENTS and self._kept_bytes + size <= _KEPT_BYTES:
            self._kept.append((at, kind, record))
            self._kept_bytes += size
        else:
            self._dropped.setdefault(kind, Dropped()).add(size)

    def _tell_dropped(self, subscriber: _Subscriber) -> None:
        missed = Dropped()
        for kind, dropped in self._dropped.items():
            if events_for(subscriber.asked, kind, {}):
                missed.add(dropped.size, dropped.records)
        if missed:
            subscriber.delivery.add(missed.encoded(self._clock.now(), _TOO_LATE))

    @staticmethod
    def _send(subscriber: _Subscriber, at: float, kind: str, record: Any) -> None:
        for event, what in events_for(subscriber.asked, kind, record):
            subscriber.delivery.add(encoded(at, event, what))

    def frozen(self, frozen: bool) -> None:
        """While it is, nothing is delivered."""
        for subscriber in self._by_id.values():
            if frozen:
                subscriber.delivery.pause()
            else:
                subscriber.delivery.resume()

    async def flush(self) -> None:
        """The environment ends; see `Delivery.flush`."""
        await asyncio.gather(*(subscriber.delivery.flush() for subscriber in self._by_id.values()))

    def close(self) -> None:
        """The environment is gone."""
        self._log.events = None
        for subscriber in self._by_id.values():
            subscriber.task.cancel()
        self._by_id.clear()
