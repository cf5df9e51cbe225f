import asyncio

from lambent.kernel.response_stream import MAX_WAITING, ResponseStream


def _stream() -> ResponseStream:
    return ResponseStream(asyncio.get_running_loop())


async def test_what_is_written_is_read_in_order_and_then_the_end() -> None:
    stream = _stream()
    stream.begin("text/plain")
    assert await stream.begun()
    assert stream.write(b"one") and stream.write(b"two")
    assert await stream.read() == b"onetwo"
    stream.write(b"three")
    stream.end()
    assert [await stream.read(), await stream.read(), await stream.read()] == [b"three", b"", b""]
    assert (stream.content_type, stream.size) == ("text/plain", 11)


async def test_a_reader_waits_for_the_first_word() -> None:
    stream = _stream()
    reading = asyncio.ensure_future(stream.begun())
    await asyncio.sleep(0)
    assert not reading.done()
    stream.begin("a/b")
    assert await reading


async def test_one_that_ends_without_having_begun_says_so() -> None:
    stream = _stream()
    reading = asyncio.ensure_future(stream.begun())
    await asyncio.sleep(0)
    stream.end()
    assert not await reading
    stream.begin("too/late")
    assert stream.content_type is None


async def test_a_writer_is_held_back_until_the_reader_has_taken_what_waits() -> None:
    stream = _stream()
    told: list[str] = []
    stream.begin("a/b")
    assert stream.write(b"x" * (MAX_WAITING - 1))
    assert not stream.write(b"x")
    stream.room = lambda: told.append("room")
    assert not told
    assert len(await stream.read()) == MAX_WAITING
    assert told == ["room"]
    assert stream.write(b"y")
    assert await stream.read() == b"y"
    assert told == ["room"], "told once"


async def test_a_reader_that_goes_away_holds_nobody_back() -> None:
    stream = _stream()
    told: list[str] = []
    stream.begin("a/b")
    assert not stream.write(b"x" * MAX_WAITING)
    stream.room = lambda: told.append("room")
    stream.abandon()
    assert told == ["room"]
    assert stream.write(b"x" * MAX_WAITING * 2)
    stream.end()
    assert await stream.read() == b""
    assert stream.size == 3 * MAX_WAITING, "all of it counts: the function made it"


async def test_the_end_frees_a_writer_that_is_held_back_and_what_follows_is_dropped() -> None:
    stream = _stream()
    told: list[str] = []
    stream.begin("a/b")
    assert not stream.write(b"x" * MAX_WAITING)
    stream.room = lambda: told.append("room")
    stream.end()
    assert told == ["room"]
    assert stream.write(b"late")
    assert (await stream.read(), await stream.read()) == (b"x" * MAX_WAITING, b"")
