"""The kombu transport alone, without Lambent: messages a second each way, on one core, against kombu's own
transport for Redis on the same server in the same run (fsync of every write on both)."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.servers import free_port
from rich.console import Console
from rich.table import Table

_BODY = b"x" * 1024
_COUNT = 10_000
_STOCK_COUNT = 1_500  # it is slower, and its number does not depend on how many there are
_BATCH = 256


def _server(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    from lambent.cli.redis_server import engines

    engine = next(engines())
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    return subprocess.Popen(
        [str(engine.program), *options, "--appendonly", "yes", "--appendfsync", "always"],
        stdout=subprocess.DEVNULL,
    )


def _rate(count: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def _ours(url: str) -> dict[str, float]:
    from kombu.messaging import Producer

    from lambent.scheduler.transport.streams import close_channel, open_channel

    channel = open_channel(url, consumer_name="bench")
    producer: Any = Producer(channel, auto_declare=False)

    def publish() -> None:
        for start in range(0, _COUNT, _BATCH):
            with producer.batch(max_size=_BATCH + 1):
                for _ in range(min(_BATCH, _COUNT - start)):
                    producer.publish(
                        _BODY, routing_key="q", content_type="application/data", content_encoding="binary"
                    )

    def consume() -> None:
        done = 0
        while done < _COUNT:
            messages = channel.get_many(lambda queue: _BATCH, _BATCH)
            done += channel.ack_many([message.delivery_tag for message in messages])

    try:
        return {"publish": _rate(_COUNT, publish), "consume": _rate(_COUNT, consume)}
    finally:
        close_channel(channel)


def _stock(url: str) -> dict[str, float]:
    from kombu import Connection, Queue

    connection: Any = Connection(url)
    queue = Queue("stock", routing_key="stock")

    def publish() -> None:
        producer = connection.Producer()
        for start in range(0, _STOCK_COUNT, _BATCH):
            with producer.batch(max_size=_BATCH + 1):
                for _ in range(min(_BATCH, _STOCK_COUNT - start)):
                    producer.publish(
                        _BODY, routing_key="stock", content_type="application/data", content_encoding="binary"
                    )

    def consume() -> None:
        done = 0

        def on_message(message: Any) -> None:
            nonlocal done
            message.ack()
            done += 1

        with connection.Consumer(queue, on_message=on_message, prefetch_count=_BATCH):
            while done < _STOCK_COUNT:
                connection.drain_events(timeout=10)

    with connection:
        queue(connection.default_channel).declare()
        return {"publish": _rate(_STOCK_COUNT, publish), "consume": _rate(_STOCK_COUNT, consume)}


def measure() -> dict[str, dict[str, float]]:
    """{who: {way: messages a second}}, in a process on one core."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transport"], capture_output=True, text=True, check=True
    )
    result: dict[str, dict[str, float]] = json.loads(done.stdout)
    return result


def show(console: Console, results: dict[str, dict[str, float]]) -> None:
    table = Table("transport", "publish / s", "consume + ack / s", "publish / stock", "consume / stock")
    stock = results["stock redis://"]
    for who, numbers in results.items():
        table.add_row(
            who,
            *(f"{numbers[way]:.0f}" for way in ("publish", "consume")),
            *(f"{numbers[way] / stock[way]:.1f}" for way in ("publish", "consume")),
        )
    console.print(
        "The kombu transport alone, 1 KB, appendfsync always (budget: >= 5,000/s each way on one core)"
    )
    console.print(table)


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        os.sched_setaffinity(0, {cores[-1]})  # the server inherits it, until it is moved
        server = _server(Path(folder), port)
        os.sched_setaffinity(server.pid, {cores[-1]})
        os.sched_setaffinity(0, {cores[0]})
        try:
            _await(port)
            results = {
                "redis+streams://": _ours(f"streams://127.0.0.1:{port}/0"),
                "stock redis://": _stock(f"redis://127.0.0.1:{port}/1"),
            }
        finally:
            server.terminate()
            server.wait(20)
    print(json.dumps(results))


def _await(port: int) -> None:
    import redis

    until = time.monotonic() + 20
    while True:
        try:
            with redis.Redis(port=port) as client:
                client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


if __name__ == "__main__":
    main()
