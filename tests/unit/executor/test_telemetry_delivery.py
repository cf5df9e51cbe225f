"""Deliveries to a real listener on loopback."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from lambent.executor.telemetry import TELEMETRY, Buffer, subscription
from lambent.executor.telemetry_delivery import Delivery
from lambent.kernel.clock import SystemClock, TestClock

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """What a subscriber would be; `statuses`: what it answers, in turn."""

    def __init__(self, *statuses: str) -> None:
        self.bodies: asyncio.Queue[list[int]] = asyncio.Queue()
        self.connections = 0
        self._statuses = list(statuses)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
                writer.write(f"{status}\r\n\r\n".encode())
                if "content-length" not in status:
                    writer.close()
                self.bodies.put_nowait(body)
        except asyncio.IncompleteReadError:
            writer.close()


async def sockets(count: int) -> Sequence[socket.socket]:
    made = [socket.socket() for _ in range(count)]
    for one in made:
        one.setblocking(False)
    return made


@pytest.fixture
async def deliver() -> AsyncIterator[Callable[[Answer, str], Awaitable[Delivery]]]:
    servers: list[asyncio.Server] = []
    tasks: list[asyncio.Task[None]] = []

    async def make(answer: Answer, protocol: str = "HTTP") -> Delivery:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        to = {"protocol": protocol, "URI": f"http://sandbox:{port}", "port": port}
        asked = {"types": ["platform"], "destination": to, "buffering": {"timeoutMs": 25}}
        made = Delivery(Buffer(subscription(TELEMETRY, asked)), sockets, SystemClock())
        tasks.append(asyncio.ensure_future(made.run()))
        return made

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for server in servers:
        server.close()


async def test_events_go_out_together_over_one_connection(
    deliver: Callable[..., Awaitable[Delivery]],
) -> None:
    listener = Listener("HTTP/1.1 200 OK\r\ncontent-length: 0")
    delivery = await deliver(listener.serve)
    delivery.add(b"1")
    delivery.add(b"2")
    assert await listener.bodies.get() == [1, 2]
    delivery.add(b"3")
    assert await listener.bodies.get() == [3]
    assert listener.connections == 1


async def test_what_is_not_taken_is_tried_again(deliver: Callable[..., Awaitable[Delivery]]) -> None:
    listener = Listener("HTTP/1.1 500 No\r\ncontent-length: 0", "HTTP/1.0 200 OK")
    delivery = await deliver(listener.serve)
    delivery.add(b"1")
    assert await listener.bodies.get() == [1]
    assert await listener.bodies.get() == [1]
    delivery.add(b"2")  # on another connection: that one was hung up on
    assert await listener.bodies.get() == [2]


async def test_nothing_is_delivered_while_it_is_paused(deliver: Callable[..., Awaitable[Delivery]]) -> None:
    listener = Listener("HTTP/1.1 200 OK\r\ncontent-length: 0")
    other = Listener("HTTP/1.1 200 OK\r\ncontent-length: 0")
    delivery, goes_on = await deliver(listener.serve), await deliver(other.serve)
    delivery.pause()
    delivery.add(b"1")
    for _ in range(3):  # as long as three deliveries take
        goes_on.add(b"2")
        await other.bodies.get()
    assert listener.bodies.empty()
    delivery.resume()
    assert await listener.bodies.get() == [1]


async def test_a_flush_ends_when_all_is_taken(deliver: Callable[..., Awaitable[Delivery]]) -> None:
    listener = Listener("HTTP/1.1 200 OK\r\ncontent-length: 0")
    delivery = await deliver(listener.serve)
    delivery.add(b"1")
    await delivery.flush()
    assert listener.bodies.get_nowait() == [1]


async def test_over_tcp_each_event_is_a_line(deliver: Callable[..., Awaitable[Delivery]]) -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            lines.put_nowait(line)
        writer.close()

    delivery = await deliver(read, "TCP")
    delivery.add(b"1")
    delivery.add(b"2")
    assert [await lines.get(), await lines.get()] == [b"1\n", b"2\n"]


async def test_an_answer_that_is_no_http_is_no_answer(deliver: Callable[..., Awaitable[Delivery]]) -> None:
    listener = Listener("nonsense", "HTTP/1.1 202 OK\r\ncontent-length: 0")
    delivery = await deliver(listener.serve)
    delivery.add(b"1")
    assert [await listener.bodies.get() for _ in range(2)] == [[1], [1]]


async def test_who_takes_nothing_is_tried_less_and_less_until_the_end() -> None:
    attempts = 0

    async def none(count: int) -> Sequence[socket.socket]:
        nonlocal attempts
        attempts += 1
        raise OSError("nobody is there")

    to = {"protocol": "HTTP", "URI": "http://sandbox:1"}
    asked = {"types": ["platform"], "destination": to, "buffering": {"timeoutMs": 25}}
    clock = TestClock()
    delivery = Delivery(Buffer(subscription(TELEMETRY, asked)), none, clock)
    delivery.add(b"1")
    await clock.advance(1.0)  # it is due
    running = asyncio.ensure_future(delivery.run())
    await clock.settle()
    await clock.advance(60.0)
    assert 10 <= attempts <= 20, "each may cost a process"
    before = attempts
    flushing = asyncio.ensure_future(delivery.flush())
    await clock.settle()
    await clock.advance(0.5)
    assert attempts >= before + 4, "a flush has little time"
    for task in (running, flushing):
        task.cancel()
    await asyncio.wait([running, flushing])
