"""`lambent gateway`: the AWS API and gRPC for a cluster; it holds slots of leases and sends invocations to
executors.

It keeps nothing of its own but a folder for what is being unpacked; any number of them serve one cluster.
"""

import functools
import os
from importlib import metadata
from typing import Any

from lambent.cli.client import err, say, url_of
from lambent.cli.cluster import Membership, cluster_of, required_redis, shared_secret
from lambent.cli.cluster_code import ClusterCode
from lambent.cli.grpc_listener import GrpcListener
from lambent.cli.listeners import Listener, Serving, answered, bind, exposed
from lambent.cli.process import Process
from lambent.cli.wiring import s3_access
from lambent.cli.wiring_events import target_access, target_problem
from lambent.cli.wiring_place import credentials
from lambent.gateway import collector
from lambent.gateway.app import App
from lambent.gateway.cloudwatch.api import LogsApi
from lambent.gateway.cloudwatch.handlers import Logs as CloudWatchLogs
from lambent.gateway.code_source import make_fetch_s3, make_has_bucket
from lambent.gateway.code_urls import CodeUrls
from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.handlers import lifecycle
from lambent.gateway.internal import Routes
from lambent.gateway.prices import read_prices
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.s3_events import S3Events
from lambent.gateway.services import Services
from lambent.gateway.usage_report import UsageReport
from lambent.kernel import metrics
from lambent.kernel.blobs.choice import close_blobs, make_blobs
from lambent.kernel.blobs.probe import check_shared
from lambent.kernel.holder import LeaseHolder
from lambent.kernel.log import Log
from lambent.kernel.remote.cluster_dispatcher import ClusterDispatcher
from lambent.kernel.remote.grpc_access import Cluster
from lambent.kernel.remote.hosts import Hosts
from lambent.kernel.remote.lease_client import Owners
from lambent.kernel.s3_trigger import Marks
from lambent.kernel.settings import endpoint_urls
from lambent.kernel.store.logs import RedisLogs
from lambent.kernel.store.redis import RedisStore
from lambent.kernel.store.shard_locks import RedisShardLocks
from lambent.kernel.store.usage import RedisUsageLedger
from lambent.kernel.vitals import Vitals
from lambent.scheduler.destinations.access import Clients
from lambent.scheduler.destinations.sqs import DeadLetterReader
from lambent.scheduler.queue_choice import make_queue

_log = Log(__name__)
_ANSWER_SECONDS = 3.0
# Functions whose update a gateway died in the middle of are taken up by another one.
_RESUME_SECONDS = 30.0
_NO_TRIGGERS = "S3 triggers need the S3 server of `lambent up`; a cluster has none of its own."


class GatewayRole(Process):
    """One run of a gateway."""

    async def main(self) -> None:
        redis_url = required_redis(self.settings)
        cluster = cluster_of(self.settings, server=False)
        listener = bind(self.settings.host, self.settings.port)
        # Where executors bring what functions ask of the API.
        inner = bind(self.settings.internal_host, 0)
        grpc: GrpcListener | None = None
        try:
            if self.settings.grpc_port is not None:
                grpc = GrpcListener(self.settings)
            url = url_of(*listener.getsockname()[:2])
            say("Starting a Lambent gateway.")
            parts = _Parts(self, redis_url, cluster, url)
            await parts.open()
            drain = self.settings.drain_seconds
            listeners: dict[str, Serving] = {
                "API": Listener(parts.app, listener, drain=drain),
                "functions": Listener(parts.restricted, inner, drain=drain),
            }
            if grpc is not None:
                grpc.add(parts, url, self.tasks)
                listeners["gRPC"] = grpc
            try:
                for name, each in listeners.items():
                    await each.start(self.tasks, name)
                parts.membership.serve("functions", inner.getsockname()[1])
                await parts.start()
                self._banner(url, grpc)
                warning = exposed(listener)
                if warning is not None:
                    say(warning, style="yellow", to=err)
                await self.served()
            finally:
                await self._close(parts, list(listeners.values()))
        finally:
            listener.close()
            inner.close()
            if grpc is not None:
                await grpc.close()
            await self.tasks.drain(5.0)

    def _banner(self, url: str, grpc: GrpcListener | None) -> None:
        say(f"\nLambent gateway at {url}", style="bold green")
        lines = [f"gRPC at {grpc.address} ({grpc.secured})"] if grpc is not None else []
        region = self.settings.region
        lines += [
            "",
            f"  export AWS_ENDPOINT_URL_LAMBDA={url}",
            f"  export AWS_ENDPOINT_URL_CLOUDWATCH_LOGS={url}",
            f"  export AWS_REGION={region} AWS_DEFAULT_REGION={region}",
            "  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any",
            "",
            f"Stop with Ctrl-C, or kill -TERM {os.getpid()}.",
        ]
        say("\n".join(lines))

    async def _close(self, parts: "_Parts", listeners: list[Serving]) -> None:
        drain = self.settings.drain_seconds
        parts.app.close()
        await parts.membership.leave()
        for each in listeners:
            each.stop_accepting(drain + _ANSWER_SECONDS)
        self.signalled.clear()
        await answered(listeners, self.tasks, seconds=drain, cut_short=self.signalled)
        await parts.close()


