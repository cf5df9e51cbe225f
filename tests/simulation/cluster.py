"""A whole cluster, its load, and what is done to it."""

import asyncio
import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from samples import function

from lambent.kernel.errors import LambdaError, TooManyRequestsException
from lambent.kernel.leases import shard_of
from lambent.kernel.models import Function, State, UpdateStatus
from lambent.kernel.tasks import Tasks
from simulation.network import Network, Node
from simulation.parts import SHARDS, Executor, Gateway, Redis, Scheduler
from simulation.truth import Truth


@dataclass(frozen=True)
class Shape:
    """How large, and how much. `reserved`: slots of the first functions, by their index; `rate`: invocations a
    second in all; `seconds`: how long one takes, drawn evenly up to twice as much."""

    gateways: int = 4
    schedulers: int = 2
    executors: int = 3
    functions: int = 20
    reserved: Mapping[int, int] = field(default_factory=lambda: {0: 5, 1: 1, 2: 20})
    limit: int = 1000
    rate: float = 200.0
    seconds: float = 0.05
    memory_mb: int = 8192


class Cluster:
    """Make it within a `VirtualLoop`."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.shape = shape
        self.draw = random.Random(seed)
        self.world = Node("world")
        self.network = Network(self.draw)
        self.redis = Redis(self.world.clock, shape.limit)
        self.functions: list[Function] = []
        self.truth = Truth({}, shape.limit - sum(shape.reserved.values()))
        self.schedulers: dict[str, Scheduler] = {}
        self.executors: dict[str, Executor] = {}
        self.gateways: dict[str, Gateway] = {}
        self.tasks = Tasks("world")
        self.results: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._asked = 0

    async def start(self) -> None:
        await self.redis.blocks.set_limit(self.shape.limit)
        for index in range(self.shape.functions):
            made = function(
                f"f{index}",
                memory_size=128,
                state=State.ACTIVE,
                last_update_status=UpdateStatus.SUCCESSFUL,
            )
            slots = self.shape.reserved.get(index)
            made = dataclasses.replace(made, reserved_concurrency=slots)
            if slots is not None:
                self.truth.limits[made.uid] = slots
                await self.redis.blocks.reserve(made.uid, slots)
            await self.redis.store.create(made)
            self.functions.append(made)
        for _ in range(self.shape.schedulers):
            self.add_scheduler()
        for _ in range(self.shape.executors):
            self.add_executor()
        for _ in range(self.shape.gateways):
            self.add_gateway()

    def add_scheduler(self) -> Scheduler:
        name = f"scheduler-{next(self._numbers)}"
        made = self.schedulers[name] = Scheduler(name, self.network, self.redis)
        return made

    def add_executor(self) -> Executor:
        name = f"executor-{next(self._numbers)}"
        made = self.executors[name] = Executor(
            name, self.network, self.redis, self.truth, self.schedulers, memory_mb=self.shape.memory_mb
        )
        return made

    def add_gateway(self) -> Gateway:
        name = f"gateway-{next(self._numbers)}"
        made = self.gateways[name] = Gateway(
            name, self.network, self.redis, self.truth, self.schedulers, self.executors
        )
        return made

    # ---- load -----------------------------------------------------------------------------------------

    def invoke(self, gateway: Gateway, name: str, seconds: float) -> "asyncio.Task[str]":
        return gateway.node.tasks.once("invoke", self._invoke(gateway, name, seconds))

    async def _invoke(self, gateway: Gateway, name: str, seconds: float) -> str:
        try:
            await gateway.invoke(name, seconds)
            result = "ok"
        except TooManyRequestsException as refusal:
            result = refusal.reason
        except LambdaError as failure:
            result = failure.message
        except asyncio.CancelledError:
            self.results["gateway died"] += 1
            raise
        self.results[result] += 1
        return result

    async def load(self, invocations: int) -> None:
        """Comes as it comes, whether or not the last one was answered."""
        for _ in range(invocations):
            await asyncio.sleep(self.draw.expovariate(self.shape.rate))
            gateway = self.draw.choice([g for g in self.gateways.values() if not g.node.paused])
            # A few functions get most of it.
            index = min(int(self.draw.expovariate(4 / self.shape.functions)), self.shape.functions - 1)
            self.invoke(gateway, f"f{index}", self.draw.random() * 2 * self.shape.seconds)

    # ---- faults ---------------------------------------------------------------------------------------

    async def trouble(self, every: float) -> None:
        """One fault after the other, for ever."""
        kinds = [
            self.kill_executor,
            self.kill_scheduler,
            self.kill_gateway,
            self.pause_executor,
            self.pause_scheduler,
            self.pause_gateway,
            self.part,
            self.part,
            self.outage,
            self.update,
            self.update,
            self.add_and_drain,
        ]
        while True:
            await asyncio.sleep(self.draw.expovariate(1 / every))
            kind = self.draw.choice(kinds)
            self.faults[kind.__name__] += 1
            self.tasks.once(kind.__name__, kind())

    async def kill_executor(self) -> None:
        victim = self.draw.choice(list(self.executors.values()))
        self.kill_executor_now(victim)
        await asyncio.sleep(self.draw.uniform(0.5, 5.0))
        self.add_executor()

    def kill_executor_now(self, victim: Executor) -> None:
        victim.kill()
        self.executors.pop(victim.node.name, None)

    async def kill_scheduler(self) -> None:
        victim = self.draw.choice(list(self.schedulers.values()))
        self.kill_scheduler_now(victim)
        await asyncio.sleep(self.draw.uniform(0.5, 5.0))
        self.add_scheduler()

    def kill_scheduler_now(self, victim: Scheduler) -> None:
        victim.kill()
        self.schedulers.pop(victim.node.name, None)
        for executor in self.executors.values():
            executor.scheduler_died(victim.node.name)

    async def kill_gateway(self) -> None:
        victim = self.draw.choice(list(self.gateways.values()))
        victim.kill()
        self.gateways.pop(victim.node.name, None)
        self.add_gateway()

    async def pause_executor(self) -> None:
        victim = self.draw.choice(list(self.executors.values()))
        victim.pause()
        await asyncio.sleep(self.draw.uniform(0.5, 25.0))
        if victim.node.alive:
            victim.node.resume()
        elif victim.node.name in self.executors:
            del self.executors[victim.node.name]
            self.add_executor()

    async def pause_scheduler(self) -> None:
        victim = self.draw.choice(list(self.schedulers.values()))
        victim.node.pause()
        await asyncio.sleep(self.draw.uniform(0.5, 25.0))
        victim.node.resume()

    async def pause_gateway(self) -> None:
        victim = self.draw.choice(list(self.gateways.values()))
        if sum(not g.node.paused for g in self.gateways.values()) < 2:
            return
        victim.node.pause()
        await asyncio.sleep(self.draw.uniform(0.5, 25.0))
        victim.node.resume()

    async def part(self) -> None:
        nodes = [
            each.node for group in (self.gateways, self.schedulers, self.executors) for each in group.values()
        ]
        one, other = self.draw.sample(nodes, 2)
        self.network.part(one, other)
        await asyncio.sleep(self.draw.uniform(0.5, 40.0))
        self.network.heal(one, other)

    async def outage(self) -> None:
        self.redis.down = True
        await asyncio.sleep(self.draw.uniform(0.5, 6.0))
        self.redis.down = False

    async def update(self) -> None:
        """A function's code changes, as `UpdateFunctionCode` does it."""
        index = self.draw.randrange(self.shape.functions)
        gateway = self.draw.choice(list(self.gateways.values()))
        task = gateway.node.tasks.once("update", self._update(gateway, f"f{index}"))
        await asyncio.wait([task])

    async def _update(self, gateway: Gateway, name: str) -> None:
        before = await self.redis.store.get(name)
        assert before is not None
        latest = dataclasses.replace(
            before.latest,
            generation=before.latest.generation + 1,
            revision_id=f"r{before.latest.generation + 1}",
        )
        try:
            await self.redis.store.replace(
                dataclasses.replace(before, latest=latest), expect_revision=before.latest.revision_id
            )
        except LambdaError:
            return  # another update came first
        shard = shard_of(before.uid, SHARDS)
        while True:
            try:
                await gateway.link.on_owner(
                    shard,
                    lambda there: there.service.supersede(name, before.uid, latest.generation),
                )
                break
            except LambdaError:
                await gateway.node.clock.sleep(0.5)
        settled = self.truth.settled
        settled[before.uid] = max(settled.get(before.uid, 0), latest.generation)

    async def add_and_drain(self) -> None:
        """One executor more, and an old one goes as it should."""
        victim = self.draw.choice(list(self.executors.values()))
        self.add_executor()
        await asyncio.sleep(1.0)
        await victim.drain()
        self.executors.pop(victim.node.name, None)

    # ---- the end --------------------------------------------------------------------------------------

    async def settle(self, seconds: float = 60.0) -> None:
        """All faults end, and everything has its time."""
        await self.tasks.drain(60.0)
        self.redis.down = False
        for pair in list(self.network.cut):
            self.network.heal(*(Node(name) for name in pair))
        for group in (self.gateways, self.schedulers, self.executors):
            for each in group.values():
                if each.node.paused:
                    each.node.resume()
        await asyncio.sleep(seconds)

    def left_over(self) -> list[str]:
        """What is still counted though nothing runs."""
        found = [f"{uid} runs" for uid, count in self.truth.running.items() if count]
        for name, scheduler in self.schedulers.items():
            for shard, owner in scheduler.service.owned.items():
                found += [
                    f"{name} counts {count.out} of {uid} in shard {shard}"
                    for uid, count in owner.counts
                    if count.out
                ]
                if not owner.ready:
                    found.append(f"{name} still takes shard {shard} over")
                if owner.counts.pool_used:
                    found.append(f"{name} counts {owner.counts.pool_used} of its block in shard {shard}")
        for name, executor in self.executors.items():
            if executor.joining.gate.running or executor.joining.gate.granted_mb:
                found.append(f"{name} has leases")
        for name, gateway in self.gateways.items():
            if gateway.holder.slots or gateway.holder.running:
                found.append(f"{name} holds {gateway.holder.slots} slots, {gateway.holder.running} run")
        owned = Counter(shard for each in self.schedulers.values() for shard in each.service.owned)
        found += [f"shard {shard} has {owned[shard]} owners" for shard in range(SHARDS) if owned[shard] != 1]
        return found
