"""The executor's spans, made only while tracing is on: `invoke`, under which the function's own are, and the
start of an environment with its init."""

import time
from collections.abc import Callable

from lambent.executor.environment import Environment
from lambent.executor.environment_states import EnvironmentState
from lambent.executor.execution import Execution
from lambent.kernel import tracing
from lambent.kernel.models import Invocation, Outcome
from lambent.kernel.tracing import Span


def traced(invocation: Invocation, run: Callable[[Invocation], Execution]) -> Execution:
    """Runs within a span that ends with the report, and whose id the function gets as its parent."""
    assert tracing.active is not None
    attributes = {
        "faas.name": invocation.target.name,
        "faas.version": invocation.target.version,
        "faas.invocation_id": invocation.request_id,
        "cloud.resource_id": invocation.invoked_arn,
    }
    span = tracing.active.begin(
        f"invoke {invocation.target.name}",
        invocation.trace_id,
        kind="client",
        attributes=attributes,
        began=None,
    )
    execution = run(invocation._replace(trace_id=span.header))
    execution.report.add_done_callback(lambda _: _end(span, execution))
    return execution


def _end(span: Span, execution: Execution) -> None:
    failure = None if execution.report.cancelled() else execution.report.exception()
    if execution.report.cancelled() or failure is not None:
        span.end(error=str(failure or "cut off"))
        return
    report = execution.report.result()
    failed = report.outcome is not Outcome.SUCCESS
    span.end(
        error=execution.error_type or report.outcome.value if failed else None,
        attributes={
            "faas.coldstart": report.init_ms is not None,
            "lambent.outcome": report.outcome.value,
            "lambent.duration_ms": report.duration_ms,
            "lambent.billed_ms": report.billed_ms,
            "lambent.peak_memory_bytes": report.max_memory_used,
        },
    )


def started(cause: Invocation, environment: Environment, *, took: float, init: float) -> None:
    """An environment that has started just now, for `cause`; it took so many seconds, its init the last
    `init` of them."""
    assert tracing.active is not None
    now = time.time()
    error = "init failed" if environment.state is EnvironmentState.INIT_FAILED else None
    attributes = {"faas.name": cause.target.name, "faas.instance": environment.id}
    span = tracing.active.begin(
        "start environment", cause.trace_id, kind="internal", attributes=attributes, began=now - took
    )
    tracing.note("init", span.header, began=now - init, attributes=attributes, error=error)
    span.end(error=error)
