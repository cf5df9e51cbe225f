"""The wiring of the event queue and all that works on it; the rest is in `wiring`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lambent.executor.variables import Credentials
from lambent.gateway.function_cache import FunctionCache
from lambent.kernel.arn import LATEST, function_arn
from lambent.kernel.events import OutcomeRecord
from lambent.kernel.ports import Clock, Dispatcher, EnvironmentHost, FunctionStore
from lambent.kernel.routing import Router
from lambent.kernel.settings import Settings
from lambent.kernel.targets import Target, TargetKind
from lambent.kernel.tasks import Tasks
from lambent.scheduler.destinations.access import Access, Clients
from lambent.scheduler.destinations.eventbridge import EventBridgeDestination
from lambent.scheduler.destinations.function import FunctionDestination
from lambent.scheduler.destinations.s3 import S3Destination
from lambent.scheduler.destinations.sns import SnsDestination
from lambent.scheduler.destinations.sqs import SqsDestination
from lambent.scheduler.feed import Feed
from lambent.scheduler.lanes import Lanes
from lambent.scheduler.outcomes import Outcomes
from lambent.scheduler.queue_choice import BrokerQueue
from lambent.scheduler.queue_upkeep import QueueUpkeep


@dataclass(frozen=True, slots=True)
class EventParts:
    """What works on the event queue. `access` knows which targets of outcomes can be reached."""

    lanes: Lanes
    outcomes: Outcomes
    feed: Feed
    upkeep: QueueUpkeep
    clients: Clients
    access: Access


def redis_memory_mb(settings: Settings) -> int:
    """What our own Redis may take: the setting, else a quarter of the machine's memory."""
    if settings.redis_memory_mb is not None:
        return settings.redis_memory_mb
    return max(256, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 >> 20)


def make_event_parts(
    settings: Settings,
    *,
    queue: BrokerQueue,
    store: FunctionStore,
    functions: FunctionCache,
    dispatcher: Dispatcher,
    host: EnvironmentHost,
    credentials: Credentials,
    endpoints: Mapping[str, str],
    clock: Clock,
    tasks: Tasks,
) -> EventParts:
    """`endpoints`: AWS_ENDPOINT_URL*, with that of the bundled S3."""
    lanes = Lanes(
        queue=queue,
        dispatcher=dispatcher,
        host=host,
        resolve=functions.get,
        look=store.get,
        route=Router(functions.version).route,
        clock=clock,
        tasks=tasks,
        region=settings.region,
        account=settings.account_id,
        retry_base=settings.async_retry_base_seconds,
    )
    access, clients = target_access(settings, credentials, endpoints)

    def arn(record: OutcomeRecord) -> str:
        event = record.event
        return function_arn(
            region=settings.region,
            account=settings.account_id,
            name=event.function,
            qualifier=event.qualifier or LATEST,
        )

    outcomes = Outcomes(
        queue=queue,
        senders={
            TargetKind.SQS: SqsDestination(clients, arn),
            TargetKind.SNS: SnsDestination(clients, arn),
            TargetKind.EVENTBRIDGE: EventBridgeDestination(clients, arn),
            TargetKind.S3: S3Destination(clients, arn),
            TargetKind.LAMBDA: FunctionDestination(queue=queue, look=store.get, clock=clock, function_arn=arn),
        },
        clock=clock,
        tasks=tasks,
        max_age=settings.outcome_max_age_seconds,
    )
    return EventParts(
        lanes=lanes,
        outcomes=outcomes,
        feed=Feed(queue=queue, lanes=lanes, outcomes=outcomes, clock=clock),
        upkeep=QueueUpkeep(queue, store=store, clock=clock, keep_dead=settings.queue_keep_dead),
        clients=clients,
        access=access,
    )


def target_access(
    settings: Settings, credentials: Credentials, endpoints: Mapping[str, str]
) -> tuple[Access, Clients]:
    """The way to the targets of outcomes."""
    access = Access(
        endpoints,
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        own_keys=settings.function_aws_access_key_id is not None,
    )
    return access, Clients(access, region=settings.region)


def target_problem(settings: Settings, access: Access, target: Target) -> str | None:
    """Why a target can't be reached from here; None when it can."""
    return access.problem(target, region=settings.region, account=settings.account_id)