class _Parts:
    """What a gateway is made of."""

    def __init__(self, role: GatewayRole, redis_url: str, cluster: Cluster, url: str) -> None:
        settings = role.settings
        self._role, self._redis_url, self._url = role, redis_url, url
        self.membership = Membership("gateway", redis_url, settings)
        me = self.membership.id
        self._store = RedisStore(redis_url, shards=settings.shards)
        self._logs = RedisLogs(redis_url, shards=settings.shards)
        self._ledger = RedisUsageLedger(redis_url)
        self._locks = RedisShardLocks(redis_url)
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
        self.functions = FunctionCache(self._store)
        self._store.on_change(self.functions.changed)
        self._owners = Owners(self._locks, cluster, role.clock, shards=settings.shards)
        self._holder = LeaseHolder(
            me,
            self._owners,
            shards=settings.shards,
            clock=role.clock,
            tasks=role.tasks,
            stale=self.functions.changed,
            throttled=metrics.throttled,
        )
        self._hosts = Hosts(
            find=self.membership.executor,
            known=self.membership.executors,
            access=cluster.access,
            name=me,
            clock=role.clock,
        )
        self._marks = Marks(self._store, role.clock)
        self.usage = UsageReport(self._ledger, read_prices(settings.prices), role.clock)
        self.protocol = LambdaProtocol()
        self._vitals = Vitals(
            store=self._store,
            ledger=self._ledger,
            resolve=self.functions.get,
            clock=role.clock,
        )

    async def open(self) -> None:
        """Connects, and learns what all gateways have alike. Raises LambdaError."""
        role, settings = self._role, self._role.settings
        await self._store.open()
        await check_shared(self._blobs, self._store)
        await self._logs.open()
        await self._queue.start()
        await self._queue.lanes()  # connects, and so learns what an accepted event is worth there
        key = await shared_secret(self._store, "code urls")
        token = await shared_secret(self._store, "s3 webhook")
        code = ClusterCode(self.membership)
        access, clients = target_access(settings, credentials(settings), endpoint_urls(os.environ))
        self._clients: Clients = clients
        s3 = s3_access(settings, credentials(settings), endpoint_urls(os.environ))
        self.services = Services(
            settings=settings,
            store=self._store,
            blobs=self._blobs,
            code=code,
            queue=self._queue,
            host=self._hosts,
            dispatcher=ClusterDispatcher(self._holder, self._owners),
            logs=self._logs,
            clock=role.clock,
            tasks=role.tasks,
            code_urls=CodeUrls(key, role.clock),
            fetch_s3=make_fetch_s3(s3),
            has_bucket=make_has_bucket(s3),
            target_problem=functools.partial(target_problem, settings, access),
            failing_targets=lambda: (),
            take_dead_letters=DeadLetterReader(clients, self._queue, role.clock).take,
            no_triggers=_NO_TRIGGERS,
        )
        s3_events = S3Events(
            store=self._store,
            queue=self._queue,
            marks=self._marks,
            clock=role.clock,
            region=settings.region,
            token=token.hex(),
        )
        self.routes = Routes(
            self.services,
            s3_events=s3_events,
            facts=self._facts(),
            runtimes=code.listing,
            durability=lambda: {"durable": self._queue.durable(), "how": self._queue.durability()},
            usage=self.usage,
        )
        logs_api = LogsApi(CloudWatchLogs(self._logs, role.clock, settings.region, settings.account_id))
        parts = (self.services, self.functions, self.protocol, self.routes, logs_api)
        self.app = App(*parts)
        self.restricted = App(*parts, restricted=True)

    def _facts(self) -> dict[str, Any]:
        settings = self._role.settings
        return {
            "version": metadata.version("lambent"),
            "role": "gateway",
            "id": self.membership.id,
            "endpoints": {"lambda": self._url},
            "account_id": settings.account_id,
            "region": settings.region,
        }

    async def start(self) -> None:
        role = self._role
        metrics.build_info.labels(metadata.version("lambent")).set(1)
        metrics.account_limit.set(role.settings.concurrent_executions)
        await self.membership.start(role.tasks)
        await self._hosts.open()
        role.forever("renewals", self._holder.run())
        role.forever("held slots", self._show())
        role.forever("event loop lag", self._vitals.run_second())
        role.forever("Redis ping", self._vitals.run_redis())
        role.forever("metric series", self._vitals.run_series())
        role.forever("collector", collector.run(self.services))
        role.forever("unsettled functions", self._resume())

    async def _show(self) -> None:
        while True:
            metrics.lease_slots_held.set(self._holder.slots)
            await self._role.clock.sleep(1.0)

    async def _resume(self) -> None:
        """Takes up creations and updates whose gateway died, now and then."""
        while True:
            resumed = await lifecycle.resume(self.services, older_than=_RESUME_SECONDS)
            if resumed:
                _log.info("Went on with functions whose gateway was cut off.", count=resumed)
            await self._role.clock.sleep(_RESUME_SECONDS)

    async def close(self) -> None:
        await self._hosts.close()
        await self._owners.close()
        self._clients.close()
        await self._queue.close()
        await self._locks.close()
        await close_blobs(self._blobs)
        await self._ledger.close()
        await self._logs.close()
        await self._store.close()
