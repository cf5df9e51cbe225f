"""Relays between sockets of loopback: what arrives, what ends, and what is left."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from lambent.executor.drivers.sandbox.relay import Capacity, Relay, Target

MakeRelay = Callable[..., tuple[Relay, Capacity, int]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after the client's half has ended."""
    writer.write(await reader.read() + b"!")
    writer.close()


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


@pytest.fixture
async def relay_to() -> AsyncIterator[MakeRelay]:
    made: list[Relay] = []

    def make(target: Target, limit: int = 8) -> tuple[Relay, Capacity, int]:
        listener, capacity = listening(), Capacity(limit)
        made.append(Relay(listener, lambda: target, capacity, owner="test"))
        made[-1].start()
        return made[-1], capacity, listener.getsockname()[1]

    yield make
    for relay in made:
        await relay.close()


async def serving(handler: Serve) -> tuple[asyncio.Server, tuple[str, int]]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, ("127.0.0.1", server.sockets[0].getsockname()[1])


async def exchange(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def test_a_half_closed_request_gets_its_whole_answer(relay_to: MakeRelay) -> None:
    server, target = await serving(echo_to_the_end)
    _, _, port = relay_to(target)
    payload = bytes(range(256)) * 8000
    async with server:
        assert await exchange(port, payload) == payload + b"!"


async def test_a_unix_socket_can_be_the_target(relay_to: MakeRelay, tmp_path: Path) -> None:
    path = str(tmp_path / "target.sock")
    server = await asyncio.start_unix_server(echo_to_the_end, path)
    _, _, port = relay_to(path)
    async with server:
        assert await exchange(port, b"x") == b"x!"


async def test_an_absent_target_resets_the_client_and_harms_nothing_else(
    relay_to: MakeRelay, caplog: pytest.LogCaptureFixture
) -> None:
    gone = listening()
    target = ("127.0.0.1", gone.getsockname()[1])
    gone.close()
    _, capacity, port = relay_to(target)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await exchange(port, b"x")
    assert capacity.used == 0
    assert [record.message for record in caplog.records] == ["A relay's target does not answer."]


async def test_a_cut_answer_is_a_reset_not_an_end(relay_to: MakeRelay) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        writer.transport.abort()

    server, target = await serving(cut)
    _, _, port = relay_to(target)
    async with server:
        with pytest.raises(ConnectionResetError):
            await exchange(port, b"x")


async def test_connections_above_the_capacity_wait_for_a_free_one(
    relay_to: MakeRelay,
) -> None:
    server, target = await serving(echo_to_the_end)
    _, capacity, port = relay_to(target, limit=1)
    async with server:
        _, idle = await asyncio.open_connection("127.0.0.1", port)
        waiting = asyncio.ensure_future(exchange(port, b"x"))
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        assert capacity.used == 1
        idle.close()
        assert await waiting == b"x!"
        await idle.wait_closed()


async def test_close_ends_open_connections(relay_to: MakeRelay) -> None:
    server, target = await serving(echo_to_the_end)
    relay, capacity, port = relay_to(target)
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        await asyncio.sleep(0)
        await relay.close()
        await relay.close()
        try:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        except ConnectionResetError:
            pass  # the byte was not read before the end
        writer.close()
        assert capacity.used == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
