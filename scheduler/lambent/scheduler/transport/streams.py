"""A kombu transport on Redis Streams that loses nothing: an entry is delivered through a consumer group,
stays the group's until it is acknowledged, and goes to another consumer when its own dies.

It knows only kombu and Redis. Beyond kombu's interface a channel offers what a batch consumer needs:
`get_many`, `ack_many`, `replace_many`, `wait`, `interrupt`, `stats`, `peek`. Use `connect(url)` or the alias
`streams://` (kombu reads `redis+streams://` as the transport `redis` with the host `streams://`, which would
be its own lossy transport)."""

import threading
import time
from typing import Any

import redis
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, virtual

from lambent.scheduler.transport.channel import Channel
from lambent.scheduler.transport.many import Replacement
from lambent.scheduler.transport.places import is_group, parse, without_password
from lambent.scheduler.transport.wire import CHANNEL_ERRORS, CONNECTION_ERRORS, NotStored

__all__ = ["Channel", "NotStored", "Replacement", "Transport", "close_channel", "connect", "open_channel"]

_LONG = 3600.0  # seconds: a wait without a limit is one of these after another


class Transport(virtual.Transport):
    """`streams://host:port/db`, `streams+socket:///path`, `streams+ssl://…`, `streams+sentinel://…`,
    `streams+cluster://…`; or by `connect` in any form of `places`."""

    Channel = Channel
    can_parse_url = True
    default_port: Any = 6379
    polling_interval = 1.0  # how often channels that may not consume are looked at
    driver_type = "redis"
    driver_name = "redis-streams"
    connection_errors = (*virtual.Transport.connection_errors, *CONNECTION_ERRORS)
    channel_errors = (*virtual.Transport.channel_errors, *CHANNEL_ERRORS)
    implements = virtual.Transport.implements.extend(
        asynchronous=False,
        batch_publish=True,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
        heartbeats=False,
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self._stirred = threading.Event()
        self._turn = 0

    def stir(self) -> None:
        """A channel may consume again, or has another consumer: `drain_events` looks."""
        self._stirred.set()

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Delivers one message, the channels taking turns. Raises TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._stirred.clear()
            self._turn += 1
            channels = list(self.channels)
            start = self._turn % len(channels) if channels else 0
            if any(channel.deliver(self._deliver) for channel in channels[start:] + channels[:start]):
                return
            left = _LONG if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing came in time")
            self._wait(left)

    def _wait(self, seconds: float) -> None:
        """Until something may have come for any channel. They share their streams of hints, so one waits for
        all; the others first hear what that one may have heard already."""
        seconds = min([seconds, *(channel.upkeep_in() for channel in self.channels if channel.busy)])
        consuming = [channel for channel in self.channels if channel.consuming]
        if len(consuming) < len([channel for channel in self.channels if channel._consumers]):
            seconds = min(seconds, self.polling_interval)  # one that is full may be so no more
        if not consuming:
            self._stirred.wait(max(0.0, min(seconds, self.polling_interval)))
            return
        *others, last = consuming
        hot = False
        for channel in others:
            channel.await_hint(0)
            hot = hot or channel.hinted
        if not hot:
            last.await_hint(max(0.0, seconds))

    @property
    def url(self) -> str:
        client: Any = self.client
        alternates = [url for url in client.alt if is_group(url)]
        if alternates:
            return ";".join(alternates)
        hostname: str | None = client.hostname
        return hostname or f"streams://localhost:{self.default_port}/0"

    def driver_version(self) -> str:
        return redis.__version__

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        prefix = getattr(self.client, "uri_prefix", None)
        uri = f"{prefix}+{uri}" if prefix and not uri.startswith(prefix) else uri
        return uri if include_password else without_password(uri, mask)


def connect(url: str, **options: Any) -> Connection:
    """A kombu connection over this transport. `url`: any form of `places`; `options`: kombu's
    transport_options, named as Channel's attributes."""
    place = parse(url, master_name=options.get("master_name"))
    return Connection(place.for_kombu(), transport_options=options)


def open_channel(url: str, **options: Any) -> Channel:
    """A channel over a connection of its own (`channel.connection.client`; close with `close_channel`), made
    with one try: kombu's own way sleeps for 2 s before a second one, and who is to wait is the caller's
    decision."""
    connection: Any = connect(url, **options)
    connection.ensure_connection(max_retries=1, interval_start=0, timeout=0.001)
    channel: Channel = connection.channel()
    return channel


def close_channel(channel: Channel) -> None:
    """Ends what `open_channel` made."""
    channel.connection.client.close()


def register() -> None:
    """Makes `streams://` and, where kombu does not split at "+", `redis+streams://` known to kombu."""
    for alias in ("streams", "redis+streams"):
        TRANSPORT_ALIASES.setdefault(alias, f"{__name__}:Transport")


register()
