"""A sandbox without isolation and a runtime client that the test plays, for the executor's unit tests."""

import asyncio
import json
import os
import socket
from collections.abc import Sequence

from lambent.executor.drivers.base import Exit
from lambent.kernel.models import Archive, FunctionVersion, LoggingConfig
from lambent.kernel.usage import UsageRecord

TARGET = FunctionVersion(
    name="f",
    uid="u",
    version="$LATEST",
    generation=1,
    revision_id="r",
    runtime="python3.11",
    handler="app.handler",
    role="arn:aws:iam::000000000000:role/r",
    archive=Archive("00" * 32, 1, 1),
    last_modified=0.0,
    logging=LoggingConfig(log_group="/aws/lambda/f"),
)


class FakeSandbox:
    def __init__(self) -> None:
        self.id = "e1"
        self.start = "plain"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.output, self.stdout = os.pipe()
        os.set_blocking(self.output, False)
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.frozen = asyncio.Event()
        self.signals: asyncio.Queue[int] = asyncio.Queue()
        self.thaws = 0
        self.lives = True
        self.disposed = False
        self.throttled = False
        self.peak = 40 << 20
        self.cpu = 0

    async def sockets(self, count: int) -> Sequence[socket.socket]:
        made = [socket.socket() for _ in range(count)]
        for one in made:
            one.setblocking(False)
        return made

    def freeze(self) -> None:
        self.frozen.set()

    def thaw(self) -> None:
        self.frozen.clear()
        self.thaws += 1

    def alive(self) -> bool:
        return self.lives and not self.exited.done()

    def initialised(self) -> None:
        self.throttled = True

    def kill(self) -> None:
        if not self.exited.done():
            self.exited.set_result(Exit(signal=9))

    def signal(self, number: int) -> None:
        self.signals.put_nowait(number)

    async def dispose(self) -> None:
        if not self.disposed:
            self.disposed = True
            self.kill()
            self.listener.close()
            os.close(self.output)
            os.close(self.stdout)

    def used(self) -> tuple[int, int]:
        return self.peak, self.cpu


class KeptRecords:
    """Where a meter's records go."""

    executor = "test"

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    def append(self, record: UsageRecord) -> None:
        self.records.append(record)


class Runtime:
    """A runtime client over one connection, or an extension's, or that of the launcher of both."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, sandbox: FakeSandbox) -> "Runtime":
        return cls(*await asyncio.open_connection("127.0.0.1", sandbox.port, limit=1 << 24))

    async def ask_next(self) -> None:
        self.writer.write(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n")
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def post(self, path: str, body: bytes, *headers: str) -> int:
        lines = "".join(f"{header}\r\n" for header in headers)
        self.writer.write(
            f"POST /2018-06-01/runtime/{path} HTTP/1.1\r\nhost: x\r\n{lines}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await self.writer.drain()
        return (await self.answer())[0]

    async def register(self, name: str, *events: str) -> str:
        """As an extension; its identifier."""
        await self._ask(
            "POST /2020-01-01/extension/register", {"events": events}, f"Lambda-Extension-Name: {name}"
        )
        status, headers, body = await self.answer()
        assert status == 200, body
        return headers["lambda-extension-identifier"]

    async def subscribe(self, identifier: str, document: object) -> None:
        """To telemetry, as an extension."""
        await self._ask("PUT /2022-07-01/telemetry", document, f"Lambda-Extension-Identifier: {identifier}")
        status, _, body = await self.answer()
        assert status == 200, body

    async def ask_event(self, identifier: str) -> None:
        await self._ask(
            "GET /2020-01-01/extension/event/next", {}, f"Lambda-Extension-Identifier: {identifier}"
        )

    async def fail_init(self, identifier: str) -> None:
        """As an extension."""
        headers = (
            f"Lambda-Extension-Identifier: {identifier}",
            "Lambda-Extension-Function-Error-Type: Extension.NoKey",
        )
        await self._ask("POST /2020-01-01/extension/init/error", {}, *headers)

    async def runtime_ended(self) -> None:
        """As the launcher; the answer comes when that has been dealt with."""
        await self._ask("POST /lambent/exited", {"runtime": True, "status": 0})

    async def _ask(self, what: str, document: object, *headers: str) -> None:
        body = json.dumps(document)
        lines = "".join(f"{header}\r\n" for header in headers)
        self.writer.write(
            f"{what} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        await self.writer.drain()
