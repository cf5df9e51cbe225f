"""What a scheduler does with the shards that it owns: holders ask it, executors join it, and the owners'
decisions (`owner`) become messages. It knows no wire format, so that a simulation can join hundreds of
executors to it in one process. Rules: docs/leases.md."""

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
    Keep,
    LeaseState,
    Refused,
    Renewed,
    Reply,
    ToExecutor,
    shard_of,
)
from lambent.kernel.log import Log
from lambent.kernel.models import Block, Function, Provisioned
from lambent.kernel.ports import AccountBlocks, Clock, FunctionStore, Members
from lambent.kernel.tasks import Tasks
from lambent.scheduler.counts import Counts
from lambent.scheduler.keeping import Keeping
from lambent.scheduler.nodes import Nodes
from lambent.scheduler.owner import Request, ShardOwner

_log = Log(__name__)
_TICK_SECONDS = 0.25
# A block is larger than what is used by so much, that not every ask needs Redis.
_SPARE_SLOTS = 8
_SPARE_SHARE = 0.1
# Without any spare while the pool is used up.
_TIGHT_SECONDS = 3.0
_SWEEP_SECONDS = 5.0
# Stands in for executors that nobody could name: the takeover waits its full time.
_ANYBODY = "?"


@dataclass(slots=True, eq=False)
class _Shard:
    """`wanted`: slots that the block should have free, None: nobody asks; `review`: whether it is time to look
    at its size; `working`: either is under way; `tight_until`: till then the pool counts as used up."""

    owner: ShardOwner
    wanted: int | None = None
    review: bool = False
    working: bool = False
    unsure: bool = False
    tight_until: float = float("-inf")


