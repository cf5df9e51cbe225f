"""The processes of a simulated cluster. Their decisions are the real code's; only sockets, environments and
time are not."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from lambent.executor.joining import Joining, Stream
from lambent.kernel.errors import LambdaError, NotStarted, ServiceException
from lambent.kernel.holder import LeaseHolder
from lambent.kernel.leases import (
    MOVED,
    SILENT_SECONDS,
    Ask,
    Beat,
    FromExecutor,
    Held,
    Refused,
    Renewed,
    Reply,
    ToExecutor,
)
from lambent.kernel.models import Function, Member, ShardOwner, VersionKey
from lambent.kernel.ports import Lease
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.memory_cluster import MemoryAccountBlocks, MemoryMembers, MemoryShardLocks
from lambent.scheduler.lease_service import LeaseService, LeaseServiceConfig
from lambent.scheduler.shards import ShardKeeper
from simulation.network import Network, Node, Pipe, void
from simulation.truth import Truth

_T = TypeVar("_T")
Done = Callable[[Exception | None], None]
SHARDS = 16
_MEMBER_TTL = 5.0


class Redis:
    """What all processes share; it can be out of reach."""

    def __init__(self, clock: Any, limit: int) -> None:
        self.members = MemoryMembers(clock)
        self.locks = MemoryShardLocks(clock)
        self.blocks = MemoryAccountBlocks(self.locks, clock)
        self.store = MemoryStore()
        self.down = False
        self.limit = limit


class View:
    """One port of Redis as a process sees it: it takes a moment, and fails while Redis is down."""

    def __init__(self, redis: Redis, node: Node, port: Any) -> None:
        self._redis, self._node, self._port = redis, node, port

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._node.clock.sleep(0.0005)
            if self._redis.down:
                raise ServiceException("Redis does not answer.")
            result = await method(*args, **kwargs)
            await self._node.clock.sleep(0.0005)
            return result

        return call


async def register(node: Node, redis: Redis, role: str) -> None:
    """Says each second that it lives."""
    members = View(redis, node, redis.members)
    while True:
        try:
            await members.register(Member(node.name, role, {"at": node.name}), _MEMBER_TTL)
        except LambdaError:
            pass
        await node.clock.sleep(1.0)


class Scheduler:
    """Owns shards."""

    def __init__(self, name: str, network: Network, redis: Redis) -> None:
        self.node = node = Node(name)
        self._redis = redis
        self.service = LeaseService(
            LeaseServiceConfig(name, SHARDS, redis.limit, lambda shard: self.keeper.held_until(shard)),
            store=View(redis, node, redis.store),
            members=View(redis, node, redis.members),
            blocks=View(redis, node, redis.blocks),
            clock=node.clock,
            tasks=node.tasks,
        )
        self.keeper = ShardKeeper(
            name,
            name,
            shards=SHARDS,
            locks=View(redis, node, redis.locks),
            members=View(redis, node, redis.members),
            clock=node.clock,
            on_claimed=lambda shard, epoch: void(
                node.tasks.once("claimed", self.service.claimed(shard, epoch))
            ),
            on_lost=self.service.lost,
            on_release=self._release,
        )
        node.tasks.forever("register", register(node, redis, "scheduler"))
        node.tasks.forever("leases", self.service.run())
        self.keeper.start()

    async def _release(self, shard: int) -> None:
        self.service.lost(shard)

    def kill(self) -> None:
        self.node.kill()
        for task in list(self.keeper._tasks._tasks):
            task.cancel()


class _Stream(Stream):
    def __init__(self, network: Network, here: Node, scheduler: Scheduler, pipe: Pipe[ToExecutor]) -> None:
        self._network, self._here, self._scheduler, self._pipe = network, here, scheduler, pipe
        self._joined = scheduler.service.join(here.name, self._to_executor)

    def _to_executor(self, message: ToExecutor) -> None:
        self._network.send(self._scheduler.node, self._here, lambda: self._pipe.put(message))

    def send(self, message: FromExecutor) -> None:
        joined = self._joined
        self._network.send(self._here, self._scheduler.node, lambda: joined.receive(message))

    def __aiter__(self) -> AsyncIterator[ToExecutor]:
        return self._pipe.read()

    def break_(self) -> None:
        self._pipe.break_()

    async def close(self) -> None:
        joined = self._joined
        self._network.send(self._here, self._scheduler.node, joined.closed)


class _Run:
    __slots__ = ("done", "key", "lease", "over", "timer")

    def __init__(self, lease: Lease, key: VersionKey, done: Callable[[Exception | None], None]) -> None:
        self.lease, self.key, self.done = lease, key, done
        self.over = False
        self.timer: asyncio.TimerHandle | None = None


class Executor:
    """Runs functions that take a while and do nothing. Its environments go on while it is paused; a supervisor
    ends all when it has been paused for too long."""

    def __init__(
        self,
        name: str,
        network: Network,
        redis: Redis,
        truth: Truth,
        schedulers: Mapping[str, Scheduler],
        *,
        memory_mb: int = 4096,
    ) -> None:
        self.node = node = Node(name)
        self._network, self._truth, self._schedulers = network, truth, schedulers
        self._memory_mb = memory_mb
        self._runs: dict[str, dict[_Run, None]] = {}
        self._warm: dict[VersionKey, int] = {}
        self._streams: dict[str, _Stream] = {}
        self.pending: dict[asyncio.Future[Exception | None], Callable[[Exception | None], None]] = {}
        members = View(redis, node, redis.members)

        async def found() -> Mapping[str, str]:
            return {m.id: m.addresses["at"] for m in await members.list("scheduler") if m.live}

        self.joining = Joining(
            connect=self._connect,
            schedulers=found,
            facts=self._facts,
            end=self._end_lease,
            clock=node.clock,
            tasks=node.tasks,
        )
        node.tasks.forever("register", register(node, redis, "executor"))
        node.tasks.forever("beats", self.joining.run())
        node.tasks.forever("meeting", self.joining.run_meeting())

    async def _connect(self, scheduler: str, address: str) -> Stream:
        there = self._schedulers.get(scheduler)
        await self.node.clock.sleep(0.001)
        if there is None or not there.node.alive:
            raise ServiceException("Nobody is there.")
        stream = self._streams[scheduler] = _Stream(self._network, self.node, there, Pipe())
        return stream

    def scheduler_died(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.break_()

    def _facts(self) -> Beat:
        return Beat(self.node.name, 0, 0, {}, (), self._memory_mb, 0, dict(self._warm))

    def invoke(
        self, lease: Lease, key: VersionKey, seconds: float, done: Callable[[Exception | None], None]
    ) -> None:
        """What a frame brings."""
        try:
            self.joining.gate.begin(lease.id, key, self.node.clock.monotonic())
        except NotStarted as refusal:
            done(refusal)
            return
        run = _Run(lease, key, done)
        self._runs.setdefault(lease.id, {})[run] = None
        self._warm[key] = max(0, self._warm.get(key, 0) - 1)
        self._truth.begins(key, self.node.clock.monotonic())
        run.timer = asyncio.get_running_loop().call_later(seconds, self._ends, run)

    def _ends(self, run: _Run) -> None:
        """The function is over, whether or not the executor can see it."""
        if not run.over:
            run.over = True
            self._truth.ends(run.key)
            self.node.do(lambda: self._reported(run, None))

    def _reported(self, run: _Run, failure: Exception | None) -> None:
        runs = self._runs.get(run.lease.id)
        if runs is None or run not in runs:
            return
        del runs[run]
        if not runs:
            del self._runs[run.lease.id]
        self._warm[run.key] = self._warm.get(run.key, 0) + 1
        self.joining.gate.end(run.lease.id)
        run.done(failure)

    def _end_lease(self, lease: str) -> None:
        for run in list(self._runs.get(lease, ())):
            if not run.over:
                run.over = True
                self._truth.ends(run.key)
            self._reported(run, ServiceException("Ended: the owner of the shard is silent."))

    async def drain(self) -> None:
        """Ends as it should: takes nothing new, waits for what runs, says good bye."""
        self.joining.gate.drain()
        self.joining.tell()
        while self.joining.gate.running:
            await self.node.clock.sleep(0.1)
        self.joining.say_bye(self.node.name)
        await self.node.clock.sleep(1.0)
        self.kill()

    def pause(self) -> None:
        self.node.pause()
        asyncio.get_running_loop().call_later(SILENT_SECONDS, self._supervise)

    def _supervise(self) -> None:
        if self.node.paused and self.node.alive:
            self.kill()

    def kill(self) -> None:
        """Everything ends at once."""
        self.node.kill()
        for runs in list(self._runs.values()):
            for run in list(runs):
                if not run.over:
                    run.over = True
                    self._truth.ends(run.key)
        self._runs.clear()
        for answered in list(self.pending.values()):
            answered(ServiceException("The executor died."))


class Link:
    """`OwnerLink` over the network, to whoever owns a shard by Redis."""

    def __init__(self, node: Node, network: Network, redis: Redis, schedulers: Mapping[str, Scheduler]) -> None:
        self._node, self._network, self._schedulers = node, network, schedulers
        self._locks = View(redis, node, redis.locks)
        self._owners: Mapping[int, ShardOwner] = {}

    async def owner(self, shard: int, *, fresh: bool = False) -> Scheduler:
        if fresh or shard not in self._owners:
            self._owners = await self._locks.owners()
        found = self._owners.get(shard)
        if found is None or found.owner not in self._schedulers:
            raise ServiceException("The shard has no owner.")
        return self._schedulers[found.owner]

    async def ask(self, shard: int, ask: Ask) -> Reply:
        for fresh in (False, True):
            try:
                there = await self.owner(shard, fresh=fresh)
                reply = await self._asked(there, shard, ask)
            except LambdaError:
                if fresh:
                    raise
                continue
            if not (isinstance(reply, Refused) and reply.reason == MOVED):
                return reply
        return Refused(MOVED)

    async def _asked(self, there: Scheduler, shard: int, ask: Ask) -> Reply:
        return await self._network.call(self._node, there.node, lambda: there.service.ask(shard, ask), 25.0)

    async def renew(self, holder: str, held: Mapping[int, Mapping[str, Held]]) -> Mapping[int, Renewed]:
        answers: dict[int, Renewed] = {}

        async def one(shard: int, leases: Mapping[str, Held]) -> None:
            try:
                there = await self.owner(shard)

                async def asked() -> Mapping[int, Renewed]:
                    return there.service.renew(holder, {shard: leases})

                answer = await self._network.call(self._node, there.node, asked, 1.0)
                if shard not in answer:
                    raise ServiceException("It owns it no more.")
                answers[shard] = answer[shard]
            except LambdaError:
                self._owners = {}

        await asyncio.gather(*(one(shard, leases) for shard, leases in held.items()))
        return answers

    async def on_owner(self, shard: int, work: Callable[[Scheduler], Awaitable[_T]]) -> _T:
        """Raises LambdaError."""
        there = await self.owner(shard, fresh=True)
        return await self._network.call(self._node, there.node, lambda: work(there), 25.0)


class Gateway:
    """Takes invocations."""

    def __init__(
        self,
        name: str,
        network: Network,
        redis: Redis,
        truth: Truth,
        schedulers: Mapping[str, Scheduler],
        executors: Mapping[str, Executor],
    ) -> None:
        self.node = node = Node(name)
        self._network, self._truth, self._executors = network, truth, executors
        self._store = View(redis, node, redis.store)
        self._cache: dict[str, Function] = {}
        self.link = Link(node, network, redis, schedulers)
        self.holder = LeaseHolder(
            name,
            self.link,
            shards=SHARDS,
            clock=node.clock,
            tasks=node.tasks,
            stale=self._stale,
        )
        node.tasks.forever("register", register(node, redis, "gateway"))
        node.tasks.forever("renew", self.holder.run())

    def _stale(self, name: str) -> None:
        if name == "*":
            self._cache.clear()
        else:
            self._cache.pop(name, None)

    async def invoke(self, name: str, seconds: float) -> None:
        """Raises LambdaError, as a client would see it."""
        while True:
            function = self._cache.get(name)
            if function is None:
                function = self._cache[name] = await self._store.get(name)
            assert function is not None
            target = function.to_run
            try:
                lease = await self.holder.acquire(function, target)
            except NotStarted:
                self._cache.pop(name, None)
                continue
            failure = await self._run(lease, target.key, seconds)
            if isinstance(failure, NotStarted):
                self.holder.not_taken(lease, failure.reason)
                if failure.reason == "unreachable":
                    await self.node.clock.sleep(0.05)
                continue
            self.holder.release(lease)
            if failure is not None:
                raise failure
            return

    async def _run(self, lease: Lease, key: VersionKey, seconds: float) -> Exception | None:
        there = self._executors.get(lease.executor)
        if there is None or not there.node.alive:
            return NotStarted("unreachable")
        answer: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def answered(failure: Exception | None) -> None:
            if not answer.done():
                answer.set_result(failure)

        def done(failure: Exception | None) -> None:
            self._network.send(there.node, self.node, lambda: answered(failure))

        there.pending[answer] = answered
        self._network.send(self.node, there.node, lambda: there.invoke(lease, key, seconds, done))
        try:
            return await answer
        finally:
            there.pending.pop(answer, None)

    def kill(self) -> None:
        self.node.kill()
