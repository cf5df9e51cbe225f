"""Functions by name, and their versions, without a round trip, because a warm invoke must not ask the store.

The store tells of changes (its own at once, other processes' by pub/sub); "*" empties the cache.
"""

from lambent.kernel.models import Function, FunctionVersion
from lambent.kernel.ports import FunctionStore

_VERSIONS_EACH = 64


class FunctionCache:
    """A bounded read cache over `FunctionStore.get` and `get_version`; what is not there is not cached."""

    def __init__(self, store: FunctionStore, *, size: int = 10_000) -> None:
        self._store = store
        self._size = size
        self._functions: dict[str, Function] = {}
        # Of functions that are cached: {name: {number: version}}.
        self._versions: dict[str, dict[int, FunctionVersion]] = {}
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
                self._drop(next(iter(self._functions)))
            self._functions[name] = found
        return found

    async def version(self, function: Function, number: int) -> FunctionVersion | None:
        """A published version of this very function, or None."""
        known = self._versions.get(function.name, {}).get(number)
        if known is not None and known.uid == function.uid:
            return known
        before = self._changes
        found = await self._store.get_version(function.name, number)
        if found is None or found.uid != function.uid:
            return None
        if before == self._changes and function.name in self._functions:
            versions = self._versions.setdefault(function.name, {})
            if len(versions) >= _VERSIONS_EACH:
                versions.pop(next(iter(versions)))
            versions[number] = found
        return found

    def changed(self, name: str) -> None:
        """The function `name` has changed, or with "*" any may have."""
        self._changes += 1
        if name == "*":
            self._functions.clear()
            self._versions.clear()
        else:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._functions.pop(name, None)
        self._versions.pop(name, None)
