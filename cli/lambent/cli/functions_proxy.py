"""How functions on an executor reach the API: what they send to its endpoint goes to a live gateway's port for
functions, which serves Invoke and the logs subset only."""

import asyncio
import random
import socket
import ssl
from collections.abc import Callable, Sequence

from lambent.kernel.log import Log
from lambent.kernel.remote.host_client import Address
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_CHUNK = 65_536
_CONNECT_SECONDS = 2.0
_MOST_CONNECTIONS = 1024
_NOBODY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"x-amzn-errortype: ServiceException\r\ncontent-length: 56\r\n\r\n"
    b'{"Message":"No gateway of the cluster can be reached."}\n'
)


class FunctionsProxy:
    """`gateways()`: where live gateways serve functions; `tls`: what they want to see."""

    def __init__(
        self, gateways: Callable[[], Sequence[Address]], tls: ssl.SSLContext | None, tasks: Tasks
    ) -> None:
        self._gateways = gateways
        self._tls = tls
        self._tasks = tasks
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, listener: socket.socket) -> None:
        """Serves on a listening unix socket."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._open += 1
        try:
            there = await self._connect()
            if there is None:
                writer.write(_NOBODY)
                await writer.drain()
                return
            await self._join(reader, writer, *there)
        except OSError:
            return  # one of both hung up
        finally:
            self._open -= 1
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        gateways = list(self._gateways())
        random.shuffle(gateways)
        for gateway in gateways[:3]:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(gateway.host, gateway.port, ssl=self._tls)
            except (OSError, TimeoutError) as failure:
                _log.info("A gateway cannot be reached for a function.", why=str(failure))
        return None

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        their_reader: asyncio.StreamReader,
        their_writer: asyncio.StreamWriter,
    ) -> None:
        ways = [
            self._tasks.once("to a gateway", _copy(reader, their_writer)),
            self._tasks.once("from a gateway", _copy(their_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if not ways[1].done():  # the function has said all; the answer may still come
                await asyncio.wait([ways[1]])
        finally:
            for way in ways:
                way.cancel()
            their_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        return
