"""A load of keep-alive HTTP clients in a process of its own: latencies of one request after the other on each
connection, for a fixed time. Raw protocols on uvloop, so that the load costs little beside what it measures."""

import argparse
import asyncio
import json
import time
from typing import cast

import httptools
import uvloop


class Client(asyncio.Protocol):
    """One connection; sends the next request when the answer is whole."""

    def __init__(self, request: bytes, until: float, latencies: list[float], failures: list[int]) -> None:
        self.request, self.until = request, until
        self.latencies, self.failures = latencies, failures
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began = 0.0
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self.latencies.append(now - self.began)
        if self.parser.get_status_code() >= 300:
            self.failures.append(self.parser.get_status_code())
        if now < self.until:
            self.parser = httptools.HttpResponseParser(self)
            asyncio.get_running_loop().call_soon(self.send)
        else:
            self.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.failures.append(0)
            self.finish()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()


async def load(
    port: int, path: str, body: bytes, clients: int, seconds: float, *, headers: str = ""
) -> dict[str, float]:
    """p50 and p99 in ms, requests a second, failures. `headers`: further lines, each ended by CRLF."""
    request = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
    latencies: list[float] = []
    failures: list[int] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: Client(request, began + seconds, latencies, failures), "127.0.0.1", port
        )
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    took = time.perf_counter() - began
    latencies.sort()
    return {
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "per_second": len(latencies) / took,
        "failures": len(failures),
        "count": len(latencies) - len(failures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("clients", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--body", default='{"a":1}')
    parser.add_argument("--event", action="store_true", help="asynchronous invocations")
    given = parser.parse_args()
    headers = "x-amz-invocation-type: Event\r\n" if given.event else ""
    work = load(given.port, given.path, given.body.encode(), given.clients, given.seconds, headers=headers)
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main()
