"""`tracing.Tracer` over OpenTelemetry's SDK, sent to a collector by OTLP over HTTP: the only importer of
opentelemetry, and imported only when LAMBENT_OTLP_ENDPOINT is set.

The SDK's own variables hold (OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_EXPORTER_OTLP_HEADERS ...). A collector that
is away costs the spans that do not fit into its queue, and nothing else.
"""

import logging
import random
import threading
import time
from collections.abc import Sequence

from opentelemetry.context import Context as OtelContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpanApi

from lambent.kernel import metrics
from lambent.kernel.log import Log
from lambent.kernel.tracing import Attributes, Context, Kind, context_of, under

_log = Log(__name__)
_KINDS = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "internal": SpanKind.INTERNAL,
}
_EXPORT_SECONDS = 5.0
_LAST_SECONDS = 3.0


class _Ids(RandomIdGenerator):
    """X-Ray's trace ids begin with the time; `given` is that of a trace that has no span yet."""

    given: str | None = None

    def generate_trace_id(self) -> int:
        given, self.given = self.given, None
        return int(given, 16) if given is not None else int(time.time()) << 96 | random.getrandbits(96)


class _Reason(logging.Handler):
    """What the exporter says first of a batch: it says it again at each try, which would fill the log."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()


class _Exporter(SpanExporter):
    """OTLP over HTTP; an outage is said at its beginning and its end, and what it costs is counted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._otlp = OTLPSpanExporter(url, timeout=_EXPORT_SECONDS)
        self._reason = _Reason(logging.WARNING)
        logger = logging.getLogger("opentelemetry.exporter")
        logger.addHandler(self._reason)
        logger.propagate = False
        self._troubled = False
        self._closed = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reason.text = ""
        result = self._otlp.export(spans)
        if result is not SpanExportResult.SUCCESS:
            metrics.spans_dropped.inc(len(spans))
            if not self._troubled:
                _log.warning("The collector takes no spans.", url=self._url, why=self._reason.text)
        elif self._troubled:
            _log.info("The collector takes spans again.", url=self._url)
        self._troubled = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._otlp.shutdown()  # type: ignore[no-untyped-call]


class OtelSpan:
    """`tracing.Span`."""

    __slots__ = ("_span", "header")

    def __init__(self, span: OtelSpanApi, header: str) -> None:
        context = span.get_span_context()
        self._span = span
        self.header = under(
            header,
            Context(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled),
        )

    def end(self, *, error: str | None = None, attributes: Attributes | None = None) -> None:
        if attributes:
            self._span.set_attributes(attributes)
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class OtelTracer:
    """`tracing.Tracer`. `endpoint`: the collector's URL, as http://127.0.0.1:4318."""

    def __init__(self, endpoint: str, *, version: str) -> None:
        resource = Resource.create({"service.name": "lambent", "service.version": version})
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._exporter = _Exporter(f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("lambent", version)

    def begin(
        self, name: str, header: str, *, kind: Kind, attributes: Attributes, began: float | None
    ) -> OtelSpan:
        above, context = OtelContext(), context_of(header)
        if context is not None and context.parent is not None:
            flags = TraceFlags(0 if context.sampled is False else TraceFlags.SAMPLED)
            parent = SpanContext(int(context.trace_id, 16), int(context.parent, 16), True, flags)
            above = set_span_in_context(NonRecordingSpan(parent), above)
        elif context is not None:
            self._ids.given = context.trace_id
        span = self._tracer.start_span(
            name,
            context=above,
            kind=_KINDS[kind],
            attributes=attributes,
            start_time=None if began is None else int(began * 1e9),
        )
        return OtelSpan(span, header)

    def close(self) -> None:
        # Ends the exporter's retries, which would take longer.
        timer = threading.Timer(_LAST_SECONDS, self._exporter.shutdown)
        timer.start()
        try:
            self._provider.shutdown()
        finally:
            timer.cancel()
