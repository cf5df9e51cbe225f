"""Invoke: resolve, check, take a slot, run; or put the event into the queue. No HTTP objects here, because gRPC
will ask for the same.

The order of the checks is AWS's: existence, size, JSON, state, concurrency. AWS: "Invoke".
"""

import asyncio
import base64
import binascii
import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json

from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.services import Services
from lambent.gateway.trace import Sampler, trace_of
from lambent.kernel import lineage, metrics, tracing
from lambent.kernel.arn import function_arn, parse_function
from lambent.kernel.errors import (
    InvalidRequestContentException,
    NotStarted,
    RecursiveInvocationException,
    RequestEntityTooLargeException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
    SnapStartNotReadyException,
)
from lambent.kernel.models import (
    Event,
    Function,
    FunctionVersion,
    Invocation,
    RecursiveLoop,
    Report,
    State,
)
from lambent.kernel.ports import Dispatcher, Lease, Run
from lambent.kernel.response_stream import ResponseStream
from lambent.kernel.routing import Route, Router

Started = Callable[[Run], None] | None

MAX_SYNC = 6_291_456
MAX_ASYNC = 1_048_576
MAX_CLIENT_CONTEXT = 3583
_HOLDER = "gateway"
# In all a little longer than a takeover takes.
_TRY_AGAIN_SECONDS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Invoked:
    """The answer to an Invoke. `status`: 200, 202 (Event) or 204 (DryRun)."""

    status: int
    payload: bytes = b""
    function_error: str | None = None
    executed_version: str | None = None
    log_result: bytes | None = None
    trace_id: str | None = None
    error_type: str | None = None
    stream: "Streaming | None" = None


class Streaming:
    """A response that is still being made; who reads it may stop at any time, which stops nothing."""

    def __init__(self, run: Run, stream: ResponseStream, invocation: Invocation) -> None:
        self._run = run
        self._stream = stream
        self._invocation = invocation

    @property
    def content_type(self) -> str:
        return self._stream.content_type or ""

    async def read(self) -> bytes:
        """The next bytes, as soon as there are some; b"" at the end."""
        return await self._stream.read()

    async def end(self) -> Invoked:
        """After the last bytes: how it ended. The payload is that of a function's error. Raises LambdaError:
        the platform failed."""
        return await _ended(self._run, self._invocation)

    def abandon(self) -> None:
        """Nobody reads any more; the function goes on."""
        self._stream.abandon()


async def _ended(run: Run, invocation: Invocation) -> Invoked:
    response = await run.response
    log = (await run.report).log_tail if invocation.want_log_tail else None
    return Invoked(
        200,
        response.payload,
        response.function_error,
        invocation.target.version,
        log,
        invocation.trace_id,
        response.error_type,
    )


def _read_json(payload: bytes) -> None:
    """Raises InvalidRequestContentException for what is not JSON."""
    try:
        json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError) as failure:
        why = "nesting is too deep" if isinstance(failure, RecursionError) else str(failure)
        raise InvalidRequestContentException(
            f"Could not parse request body into json: Could not parse payload into json: {why}"
        ) from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def new_request_id() -> str:
    """A UUID of version 4, as AWS's request ids are."""
    noise = bytearray(os.urandom(16))
    noise[6] = noise[6] & 0x0F | 0x40
    noise[8] = noise[8] & 0x3F | 0x80
    text = noise.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Caller(NamedTuple):
    """Who wants an invocation, and in what form."""

    request_id: str
    started: Started
    streaming: bool


