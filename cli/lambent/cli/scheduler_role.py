"""`lambent scheduler`: owns shards of the functions, grants slots, runs queued events and carries their
outcomes.

Stop: shards go to the other schedulers at once, events that run are waited for; what is cut off comes again.
"""

import os
from importlib import metadata
from typing import Any

from lambent.cli.client import Failed, say, url_of
from lambent.cli.cluster import Membership, check_host, cluster_of, required_redis
from lambent.cli.health import HealthApp
from lambent.cli.listeners import Listener, bind
from lambent.cli.process import Process
from lambent.cli.wiring_events import EventParts, make_event_parts
from lambent.cli.wiring_place import credentials
from lambent.gateway.function_cache import FunctionCache
from lambent.kernel import metrics
from lambent.kernel.blobs.choice import close_blobs, make_blobs
from lambent.kernel.blobs.probe import check_shared
from lambent.kernel.errors import LambdaError
from lambent.kernel.holder import LeaseHolder
from lambent.kernel.log import Log
from lambent.kernel.remote.cluster_dispatcher import ClusterDispatcher
from lambent.kernel.remote.grpc_access import Cluster
from lambent.kernel.remote.hosts import Hosts
from lambent.kernel.remote.lease_client import Owners
from lambent.kernel.remote.lease_server import add_to
from lambent.kernel.settings import endpoint_urls
from lambent.kernel.store.blocks import RedisAccountBlocks
from lambent.kernel.store.redis import RedisStore
from lambent.kernel.store.shard_locks import RedisShardLocks
from lambent.kernel.store.usage import RedisUsageLedger
from lambent.kernel.vitals import Vitals
from lambent.scheduler.lease_service import LeaseService, LeaseServiceConfig
from lambent.scheduler.queue_choice import make_queue
from lambent.scheduler.reservations import Reservations
from lambent.scheduler.shards import ShardKeeper

_log = Log(__name__)


class SchedulerRole(Process):
    """One run of a scheduler."""

    async def main(self) -> None:
        redis_url = required_redis(self.settings)
        server = cluster_of(self.settings, server=True)
        client = cluster_of(self.settings, server=False)
        check_host(self.settings, server, "Leases on")
        health = bind(self.settings.host, self.settings.port)
        try:
            parts = _Parts(self, redis_url, server, client)
            try:
                await parts.start()
                listener = Listener(HealthApp(parts.facts), health, drain=1.0)
                await listener.start(self.tasks, "health")
                self._banner(parts, url_of(*health.getsockname()[:2]))
                await self.served()
                listener.stop_accepting(1.0)
            finally:
                await parts.close()
        finally:
            health.close()
            await self.tasks.drain(5.0)

    def _banner(self, parts: "_Parts", url: str) -> None:
        say(f"\nLambent scheduler {parts.membership.id}", style="bold green")
        say(
            f"Grants leases at {parts.membership.addresses['grpc']}.\n"
            f"Health and metrics at {url}/healthz and {url}/metrics\n"
            f"Stop with Ctrl-C, or kill -TERM {os.getpid()}: other schedulers take over at once."
        )


