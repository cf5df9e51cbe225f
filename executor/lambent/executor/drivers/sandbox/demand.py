"""How many environments to make ahead of need, as a pure function of when starts were asked for: as many as
came at once lately, fewer the longer that is ago, and none after a long silence. Times in seconds of a
monotonic clock.
"""

import math
from collections import deque

# As long as it takes to make some slots again: starts within it find what was there before.
_AT_ONCE_SECONDS = 1.0
_HALF_LIFE_SECONDS = 30.0
_LEAST = 2
SILENCE_SECONDS = 300.0


class Demand:
    """The starts of one kind. `most`: never more slots than that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._recent: deque[float] = deque(maxlen=max(1, most))
        self._peak, self._peak_at = 0.0, 0.0
        self._last = -math.inf

    def arrived(self, now: float) -> None:
        """A start was asked for."""
        self._recent.append(now)
        while self._recent[0] <= now - _AT_ONCE_SECONDS:
            self._recent.popleft()
        self._last = now
        if len(self._recent) >= self._faded(now):
            self._peak, self._peak_at = float(len(self._recent)), now

    def expected(self, now: float) -> None:
        """One will be asked for soon: there should be some."""
        self._last = now

    def _faded(self, now: float) -> float:
        return self._peak * float(0.5 ** ((now - self._peak_at) / _HALF_LIFE_SECONDS))

    def silent(self, now: float) -> bool:
        """Whether nobody has asked for so long that nothing is kept."""
        return now - self._last >= SILENCE_SECONDS

    def wanted(self, now: float, room: int) -> int:
        """Slots to keep; `room`: what memory and uids allow."""
        if self.silent(now):
            return 0
        return max(0, min(self._most, room, max(_LEAST, math.ceil(self._faded(now)))))
