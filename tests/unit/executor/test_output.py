import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from lambent.executor.output import Output


class Pipe:
    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        os.set_blocking(self.write, False)
        self.lines: list[str] = []
        self.more = asyncio.Event()
        self.output = Output(self.read, self._line)

    def _line(self, text: str) -> None:
        self.lines.append(text)
        self.more.set()

    async def line(self, number: int) -> str:
        while len(self.lines) <= number:
            self.more.clear()
            await self.more.wait()
        return self.lines[number]


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    made = Pipe()
    yield made
    made.output.close()
    os.close(made.read)
    os.close(made.write)


async def test_lines_come_as_they_are_written(pipe: Pipe) -> None:
    os.write(pipe.write, b"one\ntwo\n")
    assert await pipe.line(1) == "two"


async def test_a_drain_that_empties_the_pipe_does_not_end_the_reading(pipe: Pipe) -> None:
    for number in range(3):
        os.write(pipe.write, b"%d\n" % number)
        pipe.output.drain()  # the reader's own turn finds nothing then
        assert pipe.lines[-1] == str(number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    os.write(pipe.write, b"still heard\n")
    assert await pipe.line(3) == "still heard"


async def test_a_flood_waits_in_its_pipe_and_everything_arrives(pipe: Pipe) -> None:
    async def send(line: bytes) -> None:
        while True:
            try:
                os.write(pipe.write, line)
                return
            except BlockingIOError:
                await asyncio.sleep(0)

    sent = 4096 * 1024
    for _ in range(4096):
        await send(b"x" * 1023 + b"\n")
    await send(b"end\n")
    while "end" not in pipe.lines:
        pipe.more.clear()
        await pipe.more.wait()
    assert sum(len(line) + 1 for line in pipe.lines) == sent + 4


async def test_the_end_of_the_runtime_ends_the_reading(pipe: Pipe) -> None:
    os.write(pipe.write, b"last words")
    other = os.dup(pipe.write)
    os.close(pipe.write)
    os.close(other)
    pipe.write = os.open("/dev/null", os.O_WRONLY)
    pipe.output.close()
    assert pipe.lines == ["last words"]
