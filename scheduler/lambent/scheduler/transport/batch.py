"""What kombu's `Producer.batch` fills: messages grouped by queue, one script call per queue, one round trip
in all, because a round trip and an fsync per message is what makes a queue slow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kombu.exceptions import BatchPublishError
from redis.exceptions import ResponseError

from lambent.scheduler.transport.packing import pack

if TYPE_CHECKING:
    from lambent.scheduler.transport.streams import Channel

_MAX_CALL_BYTES = 8 << 20  # a script call is one server turn: larger ones would hold up everybody
_MAX_CALL_MESSAGES = 500  # four values each, and Lua's unpack and the reply stay small


class QueuesNotStored(BatchPublishError):
    """What went to these queues is not, or not surely, stored; everything else of the batch is. `errors` by
    queue: the server's refusal, or that it is uncertain."""

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        super().__init__(f"messages were not stored: {next(iter(errors.values()))}")
        self.errors = errors


class PublishBatch:
    """One producer's unsent messages."""

    def __init__(self, channel: "Channel", max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._count = 0
        self._queues: dict[str, list[list[Any]]] = {}
        self._sizes: dict[str, int] = {}

    def publish(self, message: dict[str, Any], **options: Any) -> None:
        """Routes one prepared message; kept until `flush`."""
        self.channel.basic_publish(message, _batch=self, **options)
        if self._count >= self._max_size:
            self.flush()

    def add(self, queue: str, message: dict[str, Any], delay_ms: int) -> None:
        """One message for one queue."""
        body, meta = pack(message)
        calls = self._queues.setdefault(queue, [[]])
        size = self._sizes.get(queue, 0)
        if size + len(body) > _MAX_CALL_BYTES or len(calls[-1]) >= 4 * _MAX_CALL_MESSAGES:
            calls.append([])
            size = 0
        calls[-1].extend((body, meta, delay_ms, ""))
        self._sizes[queue] = size + len(body)
        self._count += 1

    def flush(self) -> None:
        """Sends everything; returns when it is stored. Raises QueuesNotStored where some of it is not, or a
        connection error (uncertain for all)."""
        calls = [(queue, call) for queue, calls in self._queues.items() for call in calls if call]
        self.discard()
        if not calls:
            return
        results = self.channel.put_calls(calls)
        failed = {queue: error for (queue, _), error in zip(calls, results, strict=True) if error is not None}
        uncertain = [error for error in failed.values() if not isinstance(error, ResponseError)]
        if uncertain and all(error is not None for error in results):
            raise uncertain[0]
        if failed:
            # Of two calls of a queue the uncertain one counts.
            for (queue, _), error in zip(calls, results, strict=True):
                if error is not None and not isinstance(error, ResponseError):
                    failed[queue] = error
            raise QueuesNotStored(failed)

    def discard(self) -> None:
        self._queues, self._sizes, self._count = {}, {}, 0

    def close(self) -> None:
        self.discard()
