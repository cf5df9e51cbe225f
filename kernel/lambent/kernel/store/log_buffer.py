"""Log lines on their way to a log store, under a byte budget, because a function that logs without end must
cost neither the server's memory nor anybody's latency: the oldest lines go first, and are counted and told.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lambent.kernel import metrics
from lambent.kernel.errors import InvalidParameterValueException
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock

_log = Log(__name__)
MAX_LINE_BYTES = 256 * 1024
_TELL_SECONDS = 60.0
# What a line costs besides its text, here and in the store.
_OVERHEAD = 64


class Line(NamedTuple):
    """A line that waits; a tuple, for each invocation makes three. `at`: ms since the epoch; `size`: what it
    costs, in bytes."""

    group: str
    stream: str
    at: int
    text: str
    size: int


def make_line(group: str, stream: str, at: int, text: str) -> Line:
    """A line of at most 256 KB, of text that UTF-8 can say."""
    if len(text) > MAX_LINE_BYTES // 4 or not text.isascii():
        text = cut(text).decode()
    return Line(group, stream, at, text, len(text) + _OVERHEAD)


def cut(text: str) -> bytes:
    """UTF-8 of at most 256 KB; a longer line ends in a mark that says how long it was."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_LINE_BYTES:
        return data
    mark = f" ... [cut: the line had {len(data)} bytes]".encode()
    whole = data[: MAX_LINE_BYTES - len(mark)].decode("utf-8", "ignore").encode()
    return whole + mark


def cursor(text: str) -> str:
    """A cursor as `read` gives it. Raises InvalidParameterValueException for any other text."""
    if re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", text) is None:
        raise InvalidParameterValueException(f"{text!r} is not a cursor of this log.")
    return text


class Dropped:
    """Counts dropped lines, in the metric at once and in the server's log once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_at: float | None = None
        self._untold = 0
        self._why = ""
        self.total = 0

    def add(self, lines: int, why: str) -> None:
        if lines <= 0:
            return
        metrics.log_lines_dropped.inc(lines)
        self.total += lines
        self._untold += lines
        self._why = why
        now = self._clock.monotonic()
        if self._told_at is None or now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            self.tell()

    def tell(self) -> None:
        """Says what has not been said yet."""
        if self._untold:
            _log.warning("Log lines of functions were dropped.", lines=self._untold, why=self._why)
            self._untold = 0


class LogBuffer:
    """Lines in the order in which they came, of at most `budget` bytes."""

    def __init__(self, budget: int, dropped: Dropped) -> None:
        self._budget = budget
        self._dropped = dropped
        self._lines: deque[Line] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._lines.append(line)
            self._size += line.size
        if self._size > self._budget:
            self._shrink()

    def take(self, size: int) -> list[Line]:
        """The oldest lines, of about `size` bytes."""
        taken: list[Line] = []
        while self._lines and size > 0:
            taken.append(self._lines.popleft())
            self._size -= taken[-1].size
            size -= taken[-1].size
        return taken

    def put_back(self, lines: Sequence[Line]) -> None:
        """Lines that could not be written are the oldest again."""
        self._lines.extendleft(reversed(lines))
        self._size += sum(line.size for line in lines)
        self._shrink()

    def forget(self, group: str) -> None:
        """A deleted group's lines; they are not counted as dropped."""
        self._lines = deque(line for line in self._lines if line.group != group)
        self._size = sum(line.size for line in self._lines)

    def drop_all(self, why: str) -> None:
        self._dropped.add(len(self._lines), why)
        self._lines.clear()
        self._size = 0

    def _shrink(self) -> None:
        before = len(self._lines)
        while self._size > self._budget:
            self._size -= self._lines.popleft().size
        self._dropped.add(before - len(self._lines), "they came faster than they could be stored")
