"""Which adapter of the event queue serves: the one that the broker's URL names."""

import functools
import secrets
from typing import Protocol

from lambent.kernel.ports import BlobStore, EventQueue, FunctionStore
from lambent.scheduler.amqp.queue import AmqpEventQueue
from lambent.scheduler.queue import KombuEventQueue

_MARK = "broker space"


class BrokerQueue(EventQueue, Protocol):
    """An event queue over a broker."""

    async def start(self) -> None:
        """Before use, in a running loop. A broker that does not answer is no error here."""

    async def close(self) -> None:
        """Stores what waits. Unacknowledged events are delivered again later."""

    def durability(self) -> str:
        """What "accepted" means with this broker and its settings."""

    def durable(self) -> bool | None:
        """Whether an accepted event survives a crash of the broker and a loss of power; None: not known yet."""


def make_queue(
    broker_url: str | None,
    redis_url: str,
    *,
    instance: str,
    store: FunctionStore,
    blobs: BlobStore,
    shards: int,
    max_events: int,
    replicas: int,
) -> BrokerQueue:
    """`broker_url`: of RabbitMQ or `memory://`; None: the Redis of `redis_url`, in `shards` slices. `instance`:
    this scheduler's name, the same after its restart. `store`: of the functions; whoever shares it, shares the
    events. `replicas`: of Redis, that must confirm an event."""
    if broker_url is not None:
        space = functools.partial(_installation, store)
        return AmqpEventQueue(broker_url, blobs=blobs, space=space, max_events=max_events)
    return KombuEventQueue(
        redis_url,
        consumer_name=instance,
        blobs=blobs,
        shards=shards,
        max_events=max_events,
        replicas=replicas,
    )


async def _installation(store: FunctionStore) -> str:
    """A name that is kept with the functions, because an event of somebody else's function would be dropped."""
    found = await store.mark_get(_MARK)
    if found is None:
        await store.mark_set(_MARK, secrets.token_hex(4))
        found = await store.mark_get(_MARK)
    assert found is not None
    return found
