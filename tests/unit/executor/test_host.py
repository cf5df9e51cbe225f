"""Which environment takes an execution: with a driver that the test plays and environments that are real."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from playing import TARGET, FakeSandbox, KeptRecords, Runtime
from running import zipped

from lambent.executor.drivers.base import EnvironmentSpec, Exit, NoRoom, NoSnapshot, Sandbox, Snapshot
from lambent.executor.execution import Execution
from lambent.executor.host import Host
from lambent.executor.image_cache import ImageCache
from lambent.executor.launching import HostConfig
from lambent.executor.meter import Meter
from lambent.executor.runtimes.family import RuntimeCommand
from lambent.executor.trees import Trees
from lambent.executor.variables import Credentials
from lambent.kernel import metrics
from lambent.kernel.blobs.memory import MemoryBlobs
from lambent.kernel.clock import SystemClock
from lambent.kernel.errors import ServiceException, TooManyRequestsException
from lambent.kernel.models import Archive, Enforcement, FunctionVersion, Invocation
from lambent.kernel.ports import Lease
from lambent.kernel.store.memory_logs import MemoryLogs


class PlayedDriver:
    def __init__(self) -> None:
        self.started: asyncio.Queue[FakeSandbox] = asyncio.Queue()
        self.sandboxes: list[FakeSandbox] = []
        self.expected: list[EnvironmentSpec] = []
        self.failure: Exception | None = None
        self.places = 100
        self.closed = False

    async def open(self) -> None: ...

    async def start(self, spec: EnvironmentSpec) -> Sandbox:
        if self.failure is not None:
            raise self.failure
        if sum(not sandbox.disposed for sandbox in self.sandboxes) >= self.places:
            raise NoRoom("no room for 512 MB of /tmp")
        sandbox = FakeSandbox()
        self.sandboxes.append(sandbox)
        self.started.put_nowait(sandbox)
        return sandbox

    async def snapshot(self, sandbox: Sandbox) -> Snapshot:
        raise NoSnapshot("not played")

    def drop(self, snapshot: Snapshot) -> None:
        raise AssertionError("there is none")

    def expect(self, spec: EnvironmentSpec) -> None:
        self.expected.append(spec)

    async def close(self) -> None:
        self.closed = True

    @property
    def parked(self) -> int:
        return 0

    def promised(self) -> int:
        return 0

    def enforcement(self) -> Sequence[Enforcement]:
        return ()


class PlayedRuntimes:
    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        return None, None

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand:
        return RuntimeCommand(("python",), (), Path("/nowhere"), {}, "python:3.11.0")


class Stage:
    def __init__(self, host: Host, driver: PlayedDriver, target: FunctionVersion) -> None:
        self.host, self.driver, self.target = host, driver, target
        self.runtimes: list[Runtime] = []
        self._count = 0

    def invoke(self, target: FunctionVersion | None = None) -> Execution:
        target = target or self.target
        self._count += 1
        invocation = Invocation(f"id-{self._count}", target, "arn", b"{}", "Root=1")
        return self.host.invoke(invocation, Lease("l", 0, target.key, "x", 1, 3.0))

    async def runtime(self) -> Runtime:
        """The next environment's runtime, waiting in `next`."""
        sandbox = await self.driver.started.get()
        runtime = await Runtime.connect(sandbox)
        self.runtimes.append(runtime)
        await runtime.ask_next()
        return runtime

    async def finish(self, runtime: Runtime) -> str:
        """Answers the runtime's event and asks for the next; the request id."""
        _, headers, _ = await runtime.answer()
        request_id = headers["lambda-runtime-aws-request-id"]
        await runtime.post(f"invocation/{request_id}/response", b"1")
        await runtime.ask_next()
        return request_id


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Callable[..., "asyncio.Future[Stage]"]]:
    stages: list[Stage] = []

    async def make(*, memory_mb: int = 1024, keep_alive: float = 600.0) -> Stage:
        blobs = MemoryBlobs()
        data = zipped({"app.py": "x"})
        archive = Archive(await blobs.put(data), len(data), 1)
        trees = Trees(tmp_path / "trees", blobs)
        await trees.open()
        driver = PlayedDriver()
        config = HostConfig(
            region="us-east-1",
            account_id="000000000000",
            memory_mb=memory_mb,
            keep_alive=keep_alive,
            freeze_after=60.0,
            credentials=Credentials("k", "s"),
        )
        host = Host(
            config,
            driver=driver,
            trees=trees,
            runtimes=PlayedRuntimes(),  # type: ignore[arg-type]
            logs=MemoryLogs(),
            meter=Meter(KeptRecords(), SystemClock()),
            clock=SystemClock(),
            images=ImageCache(tmp_path / "images"),
        )
        await host.open()
        stages.append(Stage(host, driver, replace(TARGET, archive=archive, uid=f"u{len(stages)}")))
        return stages[-1]

    yield make  # type: ignore[misc]
    for stage in stages:
        await stage.host.close()
        for runtime in stage.runtimes:
            runtime.writer.close()
        assert stage.driver.closed
        assert all(sandbox.disposed for sandbox in stage.driver.sandboxes)


