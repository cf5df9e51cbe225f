"""What the holders of leases are to hear at their next renewal: functions that changed, and slots that came
back. Bounded: a holder that has vanished is forgotten, and one that lags far behind is told to forget all.
"""

# A holder renews each second; after so long without a word its leases are over, and what it knew is too.
_SILENT_SECONDS = 60.0
_MOST_NAMES = 1000
EVERYTHING = "*"


class HolderNews:
    """By holder. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._holders: dict[str, float] = {}
        self._stale: dict[str, dict[str, None]] = {}
        self._freed: dict[str, dict[str, None]] = {}
        self._starved: dict[str, dict[str, None]] = {}  # by uid: holders that were refused
        self._pooled: set[str] = set()  # those of them that share the account's pool

    def __len__(self) -> int:
        return len(self._holders)

    def met(self, holder: str, now: float) -> None:
        """It has said something."""
        self._holders[holder] = now

    def changed(self, name: str) -> None:
        """Something of a function has changed."""
        for holder in self._holders:
            names = self._stale.setdefault(holder, {})
            if len(names) >= _MOST_NAMES:
                names.clear()
                names[EVERYTHING] = None
            if EVERYTHING not in names:
                names[name] = None

    def starved(self, uid: str, holder: str, *, pooled: bool) -> None:
        """A holder was refused slots of a function; `pooled`: of those that functions share."""
        self._starved.setdefault(uid, {})[holder] = None
        if pooled:
            self._pooled.add(uid)

    def came_free(self, uid: str, *, pooled: bool) -> None:
        """Slots of a function came back, which the others may use if they are `pooled`."""
        self._tell(uid)
        if pooled:
            for other in list(self._pooled):
                self._tell(other)

    def _tell(self, uid: str) -> None:
        self._pooled.discard(uid)
        for holder in self._starved.pop(uid, ()):
            if holder in self._holders:
                self._freed.setdefault(holder, {})[uid] = None

    def take(self, holder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(names of changed functions, uids that may be asked for again), told once."""
        return tuple(self._stale.pop(holder, ())), tuple(self._freed.pop(holder, ()))

    def forget(self, uid: str) -> None:
        """The function is gone."""
        self._starved.pop(uid, None)
        self._pooled.discard(uid)

    def prune(self, now: float) -> None:
        """Forgets who has vanished."""
        gone = [holder for holder, met in self._holders.items() if now - met > _SILENT_SECONDS]
        for holder in gone:
            del self._holders[holder]
            self._stale.pop(holder, None)
            self._freed.pop(holder, None)
            for holders in self._starved.values():
                holders.pop(holder, None)