class _Parts:
    """What a scheduler is made of, started and stopped in an order."""

    def __init__(self, role: SchedulerRole, redis_url: str, server: Cluster, client: Cluster) -> None:
        settings = role.settings
        self._role = role
        self._cluster = server
        self.membership = Membership("scheduler", redis_url, settings)
        me = self.membership.id
        self._store = RedisStore(redis_url, shards=settings.shards)
        self._ledger = RedisUsageLedger(redis_url)
        self._locks = RedisShardLocks(redis_url)
        self._blocks = RedisAccountBlocks(redis_url)
        self._functions = FunctionCache(self._store)
        self._store.on_change(self._functions.changed)
        self._blobs = make_blobs(settings)
        self._queue = make_queue(
            settings.broker_url,
            redis_url,
            instance=me,
            store=self._store,
            blobs=self._blobs,
            shards=settings.shards,
            max_events=settings.queue_max_events,
            replicas=settings.redis_replicas,
        )
        self._service = self._make_service(me)
        self._store.on_change(self._heard_change)
        self._keeper: ShardKeeper | None = None
        self._owners = Owners(self._locks, client, role.clock, shards=settings.shards, here=(me, self._service))
        self._holder = self._make_holder(me)
        self._hosts = Hosts(
            find=self.membership.executor,
            known=self.membership.executors,
            access=client.access,
            name=me,
            clock=role.clock,
        )
        self._reservations = Reservations(self._store, self._blocks, role.clock)
        self._events: EventParts = make_event_parts(
            settings,
            queue=self._queue,
            store=self._store,
            functions=self._functions,
            dispatcher=ClusterDispatcher(self._holder, self._owners),
            host=self._hosts,
            credentials=credentials(settings),
            endpoints=endpoint_urls(os.environ),
            clock=role.clock,
            tasks=role.tasks,
        )
        self._server = server.server()
        self._vitals = Vitals(
            store=self._store,
            ledger=self._ledger,
            resolve=self._functions.get,
            slots=lambda: sum(count.out for owner in self._service.owned.values() for _, count in owner.counts),
            clock=role.clock,
        )

    def _make_service(self, me: str) -> LeaseService:
        role, settings = self._role, self._role.settings
        return LeaseService(
            LeaseServiceConfig(
                me,
                settings.shards,
                settings.concurrent_executions,
                lambda shard: float("-inf") if self._keeper is None else self._keeper.held_until(shard),
            ),
            store=self._store,
            members=self.membership.members,
            blocks=self._blocks,
            clock=role.clock,
            tasks=role.tasks,
            freed=lambda uid: self._events.lanes.freed(uid),
        )

    def _make_holder(self, me: str) -> LeaseHolder:
        role, settings = self._role, self._role.settings
        return LeaseHolder(
            me,
            self._owners,
            shards=settings.shards,
            clock=role.clock,
            tasks=role.tasks,
            stale=self._functions.changed,
            throttled=metrics.throttled,
            freed=lambda uid: self._events.lanes.freed(uid),
        )

    async def start(self) -> None:
        role, settings = self._role, self._role.settings
        say("Starting a Lambent scheduler.")
        await self._store.open()
        await check_shared(self._blobs, self._store)
        await self._queue.start()
        await self._queue.lanes()  # connects, and so learns what an accepted event is worth there
        await self._blocks.set_limit(settings.concurrent_executions)
        await self._reservations.step()
        add_to(self._server, self._service, role.tasks)
        try:
            port = self._cluster.bind(self._server, settings.internal_host, settings.internal_port)
        except RuntimeError as failure:
            raise Failed(
                f"gRPC can't listen on {settings.internal_host}:{settings.internal_port} ({failure}). Take "
                "another port with LAMBENT_INTERNAL_PORT."
            ) from None
        address = self.membership.serve("grpc", port)
        await self._server.start()
        metrics.build_info.labels(metadata.version("lambent")).set(1)
        metrics.account_limit.set(settings.concurrent_executions)
        await self.membership.start(role.tasks)
        self._keep(address)
        role.forever("leases", self._service.run())
        role.forever("provisioned environments", self._service.keeping.run())
        role.forever("renewals", self._holder.run())
        role.forever("queue feed", self._events.feed.run())
        role.forever("numbers of shards", self._show())
        role.forever("event loop lag", self._vitals.run_second())
        role.forever("Redis ping", self._vitals.run_redis())
        role.forever("metric series", self._vitals.run_series())
        await self._hosts.open()
        role.forever("queue upkeep", self._alone(self._events.upkeep.look, 2.0))
        role.forever("payload sweep", self._alone(self._queue.sweep, 3600.0))
        role.forever("reservations", self._alone(self._reservations.step, 30.0))

    def _keep(self, address: str) -> None:
        role, settings = self._role, self._role.settings

        def claimed(shard: int, epoch: int) -> None:
            role.tasks.once("claim a shard", self._service.claimed(shard, epoch))

        async def release(shard: int) -> None:
            self._service.lost(shard)

        self._keeper = ShardKeeper(
            self.membership.id,
            address,
            shards=settings.shards,
            locks=self._locks,
            members=self.membership.members,
            clock=role.clock,
            on_claimed=claimed,
            on_lost=self._service.lost,
            on_release=release,
        )
        self._keeper.start()

    async def _show(self) -> None:
        while True:
            owned = self._service.owned
            metrics.shards_owned.set(len(owned))
            metrics.shards_taken_over.set(sum(not owner.ready for owner in owned.values()))
            metrics.executors_joined.set(sum(node.connected for node in self._service.nodes))
            metrics.lease_slots_held.set(self._holder.slots)
            await self._role.clock.sleep(1.0)

    def _heard_change(self, name: str) -> None:
        """Holders hear of it with their next renewal, should the store's own news get lost on the way."""
        for owner in self._service.owned.values():
            owner.changed(name)

    async def close(self) -> None:
        role = self._role
        drain = role.settings.drain_seconds
        await role.bounded(drain, self._events.feed.stop())
        if self._keeper is not None:
            await self._keeper.close()
        await self.membership.leave()
        await self._server.stop(0.5)
        await self._hosts.close()
        await self._owners.close()
        self._events.clients.close()
        await self._queue.close()
        await close_blobs(self._blobs)
        await self._locks.close()
        await self._blocks.close()
        await self._ledger.close()
        await self._store.close()

    def facts(self) -> dict[str, Any]:
        """For /healthz."""
        owned = self._service.owned
        return {
            "status": "ok",
            "role": "scheduler",
            "id": self.membership.id,
            "version": metadata.version("lambent"),
            "shards": sorted(owned),
            "shards_being_taken_over": sorted(shard for shard, owner in owned.items() if not owner.ready),
            "executors": sorted(node.id for node in self._service.nodes if node.connected),
            "events_running": self._events.lanes.running,
        }

    async def _alone(self, step: Any, every: float) -> None:
        """Does what one scheduler at a time should: the owner of the first shard."""
        clock = self._role.clock
        while True:
            await clock.sleep(every)
            if self._keeper is None or self._keeper.epoch(0) is None:
                self._events.upkeep.hide()
                continue
            try:
                await step()
            except LambdaError as failure:
                _log.warning("A task of the whole cluster failed; it is tried again.", why=failure.message)
