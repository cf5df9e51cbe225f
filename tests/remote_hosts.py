"""An EnvironmentHost in memory, and servers and clients of frames around it: what the tests of `kernel/remote`
share."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import LambdaError
from lambent.kernel.models import (
    Archive,
    Enforcement,
    FunctionVersion,
    Invocation,
    LayerUse,
    Outcome,
    Report,
    Response,
    VersionKey,
)
from lambent.kernel.ports import Clock, EnvironmentHost, Lease
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.host_client import Address, RemoteHost
from lambent.kernel.remote.host_server import HostServer
from lambent.kernel.response_stream import ResponseStream

TARGET = FunctionVersion(
    name="f",
    uid="u-1",
    version="$LATEST",
    generation=7,
    revision_id="r-1",
    runtime="python3.13",
    handler="app.handler",
    role="arn:aws:iam::123456789012:role/r",
    archive=Archive("ab" * 32, 100, 200),
    last_modified=1.5,
    environment={"NAME": "value"},
    layers=(LayerUse("arn:layer:1", Archive("cd" * 32, 1, 2)),),
)
REPORT = Report(Outcome.SUCCESS, 1.25, 2, None, 128, 30 << 20)
LEASE = Lease("lease-1", 3, TARGET.key, "executor-1", 5, 8.0, "on-demand", 17, "gateway-1")
ENFORCED = (Enforcement("memory", True, "cgroups"), Enforcement("freeze", False, "", "Use a newer kernel."))


def invocation(payload: bytes = b"{}", target: FunctionVersion = TARGET, **more: Any) -> Invocation:
    return Invocation("request-1", target, "arn:f", payload, "Root=1-2-3", **more)


def version(number: int) -> FunctionVersion:
    return changed(TARGET, uid=f"u-{number}", revision_id=f"r-{number}")


class MemoryRun:
    """A `ports.Run` that ends when it is told to."""

    def __init__(self, invocation: Invocation, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        self.invocation = invocation
        self.lease = lease
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.stream = ResponseStream(loop) if invocation.streaming else None
        self.cancelled = asyncio.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def end(self, outcome: Response | LambdaError, report: Report = REPORT) -> None:
        if isinstance(outcome, LambdaError):
            for each in (self.response, self.report):
                if not each.done():
                    each.set_exception(outcome)
        else:
            self.response.set_result(outcome)
            self.report.set_result(report)
        if self.stream is not None:
            self.stream.end()


class MemoryHost(EnvironmentHost):
    """Answers each invocation with its payload; with `hold`, the test ends the `runs`."""

    def __init__(self) -> None:
        self.hold = False
        self.refuse: Exception | None = None
        self.runs: list[MemoryRun] = []
        self.began: asyncio.Queue[MemoryRun] = asyncio.Queue()
        self.prepared: list[FunctionVersion] = []
        self.stopped: list[tuple[str, str | None, VersionKey | None]] = []
        self.enforced: Sequence[Enforcement] = ENFORCED

    def invoke(self, invocation: Invocation, lease: Lease) -> MemoryRun:
        if self.refuse is not None:
            raise self.refuse
        run = MemoryRun(invocation, lease)
        self.runs.append(run)
        self.began.put_nowait(run)
        if not self.hold:
            run.end(Response(invocation.payload))
        return run

    async def prepare(self, target: FunctionVersion) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.prepared.append(target)

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        self.stopped.append((uid, version, keep))

    def enforcement(self) -> Sequence[Enforcement]:
        return self.enforced


@dataclass
class Place:
    """A served host, and a client of it."""

    host: MemoryHost
    server: HostServer
    client: RemoteHost
    clock: TestClock
    address: Address


@asynccontextmanager
async def served(
    *, access: Access | None = None, theirs: Access | None = None, clock: Clock | None = None, **limits: int
) -> AsyncIterator[Place]:
    """A server of a MemoryHost on a free port with a client, both closed at the end. `theirs`: the client's
    access, if not the same."""
    access = access or Access()
    test_clock = TestClock()
    host = MemoryHost()
    server = HostServer(host, executor=LEASE.executor, access=access, clock=clock or test_clock, **limits)
    address = Address("127.0.0.1", await server.open("127.0.0.1", 0))
    client = RemoteHost(
        LEASE.executor, address, access=theirs or access, name="gateway-1", clock=clock or test_clock
    )
    try:
        yield Place(host, server, client, test_clock, address)
    finally:
        await client.close()
        await server.close(0.0)
