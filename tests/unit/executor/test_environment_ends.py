"""The end of an environment: whoever else wants it waits for it, and its extensions have their time."""

import asyncio
import json
import signal
from dataclasses import replace

from playing import TARGET, FakeSandbox, Runtime
from staging import Make, Stage

from lambent.executor.drivers.base import Exit
from lambent.executor.environment_states import EnvironmentState
from lambent.kernel.models import Outcome


async def _watched(stage: Stage) -> tuple[Runtime, FakeSandbox]:
    """An idle environment with an external extension, which waits for its next event."""
    stage.environment.external = ("watcher",)
    starting = asyncio.ensure_future(stage.environment.start())
    runtime = await stage.connect()
    (sandbox,) = stage.sandboxes
    watcher = await stage.connect_to(sandbox)
    await watcher.ask_event(await watcher.register("watcher", "SHUTDOWN"))
    await runtime.ask_next()
    await starting
    return watcher, sandbox


async def test_a_second_end_does_not_cut_the_first_ones_extensions_off(staged: Make) -> None:
    stage = staged()
    watcher, sandbox = await _watched(stage)
    first = asyncio.ensure_future(stage.environment.dispose())
    assert await sandbox.signals.get() == signal.SIGTERM
    second = asyncio.ensure_future(stage.environment.dispose())
    launcher = await stage.connect_to(sandbox)
    await launcher.runtime_ended()
    _, _, body = await watcher.answer()
    assert json.loads(body)["shutdownReason"] == "spindown"
    assert not second.done() and not sandbox.disposed
    sandbox.kill()
    await asyncio.gather(first, second)
    assert sandbox.disposed


async def test_a_second_end_returns_when_nothing_is_left(staged: Make) -> None:
    stage = staged()
    await stage.ready()
    (sandbox,) = stage.sandboxes
    begun, may_end, free = asyncio.Event(), asyncio.Event(), sandbox.dispose

    async def slow() -> None:
        begun.set()
        await may_end.wait()
        await free()

    sandbox.dispose = slow  # type: ignore[method-assign]
    first = asyncio.ensure_future(stage.environment.dispose())
    await begun.wait()
    second = asyncio.ensure_future(stage.environment.dispose())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    may_end.set()
    await asyncio.gather(first, second)
    assert sandbox.disposed


async def _shut_down(watcher: Runtime, launcher: Runtime, sandbox: FakeSandbox) -> str:
    """The reason that an extension is told, after its runtime has ended; then everything has."""
    async with asyncio.timeout(5):
        assert await sandbox.signals.get() == signal.SIGTERM
        assert not sandbox.disposed
        await launcher.runtime_ended()
        _, _, body = await watcher.answer()
    event = json.loads(body)
    assert event["eventType"] == "SHUTDOWN"
    sandbox.kill()
    return str(event["shutdownReason"])


async def test_an_init_that_times_out_tells_its_extensions_and_delivers_the_last_telemetry(
    staged: Make,
) -> None:
    stage = staged()
    stage.environment.external = ("watcher",)
    stage.environment.init_seconds = 0.2
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.put_nowait(line)
        writer.close()

    async with await asyncio.start_server(read, "127.0.0.1", 0) as server:
        starting = asyncio.ensure_future(stage.environment.start())
        watcher = await stage.connect()
        (sandbox,) = stage.sandboxes
        identifier = await watcher.register("watcher", "SHUTDOWN")
        to = {"protocol": "TCP", "port": server.sockets[0].getsockname()[1]}
        late = {"timeoutMs": 30_000}  # of itself nothing would be delivered in this test
        await watcher.subscribe(identifier, {"types": ["platform"], "destination": to, "buffering": late})
        await watcher.ask_event(identifier)
        reason = await _shut_down(watcher, await stage.connect_to(sandbox), sandbox)
        assert reason == "timeout"
        await starting
        events = [json.loads(heard.get_nowait()) for _ in range(heard.qsize())]
        assert [event["record"]["status"] for event in events if event["type"] == "platform.initReport"] == [
            "timeout"
        ]
    assert stage.environment.state is EnvironmentState.INIT_FAILED
    assert stage.owner.gone.empty(), "its first invocation has another init"
    assert sandbox.disposed


async def test_so_does_one_inside_an_invocation_which_ends_once(staged: Make) -> None:
    stage = staged(target=replace(TARGET, timeout=1))
    stage.environment.external = ("watcher",)
    starting = asyncio.ensure_future(stage.environment.start())
    await stage.connect()
    stage.sandboxes[0].exited.set_result(Exit(code=1))
    await starting
    execution = stage.begin()
    watcher = await stage.connect()
    sandbox = stage.sandboxes[1]
    await watcher.ask_event(await watcher.register("watcher", "SHUTDOWN"))
    reason = await _shut_down(watcher, await stage.connect_to(sandbox), sandbox)
    assert reason == "timeout"
    assert (await execution.report).outcome is Outcome.TIMEOUT
    assert await stage.owner.gone.get() is stage.environment
    assert len(stage.owner.reports) == 1 and stage.owner.gone.empty()


async def test_an_extension_that_fails_in_init_ends_the_others_as_a_failure(staged: Make) -> None:
    stage = staged()
    stage.environment.external = ("watcher", "broken")
    starting = asyncio.ensure_future(stage.environment.start())
    watcher = await stage.connect()
    (sandbox,) = stage.sandboxes
    await watcher.ask_event(await watcher.register("watcher", "SHUTDOWN"))
    broken = await stage.connect_to(sandbox)
    await broken.fail_init(await broken.register("broken"))
    assert await _shut_down(watcher, await stage.connect_to(sandbox), sandbox) == "failure"
    await starting
    assert stage.environment.state is EnvironmentState.INIT_FAILED
