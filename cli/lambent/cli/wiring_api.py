"""The wiring of what answers requests in a server that is all in one process; the rest is in `wiring`."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.cli.wiring import Parts, Place
from lambent.cli.wiring_events import target_problem
from lambent.executor.runtimes.code_check import CodeInspector
from lambent.executor.runtimes.registry import Runtimes
from lambent.gateway.app import App
from lambent.gateway.cloudwatch.api import LogsApi
from lambent.gateway.cloudwatch.handlers import Logs as CloudWatchLogs
from lambent.gateway.code_source import S3Access, make_fetch_s3, make_has_bucket
from lambent.gateway.code_urls import CodeUrls
from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.internal import Routes
from lambent.gateway.prices import read_prices
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.s3_events import S3Events
from lambent.gateway.services import Services
from lambent.gateway.usage_report import UsageReport
from lambent.kernel.clock import SystemClock
from lambent.kernel.settings import Settings
from lambent.kernel.tasks import Tasks
from lambent.scheduler.destinations.sqs import DeadLetterReader


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What answers requests; `restricted_app` those of functions. A `grpc_listener.Parts`."""

    services: Services
    functions: FunctionCache
    usage: UsageReport
    protocol: LambdaProtocol
    s3_events: S3Events
    app: App
    restricted_app: App


def make_api_parts(settings: Settings, place: Place, parts: Parts, tasks: Tasks) -> ApiParts:
    clock, queue, functions = SystemClock(), parts.queue, parts.functions
    services = _make_services(settings, place, parts, tasks)
    s3_events = S3Events(
        store=parts.store,
        queue=queue,
        marks=parts.marks,
        clock=clock,
        region=settings.region,
        token=place.webhook_token,
        on_lost=parts.sweep.wake if parts.sweep is not None else None,
    )
    usage = UsageReport(parts.ledger, read_prices(settings.prices), clock)
    routes = Routes(
        services,
        s3_events=s3_events,
        facts=place.facts,
        runtimes=_listing(parts.runtimes),
        durability=lambda: {"durable": queue.durable(), "how": queue.durability()},
        usage=usage,
    )
    protocol = LambdaProtocol()
    logs_api = LogsApi(CloudWatchLogs(parts.logs, clock, settings.region, settings.account_id))
    return ApiParts(
        services=services,
        functions=functions,
        usage=usage,
        protocol=protocol,
        s3_events=s3_events,
        app=App(services, functions, protocol, routes, logs_api),
        restricted_app=App(services, functions, protocol, routes, logs_api, restricted=True),
    )


def _make_services(settings: Settings, place: Place, parts: Parts, tasks: Tasks) -> Services:
    clock, events = SystemClock(), parts.events
    s3_access = _s3_access(settings, place)
    return Services(
        settings=settings,
        store=parts.store,
        blobs=parts.blobs,
        code=CodeInspector(parts.runtimes),
        queue=parts.queue,
        host=parts.host,
        dispatcher=parts.dispatcher,
        logs=parts.logs,
        clock=clock,
        tasks=tasks,
        code_urls=CodeUrls(place.code_key, clock),
        fetch_s3=make_fetch_s3(s3_access),
        has_bucket=make_has_bucket(s3_access),
        target_problem=functools.partial(target_problem, settings, events.access),
        failing_targets=events.outcomes.failing,
        take_dead_letters=DeadLetterReader(events.clients, parts.queue, clock).take,
        no_triggers=place.no_triggers,
    )


def _s3_access(settings: Settings, place: Place) -> S3Access:
    """Our own S3 server takes any key; another one's are those of the server's environment."""
    if place.s3_url is None or place.no_triggers is not None:
        return S3Access(settings.region, place.s3_url)
    keys = place.credentials
    return S3Access(settings.region, place.s3_url, keys.access_key_id, keys.secret_access_key)


def _listing(runtimes: Runtimes) -> Callable[[], Awaitable[Sequence[Any]]]:
    async def listing() -> Sequence[Any]:
        return await asyncio.to_thread(runtimes.listing)  # it may look at the machine again

    return listing
