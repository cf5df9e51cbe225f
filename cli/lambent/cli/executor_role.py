"""`lambent executor`: the environments of one machine, for a cluster's gateways and schedulers.

Start: data folder (locked), Redis, environments, the port for invocations, then the schedulers are joined.
Stop: no new invocations (whoever has slots here goes elsewhere), wait for what runs, end the environments, say
good bye."""

import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from lambent.cli.client import Failed, say, url_of
from lambent.cli.cluster import Membership, check_host, cluster_of, parsed, required_redis
from lambent.cli.data_folder import DataFolder
from lambent.cli.doctor import not_enforced
from lambent.cli.functions_proxy import FunctionsProxy
from lambent.cli.health import HealthApp
from lambent.cli.listeners import Listener, bind, bind_unix, socket_folder
from lambent.cli.process import Process
from lambent.cli.wiring import Place, make_host, make_spool, memory_mb
from lambent.cli.wiring_place import credentials, reachable_through
from lambent.executor.gated import GatedHost
from lambent.executor.host import Host
from lambent.executor.joining import Joining, Stream
from lambent.executor.meter import Meter
from lambent.executor.runtimes.registry import Runtimes
from lambent.executor.shipping import Shipping
from lambent.executor.trees import Trees
from lambent.executor.watchdog import Watchdog
from lambent.kernel import metrics
from lambent.kernel.blobs.choice import close_blobs, make_blobs
from lambent.kernel.blobs.probe import check_shared
from lambent.kernel.errors import LambdaError
from lambent.kernel.leases import SILENT_SECONDS, Beat, Keep, KeptState
from lambent.kernel.log import Log
from lambent.kernel.remote.grpc_access import Cluster
from lambent.kernel.remote.host_client import Address
from lambent.kernel.remote.host_server import HostServer
from lambent.kernel.remote.lease_client import JoinStream
from lambent.kernel.settings import endpoint_urls
from lambent.kernel.store import codec
from lambent.kernel.store.logs import RedisLogs
from lambent.kernel.store.redis import RedisStore
from lambent.kernel.store.usage import RedisUsageLedger
from lambent.kernel.vitals import Vitals

_log = Log(__name__)
# Where functions find the API, inside their own network.
_INSIDE = "http://127.0.0.1:9000"
_REPLACES = "executor.id"
_SECOND_CHANCE_SECONDS = 1.5
_ADVICE = 200  # characters; all that a member says is bounded


class ExecutorRole(Process):
    """One run of an executor."""

    async def main(self) -> None:
        redis_url = required_redis(self.settings)
        cluster = cluster_of(self.settings, server=True)
        client = cluster_of(self.settings, server=False)
        check_host(self.settings, cluster, "Executor frames on")
        with DataFolder.open(self.settings.data_dir) as folder:
            health = bind(self.settings.host, self.settings.port)
            try:
                with socket_folder(folder.path / "run", folder.instance) as sockets:
                    parts = _Parts(self, folder, redis_url, sockets / "functions.sock", cluster, client)
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
        say(f"\nLambent executor {parts.membership.id}", style="bold green")
        lines = [
            f"Takes invocations at {parts.membership.addresses['invoke']}, with {memory_mb(self.settings)} MB.",
            f"Health and metrics at {url}/healthz and {url}/metrics",
            f"Data lies in {self.settings.data_dir}.",
        ]
        missing = not_enforced(parts.host.enforcement())
        if missing:
            lines.append("This host can't enforce:")
            lines += [f"  - {line}" for line in missing]
        lines.append(f"Stop with Ctrl-C, or kill -TERM {os.getpid()}: what runs is waited for.")
        say("\n".join(lines))


