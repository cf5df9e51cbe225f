"""The end of a listener: what runs is answered, and no client can keep a server from stopping."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from lambent.cli.listeners import Listener, answered, bind
from lambent.kernel.tasks import Tasks

Message = MutableMapping[str, Any]


class Served:
    """One listener whose application waits for the whole body, then for `go`, and answers "done"."""

    def __init__(self) -> None:
        self.tasks = Tasks("test")
        self.socket: socket.socket = bind("127.0.0.1", 0)
        self.port: int = self.socket.getsockname()[1]
        self.listener = Listener(self._app, self.socket, drain=30)
        self.entered, self.go, self.cut_short = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.hung_up = False

    async def _app(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self.entered.set()
        while (message := await receive())["type"] == "http.request":
            if not message.get("more_body"):
                await self.go.wait()
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
                )
                await send({"type": "http.response.body", "body": b"done"})
                return
        self.hung_up = True

    async def ask(self, body: bytes, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length + body)
        await self.entered.wait()
        return reader, writer

    async def stop(self, seconds: float) -> float:
        """How long it took."""
        began = time.monotonic()
        self.listener.stop_accepting(30)
        await answered([self.listener], self.tasks, seconds=seconds, cut_short=self.cut_short)
        return time.monotonic() - began


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    await made.listener.start(made.tasks, "listener")
    yield made
    await made.tasks.drain(0)
    made.socket.close()


async def test_what_runs_is_answered(served: Served) -> None:
    reader, writer = await served.ask(b"", 0)
    stopping = asyncio.ensure_future(served.stop(30))
    served.go.set()
    assert (await reader.read()).endswith(b"done")
    assert await stopping < 5
    writer.close()


async def test_a_client_that_stalls_is_cut_off_when_the_time_is_over(served: Served) -> None:
    reader, writer = await served.ask(b"half", 8)
    assert await served.stop(0.2) < 5
    assert served.hung_up
    writer.close()


async def test_a_second_signal_cuts_off_at_once(served: Served) -> None:
    reader, writer = await served.ask(b"half", 8)
    stopping = asyncio.ensure_future(served.stop(30))
    served.cut_short.set()
    assert await stopping < 5
    assert served.hung_up
    writer.close()
