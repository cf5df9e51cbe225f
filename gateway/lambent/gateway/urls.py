"""Answers at function URLs: whoever calls one is anybody, web pages too, and reaches that function and nothing
else."""

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from lambent.gateway import url_cors, url_events
from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.invoke import MAX_SYNC, Invoked, Invoker, Streaming
from lambent.gateway.protocol.reply import Reply, Streamed
from lambent.gateway.services import Services
from lambent.gateway.trace import answered, trace_of
from lambent.gateway.url_events import Answer, Malformed, Prelude, Request
from lambent.kernel.arn import LATEST
from lambent.kernel.errors import LambdaError, RequestEntityTooLargeException, TooManyRequestsException
from lambent.kernel.log import Log
from lambent.kernel.models import FunctionUrl

_log = Log(__name__)
_KNOWN = 10_000
_JSON = (b"content-type", b"application/json")


class Cut(Exception):  # noqa: N818 - it is an end, and no error of ours
    """A response that had begun cannot be ended well: the connection is to be closed without its end."""


class FunctionUrls:
    """For one gateway."""

    def __init__(self, services: Services, functions: FunctionCache, invoker: Invoker) -> None:
        self._services = services
        self._functions = functions
        self._invoker = invoker
        self._known: dict[str, tuple[str, str]] = {}

    async def find(self, url_id: str) -> tuple[str, str, FunctionUrl] | None:
        """(function, qualifier, configuration). What an id stands for never changes; whether it still stands is
        known from the function."""
        place = self._known.get(url_id)
        if place is None:
            place = await self._services.store.url(url_id)
            if place is None:
                return None
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[url_id] = place
        name, qualifier = place
        function = self._functions.cached(name) or await self._functions.get(name)
        url = function.urls.get(qualifier) if function is not None else None
        return None if url is None or url.id != url_id else (name, qualifier, url)

    async def serve(
        self, found: tuple[str, str, FunctionUrl] | None, request: Request, request_id: str
    ) -> Reply | Streamed:
        """Raises nothing that is the function's or the client's."""
        if found is None:
            return _reply(Answer(404, [_JSON], b'{"Message":null}'))
        name, qualifier, url = found
        if url.cors is not None:
            preflight = url_cors.preflight(url.cors, request.method, request.headers)
            if preflight is not None:
                return _reply(Answer(200, preflight))
        trace = trace_of(url_cors.value_of(request.headers, b"x-amzn-trace-id"))
        now = self._services.clock.now()
        event = url_events.event(request, url_id=url.id, request_id=request_id, trace_id=trace, now=now)
        # Unescaped: \uXXXX would make text of other alphabets up to three times as long, and refused for it.
        payload = json.dumps(event, ensure_ascii=False).encode()
        params: dict[str, Any] = {"FunctionName": name, "Payload": payload}
        if qualifier != LATEST:
            params["Qualifier"] = qualifier
        reply = await self._answer(params, url, request_id, trace)
        headers = reply.headers
        if url.cors is not None:
            headers = url_cors.added(url.cors, request.headers, headers)
        headers = [*headers, (b"x-amzn-trace-id", answered(trace).encode("latin-1"))]
        return reply._replace(headers=headers)

    async def _answer(
        self, params: Mapping[str, Any], url: FunctionUrl, request_id: str, trace: str
    ) -> Reply | Streamed:
        streaming = url.invoke_mode == "RESPONSE_STREAM"
        try:
            invoked = await self._invoker.invoke(
                params, request_id=request_id, trace_id=trace, streaming=streaming
            )
            if invoked.stream is not None:
                return await _streamed(invoked.stream)
            if streaming and invoked.function_error is None:
                return _reply(Answer(200, [_JSON], invoked.payload))
            return _reply(_whole(invoked))
        except TooManyRequestsException:
            return _reply(Answer(429, [_JSON], b'{"Message":"Rate Exceeded."}'))
        except RequestEntityTooLargeException:
            return _reply(too_large())
        except Malformed as failure:
            _log.warning("A function's response is no HTTP response.", request_id=request_id, why=str(failure))
        except LambdaError as failure:
            _log.warning("A function URL could not be served.", request_id=request_id, why=failure.message)
        return _reply(_failed())


def too_large() -> Answer:
    """The request, as it was sent or as an event, is over 6 MB."""
    text = json.dumps({"Message": f"Request must be smaller than {MAX_SYNC} bytes"})
    return Answer(413, [_JSON], text.encode())


def _failed() -> Answer:
    return Answer(
        502,
        [(b"content-type", b"text/plain"), (b"x-amzn-errortype", b"InternalServerErrorException")],
        b"Internal Server Error",
    )


def _whole(invoked: Invoked) -> Answer:
    return _failed() if invoked.function_error is not None else url_events.answer(invoked.payload)


async def _streamed(stream: Streaming) -> Reply | Streamed:
    """Its headers are known once the prelude is; what fails before is a whole answer still."""
    if stream.content_type.partition(";")[0].strip().lower() != url_events.STREAMED_HTTP:
        content_type = stream.content_type.encode("latin-1", "replace")
        return Streamed(200, [(b"content-type", content_type)], _chunks(stream, b""))
    prelude = Prelude()
    try:
        while data := await stream.read():
            found = prelude.feed(data)
            if found is not None:
                head, first = found
                chunks = _chunks(stream, first)
                return Streamed(
                    head.status, head.headers, _dropped(chunks) if _bodiless(head.status) else chunks
                )
    except Malformed:
        stream.abandon()
        raise
    ended = await stream.end()
    raise Malformed(f"The response ended before its prelude did: {ended.error_type or 'no error'}.")


async def _chunks(stream: Streaming, first: bytes) -> AsyncGenerator[bytes]:
    """Raises Cut where the function broke off."""
    with contextlib.ExitStack() as stack:
        stack.callback(stream.abandon)
        if first:
            yield first
        while data := await stream.read():
            yield data
        try:
            ended = await stream.end()
        except LambdaError as failure:
            raise Cut(failure.message) from failure
        if ended.function_error is not None:
            raise Cut(ended.error_type or ended.function_error)


async def _dropped(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The body of an answer that HTTP has none for; the function is not told."""
    async with contextlib.aclosing(chunks):
        async for _ in chunks:
            yield b""


def _reply(answer: Answer) -> Reply:
    return Reply(answer.status, answer.headers, b"" if _bodiless(answer.status) else answer.body)


def _bodiless(status: int) -> bool:
    return status in (204, 304)
