"""What a scheduler does with the shards that it owns: holders ask it, executors join it, and the owners'
decisions (`owner`) become messages. It knows no wire format, so that a simulation can join hundreds of
executors to it in one process."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.leases import (
    FREED_SECONDS,
    MOVED,
    STALE,
    Answer,
    Ask,
    Beat,
    Bye,
    Claim,
    FromExecutor,
    Held,
    Refused,
    Renewed,
    Reply,
    ToExecutor,
    shard_of,
)
from lambent.kernel.log import Log
from lambent.kernel.models import Function, Provisioned
from lambent.kernel.ports import AccountBlocks, Clock, FunctionStore, Members
from lambent.kernel.tasks import Tasks
from lambent.scheduler.counts import Counts
from lambent.scheduler.nodes import Nodes
from lambent.scheduler.owner import Request, ShardOwner

_log = Log(__name__)
_TICK_SECONDS = 0.25
# A block is larger than what is used by so much, that not every ask needs Redis.
_SPARE_SLOTS = 8
_SPARE_SHARE = 0.1
# Stands in for executors that nobody could name: the takeover waits its full time.
_ANYBODY = "?"


@dataclass(slots=True, eq=False)
class _Shard:
    owner: ShardOwner
    wanted: int = 0
    growing: bool = False


class Joined:
    """The stream of one executor, on this side. `send` takes what goes to it."""

    def __init__(self, service: "LeaseService", executor: str, send: Callable[[ToExecutor], None]) -> None:
        self._service = service
        self.executor = executor
        self._send = send
        self._number = 0

    def request(self, make: Callable[[int], Request | Claim]) -> int:
        """Sends a request under the next number, which is answered."""
        self._number += 1
        self._send(make(self._number))
        return self._number

    def answer(self, answer: Answer) -> None:
        self._send(answer)

    def receive(self, message: FromExecutor) -> None:
        """The executor has said something."""
        self._service.received(self, message)

    def closed(self) -> None:
        """The stream is broken or over."""
        self._service.left(self)


@dataclass(frozen=True, slots=True)
class LeaseServiceConfig:
    """`me`: this scheduler's member id; `limit`: the account's slots."""

    me: str
    shards: int
    limit: int
    held_until: Callable[[int], float] = field(default=lambda shard: float("inf"))


class LeaseService:
    """The shards of one scheduler."""

    def __init__(
        self,
        config: LeaseServiceConfig,
        *,
        store: FunctionStore,
        members: Members,
        blocks: AccountBlocks,
        clock: Clock,
        tasks: Tasks,
        freed: Callable[[str], None] = lambda uid: None,
    ) -> None:
        self._config = config
        self._store = store
        self._members = members
        self._blocks = blocks
        self._clock = clock
        self._tasks = tasks
        self._freed = freed
        self._shards: dict[int, _Shard] = {}
        self._joined: dict[str, Joined] = {}
        self._reading: dict[str, asyncio.Task[tuple[Function | None, LambdaError | None]]] = {}
        self.nodes = Nodes()

    # ---- shards ---------------------------------------------------------------------------------------

    async def claimed(self, shard: int, epoch: int) -> None:
        """This scheduler owns a shard from now on."""
        try:
            executors = [m.id for m in await self._members.list("executor") if m.age <= FREED_SECONDS]
        except LambdaError as failure:
            _log.warning("The executors are not known; a takeover waits for all.", why=failure.message)
            executors = [_ANYBODY]
        owner = ShardOwner(
            shard,
            epoch,
            nodes=self.nodes,
            counts=Counts(0, carves=False),
            must_hear=executors,
            send=self._request,
            grow=lambda slots: self._grow(shard, epoch, slots),
            valid_until=lambda: self._config.held_until(shard),
            now=self._clock.monotonic(),
            freed=self._freed,
        )
        self._shards[shard] = _Shard(owner)
        for joined in self._joined.values():
            self._claim(joined, owner)
        self._grow(shard, epoch, 0)
        _log.info("A shard is owned.", shard=shard, epoch=epoch, executors=len(executors))

    def lost(self, shard: int) -> None:
        """It owns it no more."""
        gone = self._shards.pop(shard, None)
        if gone is not None:
            gone.owner.close()
            _log.info("A shard is not owned any more.", shard=shard)

    @property
    def owned(self) -> Mapping[int, ShardOwner]:
        """By shard."""
        return {shard: each.owner for shard, each in self._shards.items()}

    def _owner(self, shard: int) -> ShardOwner | None:
        found = self._shards.get(shard)
        return None if found is None else found.owner

    # ---- holders --------------------------------------------------------------------------------------

    async def ask(self, shard: int, ask: Ask) -> Reply:
        """Slots, or why not."""
        owner = self._owner(shard)
        if owner is None:
            return Refused(MOVED)
        if not owner.known(ask.key.uid) or owner.behind(ask.key):
            function = await self._read(ask.name)
            if function is None or function.uid != ask.key.uid:
                return Refused(STALE)
            self._configure(owner, function)
        if self._owner(shard) is not owner:
            return Refused(MOVED)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(result: Reply) -> None:
            if not reply.done():
                reply.set_result(result)

        owner.ask(ask, done, self._clock.monotonic())
        return await reply

    def renew(self, holder: str, held: Mapping[int, Mapping[str, Held]]) -> Mapping[int, Renewed]:
        """By shard; those that are owned elsewhere are left out."""
        now = self._clock.monotonic()
        answers: dict[int, Renewed] = {}
        for shard, leases in held.items():
            owner = self._owner(shard)
            if owner is not None:
                answers[shard] = owner.renew(holder, leases, now)
        return answers

    # ---- functions ------------------------------------------------------------------------------------

    async def _read(self, name: str) -> Function | None:
        """From the store, once for all who want it now. Raises LambdaError."""
        task = self._reading.get(name)
        if task is None:
            task = self._reading[name] = self._tasks.once("read a function", self._get(name))
            task.add_done_callback(lambda _: self._reading.pop(name, None))
        function, failure = await asyncio.shield(task)
        if failure is not None:
            raise failure
        return function

    async def _get(self, name: str) -> tuple[Function | None, LambdaError | None]:
        try:
            return await self._store.get(name), None
        except LambdaError as failure:
            return None, failure

    def _configure(self, owner: ShardOwner, function: Function) -> None:
        owner.configure(
            function.uid,
            reserved=function.reserved_concurrency,
            provisioned={},
            generation=function.to_run.generation,
            now=self._clock.monotonic(),
        )

    async def changed(self, name: str, uid: str) -> None:
        """Something of a function was written. Raises NotOwner, LambdaError."""
        owner = self._must_own(uid)
        function = await self._read(name)
        if function is not None and function.uid == uid:
            reserve = function.reserved_concurrency
            await self._blocks.reserve(uid, reserve)
            self._configure(owner, function)
        owner.changed(name)

    async def supersede(self, name: str, uid: str, generation: int | None) -> None:
        """Returns once nothing of $LATEST before `generation` can start; None: the function is deleted. Raises
        NotOwner."""
        owner = self._must_own(uid)
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(certain: bool) -> None:
            if not over.done():
                over.set_result(certain)

        owner.supersede(uid, generation, done, self._clock.monotonic())
        owner.changed(name)
        if generation is None:
            await self._blocks.reserve(uid, None)
        # What a paused owner took for the executors' word was a refusal to one that is none any more.
        if not await over or self._must_own(uid) is not owner:
            raise NotOwner()

    async def provisioned(self, name: str, uid: str) -> Mapping[str, Provisioned]:
        """How far a function's allocations are, by qualifier. Raises NotOwner."""
        self._must_own(uid)
        return {}

    def _must_own(self, uid: str) -> ShardOwner:
        shard = shard_of(uid, self._config.shards)
        owner = self._owner(shard)
        if owner is None or self._clock.monotonic() >= self._config.held_until(shard):
            raise NotOwner()
        return owner

    # ---- executors ------------------------------------------------------------------------------------

    def join(self, executor: str, send: Callable[[ToExecutor], None]) -> Joined:
        """An executor's stream has begun; its first message is a beat."""
        before = self._joined.get(executor)
        if before is not None:
            self.left(before)
        joined = self._joined[executor] = Joined(self, executor, send)
        for each in self._shards.values():
            self._claim(joined, each.owner)
        return joined

    def _claim(self, joined: Joined, owner: ShardOwner) -> None:
        joined.request(lambda number: Claim(number, owner.shard, owner.epoch))

    def left(self, joined: Joined) -> None:
        """Its stream is over; what it runs goes on."""
        if self._joined.get(joined.executor) is joined:
            del self._joined[joined.executor]
            self.nodes.lost(joined.executor)
            for each in self._shards.values():
                each.owner.lost(joined.executor)

    def received(self, joined: Joined, message: FromExecutor) -> None:
        """What an executor says."""
        if self._joined.get(joined.executor) is not joined:
            return
        now = self._clock.monotonic()
        if isinstance(message, Beat):
            self._beat(joined, message, now)
        elif isinstance(message, Bye):
            self._gone(message.executor, now)
        else:
            shard = int(message.lease.split(".", 1)[0])
            owner = self._owner(shard)
            if owner is not None:
                owner.done(joined.executor, message.request, message.lease, message.state, now)

    def _beat(self, joined: Joined, beat: Beat, now: float) -> None:
        if beat.replaces:
            self._gone(beat.replaces, now)
        self.nodes.heard(beat, now)
        renew: dict[str, float] = {}
        epochs: dict[int, int] = {}
        for shard, each in self._shards.items():
            owner = each.owner
            epochs[shard] = owner.epoch
            states = [state for state in beat.leases if state.shard == shard]
            renew |= owner.heard(beat.executor, beat.epochs.get(shard), states, beat.seen, now)
        joined.answer(Answer(beat.number, epochs, renew))

    def _gone(self, executor: str, now: float) -> None:
        self.nodes.drop(executor)
        for each in self._shards.values():
            each.owner.gone(executor, now)

    def _request(self, executor: str, make: Callable[[int], Request]) -> int:
        joined = self._joined.get(executor)
        return -1 if joined is None else joined.request(make)

    # ---- the account's pool ---------------------------------------------------------------------------

    def _grow(self, shard: int, epoch: int, slots: int) -> None:
        each = self._shards.get(shard)
        if each is None:
            return
        each.wanted = max(each.wanted, slots)
        if not each.growing:
            each.growing = True
            self._tasks.once("grow a block", self._grown(shard, epoch, each))

    async def _grown(self, shard: int, epoch: int, each: _Shard) -> None:
        try:
            while True:
                wanted, each.wanted = each.wanted, 0
                by = 0
                if wanted:
                    by = max(0, wanted - each.owner.counts.pool_free) + self._spare(each.owner.counts)
                try:
                    block = await self._blocks.grow(shard, epoch, by)
                except LambdaError as failure:
                    _log.warning("A shard's block cannot grow.", shard=shard, why=failure.message)
                    each.owner.block_unknown()
                    return
                if not block.fenced:
                    each.owner.counts.limit = block.size
                if not each.wanted:
                    each.owner.block_changed(self._clock.monotonic())
                    return
        finally:
            each.growing = False

    @staticmethod
    def _spare(counts: Counts) -> int:
        return max(_SPARE_SLOTS, int(counts.pool_used * _SPARE_SHARE))

    async def _give_back(self, shard: int, each: _Shard) -> None:
        """What a block has and nobody uses goes to the other shards."""
        counts = each.owner.counts
        spare = self._spare(counts)
        if counts.pool_free <= 2 * spare or each.growing:
            return
        each.growing = True  # no two changes at once
        before = counts.limit
        # Lowered first: what is given back must not be granted meanwhile.
        counts.limit = counts.pool_used + spare
        try:
            block = await self._blocks.give_back(shard, each.owner.epoch, counts.limit)
            if not block.fenced:
                counts.limit = block.size
        except LambdaError as failure:
            counts.limit = before
            _log.warning("A shard's block cannot be given back.", shard=shard, why=failure.message)
        finally:
            each.growing = False
        if each.wanted:  # it was asked for more meanwhile
            self._grow(shard, each.owner.epoch, each.wanted)
        else:
            each.owner.block_changed(self._clock.monotonic())

    # ---- time -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """What time brings, for ever."""
        turns = 0
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            now = self._clock.monotonic()
            turns += 1
            for shard, each in list(self._shards.items()):
                each.owner.tick(now)
                if turns % 4 == 0:
                    await self._give_back(shard, each)


class NotOwner(ServiceException):
    """Another scheduler owns the function's shard."""
