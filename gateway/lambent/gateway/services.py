"""What a handler is given: the ports and the facts of one call, because handlers hold no state of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambent.gateway.code_urls import CodeUrls
from lambent.gateway.image_lookups import Lookups
from lambent.kernel.events import FailingTarget
from lambent.kernel.models import Function
from lambent.kernel.ports import (
    BlobStore,
    Clock,
    CodeCheck,
    Dispatcher,
    EnvironmentHost,
    EventQueue,
    FunctionStore,
    LogStore,
)
from lambent.kernel.settings import Settings
from lambent.kernel.targets import Target
from lambent.kernel.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Services:
    """The ports that the gateway works with. `fetch_s3(bucket, key, version) -> bytes` reads a code source;
    it raises InvalidParameterValueException with AWS's text. `target_problem`: why outcomes of events can't be
    delivered to a target, and what to do; None when they can. `failing_targets`: those that take nothing now.
    `take_dead_letters(function, limit)` makes events of a function's dead-letter queue's messages; how many; it
    raises LambdaError. `no_triggers`: why no S3 server tells us of its objects, and what to do; None when one
    does. `has_bucket(bucket)` answers None where S3 does not say. `reserving` is held by who changes a
    reservation."""

    settings: Settings
    store: FunctionStore
    blobs: BlobStore
    code: CodeCheck
    queue: EventQueue
    host: EnvironmentHost
    dispatcher: Dispatcher
    logs: LogStore
    clock: Clock
    tasks: Tasks
    code_urls: CodeUrls
    fetch_s3: Callable[[str, str, str | None], Awaitable[bytes]]
    target_problem: Callable[[Target], str | None]
    failing_targets: Callable[[], Sequence[FailingTarget]]
    take_dead_letters: Callable[[Function, int], Awaitable[int]]
    no_triggers: str | None = None
    has_bucket: Callable[[str], Awaitable[bool | None]] | None = None
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)
    image_lookups: Lookups = field(default_factory=Lookups)


@dataclass(slots=True)
class Call:
    """One API call. `base_url` is how the client addressed us ("http://127.0.0.1:9000"), for download URLs;
    `warnings` are sent in the header x-lambent-warning."""

    request_id: str
    base_url: str
    warnings: list[str] = field(default_factory=list)


# (services, call, input members by their names in AWS's model) -> output members by their names, or None for
# an empty output. A member named "StatusCode" that the model binds to the HTTP status overrides it.
Handler = Callable[[Services, Call, Mapping[str, Any]], Awaitable[Mapping[str, Any] | None]]
