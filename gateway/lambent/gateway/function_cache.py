"""Functions by name without a round trip, because a warm invoke must not ask the store.

The store tells of changes (its own at once, other processes' by pub/sub); "*" empties the cache.
"""

from lambent.kernel.models import Function
from lambent.kernel.ports import FunctionStore


class FunctionCache:
    """A bounded read cache over `FunctionStore.get`; a name that is not there is not cached."""

    def __init__(self, store: FunctionStore, *, size: int = 10_000) -> None:
        self._store = store
        self._size = size
        self._functions: dict[str, Function] = {}
        self._changes = 0

    def cached(self, name: str) -> Function | None:
        """What is known without asking."""
        return self._functions.get(name)

    async def get(self, name: str) -> Function | None:
        """The function, or None if there is none."""
        found = self._functions.get(name)
        if found is not None:
            return found
        before = self._changes
        found = await self._store.get(name)
        if found is not None and before == self._changes:  # else it may have changed while it was read
            if len(self._functions) >= self._size:
                self._functions.pop(next(iter(self._functions)))
            self._functions[name] = found
        return found

    def changed(self, name: str) -> None:
        """The function `name` has changed, or with "*" any may have."""
        self._changes += 1
        if name == "*":
            self._functions.clear()
        else:
            self._functions.pop(name, None)
