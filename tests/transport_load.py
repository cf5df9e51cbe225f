# mypy: allow-untyped-calls
"""Load on the transport while servers die: what was confirmed must be consumed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kombu.messaging import Producer

from lambent.scheduler.transport.streams import Channel, close_channel, open_channel
from lambent.scheduler.transport.wire import SERVER_ERRORS

_BATCH = 20
_QUEUES = 8


class Load:
    """A publisher and a consumer on `url`, each in a thread, with channels that are made anew after each
    failure."""

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        self._options = {"shards": 8, "claim_idle": 1.0, "socket_timeout": 1.0, **options}
        self.confirmed: set[int] = set()
        self.consumed: Counter[int] = Counter()
        self.failures: list[str] = []
        self._changed = threading.Condition()
        self._publish, self._consume = True, True
        self._threads = [
            threading.Thread(target=self._forever, args=(work, going), daemon=True)
            for work, going in ((self._put, lambda: self._publish), (self._take, lambda: self._consume))
        ]
        self._next = 0

    def _forever(self, work: Callable[[Channel], None], going: Callable[[], bool]) -> None:
        while going():
            channel: Channel | None = None
            try:
                channel = open_channel(self._url, **self._options)
                while going():
                    work(channel)
            except SERVER_ERRORS as error:
                self.failures.append(repr(error))
                with self._changed:
                    self._changed.wait(0.05)
            finally:
                if channel is not None:
                    close_channel(channel)

    def _put(self, channel: Channel) -> None:
        producer: Any = Producer(channel, auto_declare=False)
        numbers = range(self._next, self._next + _BATCH)
        self._next += _BATCH  # a number whose fate is unknown is not used again
        with producer.batch():
            for number in numbers:
                producer.publish(number, routing_key=f"q{number % _QUEUES}")
        with self._changed:
            self.confirmed |= set(numbers)
            self._changed.notify_all()

    def _take(self, channel: Channel) -> None:
        messages: list[Any] = channel.get_many(lambda queue: 50, 200)
        if not messages:
            channel.wait(1, unless=lambda: not self._consume)
            return
        with self._changed:
            self.consumed.update(message.payload for message in messages)
            self._changed.notify_all()
        channel.ack_many([message.delivery_tag for message in messages])

    def await_confirmed(self, more: int, seconds: float = 60) -> None:
        """Until so many more are confirmed."""
        with self._changed:
            wanted = len(self.confirmed) + more
            assert self._changed.wait_for(lambda: len(self.confirmed) >= wanted, seconds), self.failures[-5:]

    def finish(self, seconds: float = 60) -> None:
        """No more is published; until all that was confirmed is consumed."""
        self._publish = False
        self._threads[0].join(seconds)
        with self._changed:
            done = self._changed.wait_for(lambda: not self.missing(), seconds)
        assert done, (len(self.missing()), self.failures[-5:])

    def missing(self) -> set[int]:
        return self.confirmed - self.consumed.keys()

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.consumed.values())


@contextmanager
def load(url: str, **options: Any) -> Iterator[Load]:
    made = Load(url, **options)
    for thread in made._threads:
        thread.start()
    try:
        yield made
    finally:
        made._publish = made._consume = False
        for thread in made._threads:
            thread.join(30)
