"""The listener's ASGI application: routes from given ports, no logic. Bare ASGI, since the invoke path is hot.

One application serves everybody; a second one with `restricted` set serves the functions' own relay to this
server, which passes Invoke, and writing to log groups, only until IAM is enforced.
"""

import asyncio
import base64
import contextlib
import functools
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from lambent.gateway import event_stream, fields, internal
from lambent.gateway.cloudwatch.api import LogsApi, target_of
from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.invoke import MAX_SYNC, Invoked, Invoker, new_request_id
from lambent.gateway.operations import OPERATIONS
from lambent.gateway.protocol.api import LambdaProtocol, Reply
from lambent.gateway.protocol.reply import Streamed
from lambent.gateway.services import Call, Services
from lambent.gateway.trace import answered
from lambent.gateway.url_events import Request
from lambent.gateway.url_names import Asked, asked_of
from lambent.gateway.urls import Cut, FunctionUrls, too_large
from lambent.gateway.web_pages import WebPages
from lambent.kernel import metrics, tracing
from lambent.kernel.errors import (
    AccessDeniedException,
    InvalidRequestContentException,
    LambdaError,
    RequestEntityTooLargeException,
    ServiceException,
)
from lambent.kernel.log import Log
from lambent.kernel.routing import Router

_log = Log(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

# AWS: "Request must be smaller than 70167211 bytes for the CreateFunction operation"; Invoke has 6 MB
# and 100 bytes.
_MAX_BODY = 70_167_211
_MAX_INVOKE = 6_291_556
# PutLogEvents: 1 MB of messages, which JSON may write six times as long.
_MAX_LOGS = 8 << 20
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Where a request's scope keeps which operation it asks for; a small set of names, whatever clients send.
_OPERATION = "lambent.operation"
_STREAMING = "InvokeWithResponseStream"
_RESTRICTED = frozenset({"Invoke", "InvokeAsync", _STREAMING})


class _HungUp(Exception):
    """The client went away while it sent its body."""


class App:
    """The ASGI application."""

    def __init__(
        self,
        services: Services,
        functions: FunctionCache,
        protocol: LambdaProtocol,
        routes: internal.Routes,
        logs: LogsApi,
        *,
        restricted: bool = False,
    ) -> None:
        self._services = services
        self._protocol = protocol
        self._routes = routes
        self._logs = logs
        self._invoker = Invoker(services, functions, Router(functions.version))
        self._urls = FunctionUrls(services, functions, self._invoker)
        self._fields = fields.FieldChecker()
        self._restricted = restricted
        self._web_pages = WebPages(services.settings.host)

    async def _serve_url(
        self, asked: Asked, scope: Scope, receive: Receive, request_id: str
    ) -> Reply | Streamed:
        if self._restricted:
            raise AccessDeniedException("Functions can reach Invoke on this endpoint, and nothing else.")
        found = await self._urls.find(asked.id)
        try:
            body = await _body(receive, scope["headers"], MAX_SYNC, "this")
        except RequestEntityTooLargeException:
            refused = too_large()
            return Reply(refused.status, refused.headers, refused.body)
        return await self._urls.serve(found, _url_request(asked, scope, body), request_id)

    def close(self) -> None:
        """Gives those who wait for log lines back within a second."""
        self._routes.close()
        self._logs.close()

    def authorise(self, headers: Headers) -> None:
        """Who may ask, whatever for; gRPC asks with its metadata. Raises AccessDeniedException."""
        self._web_pages.refuse(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = new_request_id()
        began = time.perf_counter()
        reply: Reply | Streamed
        try:
            reply = await self._serve(scope, receive, request_id)
        except _HungUp:
            return
        except LambdaError as failure:
            reply = self._protocol.error(failure)
        except Exception as failure:
            _log.error("A request failed.", request_id=request_id, path=scope["path"], exc_info=failure)
            reply = self._protocol.error(
                ServiceException(f"The server failed. Its log has the reason under request id {request_id}.")
            )
        await _send(send, reply, request_id)
        metrics.count_request(scope.get(_OPERATION, "other"), reply.status, time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, request_id: str) -> Reply | Streamed:
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        headers: Headers = scope["headers"]
        asked = asked_of(path, headers)
        if asked is not None:
            scope[_OPERATION] = "function url"
            return await self._serve_url(asked, scope, receive, request_id)
        if not self._restricted:
            self.authorise(headers)
        if path.startswith(b"/_lambent/") or path in internal.PLAIN:
            scope[_OPERATION] = "internal"
            if self._restricted:
                raise AccessDeniedException("Functions can reach Invoke on this endpoint, and nothing else.")
            body = await _body(receive, headers, _MAX_BODY, "this")
            return await self._routes.serve(
                scope["method"], path.decode("latin-1"), scope["query_string"].decode("latin-1"), headers, body
            )
        if path == b"/" and (logs_operation := target_of(headers)) is not None:
            scope[_OPERATION] = "logs"
            body = await _body(receive, headers, _MAX_LOGS, logs_operation)
            return await self._logs.serve(
                logs_operation,
                body,
                restricted=self._restricted,
                request_id=request_id,
                gone=functools.partial(_gone_within, receive),
            )
        match = self._protocol.match(scope["method"], path, scope["query_string"])
        operation = scope[_OPERATION] = match.operation
        if self._restricted and operation not in _RESTRICTED:
            raise AccessDeniedException(
                f"Functions can't call {operation} on this endpoint until IAM is enforced; only Invoke."
            )
        if operation in ("Invoke", _STREAMING):
            body = await _body(receive, headers, _MAX_INVOKE, "InvokeFunction")
            params = self._protocol.parse(match, headers, body)
            self._fields.check(operation, params)
            _check_request_id(_header(headers, b"x-amzn-requestid"))
            trace_id = _header(headers, b"x-amzn-trace-id")
            if tracing.active is not None:
                trace_id = tracing.joined(trace_id, _header(headers, b"traceparent"))
            streaming = operation == _STREAMING
            invoked = await self._invoker.invoke(
                params, request_id=request_id, trace_id=trace_id, streaming=streaming
            )
            return _streamed_reply(invoked) if streaming and invoked.status == 200 else _invoke_reply(invoked)
        handler = OPERATIONS.get(operation)
        if handler is None:
            raise self._protocol.not_built(operation)
        body = await _body(receive, headers, _MAX_BODY, operation)
        params = self._protocol.parse(match, headers, body)
        self._fields.check(operation, params)
        call = Call(request_id, _base_url(scope, headers))
        output: Mapping[str, Any] | None = await handler(self._services, call, params)
        reply = self._protocol.serialise(operation, output)
        for warning in call.warnings:
            reply.headers.append((b"x-lambent-warning", warning.encode("ascii", "replace")))
        return reply


def _url_request(asked: Asked, scope: Scope, body: bytes) -> Request:
    return Request(
        method=scope["method"],
        path=asked.path.decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=scope["headers"],
        body=body,
        peer=scope["client"][0] if scope.get("client") else "127.0.0.1",
        scheme=scope["scheme"],
        port=scope["server"][1] or 0,
        protocol=f"HTTP/{scope['http_version']}",
    )


async def _gone_within(receive: Receive, seconds: float) -> bool:
    """Whether the client goes away in that time; its body is read."""
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
            return bool(message["type"] == "http.disconnect")
    except TimeoutError:
        return False


async def _body(receive: Receive, headers: Headers, limit: int, operation: str) -> bytes:
    too_large = RequestEntityTooLargeException(
        f"Request must be smaller than {limit} bytes for the {operation} operation"
    )
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    if length.isdigit() and int(length) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large
        if not message.get("more_body"):
            return chunk if not chunks else b"".join((*chunks, chunk))
        chunks.append(chunk)


async def _send(send: Send, reply: Reply | Streamed, request_id: str) -> None:
    headers = [(b"x-amzn-requestid", request_id.encode()), *reply.headers]
    if isinstance(reply, Streamed):
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        try:
            async with contextlib.aclosing(reply.chunks) as chunks:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Cut as failure:
            _log.info("A streamed response broke off.", request_id=request_id, why=str(failure))
            return  # and the listener closes the connection, since the body has no end
        await send({"type": "http.response.body", "body": b""})
        return
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _header(headers: Headers, wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return None


def _check_request_id(given: str | None) -> None:
    """AWS: a client may send one, and it has no effect; but it must be a UUID."""
    if given is not None and not _UUID.fullmatch(given):
        raise InvalidRequestContentException("The x-amzn-RequestId header must be a valid UUID.")


def _base_url(scope: Scope, headers: Headers) -> str:
    host = next((value.decode("latin-1") for name, value in headers if name == b"host"), None)
    if host is None:
        server = scope["server"]
        host = f"{server[0]}:{server[1]}"
    return f"{scope['scheme']}://{host}"


def _streamed_reply(invoked: Invoked) -> Streamed:
    headers = [(b"content-type", event_stream.CONTENT_TYPE)]
    if invoked.executed_version is not None:
        headers.append((b"x-amz-executed-version", invoked.executed_version.encode()))
    if invoked.trace_id is not None:
        headers.append((b"x-amzn-trace-id", answered(invoked.trace_id).encode("latin-1")))
    return Streamed(200, headers, event_stream.messages(invoked))


def _invoke_reply(invoked: Invoked) -> Reply:
    headers: list[tuple[bytes, bytes]] = []
    if invoked.status == 200:
        headers.append((b"content-type", b"application/json"))
    if invoked.executed_version is not None:
        headers.append((b"x-amz-executed-version", invoked.executed_version.encode()))
    if invoked.function_error is not None:
        headers.append((b"x-amz-function-error", invoked.function_error.encode()))
    if invoked.log_result is not None:
        headers.append((b"x-amz-log-result", base64.b64encode(invoked.log_result)))
    if invoked.trace_id is not None:
        headers.append((b"x-amzn-trace-id", answered(invoked.trace_id).encode("latin-1")))
    return Reply(invoked.status, headers, invoked.payload)
