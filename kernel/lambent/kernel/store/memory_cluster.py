"""What a cluster's processes agree on, in memory, for unit tests: same contract, nothing shared between
processes. The "server's" time is the given clock's."""

from collections.abc import Mapping, Sequence

from lambent.kernel.clock import SystemClock
from lambent.kernel.models import Block, Member, ShardOwner
from lambent.kernel.ports import Clock
from lambent.kernel.store import cluster_values as values


class MemoryMembers:
    """`ports.Members`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._members: dict[tuple[str, str], tuple[bytes, float]] = {}

    async def register(self, member: Member, ttl: float) -> None:
        written = values.encode_member(member, ttl)
        key = (member.role, member.id)
        if (
            key not in self._members
            and sum(role == member.role for role, _ in self._members) >= values.MOST_MEMBERS
        ):
            raise values.too_many_members(member.role)
        self._members[key] = (written, self._clock.monotonic())

    async def remove(self, id: str) -> None:
        for role in values.ROLES:
            self._members.pop((role, id), None)

    async def list(self, role: str | None = None) -> Sequence[Member]:
        found = []
        for key, (written, seen) in list(self._members.items()):
            age = self._clock.monotonic() - seen
            if role not in (None, key[0]):
                continue
            if age > values.MEMBER_KEPT_SECONDS:
                del self._members[key]
            else:
                found.append(values.member(written, age))
        return sorted(found, key=lambda member: member.id)


class MemoryShardLocks:
    """`ports.ShardLocks`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._owners: dict[int, tuple[ShardOwner, float]] = {}
        self.epochs: dict[int, int] = {}
        """The last one of each shard; they outlive the locks."""

    def _holds(self, shard: int, owner: str, epoch: int) -> bool:
        found, until = self._owners.get(shard, (None, 0.0))
        standing = found is not None and until > self._clock.monotonic()
        return standing and found is not None and (found.owner, found.epoch) == (owner, epoch)

    async def claim(self, shard: int, owner: str, address: str, ttl: float) -> int | None:
        if shard in await self.owners():
            return None
        epoch = self.epochs[shard] = self.epochs.get(shard, 0) + 1
        self._owners[shard] = (ShardOwner(owner, address, epoch), self._clock.monotonic() + ttl)
        return epoch

    async def renew(self, owner: str, held: Mapping[int, int], ttl: float) -> frozenset[int]:
        kept = frozenset(shard for shard, epoch in held.items() if self._holds(shard, owner, epoch))
        for shard in kept:
            self._owners[shard] = (self._owners[shard][0], self._clock.monotonic() + ttl)
        return kept

    async def release(self, shard: int, owner: str, epoch: int) -> None:
        if self._holds(shard, owner, epoch):
            del self._owners[shard]

    async def owners(self) -> Mapping[int, ShardOwner]:
        now = self._clock.monotonic()
        return {shard: owner for shard, (owner, until) in self._owners.items() if until > now}


class MemoryAccountBlocks:
    """`ports.AccountBlocks`; `locks` has the shards' epochs."""

    def __init__(self, locks: MemoryShardLocks, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._locks = locks
        self._limit = 0
        self._reserved: dict[str, int] = {}
        self._blocks: dict[int, int] = {}
        self._wants: dict[int, float] = {}

    def _free(self) -> int:
        return self._limit - sum(self._reserved.values()) - sum(self._blocks.values())

    def _block(self, shard: int, granted: int = 0, *, fenced: bool = False) -> Block:
        now = self._clock.monotonic()
        wanted = any(until > now for other, until in self._wants.items() if other != shard)
        return Block(self._blocks.get(shard, 0), granted, self._free(), fenced=fenced, wanted=wanted)

    async def grow(self, shard: int, epoch: int, by: int) -> Block:
        values.refuse_negative(by)
        if self._locks.epochs.get(shard) != epoch:
            return self._block(shard, fenced=True)
        granted = max(0, min(by, self._free()))
        self._blocks[shard] = self._blocks.get(shard, 0) + granted
        if granted < by:
            self._wants[shard] = self._clock.monotonic() + values.WANT_SECONDS
        elif by:
            self._wants.pop(shard, None)
        return self._block(shard, granted)

    async def give_back(self, shard: int, epoch: int, to: int) -> Block:
        values.refuse_negative(to)
        if self._locks.epochs.get(shard) != epoch:
            return self._block(shard, fenced=True)
        self._blocks[shard] = min(self._blocks.get(shard, 0), to)
        return self._block(shard)

    async def reserve(self, uid: str, slots: int | None) -> None:
        values.refuse_negative(slots or 0)
        if slots is None:
            self._reserved.pop(uid, None)
        else:
            self._reserved[uid] = slots

    async def set_limit(self, limit: int) -> None:
        values.refuse_negative(limit)
        self._limit = limit

    async def reserved(self) -> Mapping[str, int]:
        return dict(self._reserved)
