"""A load of gRPC clients in a process of its own, as `load` is for HTTP: invocations one after the other on
each connection, or events on one stream for each."""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator

import grpc
import uvloop

from lambent.client import AsyncClient, Event
from lambent.client.channel import OPTIONS
from lambent.v1.invocations_pb2 import InvokeRequest
from lambent.v1.invocations_pb2_grpc import InvocationServiceStub


async def invoke(target: str, function: str, body: bytes, clients: int, seconds: float) -> dict[str, float]:
    """As `load.load` tells it."""
    latencies: list[float] = []
    request = InvokeRequest(function_name=function, payload=body)
    began = time.perf_counter()

    async def client(number: int) -> None:
        # Each a connection of its own, as each HTTP client has.
        async with grpc.aio.insecure_channel(
            target, [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub = InvocationServiceStub(channel)
            while time.perf_counter() < began + seconds:
                asked = time.perf_counter()
                await stub.Invoke(request)
                latencies.append(time.perf_counter() - asked)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return _numbers(latencies, time.perf_counter() - began)


async def publish(
    target: str, function: str, body: bytes, clients: int, seconds: float, batch: int
) -> dict[str, float]:
    """Events accepted, on a stream of each client with at most 1000 under way; the latency is an event's, from
    its turn to its answer."""
    accepted, latencies = 0, list[float]()
    began = time.perf_counter()

    async def client(number: int) -> None:
        nonlocal accepted
        sent: dict[str, float] = {}

        async def events() -> AsyncIterator[Event]:
            count = 0
            while (now := time.perf_counter()) < began + seconds:
                count += 1
                sent[str(count)] = now
                yield Event(str(count), function, body)

        async with AsyncClient(target) as face:
            async for each in face.publish_events(events(), batch=batch):
                accepted += each.error is None
                latencies.append(time.perf_counter() - sent.pop(each.id))

    await asyncio.gather(*(client(number) for number in range(clients)))
    return {**_numbers(latencies, time.perf_counter() - began), "count": accepted}


def _numbers(latencies: list[float], took: float) -> dict[str, float]:
    latencies.sort()
    return {
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "per_second": len(latencies) / took,
        "failures": 0,
        "count": len(latencies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("function")
    parser.add_argument("clients", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--body", default='{"a":1}')
    parser.add_argument("--batch", type=int, help="events of a message; without: synchronous invocations")
    given = parser.parse_args()
    body = given.body.encode()
    if given.batch:
        work = publish(given.target, given.function, body, given.clients, given.seconds, given.batch)
    else:
        work = invoke(given.target, given.function, body, given.clients, given.seconds)
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main()
