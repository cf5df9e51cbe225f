"""The end of an environment: whoever else wants it waits for it, and its extensions have their time."""

import asyncio
import json
import signal

from playing import FakeSandbox, Runtime
from staging import Make, Stage


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
