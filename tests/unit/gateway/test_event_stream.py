import json
from typing import Any, cast

import pytest
from botocore.eventstream import EventStreamBuffer

from lambent.gateway import event_stream
from lambent.gateway.invoke import Invoked, Streaming
from lambent.kernel.errors import LambdaError, ServiceException


class _Stream:
    """As `invoke.Streaming`."""

    def __init__(self, chunks: list[bytes], ended: Invoked | LambdaError) -> None:
        self.chunks, self.ended, self.abandoned = chunks, ended, False

    async def read(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    async def end(self) -> Invoked:
        if isinstance(self.ended, LambdaError):
            raise self.ended
        return self.ended

    def abandon(self) -> None:
        self.abandoned = True


async def _read(invoked: Invoked) -> list[tuple[str, Any]]:
    """(event type, payload) as botocore's own parser reads them."""
    buffer = EventStreamBuffer()
    async for message in event_stream.messages(invoked):
        buffer.add_data(message)
    found = []
    for event in buffer:
        assert event.headers[":message-type"] == "event"
        kind = event.headers[":event-type"]
        assert event.headers[":content-type"] == (
            "application/octet-stream" if kind == "PayloadChunk" else "application/json"
        )
        found.append((kind, event.payload if kind == "PayloadChunk" else json.loads(event.payload)))
    return found


def _streamed(stream: _Stream) -> Invoked:
    return Invoked(200, stream=cast(Streaming, stream))


async def test_chunks_and_a_clean_end() -> None:
    stream = _Stream([b"one", b"\x00\xff"], Invoked(200))
    assert await _read(_streamed(stream)) == [
        ("PayloadChunk", b"one"),
        ("PayloadChunk", b"\x00\xff"),
        ("InvokeComplete", {}),
    ]
    assert stream.abandoned


async def test_an_error_and_the_log_are_in_the_end() -> None:
    ended = Invoked(200, b'{"errorType": "E"}', "Unhandled", log_result=b"END", error_type="E")
    assert await _read(_streamed(_Stream([b"1"], ended))) == [
        ("PayloadChunk", b"1"),
        ("InvokeComplete", {"ErrorCode": "E", "ErrorDetails": '{"errorType": "E"}', "LogResult": "RU5E"}),
    ]


async def test_a_failure_of_the_platform_is_in_the_end_too() -> None:
    found = await _read(_streamed(_Stream([b"1"], ServiceException("The executor is gone."))))
    assert found[1:] == [
        ("InvokeComplete", {"ErrorCode": "ServiceException", "ErrorDetails": "The executor is gone."})
    ]


@pytest.mark.parametrize(
    "invoked, expected",
    [
        (Invoked(200, b'"a"'), [("PayloadChunk", b'"a"'), ("InvokeComplete", {})]),
        (
            Invoked(200, b"{}", "Unhandled"),
            [("InvokeComplete", {"ErrorCode": "Unhandled", "ErrorDetails": "{}"})],
        ),
    ],
    ids=["whole", "error"],
)
async def test_a_function_that_does_not_stream(invoked: Invoked, expected: Any) -> None:
    assert await _read(invoked) == expected


async def test_a_reader_that_stops_abandons_the_stream() -> None:
    stream = _Stream([b"one", b"two"], Invoked(200))
    messages = event_stream.messages(_streamed(stream))
    await anext(messages)
    await messages.aclose()
    assert stream.abandoned
