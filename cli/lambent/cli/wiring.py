"""The one place where ports meet adapters; no decision but which adapter stands behind which port."""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lambent.cli.client import Failed
from lambent.cli.wiring_events import EventParts, make_event_parts
from lambent.executor.drivers.base import Driver, DriverConfig, Reachable
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.drivers.sandbox.network import SandboxNetwork
from lambent.executor.host import Host
from lambent.executor.image_cache import ImageCache
from lambent.executor.launching import HostConfig
from lambent.executor.meter import Meter
from lambent.executor.runtimes.registry import Runtimes
from lambent.executor.shipping import Shipping
from lambent.executor.spool import Spool
from lambent.executor.trees import Trees
from lambent.executor.variables import Credentials
from lambent.gateway.code_source import S3Access
from lambent.gateway.function_cache import FunctionCache
from lambent.kernel import metrics
from lambent.kernel.blobs.choice import make_blobs
from lambent.kernel.clock import SystemClock
from lambent.kernel.ports import BlobStore
from lambent.kernel.s3_trigger import Marks
from lambent.kernel.settings import Settings
from lambent.kernel.store.logs import RedisLogs
from lambent.kernel.store.redis import RedisStore
from lambent.kernel.store.usage import RedisUsageLedger
from lambent.kernel.tasks import Tasks
from lambent.kernel.tracing import Tracer
from lambent.kernel.vitals import Vitals
from lambent.scheduler.dispatcher import LocalDispatcher
from lambent.scheduler.queue_choice import BrokerQueue, make_queue
from lambent.scheduler.sources.s3 import S3Sweep, s3_listing


@dataclass(frozen=True, slots=True)
class Place:
    """What `up` found out before anything could be wired: keys, the Redis and S3 it started or was given.
    `no_triggers`: why no S3 server tells us of its objects."""

    instance: str
    code_key: bytes
    webhook_token: str
    redis_url: str
    s3_url: str | None
    no_triggers: str | None
    credentials: Credentials
    endpoints: Mapping[str, str]
    reachable: Sequence[Reachable]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that `up` starts and stops, in that order and its reverse; what answers requests stands on it
    (`wiring_api`)."""

    store: RedisStore
    functions: FunctionCache
    blobs: BlobStore
    logs: RedisLogs
    queue: BrokerQueue
    trees: Trees
    runtimes: Runtimes
    ledger: RedisUsageLedger
    shipping: Shipping
    vitals: Vitals
    host: Host
    dispatcher: LocalDispatcher
    events: EventParts
    marks: Marks
    sweep: S3Sweep | None


def make_driver(
    settings: Settings, state_dir: Path, *, instance: str, reachable: Sequence[Reachable]
) -> Driver:
    """The driver that `LAMBENT_ISOLATION` asks for."""
    config = DriverConfig(
        state_dir,
        instance,
        settings.uid_base,
        settings.uid_count,
        tuple(reachable),
        parked_slots=settings.parked_slots,
    )
    if settings.isolation == "none":
        from lambent.executor.drivers.plain import PlainDriver

        return PlainDriver(config)
    return SandboxDriver(config, SandboxNetwork(config))


def make_tracer(settings: Settings) -> Tracer | None:
    """Where spans go; None where tracing is off. Raises Failed when what it needs is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from lambent.kernel.tracing_otel import OtelTracer
    except ImportError as failure:
        raise Failed(
            f"LAMBENT_OTLP_ENDPOINT is set, and {failure.name} is not installed: pip install 'lambent[otel]'."
        ) from None
    return OtelTracer(settings.otlp_endpoint, version=metadata.version("lambent"))


def memory_mb(settings: Settings) -> int:
    """What environments may reserve in all: the setting, else 80 % of the machine's memory."""
    if settings.memory_mb is not None:
        return settings.memory_mb
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.8) >> 20


