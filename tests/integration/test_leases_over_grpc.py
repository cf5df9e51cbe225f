"""Owners, executors and holders in one process, joined by real gRPC and a real Redis."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from samples import function

from lambent.executor.joining import Joining, Stream
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import NotStarted, ServiceException, TooManyRequestsException
from lambent.kernel.holder import LeaseHolder
from lambent.kernel.leases import Beat
from lambent.kernel.models import Function, Member, State
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.grpc_access import Cluster
from lambent.kernel.remote.lease_client import JoinStream, Owners
from lambent.kernel.remote.lease_server import add_to
from lambent.kernel.store.memory import MemoryStore
from lambent.kernel.store.memory_cluster import MemoryAccountBlocks, MemoryMembers, MemoryShardLocks
from lambent.kernel.tasks import Tasks
from lambent.scheduler.lease_service import LeaseService, LeaseServiceConfig

SHARDS = 4
KEY = secrets.token_bytes(32)


@dataclass
class World:
    holder: LeaseHolder
    joining: Joining
    owners: Owners
    store: MemoryStore
    service: LeaseService
    functions: list[Function]


@asynccontextmanager
async def world(*, executor_key: bytes | None = KEY) -> AsyncIterator[World]:
    clock, tasks = SystemClock(), Tasks("test")
    members, locks, store = MemoryMembers(), MemoryShardLocks(), MemoryStore()
    blocks = MemoryAccountBlocks(locks)
    await blocks.set_limit(100)
    cluster = Cluster(Access(KEY))
    service = LeaseService(
        LeaseServiceConfig("s1", SHARDS, 100),
        store=store,
        members=members,
        blocks=blocks,
        clock=clock,
        tasks=tasks,
    )
    server = cluster.server()
    add_to(server, service, tasks)
    port = cluster.bind(server, "127.0.0.1", 0)
    await server.start()
    address = f"127.0.0.1:{port}"
    await members.register(Member("s1", "scheduler", {"grpc": address}), 5)
    made = function("f", state=State.ACTIVE)
    await store.create(made)
    for shard in range(SHARDS):
        epoch = await locks.claim(shard, "s1", address, 60)
        assert epoch is not None
        await service.claimed(shard, epoch)
    tasks.forever("ticks", service.run())

    async def connect(scheduler: str, at: str) -> Stream:
        return JoinStream(Cluster(Access(executor_key)), at, tasks)

    async def schedulers() -> Mapping[str, str]:
        return {"s1": address}

    joining = Joining(
        connect=connect,
        schedulers=schedulers,
        facts=lambda: Beat("e1", 0, 0, {}, (), 4096, 0, {}),
        end=lambda lease: None,
        clock=clock,
        tasks=tasks,
    )
    tasks.forever("beats", joining.run())
    tasks.forever("meeting", joining.run_meeting())
    owners = Owners(locks, cluster, clock, shards=SHARDS)
    holder = LeaseHolder("g1", owners, shards=SHARDS, clock=clock, tasks=tasks)
    tasks.forever("renew", holder.run())
    try:
        yield World(holder, joining, owners, store, service, [made])
    finally:
        await owners.close()
        await joining.close()
        await server.stop(0)
        await tasks.drain(1.0)


@pytest.mark.timeout(60)
async def test_a_slot_is_granted_used_and_given_back() -> None:
    async with world() as it:
        made = it.functions[0]
        lease = await it.holder.acquire(made, made.latest)
        assert lease.executor == "e1"
        it.joining.gate.begin(lease.id, made.latest.key, asyncio.get_running_loop().time())
        it.joining.gate.end(lease.id)
        it.holder.release(lease)
        while it.holder.slots or it.joining.gate.granted_mb:  # noqa: ASYNC110 - time is the thing here
            await asyncio.sleep(0.05)


@pytest.mark.timeout(60)
async def test_a_limit_is_kept_and_told() -> None:
    async with world() as it:
        made = it.functions[0]
        leases = await asyncio.gather(*(it.holder.acquire(made, made.latest) for _ in range(100)))
        with pytest.raises(TooManyRequestsException) as refusal:
            await it.holder.acquire(made, made.latest)
        assert refusal.value.reason == "ConcurrentInvocationLimitExceeded"
        assert len(leases) == 100


@pytest.mark.timeout(60)
async def test_an_update_closes_the_leases_of_what_ran_before() -> None:
    async with world() as it:
        made = it.functions[0]
        lease = await it.holder.acquire(made, made.latest)
        await it.owners.supersede("f", made.uid, 2)
        with pytest.raises(NotStarted):
            it.joining.gate.begin(lease.id, made.latest.key, asyncio.get_running_loop().time())
        it.holder.not_taken(lease, "closed")
        with pytest.raises(NotStarted) as stale:
            await it.holder.acquire(made, made.latest)
        assert stale.value.reason == "stale"


@pytest.mark.timeout(60)
async def test_without_the_clusters_key_nothing_is_answered() -> None:
    async with world(executor_key=secrets.token_bytes(32)) as it:
        made = it.functions[0]
        stranger = Owners(it.owners._locks, Cluster(Access(None)), SystemClock(), shards=SHARDS)
        with pytest.raises(ServiceException, match="LAMBENT_CLUSTER_KEY"):
            await stranger.changed("f", made.uid)
        await stranger.close()
        assert not list(it.service.nodes)
