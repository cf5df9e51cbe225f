"""Which of the broker's queues are known here, shared by the threads: what the register says, and what was made
by this process. A queue that is not settled may forget what it takes, and may not even work."""

import threading
from collections.abc import Iterable

from lambent.scheduler.amqp.names import Place, parse


class Known:
    """Safe for any thread. `complete`: the register has been read; `usable`: from when on other queues may be
    made (time.monotonic)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, Place] = {}
        self._unsettled: set[str] = set()
        self.complete = threading.Event()
        self.usable = 0.0

    def add(self, queues: Iterable[tuple[str, bool]]) -> None:
        """With whether they are settled; what once was stays so."""
        with self._lock:
            for queue, settled in queues:
                place = parse(queue)
                if place is None:
                    continue
                if settled:
                    self._unsettled.discard(queue)
                elif queue not in self._queues:
                    self._unsettled.add(queue)
                self._queues[queue] = place

    def unsettled(self) -> list[str]:
        with self._lock:
            return sorted(self._unsettled)

    def is_unsettled(self, queue: str) -> bool:
        return queue in self._unsettled

    def forget(self, queues: Iterable[str]) -> None:
        with self._lock:
            for queue in queues:
                self._queues.pop(queue, None)
                self._unsettled.discard(queue)

    def __contains__(self, queue: str) -> bool:
        return queue in self._queues

    def places(self, lane: str | None = None) -> list[Place]:
        """All, or those of a lane."""
        with self._lock:
            return [place for place in self._queues.values() if lane is None or place.lane == lane]