class Joined:
    """The stream of one executor, on this side. `send` takes what goes to it."""

    def __init__(self, service: "LeaseService", executor: str, send: Callable[[ToExecutor], None]) -> None:
        self._service = service
        self.executor = executor
        self._send = send
        self._number = 0

    def request(self, make: Callable[[int], Request | Claim | Keep]) -> int:
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
        self._claiming: dict[int, int] = {}
        self._began = clock.monotonic()
        self._joined: dict[str, Joined] = {}
        self._reading: dict[str, asyncio.Task[tuple[Function | None, LambdaError | None]]] = {}
        self.nodes = Nodes()
        self.keeping = Keeping(
            nodes=self.nodes,
            store=store,
            owned=lambda: self.owned,
            send=self._request,
            shards=config.shards,
            clock=clock,
        )

    # ---- shards ---------------------------------------------------------------------------------------

    async def claimed(self, shard: int, epoch: int) -> None:
        """This scheduler owns a shard from now on."""
        self._claiming[shard] = epoch
        try:
            # Whatever its age: it may be out of Redis' reach alone. Those that are gone are swept.
            executors = {member.id for member in await self._members.list("executor")}
        except LambdaError as failure:
            _log.warning("The executors are not known; a takeover waits for all.", why=failure.message)
            executors = {_ANYBODY}
        if self._claiming.get(shard) != epoch:
            return  # lost meanwhile, and perhaps claimed again
        del self._claiming[shard]
        now = self._clock.monotonic()
        executors.update(node.id for node in self.nodes if now - node.heard < FREED_SECONDS)
        owner = ShardOwner(
            shard,
            epoch,
            nodes=self.nodes,
            counts=Counts(0, carves=False),
            must_hear=executors,
            send=self._request,
            grow=lambda slots: self._grow(shard, epoch, slots),
            valid_until=lambda: self._config.held_until(shard),
            now=now,
            freed=self._freed,
        )
        before = self._shards.get(shard)
        if before is not None:
            before.owner.close()
        self._shards[shard] = _Shard(owner)
        for joined in self._joined.values():
            self._claim(joined, owner)
        self._grow(shard, epoch, 0)
        self.keeping.look_soon()
        _log.info("A shard is owned.", shard=shard, epoch=epoch, executors=len(executors))

    def lost(self, shard: int) -> None:
        """It owns it no more."""
        self._claiming.pop(shard, None)
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
            provisioned=function.allocations,
            generation=function.to_run.generation,
            now=self._clock.monotonic(),
        )

    async def changed(self, name: str, uid: str) -> None:
        """Something of a function was written. Raises NotOwner, LambdaError."""
        owner = self._must_own(uid)
        function = await self._read(name)
        if function is not None and function.uid == uid:
            await self._blocks.reserve(uid, function.carved)
            self._configure(owner, function)
            await self.keeping.configure(function)
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
            self.keeping.forget(uid)
            await self._blocks.reserve(uid, None)
        # What a paused owner took for the executors' word was a refusal to one that is none any more.
        if not await over or self._must_own(uid) is not owner:
            raise NotOwner()

    async def provisioned(self, name: str, uid: str) -> Mapping[str, Provisioned]:
        """How far a function's allocations are, by qualifier. Raises NotOwner."""
        self._must_own(uid)
        return await self.keeping.far(name, uid)

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
        states: dict[int, list[LeaseState]] = {}
        for state in beat.leases:
            states.setdefault(state.shard, []).append(state)
        for shard, each in list(self._shards.items()):
            # An answer would let what runs there go on, beyond the time for which a successor waits.
            if now < self._config.held_until(shard):
                owner = each.owner
                epochs[shard] = owner.epoch
                epoch = beat.epochs.get(shard)
                renew.update(owner.heard(beat.executor, epoch, states.get(shard, ()), beat.seen, now))
        joined.answer(Answer(beat.number, epochs, renew))

    def _gone(self, executor: str, now: float) -> None:
        self.nodes.drop(executor)
        for each in self._shards.values():
            each.owner.gone(executor, now)

    def _request(self, executor: str, make: Callable[[int], Request | Keep]) -> int:
        joined = self._joined.get(executor)
        return -1 if joined is None else joined.request(make)

    # ---- the account's pool ---------------------------------------------------------------------------

    def _grow(self, shard: int, epoch: int, slots: int) -> None:
        each = self._shards.get(shard)
        if each is not None and each.owner.epoch == epoch:
            each.wanted = (each.wanted or 0) + slots
            self._work(shard, each)

    def _work(self, shard: int, each: _Shard) -> None:
        if not each.working:
            each.working = True
            self._tasks.once("size a block", self._sized(shard, each))

    async def _sized(self, shard: int, each: _Shard) -> None:
        """One change at a time: what Redis answers is the block's whole size."""
        try:
            while self._shards.get(shard) is each:
                if each.wanted is not None:
                    wanted, each.wanted = each.wanted, None
                    await self._grown(shard, each, wanted)
                elif each.review:
                    each.review = False
                    await self._reviewed(shard, each)
                else:
                    return
        finally:
            each.working = False

    async def _grown(self, shard: int, each: _Shard, wanted: int) -> None:
        owner = each.owner
        need = max(0, wanted - owner.counts.pool_free) if wanted else 0
        spare = self._spare(each) if need else 0
        try:
            block = await self._blocks.grow(shard, owner.epoch, need + spare)
        except LambdaError as failure:
            _log.warning("A shard's block cannot grow.", shard=shard, why=failure.message)
            each.unsure = True
            owner.block_unknown()
            return
        self._learn(each, block)
        more = each.wanted is not None
        owner.block_changed(self._clock.monotonic(), denied=block.granted < need, more=more)

    def _learn(self, each: _Shard, block: Block) -> None:
        each.unsure = False
        if block.fenced:
            return
        each.owner.counts.limit = block.size
        if block.wanted or block.pool_free < 0:
            now = self._clock.monotonic()
            each.tight_until = now + _TIGHT_SECONDS
            each.owner.squeeze(now)

    def _spare(self, each: _Shard) -> int:
        if self._clock.monotonic() < each.tight_until:
            return 0
        return max(_SPARE_SLOTS, int(each.owner.counts.pool_used * _SPARE_SHARE))

    async def _reviewed(self, shard: int, each: _Shard) -> None:
        """What a block has and nobody uses goes to the other shards."""
        owner, counts = each.owner, each.owner.counts
        spare = self._spare(each) if counts.pool_used > 0 else 0
        try:
            if counts.pool_free > 2 * spare and not each.unsure:
                # Lowered first: what is given back must not be granted meanwhile, nor if the answer is lost.
                counts.limit = max(0, counts.pool_used) + spare
                block = await self._blocks.give_back(shard, owner.epoch, counts.limit)
            else:
                block = await self._blocks.grow(shard, owner.epoch, 0)
        except LambdaError as failure:
            _log.warning("A shard's block cannot be looked at.", shard=shard, why=failure.message)
            each.unsure = True
        else:
            self._learn(each, block)
        owner.block_changed(self._clock.monotonic(), more=each.wanted is not None)

    # ---- time -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """What time brings, for ever."""
        turns = 0
        swept = self._clock.monotonic()
        while True:
            await self._clock.sleep(_TICK_SECONDS)
            now = self._clock.monotonic()
            turns += 1
            for shard, each in list(self._shards.items()):
                each.owner.tick(now)
                counts = each.owner.counts
                tight = now < each.tight_until and counts.pool_free > 0
                # A shard that has nothing of the pool asks Redis for nothing.
                if tight or (turns % 4 == 0 and (counts.limit or each.unsure)):
                    each.review = True
                    self._work(shard, each)
            if now - swept >= _SWEEP_SECONDS:
                swept = now
                self._tasks.once("sweep executors", self._sweep())

    async def _sweep(self) -> None:
        """Forgets executors that nobody has heard for long. A takeover waits for all that are listed, since one
        that cannot reach Redis may run functions all the same."""
        now = self._clock.monotonic()
        for node in list(self.nodes):
            if now - node.heard >= FREED_SECONDS:
                self._gone(node.id, now)
        if now - self._began < FREED_SECONDS:
            return
        try:
            for member in await self._members.list("executor"):
                if member.age > FREED_SECONDS and self.nodes.get(member.id) is None:
                    await self._members.remove(member.id)
        except LambdaError as failure:
            _log.warning("Executors that are gone cannot be forgotten.", why=failure.message)


class NotOwner(ServiceException):
    """Another scheduler owns the function's shard."""
