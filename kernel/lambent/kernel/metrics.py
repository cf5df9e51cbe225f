"""Every Prometheus metric, declared in one file, because a metric's name and labels are an interface.

The only importer of prometheus_client. The label `function` is bounded: the first 500 functions seen have
their own series, later ones are counted under `other`, and `forget` gives a deleted function's place
to another.
docs/metrics.md is made from this file (`metrics_page.py`).
"""

import sys
import threading
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

# Else each counter and histogram has a second series with its time of birth.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
# CPU, memory, descriptors and time of start of this process, under the names that all programs use.
ProcessCollector(registry=REGISTRY)
_MAX_FUNCTIONS = 500
OTHER = "other"
_functions: set[str] = set()
_exposing = threading.Lock()
_TURN_SECONDS = 0.0005

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)

invocations = Counter(
    "lambent_invocations_total",
    "Executions that ended, by outcome.",
    ("function", "outcome"),
    registry=REGISTRY,
)
errors = Counter(
    "lambent_errors_total", "Executions that ended in a function error.", ("function",), registry=REGISTRY
)
throttles = Counter(
    "lambent_throttles_total",
    "Requests refused by a limit, by AWS's Reason.",
    ("function", "reason"),
    registry=REGISTRY,
)
duration = Histogram(
    "lambent_duration_seconds",
    "Duration of executions, without init.",
    ("function",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
first_byte = Histogram(
    "lambent_response_first_byte_seconds",
    "From the event to the first byte of a streamed response.",
    ("function",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
init_duration = Histogram(
    "lambent_init_duration_seconds",
    "Duration of init phases.",
    ("function",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
billed = Counter(
    "lambent_billed_milliseconds_total", "Billed duration, in ms.", ("function",), registry=REGISTRY
)
billed_gb_seconds = Counter(
    "lambent_billed_gigabyte_seconds_total",
    "Billed duration times MemorySize: what AWS's price is for.",
    ("function",),
    registry=REGISTRY,
)
concurrent = Gauge("lambent_concurrent_executions", "Executions running now.", ("function",), registry=REGISTRY)
environments = Gauge(
    "lambent_environments",
    "Execution environments by state; parked: made ahead of need.",
    ("state",),
    registry=REGISTRY,
)
events_received = Counter(
    "lambent_async_events_received_total",
    "Asynchronous events accepted (AWS: AsyncEventsReceived).",
    ("function",),
    registry=REGISTRY,
)
events_dropped = Counter(
    "lambent_async_events_dropped_total",
    "Asynchronous events given up after their retries (AWS: AsyncEventsDropped).",
    ("function",),
    registry=REGISTRY,
)
trigger_events_dropped = Counter(
    "lambent_trigger_events_dropped_total",
    "Events of triggers whose function does not exist.",
    ("function",),
    registry=REGISTRY,
)
event_age = Histogram(
    "lambent_async_event_age_seconds",
    "From the acceptance of an event to the start of an attempt (AWS: AsyncEventAge).",
    ("function",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 120, 300, 900, 3600, 21600),
    registry=REGISTRY,
)
recursive_dropped = Counter(
    "lambent_recursive_invocations_dropped_total",
    "Invocations stopped in a chain in which the function had called itself too often.",
    ("function",),
    registry=REGISTRY,
)
destination_failures = Counter(
    "lambent_destination_delivery_failures_total",
    "Tries to send an outcome to a destination that failed (AWS: DestinationDeliveryFailures).",
    ("function",),
    registry=REGISTRY,
)
dead_letter_errors = Counter(
    "lambent_dead_letter_errors_total",
    "Tries to send an event to a dead-letter queue that failed (AWS: DeadLetterErrors).",
    ("function",),
    registry=REGISTRY,
)
dead_discarded = Counter(
    "lambent_dead_events_discarded_total",
    "Events that were given up, had no target, and went beyond what is kept of them.",
    ("function",),
    registry=REGISTRY,
)
queue_outcomes = Gauge(
    "lambent_queue_outcomes", "Outcome records on their way to their targets.", ("function",), registry=REGISTRY
)
queue_dead = Gauge(
    "lambent_queue_dead",
    "Events that were given up and are kept for a redrive.",
    ("function",),
    registry=REGISTRY,
)
queue_depth = Gauge(
    "lambent_queue_depth", "Events waiting or in flight, by lane.", ("function",), registry=REGISTRY
)
queue_age = Gauge(
    "lambent_queue_oldest_age_seconds",
    "Age of the oldest waiting event, by lane.",
    ("function",),
    registry=REGISTRY,
)
log_lines_dropped = Counter(
    "lambent_log_lines_dropped_total", "Log lines dropped because they did not fit.", registry=REGISTRY
)
queue_in_flight = Gauge(
    "lambent_queue_in_flight", "Events of a lane that are being run.", ("function",), registry=REGISTRY
)
queue_delayed = Gauge(
    "lambent_queue_delayed", "Events of a lane that wait for a later attempt.", ("function",), registry=REGISTRY
)
cold_start_duration = Histogram(
    "lambent_cold_start_duration_seconds",
    "From the need of an environment to its first `next`: code, isolation, init. Each is a cold start.",
    ("function",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
environment_starts = Counter(
    "lambent_environment_starts_total",
    "Environments started, by how: parked (made ahead), forked (by a zygote), plain or restored (SnapStart).",
    ("kind",),
    registry=REGISTRY,
)
init_failures = Counter(
    "lambent_init_failures_total",
    "Init phases that failed; they run once more in the first invocation.",
    ("function",),
    registry=REGISTRY,
)
start_failures = Counter(
    "lambent_environment_start_failures_total",
    "Environments that the platform could not start, memory that is in use among the reasons.",
    ("function",),
    registry=REGISTRY,
)
memory_used = Histogram(
    "lambent_memory_used_ratio",
    "Peak memory of an environment as a part of its MemorySize, at the end of each execution.",
    ("function",),
    buckets=(0.25, 0.5, 0.75, 0.9, 0.95),
    registry=REGISTRY,
)
memory_reserved = Gauge(
    "lambent_environments_memory_reserved_bytes", "MemorySize of all environments.", registry=REGISTRY
)
memory_limit = Gauge(
    "lambent_environments_memory_limit_bytes",
    "What environments may reserve in all (LAMBENT_MEMORY_MB).",
    registry=REGISTRY,
)
lease_slots = Gauge(
    "lambent_lease_slots", "Slots that are granted: what counts against the limits.", registry=REGISTRY
)
lease_slots_held = Gauge(
    "lambent_lease_slots_held",
    "Slots of leases that this process holds: a gateway, or a scheduler for its queued events.",
    registry=REGISTRY,
)
shards_owned = Gauge("lambent_shards_owned", "Shards of functions that this scheduler owns.", registry=REGISTRY)
shards_taken_over = Gauge(
    "lambent_shards_being_taken_over",
    "Of those: not ready yet, since not every executor has said what it runs.",
    registry=REGISTRY,
)
executors_joined = Gauge(
    "lambent_executors_joined", "Executors with a stream to this scheduler.", registry=REGISTRY
)
account_limit = Gauge(
    "lambent_account_concurrency_limit", "The account's limit of concurrent executions.", registry=REGISTRY
)
reserved_concurrency = Gauge(
    "lambent_reserved_concurrency",
    "Reserved concurrency, of functions that have one.",
    ("function",),
    registry=REGISTRY,
)
requests = Counter(
    "lambent_api_requests_total",
    "Requests to the API, by operation and class of status (2xx, 4xx, 5xx).",
    ("operation", "status"),
    registry=REGISTRY,
)
request_duration = Histogram(
    "lambent_api_request_duration_seconds",
    "From a request's head to the end of its answer, by operation.",
    ("operation",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
ledger_missing = Gauge(
    "lambent_usage_missing_records",
    "Usage records that were made and never came to the ledger, of all executors and all time.",
    registry=REGISTRY,
)
loop_lag = Histogram(
    "lambent_event_loop_lag_seconds",
    "How late the event loop woke a task, measured each second.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
spans_dropped = Counter(
    "lambent_spans_dropped_total", "Spans that the OpenTelemetry collector did not take.", registry=REGISTRY
)
redis_up = Gauge("lambent_redis_up", "Whether Redis answered the last ping: 1 or 0.", registry=REGISTRY)
redis_ping = Gauge(
    "lambent_redis_ping_duration_seconds", "How long the last answered ping of Redis took.", registry=REGISTRY
)
build_info = Gauge("lambent_build_info", "1; the version that runs.", ("version",), registry=REGISTRY)
ledger_lag = Gauge(
    "lambent_usage_ledger_lag_seconds",
    "How long the usage ledger has not taken what was executed; 0 in order.",
    registry=REGISTRY,
)


def throttled(name: str, reason: str) -> None:
    """A function's invocation was refused for a reason of AWS's."""
    throttles.labels(function_label(name), reason).inc()


def function_label(name: str) -> str:
    """The value of the label `function`: the name, or `other` once 500 functions have a series."""
    if name in _functions:
        return name
    if len(_functions) < _MAX_FUNCTIONS:
        _functions.add(name)
        return name
    return OTHER


def has_series(label: str) -> bool:
    """Whether this value of the label `function` is in use: not, once the function is forgotten."""
    return label == OTHER or label in _functions


def known_functions() -> list[str]:
    """The functions that have series of their own."""
    return list(_functions)


def forget(name: str) -> None:
    """The function is deleted: its series end, and its place is free for another's."""
    _functions.discard(name)
    for metric in declared():
        if "function" in metric._labelnames:
            metric.remove_by_labels({"function": name})


_request_series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}


def count_request(operation: str, status: int, seconds: float) -> None:
    """A request that was answered; `operation` of a small set."""
    series = _request_series.get((operation, status))
    if series is None:
        series = _request_series[operation, status] = (
            requests.labels(operation, f"{status // 100}xx"),
            request_duration.labels(operation),
        )
    series[0].inc()
    series[1].observe(seconds)


def show_reserved(name: str, slots: int | None) -> None:
    """A function's reserved concurrency, if it has series of its own; None: it has none."""
    if slots is None:
        reserved_concurrency.remove_by_labels({"function": name})
    elif name in _functions:  # those without take no place for it, and a sum of limits is nobody's limit
        reserved_concurrency.labels(name).set(slots)


def declared() -> Iterator[MetricWrapperBase]:
    """Every metric that is declared above."""
    for value in globals().values():
        if isinstance(value, MetricWrapperBase):
            yield value


def described(metric: MetricWrapperBase) -> tuple[str, str, str, tuple[str, ...]]:
    """Name as Prometheus shows it, type, help, labels."""
    shown: Metric = next(iter(metric.describe()))
    name = f"{shown.name}_total" if shown.type == "counter" else shown.name
    return name, shown.type, shown.documentation, tuple(metric._labelnames)


def exposition() -> bytes:
    """The metrics in Prometheus's text format; for a thread. Of 500 functions it takes up to a second, in
    which the event loop must have its turns: it would wait 5 ms for each, and now waits a tenth of that."""
    with _exposing:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_TURN_SECONDS)
        try:
            return generate_latest(REGISTRY)
        finally:
            sys.setswitchinterval(before)
