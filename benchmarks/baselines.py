"""What Lambent is measured against, in the same run: (a) unmodified awslambdaric processes behind the smallest
gateway that can be written (no isolation, no queue, no limits), (b) a bare ASGI application on uvicorn.

`python -m benchmarks.baselines chain PORT PROCESSES` or `... asgi PORT`; prints "ready" once it serves.
"""

import argparse
import asyncio
import collections
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import cast

import httptools
import uvicorn
import uvloop

HANDLER = "def handler(event, context):\n    return event\n"


class Side(asyncio.Protocol):
    """One connection of either side of the chain."""

    def __init__(self, chain: "Chain") -> None:
        self.chain = chain
        self.parser = httptools.HttpRequestParser(self)
        self.url, self.body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.chain.message(self)

    def answer(self, status: bytes, body: bytes, head: bytes = b"") -> None:
        self.transport.write(b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, head, len(body), body))


class Chain:
    """Invocations in, `next` waiting, responses out."""

    def __init__(self) -> None:
        self.idle: list[Side] = []
        self.waiting: collections.deque[Side] = collections.deque()
        self.running: dict[bytes, Side] = {}

    def message(self, side: Side) -> None:
        url = side.url
        if url.endswith(b"/invocations"):
            self.waiting.append(side)
        elif url.endswith(b"/invocation/next"):
            self.idle.append(side)
        else:
            request_id = url.split(b"/")[-2]
            self.running.pop(request_id).answer(b"200 OK", side.body)
            side.answer(b"202 Accepted", b"{}")
            return
        while self.waiting and self.idle:
            caller, runtime = self.waiting.popleft(), self.idle.pop()
            request_id = str(uuid.uuid4()).encode()
            self.running[request_id] = caller
            runtime.answer(
                b"200 OK",
                caller.body,
                # awslambdaric 4.2 crashes where there is no content type
                b"content-type: application/json\r\nlambda-runtime-aws-request-id: %b\r\n"
                b"lambda-runtime-deadline-ms: 4102444800000\r\n"
                b"lambda-runtime-invoked-function-arn: arn\r\n" % request_id,
            )


def runtime_environment(port: int, folder: Path) -> dict[str, str]:
    """What plain awslambdaric needs."""
    return {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "PYTHONPATH": str(folder),
        "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": str(folder),
    }


async def chain(port: int, processes: int) -> None:
    made = Chain()
    server = await asyncio.get_running_loop().create_server(lambda: Side(made), "127.0.0.1", port)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "app.py").write_text(HANDLER)
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", "app.handler"],
                cwd=folder,
                env=runtime_environment(port, Path(folder)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(processes)
        ]
        try:
            while len(made.idle) < processes:
                await asyncio.sleep(0.05)
            print("ready", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        finally:
            server.close()
            for child in children:
                child.kill()
                child.wait()


async def bare(scope: dict[str, object], receive: object, send: object) -> None:
    """The smallest ASGI application that reads a body and answers with it."""
    if scope["type"] != "http":
        return
    message = await receive()  # type: ignore[operator]
    body = message["body"]
    await send(  # type: ignore[operator]
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})  # type: ignore[operator]


async def asgi(port: int) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            bare,
            port=port,
            http="httptools",
            access_log=False,
            log_level="warning",
            lifespan="off",
        )
    )
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.should_exit = True
    await serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["chain", "asgi"])
    parser.add_argument("port", type=int)
    parser.add_argument("processes", type=int, nargs="?", default=8)
    given = parser.parse_args()
    uvloop.run(chain(given.port, given.processes) if given.kind == "chain" else asgi(given.port))


if __name__ == "__main__":
    main()
