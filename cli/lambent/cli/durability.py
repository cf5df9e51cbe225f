"""What "accepted" (202) means to the disk of the broker that holds the events: asked of a server that runs,
else of the RabbitMQ or the Redis that the settings name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambent.cli.client import Failed, call, url_of
from lambent.kernel.settings import Settings
from lambent.scheduler.amqp import queue as amqp
from lambent.scheduler.queue_durability import probe, with_failover
from lambent.scheduler.transport.places import is_group
from lambent.scheduler.transport.wire import CHANNEL_ERRORS, CONNECTION_ERRORS, Wire

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Durability:
    """`durable`: None where nobody could say."""

    durable: bool | None
    how: str


def durability(settings: Settings, endpoint: str | None) -> Durability:
    """Of the server at `endpoint`, or where the settings say that it listens, if it answers."""
    at = endpoint or url_of(settings.host, settings.port)
    try:
        said: Mapping[str, Any] = call(at, "GET", "/healthz", seconds=_SECONDS)["durability"]
        return Durability(said["durable"], f"{said['how']} As the server at {at} says.")
    except (Failed, KeyError, TypeError):
        pass  # none runs there, or it has no queue now: then what one would have
    if settings.broker_url is not None:
        return _of_broker(settings.broker_url)
    if settings.redis_url is None:
        return Durability(True, "on disk before the answer: a server of Lambent's own (appendfsync always).")
    wire = Wire(settings.redis_url, timeout=_SECONDS, name="lambent-doctor")
    try:
        found = with_failover(
            probe(wire.run), fails_over=is_group(settings.redis_url), replicas=settings.redis_replicas
        )
    except (*CONNECTION_ERRORS, *CHANNEL_ERRORS) as failure:
        return Durability(None, f"the Redis of LAMBENT_REDIS_URL does not answer ({failure}). Start it.")
    finally:
        wire.dispose()
    return Durability(found.durable, found.text)


def _of_broker(url: str) -> Durability:
    try:
        return Durability(*amqp.probe(url, timeout=_SECONDS))
    except amqp.FAILURES as failure:
        return Durability(None, f"the broker of LAMBENT_BROKER_URL does not answer ({failure}). Start it.")
