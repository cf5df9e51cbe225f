"""An OpenTelemetry collector for tests: takes OTLP over HTTP, as the real one does, and keeps the spans."""

import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support import require
from traces import until


@dataclass(frozen=True)
class Seen:
    """A span; ids in hex, times in ns."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    began: int
    ended: int
    failed: bool
    attributes: dict[str, Any]


class OtlpCollector(ThreadingHTTPServer):
    """`with OtlpCollector() as collector` serves at `url`."""

    daemon_threads = True

    def __init__(self) -> None:
        require("opentelemetry", importlib.util.find_spec("opentelemetry"), "pip install 'lambent[otel]'")
        self.spans: list[Seen] = []
        self.resources: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "OtlpCollector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def of(self, trace_id: str, *names: str, seconds: float = 20) -> dict[str, Seen]:
        """The spans of a trace by name, once there are these."""

        def found() -> dict[str, Seen]:
            return {span.name: span for span in list(self.spans) if span.trace_id == trace_id}

        until(lambda: set(names) <= found().keys(), seconds, f"spans {names} of {trace_id}: {self.spans}")
        return found()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
        )

        assert isinstance(self.server, OtlpCollector)
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            self.server.resources.append(dict(_values(group.resource.attributes)))
            for scope in group.scope_spans:
                self.server.spans += [_seen(span) for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _values(attributes: Any) -> Iterator[tuple[str, Any]]:
    for attribute in attributes:
        yield attribute.key, getattr(attribute.value, attribute.value.WhichOneof("value"))


def _seen(span: Any) -> Seen:
    return Seen(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        failed=span.status.code == 2,
        attributes=dict(_values(span.attributes)),
    )
