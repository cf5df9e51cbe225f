"""Spreads provisioned environments over the executors of a cluster: what each is to keep is told until its
beats say that it does, and told anew when an executor comes or goes.

Only the owner of a function's shard does it, and an executor does what it is told by the epoch that it goes by.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lambent.kernel.errors import LambdaError
from lambent.kernel.leases import Keep, shard_of
from lambent.kernel.log import Log
from lambent.kernel.models import Function, FunctionVersion, Provisioned, VersionKey
from lambent.kernel.ports import Clock, FunctionStore, Kept
from lambent.kernel.store import codec
from lambent.scheduler.allocations import allocated_versions, told
from lambent.scheduler.nodes import Node, Nodes
from lambent.scheduler.owner import ShardOwner

_log = Log(__name__)
_STEP_SECONDS = 1.0
_LOOK_SECONDS = 30.0
_PAGE = 100

Place = tuple[VersionKey, str]
Send = Callable[[str, Callable[[int], Keep]], int]


@dataclass(slots=True)
class _Allocated:
    """A function with allocations. `plans`: of each qualifier, how many each executor is to keep."""

    function: Function
    targets: Mapping[str, FunctionVersion]
    plans: dict[str, dict[str, int]] = field(default_factory=dict)


class Keeping:
    """`owned()`: the shards that this scheduler owns; `send(executor, make)` sends a request."""

    def __init__(
        self,
        *,
        nodes: Nodes,
        store: FunctionStore,
        owned: Callable[[], Mapping[int, ShardOwner]],
        send: Send,
        shards: int,
        clock: Clock,
    ) -> None:
        self._nodes = nodes
        self._store = store
        self._owned = owned
        self._send = send
        self._shards = shards
        self._clock = clock
        self._allocated: dict[str, _Allocated] = {}
        self._looked = float("-inf")
        self._claims = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            now = self._clock.monotonic()
            if now - self._looked >= _LOOK_SECONDS:
                await self._look_at_all(now)
            self.step(now)
            await self._clock.sleep(_STEP_SECONDS)

    def look_soon(self) -> None:
        """Shards were claimed: their functions are not known here."""
        self._looked = float("-inf")
        self._claims += 1

    async def _look_at_all(self, now: float) -> None:
        claims = self._claims
        try:
            after: str | None = None
            while rows := await self._store.page(after=after, limit=_PAGE):
                for function in rows:
                    if function.provisioned or function.uid in self._allocated:
                        await self.configure(function)
                after = rows[-1].name
        except LambdaError as failure:
            _log.warning("Functions with provisioned environments are not known.", why=failure.message)
            return
        if claims == self._claims:
            self._looked = now

    async def configure(self, function: Function) -> None:
        """The function as the store has it. Raises LambdaError."""
        if shard_of(function.uid, self._shards) not in self._owned() or not function.provisioned:
            self._allocated.pop(function.uid, None)
            return
        targets = await allocated_versions(
            function, lambda of, number: self._store.get_version(of.name, number)
        )
        before = self._allocated.get(function.uid)
        self._allocated[function.uid] = _Allocated(function, targets, before.plans if before else {})

    def forget(self, uid: str) -> None:
        """The function is deleted."""
        self._allocated.pop(uid, None)

    def step(self, now: float) -> None:
        """Plans, and tells executors what they do not do yet."""
        owned = {shard: owner for shard, owner in self._owned().items() if owner.ready}
        for uid in [uid for uid in self._allocated if shard_of(uid, self._shards) not in self._owned()]:
            del self._allocated[uid]
        usable = {node.id: node for node in self._nodes if node.usable(now)}
        wanted: dict[str, dict[Place, tuple[int, _Allocated | None]]] = {id: {} for id in usable}
        for each in self._allocated.values():
            self._plan(each, usable, wanted)
        for id, node in usable.items():
            # Not before it is known what is allocated: an earlier owner's environments would be ended.
            for place, state in node.kept.items() if self._looked > float("-inf") else ():
                if state.wanted and shard_of(place[0].uid, self._shards) in owned:
                    wanted[id].setdefault(place, (0, None))
            self._tell(node, wanted[id], owned)
        self._seen(owned)

    @staticmethod
    def _plan(
        each: _Allocated,
        usable: Mapping[str, Node],
        wanted: dict[str, dict[Place, tuple[int, _Allocated | None]]],
    ) -> None:
        for qualifier, target in each.targets.items():
            count = each.function.allocations[qualifier]
            free = {id: node.free_mb for id, node in usable.items()}
            # An earlier owner's plan is what executors do by now.
            place = target.key, qualifier
            done = {id: node.kept[place].wanted for id, node in usable.items() if place in node.kept}
            plan = spread(count, each.plans.get(qualifier, done), free, target.memory_size)
            each.plans[qualifier] = plan
            for id, share in plan.items():
                wanted[id][target.key, qualifier] = share, each

    def _tell(
        self,
        node: Node,
        wanted: Mapping[Place, tuple[int, _Allocated | None]],
        owned: Mapping[int, ShardOwner],
    ) -> None:
        for (key, bucket), (count, allocated) in wanted.items():
            state = node.kept.get((key, bucket))
            shard = shard_of(key.uid, self._shards)
            owner = owned.get(shard)
            if owner is None or (state.wanted if state is not None else 0) == count:
                continue
            target = b"" if allocated is None else codec.encode(allocated.targets[bucket])
            tags = {} if allocated is None else dict(allocated.function.tags)
            epoch = owner.epoch

            def make(
                number: int,
                shard: int = shard,
                epoch: int = epoch,
                key: VersionKey = key,
                bucket: str = bucket,
                count: int = count,
                target: bytes = target,
                tags: Mapping[str, str] = tags,
            ) -> Keep:
                return Keep(number, shard, epoch, key, bucket, count, target, tags)

            self._send(node.id, make)

    def _seen(self, owned: Mapping[int, ShardOwner]) -> None:
        """How many on-demand environments there are, for the rate at which functions grow."""
        idle: dict[str, int] = {}
        for node in self._nodes:
            for key, environments in node.warm.items():
                idle[key.uid] = idle.get(key.uid, 0) + environments
        for owner in owned.values():
            for uid, count in list(owner.counts):
                owner.counts.seen(uid, idle.get(uid, 0) + count.on_demand)

    async def far(self, name: str, uid: str) -> Mapping[str, Provisioned]:
        """How far a function's allocations are. Raises LambdaError."""
        function = await self._store.get(name)
        if function is None or function.uid != uid:
            return {}
        return told(function, self._kept(uid))

    def _kept(self, uid: str) -> Iterable[Kept]:
        for node in self._nodes:
            for (key, bucket), state in node.kept.items():
                if key.uid == uid and node.connected:
                    yield Kept(key, bucket, state.wanted, state.started, state.ready, state.failed)


def spread(count: int, before: Mapping[str, int], free_mb: Mapping[str, int], memory_mb: int) -> dict[str, int]:
    """How many of `count` environments each executor keeps: as before where that can stay, the rest one by one
    where the most memory is free."""
    plan: dict[str, int] = {}
    left = count
    for executor, share in before.items():
        kept = min(share, left)
        if executor in free_mb and kept:
            plan[executor] = kept
            left -= kept
    # What is planned and not there yet is not in the executor's own number.
    free = {id: mb - memory_mb * max(0, plan.get(id, 0) - before.get(id, 0)) for id, mb in free_mb.items()}
    while left and free:
        best = max(free, key=lambda id: (free[id], id))
        plan[best] = plan.get(best, 0) + 1
        free[best] -= memory_mb
        left -= 1
    return plan
