"""Which executor gets slots: by idle environments, cached code and free memory, decided from what executors say
of themselves once a second and from what was granted since. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lambent.kernel.leases import Beat, KeptState
from lambent.kernel.models import VersionKey
from lambent.scheduler.counts import ON_DEMAND

# One that was not heard for so long gets nothing new.
_QUIET_SECONDS = 3.0


@dataclass(slots=True)
class Node:
    """An executor as this scheduler knows it. `heard`: monotonic seconds; `granted_mb`: memory of the slots
    that are out there by its last beat, and of those that were granted since."""

    id: str
    heard: float
    memory_mb: int = 0
    granted_mb: int = 0
    draining: bool = False
    connected: bool = True
    warm: dict[VersionKey, int] = field(default_factory=dict)
    cached: frozenset[str] = frozenset()
    kept: Mapping[tuple[VersionKey, str], KeptState] = field(default_factory=dict)

    @property
    def free_mb(self) -> int:
        return self.memory_mb - self.granted_mb

    def usable(self, now: float) -> bool:
        """Whether it may be given slots."""
        return self.connected and not self.draining and now - self.heard < _QUIET_SECONDS


@dataclass(frozen=True, slots=True)
class Wish:
    """What slots are wanted for. `digest` of the code; `busy` are the slots of the bucket that are out already,
    by executor."""

    key: VersionKey
    bucket: str
    memory_mb: int
    digest: str
    slots: int
    busy: Mapping[str, int] = field(default_factory=dict)


class Nodes:
    """The executors that a scheduler hears."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def get(self, executor: str) -> Node | None:
        return self._nodes.get(executor)

    def heard(self, beat: Beat, now: float) -> Node:
        """An executor has spoken."""
        node = self._nodes.get(beat.executor)
        if node is None:
            node = self._nodes[beat.executor] = Node(beat.executor, now)
        node.heard = now
        node.connected = True
        node.memory_mb, node.granted_mb = beat.memory_mb, beat.granted_mb
        node.draining = beat.draining
        node.warm = dict(beat.warm)
        node.cached = beat.cached
        node.kept = {(each.key, each.bucket): each for each in beat.kept}
        return node

    def lost(self, executor: str) -> None:
        """Its stream is broken: nothing new until it is heard again."""
        node = self._nodes.get(executor)
        if node is not None:
            node.connected = False

    def drop(self, executor: str) -> None:
        """It is gone for good."""
        self._nodes.pop(executor, None)

    def granted(self, executor: str, memory_mb: int, key: VersionKey, slots: int) -> None:
        """Slots were granted, or with a negative number came back, since its last beat."""
        node = self._nodes.get(executor)
        if node is not None:
            node.granted_mb += memory_mb * slots
            if slots > 0 and key in node.warm:
                node.warm[key] = max(0, node.warm[key] - slots)

    def place(self, wish: Wish, now: float) -> Sequence[tuple[str, int]]:
        """(executor, slots), in all at most as many as are wished; nothing where no executor can be used. Where
        no memory is free all go to the freest: it has the last word, and idle environments that it can stop."""
        usable = [node for node in self._nodes.values() if node.usable(now)]
        if not usable:
            return []
        if wish.bucket != ON_DEMAND:
            return self._where_kept(wish, usable)
        usable.sort(key=lambda node: _order(node, wish))
        placed: dict[str, int] = {}
        left = wish.slots
        # Idle environments first, wherever they are; then one after the other as far as memory goes.
        for node in usable:
            warm = min(left, node.warm.get(wish.key, 0), max(0, node.free_mb // wish.memory_mb))
            if warm:
                placed[node.id] = warm
                left -= warm
        for node in usable:
            if not left:
                break
            fits = max(0, node.free_mb // wish.memory_mb - placed.get(node.id, 0))
            share = min(left, fits)
            if share:
                placed[node.id] = placed.get(node.id, 0) + share
                left -= share
        if not placed:
            freest = max(usable, key=lambda node: node.free_mb)
            return [(freest.id, wish.slots)]
        return list(placed.items())

    @staticmethod
    def _where_kept(wish: Wish, usable: Sequence[Node]) -> Sequence[tuple[str, int]]:
        """An allocation's slots are where its environments are; those that are ready first."""
        placed: list[tuple[str, int]] = []
        left = wish.slots
        kept = [(node, node.kept.get((wish.key, wish.bucket))) for node in usable]
        for node, state in sorted(kept, key=lambda each: -(each[1].ready if each[1] else 0)):
            if state is None or not left:
                continue
            share = min(left, max(0, state.started - wish.busy.get(node.id, 0)))
            if share:
                placed.append((node.id, share))
                left -= share
        return placed


def _order(node: Node, wish: Wish) -> tuple[bool, bool, int, str]:
    """Who comes first: idle environments of the version, its code, memory."""
    return (not node.warm.get(wish.key, 0), wish.digest not in node.cached, -node.free_mb, node.id)
