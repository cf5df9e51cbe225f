"""Every Prometheus metric, declared in one file, because a metric's name and labels are an interface.

The only importer of prometheus_client. The label `function` is bounded: the first 500 functions seen have
their own series, later ones are counted under `other`.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

# Else each counter and histogram has a second series with its time of birth.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
_MAX_FUNCTIONS = 500
_functions: set[str] = set()

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
concurrent = Gauge("lambent_concurrent_executions", "Executions running now.", ("function",), registry=REGISTRY)
environments = Gauge("lambent_environments", "Execution environments by state.", ("state",), registry=REGISTRY)
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


ledger_lag = Gauge(
    "lambent_usage_ledger_lag_seconds",
    "How long the usage ledger has not taken what was executed; 0 in order.",
    registry=REGISTRY,
)


def function_label(name: str) -> str:
    """The value of the label `function`: the name, or `other` once 500 functions have a series."""
    if name in _functions:
        return name
    if len(_functions) < _MAX_FUNCTIONS:
        _functions.add(name)
        return name
    return "other"


def exposition() -> bytes:
    """The metrics in Prometheus's text format."""
    return generate_latest(REGISTRY)
