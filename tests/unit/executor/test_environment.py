"""The state machine with a real Runtime API socket and a scripted runtime, and no sandbox."""

import asyncio
import json
import os
from dataclasses import replace

import pytest
from playing import TARGET
from staging import Make

from lambent.executor.drivers.base import Exit
from lambent.executor.environment_states import EnvironmentState
from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Outcome


async def test_an_event_goes_to_the_runtime_and_its_answer_to_the_caller(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin(tail=True)
    assert stage.sandboxes[0].throttled, "CPU in proportion to memory begins when init is over"
    status, headers, body = await runtime.answer()
    assert (status, body) == (200, b'{"a":1}')
    assert headers["lambda-runtime-aws-request-id"] == "id-1"
    assert headers["lambda-runtime-invoked-function-arn"] == "arn"
    assert headers["lambda-runtime-trace-id"] == "Root=1"
    os.write(stage.sandboxes[0].stdout, b"hello\n")
    assert await runtime.post("invocation/id-1/response", b'"done"') == 202
    answer = await execution.response
    assert (answer.payload, answer.function_error) == (b'"done"', None)
    assert not execution.report.done(), "the slot is free at the report, not at the response"
    await runtime.ask_next()
    report = await execution.report
    assert report.outcome is Outcome.SUCCESS
    assert report.init_ms is not None and report.billed_ms >= 1
    lines = report.log_tail.decode().split("\n")
    assert lines[:3] == ["START RequestId: id-1 Version: $LATEST", "hello", "END RequestId: id-1"]
    assert lines[3].startswith("REPORT RequestId: id-1\tDuration: ")
    assert await stage.owner.idle.get() is stage.environment


async def test_only_the_first_report_has_an_init_duration(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    for has_init in (True, False):
        execution = stage.begin()
        await runtime.answer()
        await runtime.post("invocation/id-1/response", b"1")
        await runtime.ask_next()
        assert ((await execution.report).init_ms is not None) is has_init


async def test_an_error_is_passed_on_verbatim(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    body = b'{"errorMessage":"boom","errorType":"ValueError"}'
    header = "Lambda-Runtime-Function-Error-Type: ValueError"
    assert await runtime.post("invocation/id-1/error", body, header) == 202
    answer = await execution.response
    assert (answer.payload, answer.function_error, answer.error_type) == (body, "Unhandled", "ValueError")


async def test_a_stop_while_a_timeout_still_kills_takes_no_report_away(
    staged: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(target=replace(TARGET, timeout=1))
    runtime = await stage.ready()
    killed = asyncio.Event()
    monkeypatch.setattr(stage.sandboxes[0], "kill", killed.set)
    execution = stage.begin()
    await runtime.answer()
    await execution.response
    await killed.wait()
    stage.environment.stop()
    while not stage.owner.gone.empty():
        await stage.owner.gone.get_nowait().dispose()
    if not stage.sandboxes[0].exited.done():
        stage.sandboxes[0].exited.set_result(Exit(signal=9))
    assert (await execution.report).outcome is Outcome.TIMEOUT
    assert await stage.owner.gone.get() is stage.environment


async def test_a_timeout_answers_kills_and_reports_once_dead(staged: Make) -> None:
    stage = staged(target=replace(TARGET, timeout=1))
    runtime = await stage.ready()
    execution = stage.begin(tail=True)
    await runtime.answer()
    answer = await execution.response
    assert json.loads(answer.payload)["errorType"] == "Sandbox.Timedout"
    report = await execution.report
    assert report.outcome is Outcome.TIMEOUT
    assert report.duration_ms == pytest.approx(1000, abs=1e-6)
    assert b"Task timed out after 1.00 seconds" in report.log_tail
    assert stage.sandboxes[0].exited.done()
    assert await stage.owner.gone.get() is stage.environment


async def test_a_runtime_that_exits_is_reported_and_the_environment_not_used_again(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin(tail=True)
    await runtime.answer()
    stage.sandboxes[0].exited.set_result(Exit(code=3))
    answer = await execution.response
    assert json.loads(answer.payload)["errorMessage"].endswith("exit status 3")
    report = await execution.report
    assert report.outcome is Outcome.CRASH
    assert b"Runtime.ExitError\n" in report.log_tail
    assert await stage.owner.gone.get() is stage.environment


async def test_an_oversized_response_is_refused_and_the_caller_told(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    assert await runtime.post("invocation/id-1/response", b"x" * 6_291_557) == 413
    answer = await execution.response
    assert answer.error_type == "Function.ResponseSizeTooLarge"


async def test_the_largest_response_passes(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    assert await runtime.post("invocation/id-1/response", b"x" * 6_291_556) == 202
    assert len((await execution.response).payload) == 6_291_556


async def test_another_request_id_and_a_second_response_are_refused(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    stage.begin()
    await runtime.answer()
    assert await runtime.post("invocation/other/response", b"1") == 400
    assert await runtime.post("invocation/id-1/response", b"1") == 202
    assert await runtime.post("invocation/id-1/response", b"2") == 400


async def test_next_before_the_response_is_an_illegal_move(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    stage.begin()
    await runtime.answer()
    await runtime.ask_next()
    assert (await runtime.answer())[0] == 403


async def test_an_invocation_that_is_cut_off_is_answered_and_its_environment_dies(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    assert stage.environment.runs(execution)
    stage.environment.cut_off()
    assert (await execution.response).function_error == "Unhandled"
    assert (await execution.report).outcome is Outcome.CRASH
    assert await stage.owner.gone.get() is stage.environment
    assert any(line.startswith("The caller has gone") for line in stage.logs.lines)
    assert not stage.environment.runs(execution)


async def test_an_idle_environment_is_frozen_and_thawed_for_the_next_event(staged: Make) -> None:
    stage = staged(freeze_after=0.005)
    runtime = await stage.ready()
    await stage.sandboxes[0].frozen.wait()
    assert stage.environment.state is EnvironmentState.FROZEN
    execution = stage.begin()
    assert stage.sandboxes[0].thaws == 1
    await runtime.answer()
    await runtime.post("invocation/id-1/response", b"1")
    await execution.response


async def test_a_runtime_that_hangs_up_while_idle_is_not_given_anything(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    runtime.writer.close()
    assert await stage.owner.gone.get() is stage.environment
    assert stage.environment.state is EnvironmentState.DEAD


async def test_a_condemned_environment_dies_when_its_invocation_has_ended(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    stage.environment.stop()
    await runtime.post("invocation/id-1/response", b"1")
    await runtime.ask_next()
    await execution.report
    assert await stage.owner.gone.get() is stage.environment


async def test_dispose_ends_a_running_execution_with_an_error_and_frees_the_sandbox(staged: Make) -> None:
    stage = staged()
    await stage.ready()
    execution = stage.begin()
    await stage.environment.dispose()
    with pytest.raises(ServiceException):
        await execution.response
    assert stage.sandboxes[0].disposed


async def test_bytes_that_are_not_http_hang_up_and_nothing_else(staged: Make) -> None:
    stage = staged()
    await stage.ready()
    other = await asyncio.open_connection("127.0.0.1", stage.sandboxes[0].port)
    stage.clients.append(other[1])
    other[1].write(b"\x00\x01\x02\r\n\r\n")
    assert b"400" in await other[0].read()
    assert stage.environment.state is EnvironmentState.IDLE


@pytest.mark.parametrize("number", [11, 34, 40, 64])
async def test_every_signal_that_ends_a_runtime_is_reported(staged: Make, number: int) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    stage.sandboxes[0].exited.set_result(Exit(signal=number))
    assert b"signal: " in (await execution.response).payload
    assert (await execution.report).outcome is Outcome.CRASH


async def test_a_fault_of_the_platform_ends_the_execution_with_an_error(
    staged: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    monkeypatch.setattr(
        "lambent.executor.limits.billed_ms", lambda *_: (_ for _ in ()).throw(MemoryError("none left"))
    )
    posting = asyncio.ensure_future(runtime.post("invocation/id-1/response", b"1"))
    with pytest.raises(ServiceException, match="none left"):
        await execution.report
    posting.cancel()  # the runtime gets no answer any more: it is killed
    assert await stage.owner.gone.get() is stage.environment


async def test_output_without_an_end_of_line_belongs_to_its_own_invocation(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    execution = stage.begin(tail=True)
    await runtime.answer()
    os.write(stage.sandboxes[0].stdout, b"no end")
    await runtime.post("invocation/id-1/response", b"1")
    await runtime.ask_next()
    assert (await execution.report).log_tail.decode().split("\n")[1] == "no end"


async def test_an_execution_is_metered_before_its_caller_has_the_answer(staged: Make) -> None:
    stage = staged(target=replace(TARGET, memory_size=256, ephemeral_storage=1024))
    runtime = await stage.ready()
    execution = stage.begin()
    seen: list[int] = []
    execution.response.add_done_callback(lambda _: seen.append(len(stage.metered.records)))
    await runtime.answer()
    stage.sandboxes[0].cpu = 7000
    await runtime.post("invocation/id-1/response", b'"done"')
    await execution.response
    await runtime.ask_next()
    report = await execution.report
    assert seen == [1]
    [record] = stage.metered.records
    assert record.billed_ms == report.billed_ms
    assert record.duration_us == round(report.duration_ms * 1000)
    assert record.init_us == round((report.init_ms or 0) * 1000) > 0
    assert (record.cpu_us, record.peak_memory) == (7000, report.max_memory_used)
    assert (record.bytes_in, record.bytes_out) == (len(b'{"a":1}'), len(b'"done"'))
    assert (record.memory_mb, record.ephemeral_mb) == (256, 1024)
    assert (record.outcome, record.request_id, record.trigger) == (Outcome.SUCCESS, "id-1", "sync")


async def test_cpu_time_is_each_executions_own(staged: Make) -> None:
    stage = staged()
    runtime = await stage.ready()
    for used in (3000, 5500):
        execution = stage.begin()
        await runtime.answer()
        stage.sandboxes[0].cpu = used
        await runtime.post("invocation/id-1/response", b"1")
        await runtime.ask_next()
        await execution.report
    assert [record.cpu_us for record in stage.metered.records] == [3000, 2500]


async def test_a_timeout_is_metered_once_and_as_long_as_the_timeout(staged: Make) -> None:
    stage = staged(target=replace(TARGET, timeout=1))
    runtime = await stage.ready()
    execution = stage.begin()
    await runtime.answer()
    await execution.report
    [record] = stage.metered.records
    assert (record.outcome, record.duration_us) == (Outcome.TIMEOUT, 1_000_000)