def make_parts(settings: Settings, place: Place, tasks: Tasks) -> Parts:
    """Wires a server that is all in one process."""
    clock = SystemClock()
    store = RedisStore(place.redis_url, shards=settings.shards)
    functions = FunctionCache(store)
    store.on_change(functions.changed)
    logs = RedisLogs(place.redis_url, shards=settings.shards)
    blobs = make_blobs(settings)
    queue = _make_queue(settings, place, store, blobs)
    trees = Trees(settings.data_dir / "trees", blobs)
    runtimes = Runtimes(settings.data_dir, settings.runtime_match)
    ledger = RedisUsageLedger(place.redis_url)
    spool = make_spool(settings)
    host = make_host(settings, place, trees=trees, runtimes=runtimes, logs=logs, meter=Meter(spool, clock))
    dispatcher = _make_dispatcher(settings, place, host, functions)
    events = make_event_parts(
        settings,
        queue=queue,
        store=store,
        functions=functions,
        dispatcher=dispatcher,
        host=host,
        credentials=place.credentials,
        endpoints=place.endpoints,
        clock=clock,
        tasks=tasks,
    )
    dispatcher.freed.append(events.lanes.freed)
    marks = Marks(store, clock)
    return Parts(
        store=store,
        functions=functions,
        blobs=blobs,
        logs=logs,
        queue=queue,
        trees=trees,
        runtimes=runtimes,
        ledger=ledger,
        shipping=Shipping(settings.data_dir / "usage", spool, ledger, clock),
        vitals=_make_vitals(store, ledger, functions, dispatcher),
        host=host,
        dispatcher=dispatcher,
        events=events,
        marks=marks,
        sweep=_make_sweep(settings, place, store=store, queue=queue, marks=marks),
    )


def _make_queue(settings: Settings, place: Place, store: RedisStore, blobs: BlobStore) -> BrokerQueue:
    return make_queue(
        settings.broker_url,
        place.redis_url,
        instance=place.instance,
        store=store,
        blobs=blobs,
        shards=settings.shards,
        max_events=settings.queue_max_events,
        replicas=settings.redis_replicas,
    )


def _make_dispatcher(settings: Settings, place: Place, host: Host, functions: FunctionCache) -> LocalDispatcher:
    made = LocalDispatcher(place.instance, settings.concurrent_executions, SystemClock())
    metrics.build_info.labels(place.facts["version"]).set(1)
    metrics.account_limit.set(settings.concurrent_executions)
    made.keep_by(host, functions.version)
    return made


def _make_vitals(
    store: RedisStore, ledger: RedisUsageLedger, functions: FunctionCache, dispatcher: LocalDispatcher
) -> Vitals:
    return Vitals(
        store=store,
        ledger=ledger,
        resolve=functions.get,
        slots=lambda: dispatcher.used,
        clock=SystemClock(),
    )


def make_spool(settings: Settings) -> Spool:
    """A new one for this run. Its name says when, so that runs are shipped in their order."""
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:12]}"
    return Spool(settings.data_dir / "usage" / name, max_bytes=settings.usage_spool_mb << 20)


def make_host(
    settings: Settings, place: Place, *, trees: Trees, runtimes: Runtimes, logs: RedisLogs, meter: Meter
) -> Host:
    config = HostConfig(
        region=settings.region,
        account_id=settings.account_id,
        memory_mb=memory_mb(settings),
        keep_alive=settings.keep_alive_seconds,
        freeze_after=settings.freeze_after_ms / 1000,
        credentials=place.credentials,
        endpoints=place.endpoints,
        cache_mb=settings.code_cache_mb,
        file_systems=settings.file_systems,
    )
    state_dir = settings.data_dir / "executor"
    driver = make_driver(settings, state_dir, instance=place.instance, reachable=place.reachable)
    return Host(
        config,
        driver=driver,
        trees=trees,
        runtimes=runtimes,
        logs=logs,
        meter=meter,
        clock=SystemClock(),
        images=ImageCache(settings.data_dir / "images", promised=driver.promised),
    )


def s3_access(settings: Settings, keys: Credentials, endpoints: Mapping[str, str]) -> S3Access:
    """An S3 server that is not our own."""
    url = endpoints.get("AWS_ENDPOINT_URL_S3") or endpoints.get("AWS_ENDPOINT_URL")
    if url is None:
        return S3Access(settings.region, None)
    return S3Access(settings.region, url, keys.access_key_id, keys.secret_access_key)


def _make_sweep(
    settings: Settings, place: Place, *, store: RedisStore, queue: BrokerQueue, marks: Marks
) -> S3Sweep | None:
    if place.s3_url is None or place.no_triggers is not None:
        return None
    listing = s3_listing(
        endpoint=place.s3_url,
        region=settings.region,
        access_key_id=place.credentials.access_key_id,
        secret_access_key=place.credentials.secret_access_key,
    )
    return S3Sweep(
        store=store, queue=queue, marks=marks, listing=listing, clock=SystemClock(), region=settings.region
    )