class _Parts:
    """What an executor is made of, started and stopped in an order."""

    def __init__(
        self,
        role: ExecutorRole,
        folder: DataFolder,
        redis_url: str,
        relay: Path,
        cluster: Cluster,
        client: Cluster,
    ) -> None:
        settings = role.settings
        self._role, self._folder, self._relay = role, folder, relay
        self._cluster, self._client = cluster, client
        self.membership = Membership("executor", redis_url, settings)
        self._logs = RedisLogs(redis_url, shards=settings.shards)
        self._store = RedisStore(redis_url, shards=settings.shards)
        self._ledger = RedisUsageLedger(redis_url)
        self._vitals = Vitals(store=self._store, ledger=self._ledger, resolve=self._store.get, clock=role.clock)
        self._blobs = make_blobs(settings)
        self._trees = Trees(settings.data_dir / "trees", self._blobs)
        self._runtimes = Runtimes(settings.data_dir, settings.runtime_match)
        spool = make_spool(settings)
        self._shipping = Shipping(settings.data_dir / "usage", spool, self._ledger, role.clock)
        self.host: Host = make_host(
            settings,
            _place(role, folder, redis_url, relay),
            trees=self._trees,
            runtimes=self._runtimes,
            logs=self._logs,
            meter=Meter(spool, role.clock),
        )
        self._joining = Joining(
            connect=self._connect,
            schedulers=self._schedulers,
            facts=self._beat,
            end=lambda lease: self.gated.end_lease(lease),
            keep=self._keep,
            clock=role.clock,
            tasks=role.tasks,
        )
        self.gated = GatedHost(self.host, self._joining.gate, role.clock)
        self._server = HostServer(
            self.gated, executor=self.membership.id, access=cluster.access, clock=role.clock
        )
        self._proxy = FunctionsProxy(self._gateways, client.access.tls, role.tasks)
        self._watchdog: Watchdog | None = None
        self._replaces = self._earlier()

    def _earlier(self) -> str:
        """The executor that had this folder before: what it ran is gone once our environments are opened."""
        path = self._folder.path / _REPLACES
        return path.read_text() if path.exists() else ""

    async def start(self) -> None:
        role, settings = self._role, self._role.settings
        say(f"Starting a Lambent executor with the data folder {self._folder.path}.")
        await self._logs.open()
        await self._check_blobs()
        await self._trees.open()
        say("Ending what a killed executor left, and looking at the runtimes...")
        await self._runtimes.open()
        await self.host.open()
        (self._folder.path / _REPLACES).write_text(self.membership.id)
        missing = not_enforced(self.host.enforcement())
        if missing and settings.isolation == "strict":
            listed = "\n  ".join(missing)
            raise Failed(f"LAMBENT_ISOLATION=strict, and this host can't enforce:\n  {listed}")
        self._watchdog = Watchdog(SILENT_SECONDS, role.clock, self._may_be_silent)
        role.forever("watchdog", self._watchdog.run())
        await self._proxy.start(bind_unix(self._relay))
        port = await self._server.open(settings.internal_host, settings.internal_port)
        self.membership.serve("invoke", port)
        self.membership.facts["runtimes"] = json.dumps(
            {
                info.runtime: [info.runs_on or "", "" if info.available else (info.problem or "?")[:_ADVICE]]
                for info in self._runtimes.listing()
            }
        )
        metrics.build_info.labels(metadata.version("lambent")).set(1)
        await self.membership.start(role.tasks)
        role.forever("beats", self._joining.run())
        role.forever("owners", self._watch_owners())
        role.forever("meeting", self._joining.run_meeting())
        role.forever("event loop lag", self._vitals.run_second())
        role.forever("Redis ping", self._vitals.run_redis())
        role.forever("metric series", self._vitals.run_series())
        role.tasks.once("usage", self._shipping.run())

    async def _check_blobs(self) -> None:
        """Raises LambdaError when code is looked for where the gateways do not put it."""
        await self._store.open()
        await check_shared(self._blobs, self._store)

    async def close(self) -> None:
        role = self._role
        drain = role.settings.drain_seconds
        self._joining.gate.drain()
        self._joining.tell()
        await role.bounded(drain, self.gated.quiet())
        await self.host.drain(0.0)
        await self.host.close()
        self._joining.say_bye(self.membership.id)
        await role.clock.sleep(0.2)  # for the last answers and the good bye to go out
        await self._server.close(1.0)
        await self._joining.close()
        await self._shipping.close()
        await self._proxy.close()
        if self._watchdog is not None:
            await self._watchdog.close()
        (self._folder.path / _REPLACES).unlink(missing_ok=True)
        await self.membership.leave()
        await close_blobs(self._blobs)
        await self._ledger.close()
        await self._store.close()
        await self._logs.close()

    def facts(self) -> dict[str, Any]:
        """For /healthz."""
        gate = self._joining.gate
        return {
            "status": "draining" if gate.draining else "ok",
            "role": "executor",
            "id": self.membership.id,
            "version": metadata.version("lambent"),
            "running": gate.running,
            "schedulers": sorted(gate.owners),
        }

    def _may_be_silent(self) -> float:
        """What an owner's silence ends is ended here; the watchdog ends all of it only if that did not work."""
        deadline = self._joining.gate.deadline()
        if deadline is None:
            return SILENT_SECONDS
        return deadline - self._role.clock.monotonic() + _SECOND_CHANCE_SECONDS

    async def _watch_owners(self) -> None:
        while True:
            await self._role.clock.sleep(0.25)
            self._joining.watch_owners()

    def _keep(self, keep: Keep) -> None:
        """What the owner of the function's shard wants to be kept; a target that is not said is one that is
        known."""
        known = {(each.target.key, each.bucket): each.target for each in self.host.kept_targets()}
        target = known.get((keep.key, keep.bucket))
        if target is None and keep.target:
            try:
                target = codec.function_version(keep.target)
            except LambdaError as failure:
                _log.error("A version that is to be provisioned cannot be read.", why=failure.message)
                return
        if target is not None:
            self.host.provision(target, keep.bucket, keep.wanted, keep.tags)

    def _beat(self) -> Beat:
        return Beat(
            executor=self.membership.id,
            number=0,
            seen=0,
            epochs={},
            leases=(),
            memory_mb=memory_mb(self._role.settings),
            granted_mb=sum(each.wanted * each.target.memory_size for each in self.host.kept_targets()),
            warm=self.host.warm(),
            cached=self._trees.cached(),
            kept=tuple(
                KeptState(each.key, each.bucket, each.started, each.ready, each.failed, each.wanted)
                for each in self.host.provisioned()
            ),
            replaces=self._replaces,
        )

    async def _connect(self, scheduler: str, address: str) -> Stream:
        return JoinStream(self._client, address, self._role.tasks)

    async def _schedulers(self) -> dict[str, str]:
        return dict(self.membership.schedulers())

    def _gateways(self) -> list[Address]:
        return [
            parsed(each.addresses["functions"])
            for each in self.membership.live("gateway")
            if "functions" in each.addresses
        ]


def _place(role: ExecutorRole, folder: DataFolder, redis_url: str, relay: Path) -> Place:
    endpoints = endpoint_urls(os.environ)
    endpoints.setdefault("AWS_ENDPOINT_URL_LAMBDA", _INSIDE)
    endpoints.setdefault("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", _INSIDE)
    urls = [*endpoints.values(), *role.settings.reachable]
    return Place(
        instance=folder.instance,
        code_key=b"",
        webhook_token="",
        redis_url=redis_url,
        s3_url=endpoints.get("AWS_ENDPOINT_URL_S3") or endpoints.get("AWS_ENDPOINT_URL"),
        no_triggers=None,
        credentials=credentials(role.settings),
        endpoints=endpoints,
        reachable=reachable_through(urls, _INSIDE, relay),
        facts={},
    )