class Invoker:
    """Runs invocations for one gateway."""

    def __init__(self, services: Services, functions: FunctionCache, router: Router) -> None:
        self._services = services
        self._functions = functions
        self._router = router
        self._sampler = Sampler()
        self._region = services.settings.region
        self._account = services.settings.account_id

    async def invoke(
        self,
        params: Mapping[str, Any],
        *,
        request_id: str,
        trace_id: str | None,
        started: Started = None,
        streaming: bool = False,
    ) -> Invoked:
        """`params`: the input members of AWS's Invoke; `started` is given the execution, for a caller that may
        cancel it. `streaming`: returns when the response begins, with its `stream`, or as ever where the
        function does not stream. Raises LambdaError."""
        caller = _Caller(request_id, started, streaming)
        if tracing.active is None:
            return await self._until_taken(params, caller, trace_id)
        return await tracing.timed(
            f"Invoke {params['FunctionName']}",
            trace_id or "",
            lambda header: self._until_taken(params, caller, header),
            kind="server",
            attributes={"rpc.system": "aws-api", "rpc.service": "Lambda", "aws.request_id": request_id},
        )

    async def _until_taken(self, params: Mapping[str, Any], caller: "_Caller", trace_id: str | None) -> Invoked:
        """A lease can be over, an executor gone or the version another one by now: nothing of the invocation
        has run then, and it is begun anew."""
        for pause in _TRY_AGAIN_SECONDS:
            try:
                return await self._invoke(params, caller, trace_id)
            except NotStarted:
                await self._services.clock.sleep(pause)
        raise ServiceException("No executor took the invocation, and nothing of it ran. Try again in a moment.")

    async def _invoke(self, params: Mapping[str, Any], caller: "_Caller", trace_id: str | None) -> Invoked:
        name, qualifier = self._named(params["FunctionName"], params.get("Qualifier"))
        function = self._functions.cached(name) or await self._functions.get(name)
        kind = params.get("InvocationType") or "RequestResponse"
        route = await self._routed(function, name, qualifier)
        target = route.target
        payload = self._payload(params.get("Payload") or b"", kind)
        if target.restores and target.state is State.PENDING:
            raise SnapStartNotReadyException()
        if target.state is not State.ACTIVE:
            raise ResourceConflictException(
                "The operation cannot be performed at this time. "
                f"The function is currently in the following state: {target.state}"
            )
        if kind == "DryRun":
            return Invoked(204, executed_version=target.version)
        assert function is not None
        trace = trace_of(trace_id)
        if target.tracing == "Active":
            trace = self._sampler.decided(target.uid, trace_id, trace)
        arn = self._arn(target.name, None)
        if kind == "Event":
            await self._publish(target, qualifier, payload, caller.request_id, trace)
            return Invoked(202, executed_version=None)
        if function.recursive_loop is RecursiveLoop.TERMINATE and lineage.looped(trace, arn):
            metrics.recursive_dropped.labels(metrics.function_label(target.name)).inc()
            raise RecursiveInvocationException()
        context = params.get("ClientContext")
        invocation = Invocation(
            request_id=caller.request_id,
            target=target,
            invoked_arn=self._arn(target.name, qualifier) if qualifier else arn,
            payload=payload,
            trace_id=lineage.followed(trace, arn),
            client_context=_client_context(context) if context else None,
            want_log_tail=params.get("LogType") == "Tail",
            tags=function.tags,
            alias=route.alias,
            streaming=caller.streaming,
        )
        return await self._run(function, invocation, caller.started)

    def _named(self, text: str, qualifier: str | None) -> tuple[str, str | None]:
        if ":" not in text:
            return text, qualifier
        reference = parse_function(text, region=self._region, account=self._account, qualifier=qualifier)
        return reference.name, reference.qualifier

    def _arn(self, name: str, qualifier: str | None) -> str:
        return function_arn(region=self._region, account=self._account, name=name, qualifier=qualifier)

    async def _routed(self, function: Function | None, name: str, qualifier: str | None) -> Route:
        route = await self._router.route(function, qualifier) if function is not None else None
        if route is None:
            raise ResourceNotFoundException(f"Function not found: {self._arn(name, qualifier)}")
        return route

    def _payload(self, payload: bytes, kind: str) -> bytes:
        limit = MAX_ASYNC if kind == "Event" else MAX_SYNC
        if len(payload) > limit:
            raise RequestEntityTooLargeException(
                f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
            )
        if not payload:
            return b"{}"
        try:
            from_json(payload, allow_inf_nan=False)
        except ValueError:
            _read_json(payload)  # slower, and the last word: the quick one refuses deep nesting too
        return payload

    async def _publish(
        self, target: FunctionVersion, qualifier: str | None, payload: bytes, request_id: str, trace: str
    ) -> None:
        await self._services.queue.publish(
            Event(
                request_id=request_id,
                lane=target.uid,
                function=target.name,
                payload=payload,
                accepted=self._services.clock.now(),
                qualifier=qualifier,
                trace_id=trace,
            )
        )
        metrics.events_received.labels(metrics.function_label(target.name)).inc()

    async def _run(self, function: Function, invocation: Invocation, started: Started) -> Invoked:
        dispatcher, target = self._services.dispatcher, invocation.target
        asked = dispatcher.acquire(function, target, holder=_HOLDER, alias=invocation.alias)
        if tracing.active is None:
            lease = await asked
        else:
            lease = await tracing.timed("acquire", invocation.trace_id, lambda _: asked)
        run = self._services.host.invoke(invocation, lease)
        # The slot is free at the report, whatever becomes of this caller.
        run.report.add_done_callback(functools.partial(_release, dispatcher, lease))
        if started is not None:
            started(run)
        if run.stream is not None and await run.stream.begun():
            streaming = Streaming(run, run.stream, invocation)
            return Invoked(200, executed_version=target.version, trace_id=invocation.trace_id, stream=streaming)
        return await _ended(run, invocation)


def _release(dispatcher: Dispatcher, lease: Lease, report: "asyncio.Future[Report]") -> None:
    failure = None if report.cancelled() else report.exception()
    if isinstance(failure, NotStarted):
        dispatcher.not_taken(lease, failure.reason)
    else:
        dispatcher.release(lease)


def _client_context(text: str) -> bytes:
    """The decoded JSON, on one line: it becomes a header of the Runtime API."""
    wrong = InvalidRequestContentException("Client context must be a valid Base64-encoded JSON object.")
    try:
        decoded = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise wrong from None
    if len(text) > MAX_CLIENT_CONTEXT or not isinstance(decoded, dict):
        raise wrong
    return json.dumps(decoded).encode()
