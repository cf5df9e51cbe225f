"""What goes in and comes out of the client where plain values are handier than messages, and how they become
messages: the one place for both faces."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lambent.client.errors import LambentError, of_event
from lambent.v1 import invocations_pb2
from lambent.v1.invocations_pb2 import (
    InvokeRequest,
    InvokeResponse,
    InvokeStreamComplete,
    InvokeStreamRequest,
    PublishEvent,
    PublishEventsRequest,
    PublishEventsResponse,
)

# A message of events is sent when it has so many bytes, whatever its number.
_MESSAGE_BYTES = 1 << 20
MAX_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """What an invocation may have beside its payload. `invocation_type`: AWS's RequestResponse, Event or
    DryRun; `client_context`: for the function's context; `trace_header`: as X-Amzn-Trace-Id; `timeout`: seconds
    after which the client gives up, which stops the function only with `cancel_on_disconnect`."""

    qualifier: str | None = None
    invocation_type: str = "RequestResponse"
    log_tail: bool = False
    client_context: Any = None
    trace_header: str | None = None
    cancel_on_disconnect: bool = False
    timeout: float | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self.trace_header is None else (("x-amzn-trace-id", self.trace_header),)


@dataclass(frozen=True, slots=True)
class Invoked:
    """What an invocation answered. `function_error`: None, or "Unhandled" and then `payload` is the error."""

    payload: bytes
    function_error: str | None
    request_id: str
    status_code: int = 200
    executed_version: str = ""
    log: str = ""

    def json(self) -> Any:
        """The payload's value; None where there is none."""
        return json.loads(self.payload) if self.payload else None


@dataclass(frozen=True, slots=True)
class Event:
    """An event to publish. `id` is yours and comes back; `payload`: bytes of JSON, or what `json` can write."""

    id: str
    function: str
    payload: Any = None
    qualifier: str | None = None
    trace_header: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What became of an event: accepted, on disk, under `request_id`; or refused with `error`."""

    id: str
    request_id: str | None
    error: LambentError | None = None


def encoded(payload: Any) -> bytes:
    """bytes as they are, None as nothing, else JSON."""
    if payload is None or isinstance(payload, bytes):
        return payload or b""
    return json.dumps(payload).encode()


def invoke_request(function: str, payload: Any, options: Options) -> InvokeRequest:
    kinds = {
        "RequestResponse": invocations_pb2.INVOCATION_TYPE_REQUEST_RESPONSE,
        "Event": invocations_pb2.INVOCATION_TYPE_EVENT,
        "DryRun": invocations_pb2.INVOCATION_TYPE_DRY_RUN,
    }
    if options.invocation_type not in kinds:
        raise ValueError(f"invocation_type must be one of {', '.join(kinds)}, not {options.invocation_type!r}")
    return InvokeRequest(
        function_name=function,
        qualifier=options.qualifier,
        payload=encoded(payload),
        invocation_type=kinds[options.invocation_type],
        log_type=_log_type(options),
        client_context=encoded(options.client_context),
        cancel_on_disconnect=options.cancel_on_disconnect,
    )


def stream_request(function: str, payload: Any, options: Options) -> InvokeStreamRequest:
    return InvokeStreamRequest(
        function_name=function,
        qualifier=options.qualifier,
        payload=encoded(payload),
        log_type=_log_type(options),
        client_context=encoded(options.client_context),
        cancel_on_disconnect=options.cancel_on_disconnect,
    )


def _log_type(options: Options) -> invocations_pb2.LogType:
    return invocations_pb2.LOG_TYPE_TAIL if options.log_tail else invocations_pb2.LOG_TYPE_NONE


def invoked(response: InvokeResponse) -> Invoked:
    return Invoked(
        response.payload,
        response.function_error or None,
        response.request_id,
        response.status_code,
        response.executed_version,
        response.log_result.decode("utf-8", "replace"),
    )


def completed(end: InvokeStreamComplete) -> Invoked:
    """Without the payload, which came in chunks; but with the error of one that broke off."""
    return Invoked(
        end.error_details,
        end.function_error or None,
        end.request_id,
        executed_version=end.executed_version,
        log=end.log_result.decode("utf-8", "replace"),
    )


def check_publish(batch: int, in_flight: int) -> None:
    """Raises ValueError."""
    if not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"batch must be from 1 to {MAX_BATCH}")
    if in_flight < 1:
        raise ValueError("in_flight must be at least 1")


class Batch:
    """Gathers events for one message."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._bytes = 0
        self._message = PublishEventsRequest()

    def add(self, event: Event) -> bool:
        """Whether the message is full."""
        payload = encoded(event.payload)
        made = PublishEvent(
            id=event.id,
            function_name=event.function,
            qualifier=event.qualifier,
            payload=payload,
            trace_header=event.trace_header,
        )
        self._message.events.append(made)
        self._bytes += len(payload)
        return len(self._message.events) >= self._size or self._bytes >= _MESSAGE_BYTES

    def take(self) -> PublishEventsRequest:
        message, self._message, self._bytes = self._message, PublishEventsRequest(), 0
        return message

    def __bool__(self) -> bool:
        return len(self._message.events) > 0


def batches(events: Iterable[Event], size: int) -> Iterator[PublishEventsRequest]:
    """Messages of `size` events; an error of `events` comes after what came before it."""
    batch = Batch(size)
    failure: Exception | None = None
    try:
        for event in events:
            if batch.add(event):
                yield batch.take()
    except Exception as error:
        failure = error
    if batch:
        yield batch.take()
    if failure is not None:
        raise failure


def acknowledgements(response: PublishEventsResponse) -> Iterator[Acknowledgement]:
    for result in response.results:
        if result.HasField("error"):
            yield Acknowledgement(result.id, None, of_event(result.error))
        else:
            yield Acknowledgement(result.id, result.accepted.request_id)
