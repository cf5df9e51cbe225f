"""Traces of a running server, as an OpenTelemetry collector gets them: one from the caller over the gateway,
the scheduler and the executor to the function."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp import OtlpCollector, Seen
from running import Functions, Server, request
from support import free_port
from traces import until

from lambent.kernel import lineage
from lambent.kernel.arn import function_arn

TRACE, ABOVE = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
TRACEPARENT = f"00-{TRACE}-{ABOVE}-01"
SERVER, CLIENT, PRODUCER = 2, 3, 4
CODE = """
    import os
    def handler(event, context):
        if event.get("fail"):
            raise ValueError("as asked")
        return os.environ["_X_AMZN_TRACE_ID"]
    """


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as made:
        yield made


@pytest.fixture(scope="module")
def functions(collector: OtlpCollector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    environment = {
        "LAMBENT_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.05",
    }
    folder = tmp_path_factory.mktemp("tracing")
    server = Server(folder / "data", "--no-s3", environment=environment).start()
    yield Functions(server)
    assert server.stop() == 0


def invoke(
    functions: Functions, name: str, headers: dict[str, str], event: Any = None, kind: str = "RequestResponse"
) -> tuple[int, dict[str, str], Any]:
    path = f"/2015-03-31/functions/{name}/invocations"
    body = json.dumps(event or {}).encode()
    headers = {"X-Amz-Invocation-Type": kind, **headers}
    status, answered, payload = request(functions.server, "POST", path, body, headers)
    return status, answered, json.loads(payload) if payload else None


def told(header: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in header.split(";"))}


def within(span: Seen, above: Seen) -> None:
    """It is its child, and took place in its time (by two clocks' readings)."""
    assert span.parent == above.span_id, (span, above)
    assert above.began - 2_000_000 <= span.began <= span.ended
    assert span.ended <= above.ended + 50_000_000


def test_a_callers_trace_goes_on_to_the_function(functions: Functions, collector: OtlpCollector) -> None:
    name = functions.create(CODE)
    status, headers, seen = invoke(functions, name, {"traceparent": TRACEPARENT})
    assert status == 200
    request_span, run = f"Invoke {name}", f"invoke {name}"
    spans = collector.of(TRACE, request_span, "acquire", run, "start environment", "init")
    top = spans[request_span]
    assert (top.parent, top.kind, top.failed) == (ABOVE, SERVER, False)
    for child, above in (
        ("acquire", request_span),
        (run, request_span),
        ("start environment", run),
        ("init", "start environment"),
    ):
        within(spans[child], spans[above])
    root = f"1-{TRACE[:8]}-{TRACE[8:]}"
    assert told(seen)["Root"] == root
    assert (told(seen)["Parent"], told(seen)["Sampled"]) == (spans[run].span_id, "1")
    assert headers["x-amzn-trace-id"].startswith(f"root={root};sampled=1")
    assert spans[run].kind == CLIENT
    attributes = spans[run].attributes
    assert attributes["faas.coldstart"] is True and attributes["lambent.outcome"] == "success"
    assert attributes["faas.invocation_id"] == top.attributes["aws.request_id"]
    assert collector.resources[0]["service.name"] == "lambent"


def test_an_x_ray_header_goes_on_with_its_lineage(functions: Functions, collector: OtlpCollector) -> None:
    name = functions.create(CODE)
    trace = "0000000a" + "b" * 24
    given = f"Root=1-{trace[:8]}-{trace[8:]};Parent={ABOVE};Sampled=1;Lineage=aaaaaaaa:3"
    _, _, seen = invoke(functions, name, {"X-Amzn-Trace-Id": given})
    spans = collector.of(trace, f"Invoke {name}", f"invoke {name}")
    assert spans[f"Invoke {name}"].parent == ABOVE
    arn = function_arn(region="us-east-1", account="000000000000", name=name, qualifier=None)
    marks = told(lineage.followed(given, arn))["Lineage"]
    assert told(seen)["Lineage"] == marks and told(seen)["Parent"] == spans[f"invoke {name}"].span_id


def test_who_brings_no_trace_begins_one(functions: Functions, collector: OtlpCollector) -> None:
    name = functions.create(CODE)
    before = int(time.time())
    _, _, seen = invoke(functions, name, {})
    found = re.fullmatch(r"1-([0-9a-f]{8})-([0-9a-f]{24})", told(seen)["Root"])
    assert found is not None
    assert before <= int(found[1], 16) <= time.time(), "X-Ray's ids begin with the time"
    assert collector.of(found[1] + found[2], f"Invoke {name}")[f"Invoke {name}"].parent == ""


def test_a_function_that_invokes_another_goes_on_with_the_trace(
    functions: Functions, collector: OtlpCollector
) -> None:
    """By an unmodified boto3, which passes the header on."""
    inner = functions.create(CODE)
    outer = functions.create(
        """
        import boto3, json
        def handler(event, context):
            answer = boto3.client("lambda").invoke(FunctionName=event["inner"])
            return json.load(answer["Payload"])
        """
    )
    trace = "1234567890abcdef" * 2
    _, _, seen = invoke(functions, outer, {"traceparent": f"00-{trace}-{ABOVE}-01"}, {"inner": inner})
    spans = collector.of(trace, f"invoke {outer}", f"Invoke {inner}", f"invoke {inner}")
    assert spans[f"Invoke {inner}"].parent == spans[f"invoke {outer}"].span_id
    assert told(seen)["Parent"] == spans[f"invoke {inner}"].span_id


def test_what_is_not_sampled_is_not_sent(functions: Functions, collector: OtlpCollector) -> None:
    name = functions.create(CODE)
    silent = "c" * 32
    _, _, seen = invoke(functions, name, {"traceparent": f"00-{silent}-{ABOVE}-00"})
    assert (told(seen)["Root"], told(seen)["Sampled"]) == (f"1-{silent[:8]}-{silent[8:]}", "0")
    after = "d" * 32  # what comes later is sent, so that this would have been
    invoke(functions, name, {"traceparent": f"00-{after}-{ABOVE}-01"})
    collector.of(after, f"Invoke {name}")
    assert [span for span in collector.spans if span.trace_id == silent] == []


def test_failures_are_told(functions: Functions, collector: OtlpCollector) -> None:
    name = functions.create(CODE)
    trace = "e" * 32
    invoke(functions, name, {"traceparent": f"00-{trace}-{ABOVE}-01"}, {"fail": True})
    run = collector.of(trace, f"invoke {name}")[f"invoke {name}"]
    assert run.failed and run.attributes["lambent.outcome"] == "error"
    refused = "f" * 32
    functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    status, _, _ = invoke(functions, name, {"traceparent": f"00-{refused}-{ABOVE}-01"})
    spans = collector.of(refused, f"Invoke {name}", "acquire")
    assert status == 429 and spans["acquire"].failed and spans[f"Invoke {name}"].failed


def test_an_event_is_one_trace_to_its_destination(functions: Functions, collector: OtlpCollector) -> None:
    first, second = functions.create(CODE), functions.create(CODE)
    arn = function_arn(region="us-east-1", account="000000000000", name=second, qualifier=None)
    functions.aws.put_function_event_invoke_config(
        FunctionName=first, DestinationConfig={"OnSuccess": {"Destination": arn}}
    )
    trace = "a" * 32
    status, _, _ = invoke(functions, first, {"traceparent": f"00-{trace}-{ABOVE}-01"}, kind="Event")
    assert status == 202
    deliver, run, next_run = "deliver to lambda", f"invoke {first}", f"invoke {second}"
    spans = collector.of(trace, f"Invoke {first}", "queue wait", "acquire", run, deliver, next_run)
    top = spans[f"Invoke {first}"]
    assert (spans[run].parent, spans[deliver].parent) == (top.span_id, top.span_id)
    assert spans[deliver].kind == PRODUCER
    assert spans[next_run].parent == spans[deliver].span_id
    waits = [span for span in collector.spans if span.trace_id == trace and span.name == "queue wait"]
    assert {span.parent for span in waits} == {top.span_id, spans[deliver].span_id}
    assert min(span.ended for span in waits) <= spans[run].began + 2_000_000


def test_a_collector_that_is_away_costs_no_request_and_no_stop(
    own_server: Callable[..., Server], tmp_path: Path
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    environment = {"LAMBENT_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = own_server("--no-s3", environment=environment)
    functions = Functions(server)
    name = functions.create(CODE)
    for _ in range(20):
        assert functions.invoke(name).error is None
    until(lambda: "The collector takes no spans." in server.output(), 20, "it is said")
    until(lambda: dropped(server) > 0, 20, "lost spans are counted")
    assert server.stop(30) == 0
    assert server.output().count("Connection refused") == 1, "once, not at each try"


def dropped(server: Server) -> float:
    text = request(server, "GET", "/metrics")[2].decode()
    found = re.search(r"^lambent_spans_dropped_total (\S+)", text, re.MULTILINE)
    return float(found[1]) if found is not None else 0.0
