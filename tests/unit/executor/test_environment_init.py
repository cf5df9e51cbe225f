"""The state machine's init: one that fails runs again in the first invocation."""

import asyncio
import json

import pytest
from staging import Make

from lambent.executor.drivers.base import Exit
from lambent.executor.environment_states import EnvironmentState
from lambent.executor.runtime_api import Answer, Waiting
from lambent.executor.runtimes.entrypoint import InvalidEntrypoint
from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Outcome


async def test_init_that_fails_twice_answers_with_its_error(staged: Make) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())
    body = b'{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}'
    header = "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError"

    async def fail_init() -> None:
        runtime = await stage.connect()
        assert await runtime.post("init/error", body, header) == 202
        stage.sandboxes[-1].exited.set_result(Exit(code=1))

    await fail_init()
    await starting
    assert stage.environment.state is EnvironmentState.INIT_FAILED
    execution = stage.begin(tail=True)
    await fail_init()
    answer = await execution.response
    assert (answer.payload, answer.function_error) == (body, "Unhandled")
    assert (await execution.report).outcome is Outcome.INIT_ERROR
    reports = [line for line in stage.logs.lines if line.startswith("INIT_REPORT")]
    assert [line.split("\t")[1:] for line in reports] == [
        ["Phase: init", "Status: error", "Error Type: Runtime.ImportModuleError"],
        ["Phase: invoke", "Status: error", "Error Type: Runtime.ImportModuleError"],
    ]
    assert all(sandbox.disposed for sandbox in stage.sandboxes)


async def test_what_cannot_be_started_is_an_init_that_fails_twice(staged: Make) -> None:
    stage = staged()
    stage.failure = InvalidEntrypoint("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
    await stage.environment.start()
    assert stage.environment.state is EnvironmentState.INIT_FAILED
    execution = stage.begin(tail=True)
    answer = await execution.response
    assert (answer.function_error, json.loads(answer.payload)) == (
        "Unhandled",
        {
            "errorType": "Runtime.InvalidEntrypoint",
            "errorMessage": "RequestId: id-1 Error: Couldn't find valid bootstrap(s): "
            "[/var/task/bootstrap /opt/bootstrap]",
        },
    )
    assert (await execution.report).outcome is Outcome.INIT_ERROR
    reports = [line.split("\t") for line in stage.logs.lines if line.startswith("INIT_REPORT")]
    assert [report[1:] for report in reports] == [
        ["Phase: init", "Status: error", "Error Type: Runtime.InvalidEntrypoint"],
        ["Phase: invoke", "Status: error", "Error Type: Runtime.InvalidEntrypoint"],
    ]
    for report in reports:  # and not the time since the machine's start, say
        assert float(report[0].removeprefix("INIT_REPORT Init Duration: ").removesuffix(" ms")) < 1000
    assert await stage.owner.gone.get() is stage.environment


async def test_init_that_succeeds_the_second_time_runs_the_event(staged: Make) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())
    await stage.connect()
    stage.sandboxes[-1].exited.set_result(Exit(code=1))
    await starting
    execution = stage.begin()
    runtime = await stage.connect()
    await runtime.ask_next()
    assert (await runtime.answer())[2] == b'{"a":1}'
    await runtime.post("invocation/id-1/response", b"1")
    await runtime.ask_next()
    assert (await execution.report).init_ms is None, "a suppressed init counts as Duration"


async def test_one_that_is_cut_off_in_its_init_does_not_begin(staged: Make) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())
    await stage.connect()
    stage.sandboxes[-1].exited.set_result(Exit(code=1))
    await starting
    execution = stage.begin()
    stage.environment.cut_off()  # before the second init has launched anything
    assert (await execution.report).outcome is Outcome.INIT_ERROR
    assert len(stage.sandboxes) == 2
    assert await stage.owner.gone.get() is stage.environment


async def test_a_start_that_the_platform_cannot_make_raises_and_leaves_it_dead(staged: Make) -> None:
    stage = staged()
    stage.failure = ServiceException("no space")
    with pytest.raises(ServiceException, match="no space"):
        await stage.environment.start()
    assert stage.environment.state is EnvironmentState.DEAD


async def test_dispose_during_init_ends_the_start_at_once(staged: Make) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())
    await stage.connect()
    await stage.environment.dispose()
    await asyncio.wait_for(starting, 5)  # init itself would wait for 10 s
    assert stage.environment.state is EnvironmentState.DEAD
    assert stage.sandboxes[0].disposed


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"errorMessage":"\\ud800"}', b"\xff\x00", b"[1]"])
async def test_an_init_error_of_any_bytes_is_passed_on_and_ends(staged: Make, body: bytes) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())

    async def fail_init() -> None:
        runtime = await stage.connect()
        await runtime.post("init/error", body)
        stage.sandboxes[-1].exited.set_result(Exit(code=1))

    await fail_init()
    await starting
    execution = stage.begin(tail=True)
    await fail_init()
    assert (await execution.response).payload == body
    await execution.report


async def test_a_runtime_that_asks_and_dies_at_once_has_failed_its_init(staged: Make) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())
    runtime = await stage.connect()
    sandbox = stage.sandboxes[0]

    called = stage.environment.next_called

    def next_and_death(waiting: Waiting) -> Answer | None:
        answer = called(waiting)
        sandbox.exited.set_result(Exit(code=1))
        return answer

    stage.environment.next_called = next_and_death  # type: ignore[method-assign]
    await runtime.ask_next()
    await starting
    assert stage.environment.state is EnvironmentState.INIT_FAILED


async def test_an_init_that_fails_before_an_invocation_is_metered_as_one(staged: Make) -> None:
    stage = staged()
    starting = asyncio.ensure_future(stage.environment.start())
    runtime = await stage.connect()
    stage.sandboxes[0].cpu = 900
    await runtime.post("init/error", b'{"errorMessage":"no","errorType":"X"}')
    stage.sandboxes[0].kill()
    await starting
    [record] = stage.metered.records
    assert (record.trigger, record.outcome, record.request_id) == ("init", Outcome.INIT_ERROR, "")
    assert (record.cpu_us, record.duration_us, record.tags) == (900, 0, (("team", "red"),))
    assert record.billed_ms >= 1 and record.init_us > 0
