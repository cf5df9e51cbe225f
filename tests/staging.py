"""An environment with a real Runtime API socket, without a sandbox, whose runtime the test plays."""

import asyncio
from collections.abc import Callable, Sequence

from playing import TARGET, FakeSandbox, KeptRecords, Runtime

from lambent.executor.drivers.base import Sandbox
from lambent.executor.environment import Environment
from lambent.executor.execution import Execution
from lambent.executor.function_log import Facts, FunctionLog
from lambent.executor.meter import Meter
from lambent.kernel.clock import SystemClock
from lambent.kernel.models import FunctionVersion, Invocation, Report
from lambent.kernel.ports import Lease
from lambent.kernel.store.memory_logs import MemoryLogs
from lambent.kernel.tasks import Tasks


class Logs(MemoryLogs):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def append(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        self.lines += [text for _, text in lines]


class Owner:
    def __init__(self) -> None:
        self.idle: asyncio.Queue[Environment] = asyncio.Queue()
        self.gone: asyncio.Queue[Environment] = asyncio.Queue()
        self.reports: list[Report] = []
        self.answered = 0

    def environment_answered(self, environment: Environment) -> None:
        self.answered += 1

    def environment_idle(self, environment: Environment) -> None:
        self.idle.put_nowait(environment)

    def environment_gone(self, environment: Environment) -> None:
        self.gone.put_nowait(environment)

    def execution_ended(self, environment: Environment, execution: Execution, report: Report) -> None:
        self.reports.append(report)


class Stage:
    """An environment whose runtime the test plays."""

    def __init__(self, target: FunctionVersion = TARGET, freeze_after: float = 60.0) -> None:
        self.owner, self.logs, self.tasks = Owner(), Logs(), Tasks("test")
        self.metered = KeptRecords()
        self.sandboxes: list[FakeSandbox] = []
        self.launched: asyncio.Queue[FakeSandbox] = asyncio.Queue()
        self.failure: Exception | None = None
        self.clients: list[asyncio.StreamWriter] = []

        async def launch() -> Sandbox:
            if self.failure is not None:
                raise self.failure
            sandbox = FakeSandbox()
            self.sandboxes.append(sandbox)
            self.launched.put_nowait(sandbox)
            return sandbox

        self.environment = Environment(
            "e1",
            target,
            launch=launch,
            owner=self.owner,
            clock=SystemClock(),
            log=FunctionLog(
                target, Facts("e1", "python:3.11", "arn:r"), logs=self.logs, stream="s", clock=SystemClock()
            ),
            tasks=self.tasks,
            meter=Meter(self.metered, SystemClock()),
            tags={"team": "red"},
            freeze_after=freeze_after,
        )

    async def connect(self) -> Runtime:
        return await self.connect_to(await self.launched.get())

    async def connect_to(self, sandbox: FakeSandbox) -> Runtime:
        runtime = await Runtime.connect(sandbox)
        self.clients.append(runtime.writer)
        return runtime

    async def ready(self) -> Runtime:
        starting = asyncio.ensure_future(self.environment.start())
        runtime = await self.connect()
        await runtime.ask_next()
        await starting
        assert await self.owner.idle.get() is self.environment
        return runtime

    def begin(self, *, tail: bool = False, streaming: bool = False) -> Execution:
        invocation = Invocation(
            "id-1",
            self.environment.target,
            "arn",
            b'{"a":1}',
            "Root=1",
            want_log_tail=tail,
            streaming=streaming,
        )
        execution = Execution(invocation, Lease("l", 0, self.environment.target.key, "x", 1, 3.0))
        self.environment.begin(execution)
        return execution


Make = Callable[..., Stage]
