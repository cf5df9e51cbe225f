"""Lanes over a queue in memory and a host that ends each run as a test says."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unit.scheduler.samples import function

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import LambdaError
from lambent.kernel.events import DeadEvent, Line, OutcomeRecord
from lambent.kernel.models import (
    Enforcement,
    Event,
    EventInvokeConfig,
    Function,
    FunctionVersion,
    Invocation,
    Outcome,
    Report,
    Response,
)
from lambent.kernel.ports import EnvironmentHost, Lease
from lambent.kernel.response_stream import ResponseStream
from lambent.kernel.routing import Router
from lambent.kernel.targets import Target, TargetKind
from lambent.kernel.tasks import Tasks
from lambent.scheduler.dispatcher import LocalDispatcher
from lambent.scheduler.feed import Feed
from lambent.scheduler.lanes import LaneLimits, Lanes
from lambent.scheduler.outcomes import Outcomes
from lambent.scheduler.queue_memory import MemoryEventQueue

REPORT = Report(Outcome.SUCCESS, 1.0, 1, None, 128, 64)
GOOD = Response(b"1")
BAD = Response(b"{}", function_error="Unhandled")


def configured(**settings: Any) -> Function:
    """A function with an event-invoke configuration."""
    return replace(function(), event_invoke={"$LATEST": EventInvokeConfig(0.0, **settings)})


class FakeRun:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.stream: ResponseStream | None = None

    def cancel(self) -> None:
        raise AssertionError("lanes do not cancel")

    def end(self, outcome: Response | LambdaError) -> None:
        if isinstance(outcome, LambdaError):
            self.response.set_exception(outcome)
            self.report.set_exception(outcome)
        else:
            self.response.set_result(outcome)
            self.report.set_result(REPORT)


class FakeHost(EnvironmentHost):
    """Ends each run at once with the next of `script` (the last one for ever); None leaves it to the test."""

    def __init__(self) -> None:
        self.script: list[Response | LambdaError | None] = [GOOD]
        self.invocations: list[Invocation] = []
        self.runs: list[FakeRun] = []

    def invoke(self, invocation: Invocation, lease: Lease) -> FakeRun:
        self.invocations.append(invocation)
        run = FakeRun()
        self.runs.append(run)
        outcome = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if outcome is not None:
            run.end(outcome)
        return run

    async def prepare(self, target: FunctionVersion) -> None:
        raise AssertionError("lanes do not prepare")

    def enforcement(self) -> Sequence[Enforcement]:
        return ()


@dataclass
class World:
    clock: TestClock = field(default_factory=TestClock)
    host: FakeHost = field(default_factory=FakeHost)
    tasks: Tasks = field(default_factory=lambda: Tasks("test"))
    functions: dict[str, Function] = field(default_factory=lambda: {"f": function()})
    stored: dict[str, Function] = field(default_factory=dict)  # what the cache `functions` has not heard of
    versions: dict[int, FunctionVersion] = field(default_factory=dict)
    limit: int = 10
    sent: list[OutcomeRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = MemoryEventQueue(self.clock)
        self.dispatcher = LocalDispatcher("executor", self.limit, self.clock, strict=True)
        self.lanes = Lanes(
            queue=self.queue,
            dispatcher=self.dispatcher,
            host=self.host,
            resolve=self.resolve,
            look=self.look,
            route=Router(self.version).route,
            clock=self.clock,
            tasks=self.tasks,
            region="us-east-1",
            account="000000000000",
            limits=LaneLimits(per_lane=4, total=40, batch=20, known=5),
        )
        self.dispatcher.freed.append(self.lanes.freed)
        self.outcomes = Outcomes(
            queue=self.queue,
            senders={TargetKind.SQS: self.send},
            clock=self.clock,
            tasks=self.tasks,
        )
        self.feed = Feed(queue=self.queue, lanes=self.lanes, outcomes=self.outcomes, clock=self.clock)

    async def send(self, record: OutcomeRecord, target: Target) -> None:
        self.sent.append(record)

    async def resolve(self, name: str) -> Function | None:
        return self.functions.get(name)

    async def look(self, name: str) -> Function | None:
        return self.stored.get(name) or self.functions.get(name)

    async def version(self, of: Function, number: int) -> FunctionVersion | None:
        return self.versions.get(number)

    async def publish(self, *events: Event) -> None:
        for one in events:
            await self.queue.publish(one)
        await self.clock.settle(60)

    async def dead(self, lane: str = "uid") -> list[DeadEvent]:
        return [
            item for item in await self.queue.peek(lane, Line.DEAD, limit=100) if isinstance(item, DeadEvent)
        ]

    async def depth(self) -> int:
        return sum(d.ready + d.in_flight + d.delayed for d in await self.queue.lanes())
