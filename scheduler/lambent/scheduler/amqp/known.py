"""Which of the broker's queues are known here, shared by the threads: what the register says, and what was made
by this process."""

import threading
from collections.abc import Iterable

from lambent.scheduler.amqp.names import Place, parse


class Known:
    """Safe for any thread. `complete`: the register has been read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, Place] = {}
        self.complete = threading.Event()

    def add(self, queues: Iterable[str]) -> list[Place]:
        """Those that were not known."""
        with self._lock:
            new = [(queue, place) for queue in queues if queue not in self._queues and (place := parse(queue))]
            self._queues |= new
            return [place for _, place in new]

    def forget(self, queues: Iterable[str]) -> None:
        with self._lock:
            for queue in queues:
                self._queues.pop(queue, None)

    def __contains__(self, queue: str) -> bool:
        return queue in self._queues

    def places(self, lane: str | None = None) -> list[Place]:
        """All, or those of a lane."""
        with self._lock:
            return [place for place in self._queues.values() if lane is None or place.lane == lane]
