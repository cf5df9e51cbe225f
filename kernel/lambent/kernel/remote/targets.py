"""Numbers for function versions on one connection, so that a version's configuration crosses once and not with
each invocation. The client chooses the numbers; one that is given again says what is forgotten."""

from collections import OrderedDict

from lambent.kernel.models import FunctionVersion

TARGETS = 1024
_Name = tuple[str, str, int, str]


class Numbers:
    """The client's side: the least recently used version gives its number away when all are taken."""

    def __init__(self, most: int = TARGETS) -> None:
        self._most = most
        self._known: OrderedDict[_Name, tuple[int, FunctionVersion | None]] = OrderedDict()

    def of(self, target: FunctionVersion) -> tuple[int, bool]:
        """(its number, whether the other side has to be told first)."""
        name = (target.uid, target.version, target.generation, target.revision_id)
        known = self._known.get(name)
        if known is not None:
            number, told = known
            self._known.move_to_end(name)
            if told is target:
                return number, False
            self._known[name] = number, target
            return number, told != target
        number = len(self._known)
        if number >= self._most:
            number = self._known.popitem(last=False)[1][0]
        self._known[name] = number, target
        return number, True

    def forget(self, target: FunctionVersion) -> None:
        """It could not be told. The number stays taken, so that none is given twice."""
        name = (target.uid, target.version, target.generation, target.revision_id)
        number, _ = self._known[name]
        self._known[name] = number, None
