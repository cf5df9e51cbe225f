"""The state machine while a response leaves in parts."""

import asyncio

from playing import Runtime
from staging import Make

_STREAMING = (
    b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nhost: x\r\n"
    b"Lambda-Runtime-Function-Response-Mode: streaming\r\ncontent-type: text/html\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


async def test_a_streamed_response_leaves_as_it_comes_and_is_metered_before_its_end(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin(streaming=True)
    await runtime.answer()
    stream = execution.stream
    assert stream is not None
    runtime.writer.write(_STREAMING)
    assert await stream.begun()
    assert stream.content_type == "text/html"
    runtime.writer.write(b"3\r\none\r\n")
    assert await stream.read() == b"one"
    assert not stage.metered.records and not execution.response.done()
    runtime.writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
    assert await stream.read() == b"two"
    assert (await runtime.answer())[0] == 202
    assert await stream.read() == b""
    (record,) = stage.metered.records
    assert record.bytes_out == 6
    assert (await execution.response).payload == b""


async def test_a_runtime_that_hangs_up_in_its_response_and_lives_on_has_truncated_it(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    other = await Runtime.connect(stage.sandboxes[0])
    stage.clients.append(other.writer)
    execution = stage.begin(streaming=True)
    await runtime.answer()
    assert execution.stream is not None
    other.writer.write(_STREAMING + b"3\r\none\r\n")
    assert await execution.stream.begun()
    other.writer.close()
    assert await execution.stream.read() == b"one"
    response = await execution.response
    assert response.error_type == "Runtime.TruncatedResponse"


async def test_a_second_response_while_the_first_is_under_way_is_refused(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    other = await Runtime.connect(stage.sandboxes[0])
    stage.clients.append(other.writer)
    execution = stage.begin(streaming=True)
    await runtime.answer()
    assert execution.stream is not None
    runtime.writer.write(_STREAMING)
    assert await execution.stream.begun()
    assert await other.post("invocation/id-1/response", b"mine") == 400
    runtime.writer.write(b"0\r\n\r\n")
    assert (await execution.response).function_error is None


async def test_a_runtime_is_not_read_on_while_the_reader_is_slow(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin(streaming=True)
    await runtime.answer()
    stream = execution.stream
    assert stream is not None
    runtime.writer.write(_STREAMING)
    parts = 400  # 26 MB: more than the sockets hold
    for _ in range(parts):
        runtime.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    runtime.writer.write(b"0\r\n\r\n")
    draining = asyncio.ensure_future(runtime.writer.drain())
    assert await stream.begun()
    while stream.room is None:
        await asyncio.sleep(0)
    assert not draining.done()
    got = 0
    while data := await stream.read():
        got += len(data)
    assert got == parts * 65536
    await draining
    assert (await runtime.answer())[0] == 202
