"""The hop between a gateway and an executor alone: invocations by frames over loopback, into a host that
answers at once, against the smallest possible echo of the payload on one socket. Two processes, as in a
cluster."""

import asyncio
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import uvloop
from rich.console import Console
from rich.table import Table

from lambent.kernel.clock import SystemClock
from lambent.kernel.models import Archive, FunctionVersion, Invocation, Outcome, Report, Response
from lambent.kernel.ports import EnvironmentHost, Lease
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.host_client import Address, RemoteHost
from lambent.kernel.remote.host_server import HostServer

_IN_FLIGHT = (1, 8, 64)
_ACCESS = Access(key=b"benchmark" * 4)
_PAYLOAD = b'{"key": "value"}' * 8
_TARGET = FunctionVersion(
    "f", "u", "$LATEST", 1, "r", "python3.13", "app.handler", "arn:role", Archive("ab" * 32, 1, 1), 0.0
)
_LEASE = Lease("lease", 1, _TARGET.key, "executor", 64, 8.0)
_INVOCATION = Invocation("0" * 36, _TARGET, "arn:function", _PAYLOAD, "Root=1", tags={"team": "search"})
_REPORT = Report(Outcome.SUCCESS, 1.5, 2, None, 128, 40 << 20)
_Numbers = tuple[float, float, float]


class _Run:
    def __init__(self, payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.response.set_result(Response(payload))
        self.report.set_result(_REPORT)

    def cancel(self) -> None: ...


class _Host:
    def invoke(self, invocation: Invocation, lease: Lease) -> _Run:
        return _Run(invocation.payload)


class _Echo(asyncio.Protocol):
    """The server of the baseline, and with `waiting` its client: messages of one length, in order."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.server = False
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.server:
            self.transport.write(data)
            return
        self._got += len(data)
        while self._got >= len(_PAYLOAD):
            self._got -= len(_PAYLOAD)
            self.waiting.popleft().set_result(None)

    async def call(self) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        self.transport.write(_PAYLOAD)
        await answer


def _serve(pipe: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = HostServer(
            cast(EnvironmentHost, _Host()), executor="executor", access=_ACCESS, clock=SystemClock()
        )

        def echo() -> _Echo:
            made = _Echo()
            made.server = True
            return made

        plain = await loop.create_server(echo, "127.0.0.1", 0)
        pipe.send((await server.open("127.0.0.1", 0), plain.sockets[0].getsockname()[1]))
        while await loop.run_in_executor(None, pipe.recv):
            times = os.times()
            pipe.send(times.user + times.system)
        plain.close()
        await server.close()

    uvloop.run(main())


async def _measure(
    pipe: Connection, call: Callable[[], Awaitable[None]], clients: int, seconds: float
) -> _Numbers:
    """(calls a second, CPU us of a call here, and there)."""

    async def one(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            await call()
            count += 1
        return count

    def there() -> float:
        pipe.send(True)
        return cast(float, pipe.recv())

    await one(time.perf_counter() + 0.2)
    theirs, ours, began = there(), time.process_time(), time.perf_counter()
    count = sum(await asyncio.gather(*(one(began + seconds) for _ in range(clients))))
    took, ours, theirs = time.perf_counter() - began, time.process_time() - ours, there() - theirs
    return count / took, ours / count * 1e6, theirs / count * 1e6


async def _compare(pipe: Connection, seconds: float) -> dict[tuple[int, str], _Numbers]:
    frames, plain = pipe.recv()
    host = RemoteHost(
        "executor", Address("127.0.0.1", frames), access=_ACCESS, name="benchmark", clock=SystemClock()
    )
    transport, echo = await asyncio.get_running_loop().create_connection(_Echo, "127.0.0.1", plain)

    async def invoke() -> None:
        run = host.invoke(_INVOCATION, _LEASE)
        await run.response
        await run.report

    results: dict[tuple[int, str], _Numbers] = {}
    for clients in _IN_FLIGHT:
        results[clients, "echo"] = await _measure(pipe, echo.call, clients, seconds)
        results[clients, "frames"] = await _measure(pipe, invoke, clients, seconds)
    transport.close()
    await host.close()
    return results


def run(console: Console, seconds: float) -> None:
    pipe, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(far,))
    process.start()
    try:
        results = uvloop.run(_compare(pipe, seconds))
    finally:
        pipe.send(False)
        process.join()
    table = Table("in flight", "how", "us each", "per second", "rate / echo", "CPU us here", "CPU us there")
    for (clients, how), (rate, ours, theirs) in results.items():
        ratio = f"{rate / results[clients, 'echo'][0]:.0%}"
        each = f"{clients / rate * 1e6:.0f}"
        table.add_row(str(clients), how, each, f"{rate:.0f}", ratio, f"{ours:.0f}", f"{theirs:.0f}")
    console.print("Invocations by frames into a host that answers at once, in another process")
    console.print(table)
