"""Which generation of each function's code runs, as the owner of its shard knows it: what is older gets no
slots, and an update waits for its end. Rules: docs/leases.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lambent.kernel.arn import LATEST
from lambent.kernel.models import VersionKey

_DELETED_KEPT_SECONDS = 60.0


@dataclass(slots=True)
class _Newest:
    """The generation of $LATEST that runs now; None: the function is deleted, `since` then."""

    generation: int | None
    since: float = 0.0


class Versions:
    """By uid. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._newest: dict[str, _Newest] = {}
        self._waiting: list[tuple[str, Callable[[bool], None]]] = []

    def known(self, uid: str) -> bool:
        """Whether anything was said of the function."""
        return uid in self._newest

    def deleted(self, uid: str) -> bool:
        newest = self._newest.get(uid)
        return newest is not None and newest.generation is None

    def rise(self, uid: str, generation: int) -> bool:
        """This generation runs now, unless a newer one does: words of updates may come in any order."""
        newest = self._newest.get(uid)
        if newest is not None and (newest.generation is None or newest.generation >= generation):
            return False
        self._newest[uid] = _Newest(generation)
        return True

    def delete(self, uid: str, now: float) -> None:
        """Nothing of the function runs any more."""
        self._newest[uid] = _Newest(None, now)

    def behind(self, key: VersionKey) -> bool:
        """Whether a version is newer than what is known to run."""
        newest = self._newest.get(key.uid)
        known = None if newest is None else newest.generation
        return known is not None and key.version == LATEST and key.generation > known

    def outdated(self, key: VersionKey) -> bool:
        """Whether a version must not run any more."""
        newest = self._newest.get(key.uid)
        if newest is None:
            return False
        if newest.generation is None:
            return True
        return key.version == LATEST and key.generation < newest.generation

    def wait(self, uid: str, done: Callable[[bool], None]) -> None:
        """`done(True)` once nothing outdated of a function is left."""
        self._waiting.append((uid, done))

    @property
    def waited_for(self) -> Sequence[str]:
        """Functions whose updates wait."""
        return tuple(dict.fromkeys(uid for uid, _ in self._waiting))

    def certain(self, uid: str | None, answer: bool) -> None:
        """Answers those who wait for a function; None: for any."""
        over = [entry for entry in self._waiting if uid in (None, entry[0])]
        self._waiting = [entry for entry in self._waiting if entry not in over]
        for _, done in over:
            done(answer)

    def prune(self, now: float, used: Callable[[str], object]) -> Sequence[str]:
        """Deleted functions that are forgotten, but for those that are `used`: an ask for one that comes now
        finds none in the store."""
        over = [
            uid
            for uid, newest in self._newest.items()
            if newest.generation is None and now - newest.since > _DELETED_KEPT_SECONDS and not used(uid)
        ]
        for uid in over:
            del self._newest[uid]
        return over