Make = Callable[..., "asyncio.Future[Stage]"]


async def test_what_is_made_ready_is_what_will_be_started(made: Make) -> None:
    stage = await made()
    await stage.host.prepare(stage.target)
    (expected,) = stage.driver.expected
    assert (expected.argv, expected.env["_HANDLER"]) == (("python",), stage.target.handler)
    assert not stage.driver.sandboxes, "nothing is started for it"


async def test_a_cancelled_execution_costs_its_environment_and_frees_its_slot(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    runtime = await stage.runtime()
    await runtime.answer()
    first.cancel()
    assert (await first.response).function_error == "Unhandled"
    await first.report
    second = stage.invoke()
    another = await stage.runtime()
    assert await stage.finish(another) == second.invocation.request_id
    assert len(stage.driver.sandboxes) == 2


async def test_one_that_is_cancelled_while_it_waits_never_begins(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    first.cancel()
    with pytest.raises(ServiceException, match="cancelled before it began"):
        await first.response
    with pytest.raises(ServiceException):
        await first.report
    second = stage.invoke()
    runtime = await stage.runtime()
    assert await stage.finish(runtime) == second.invocation.request_id


async def test_an_execution_that_is_over_leaves_nothing_for_the_collector(made: Make) -> None:
    stage = await made()
    execution = stage.invoke()
    runtime = await stage.runtime()
    await stage.finish(runtime)
    await execution.report
    await asyncio.sleep(0)
    gone = weakref.ref(execution.report)
    gc.disable()
    try:
        del execution
        assert gone() is None
    finally:
        gc.enable()


async def test_what_is_answered_is_not_cancelled(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    runtime = await stage.runtime()
    await stage.finish(runtime)
    await first.report
    first.cancel()
    second = stage.invoke()
    await stage.finish(runtime)
    await second.report
    assert len(stage.driver.sandboxes) == 1


async def test_the_first_invoke_starts_an_environment_and_the_second_uses_it(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    runtime = await stage.runtime()
    await stage.finish(runtime)
    await first.report
    second = stage.invoke()
    await stage.finish(runtime)
    await second.report
    assert len(stage.driver.sandboxes) == 1


async def test_an_environment_that_died_while_it_was_idle_gets_no_event(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    await stage.finish(await stage.runtime())
    await first.report
    stage.driver.sandboxes[0].lives = False
    second = stage.invoke()
    assert stage.driver.sandboxes[0].exited.done(), "what is left of it is killed"
    assert await stage.finish(await stage.runtime()) == second.invocation.request_id
    assert (await second.response).function_error is None


async def test_two_at_once_take_two_environments(made: Make) -> None:
    stage = await made()
    both = [stage.invoke(), stage.invoke()]
    runtimes = [await stage.runtime(), await stage.runtime()]
    served = {await stage.finish(runtime) for runtime in runtimes}
    await asyncio.gather(*(one.report for one in both))
    assert served == {"id-1", "id-2"}


async def test_a_request_right_after_an_answer_waits_for_that_environment(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    runtime = await stage.runtime()
    await runtime.answer()
    await runtime.post("invocation/id-1/response", b"1")
    await first.response
    second = stage.invoke()  # the runtime has not asked for its next event yet
    await runtime.ask_next()
    await stage.finish(runtime)
    await second.report
    assert len(stage.driver.sandboxes) == 1


async def test_an_answered_environment_that_stays_busy_is_not_waited_for(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    runtime = await stage.runtime()
    await runtime.answer()
    await runtime.post("invocation/id-1/response", b"1")
    await first.response
    second = stage.invoke()
    other = await stage.runtime()  # the old one never calls next: a new one is started
    assert await stage.finish(other) == "id-2"
    await second.report


async def test_a_change_of_the_function_stops_idle_environments_and_keeps_the_new(made: Make) -> None:
    stage = await made()
    first = stage.invoke()
    await stage.finish(await stage.runtime())
    await first.report
    newer = replace(stage.target, generation=2)
    second = stage.invoke(newer)
    await stage.finish(await stage.runtime())
    await second.report
    await stage.host.stop_function(stage.target.uid, keep=newer.key)
    await stage.driver.sandboxes[0].exited
    assert not stage.driver.sandboxes[1].exited.done()


async def test_the_environments_of_one_version_are_stopped_and_those_of_others_kept(made: Make) -> None:
    stage = await made()
    for version in ("1", "2", "$LATEST"):
        run = stage.invoke(replace(stage.target, version=version))
        await stage.finish(await stage.runtime())
        await run.report
    await stage.host.stop_function(stage.target.uid, version="2")
    await stage.driver.sandboxes[1].exited
    assert [sandbox.exited.done() for sandbox in stage.driver.sandboxes] == [False, True, False]


async def test_an_environment_idle_for_the_keep_alive_is_stopped(made: Make) -> None:
    stage = await made(keep_alive=0.05)
    first = stage.invoke()
    await stage.finish(await stage.runtime())
    await first.report
    await stage.driver.sandboxes[0].exited


async def test_under_memory_pressure_the_idle_environment_of_another_function_goes(made: Make) -> None:
    stage = await made(memory_mb=200)
    first = stage.invoke()
    await stage.finish(await stage.runtime())
    await first.report
    other = stage.invoke(replace(stage.target, uid="other"))
    await stage.finish(await stage.runtime())
    await other.report
    assert stage.driver.sandboxes[0].exited.done()


async def test_where_the_host_has_no_room_the_idle_environment_of_another_function_goes(made: Make) -> None:
    stage = await made()
    stage.driver.places = 2
    for uid in ("first", "second", "other"):
        execution = stage.invoke(replace(stage.target, uid=uid))
        await stage.finish(await stage.runtime())
        await execution.report
    assert [sandbox.disposed for sandbox in stage.driver.sandboxes] == [True, False, False]


async def test_no_room_and_nothing_idle_is_an_error_that_says_so(made: Make) -> None:
    stage = await made()
    stage.driver.places = 1
    running = stage.invoke()
    await stage.runtime()
    refused = stage.invoke(replace(stage.target, uid="other"))
    with pytest.raises(ServiceException, match="no room for 512 MB of /tmp") as failure:
        await refused.response
    assert failure.value.code == "ServiceException"
    assert not running.report.done()


async def test_no_memory_and_nothing_idle_is_a_throttle_that_says_so(made: Make) -> None:
    stage = await made(memory_mb=200)
    running = stage.invoke()
    await stage.runtime()
    refused = stage.invoke(replace(stage.target, uid="other"))
    labels = {"function": stage.target.name, "reason": "ConcurrentInvocationLimitExceeded"}
    before = metrics.REGISTRY.get_sample_value("lambent_throttles_total", labels) or 0.0
    with pytest.raises(TooManyRequestsException, match="LAMBENT_MEMORY_MB"):
        await refused.response
    assert metrics.REGISTRY.get_sample_value("lambent_throttles_total", labels) == before + 1
    assert not running.report.done()


async def test_who_has_just_asked_is_not_refused_for_the_time_another_has_waited(made: Make) -> None:
    stage = await made(memory_mb=200)
    running = stage.invoke()
    runtime = await stage.runtime()
    first = stage.invoke()
    await asyncio.sleep(0.7)
    await stage.finish(runtime)  # the first is served now; the start asked for it still waits for memory
    await running.report
    second = stage.invoke()
    await asyncio.sleep(0.6)  # that start has been in vain
    assert not second.response.done()
    await stage.finish(runtime)
    await first.report
    await stage.finish(runtime)
    assert (await second.response).payload == b"1"
    assert len(stage.driver.sandboxes) == 1


async def test_a_start_that_fails_is_told_and_the_next_one_works(made: Make) -> None:
    stage = await made()
    stage.driver.failure = ServiceException("no space left")
    with pytest.raises(ServiceException, match="no space left"):
        await stage.invoke().response
    stage.driver.failure = None
    again = stage.invoke()
    await stage.finish(await stage.runtime())
    await again.report


async def test_drain_waits_for_what_runs_and_refuses_the_rest(made: Make) -> None:
    stage = await made()
    running = stage.invoke()
    runtime = await stage.runtime()
    draining = asyncio.ensure_future(stage.host.drain(10))
    await asyncio.sleep(0)
    with pytest.raises(ServiceException, match="stopping"):
        await stage.invoke().response
    await stage.finish(runtime)
    assert await draining == 0
    assert running.response.result().payload == b"1"


async def test_drain_is_bounded_and_close_tells_those_cut_off(made: Make) -> None:
    stage = await made()
    running = stage.invoke()
    await stage.runtime()
    assert await stage.host.drain(0.01) == 1
    await stage.host.close()
    with pytest.raises(ServiceException, match="cut off"):
        await running.response


async def test_slow_inits_of_one_function_do_not_keep_another_from_starting(made: Make) -> None:
    stage = await made(memory_mb=4096)
    slow = [stage.invoke() for _ in range(8)]  # more than start at once; their runtimes never ask for an event
    for _ in range(4):
        await stage.driver.started.get()
    other = stage.invoke(replace(stage.target, uid="other"))
    for _ in range(4):
        await stage.driver.started.get()
    await stage.finish(await stage.runtime())
    await other.report
    assert not any(one.report.done() for one in slow)


async def test_every_way_to_end_leaves_nothing_counted_as_running(made: Make) -> None:
    stage = await made()
    name = stage.target.name

    def running() -> float | None:
        return metrics.REGISTRY.get_sample_value("lambent_concurrent_executions", {"function": name})

    before = running() or 0.0
    stage.driver.failure = ServiceException("no")
    with pytest.raises(ServiceException):
        await stage.invoke().report
    stage.driver.failure = None
    crashed = stage.invoke()
    runtime = await stage.runtime()
    await runtime.answer()
    stage.driver.sandboxes[-1].exited.set_result(Exit(signal=40))
    await crashed.report
    await asyncio.sleep(0)
    assert running() == before
