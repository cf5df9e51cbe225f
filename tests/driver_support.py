"""What tests of drivers share: environments whose runtime is a few lines of Python, and their output
awaited."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lambent.executor.drivers.base import EnvironmentSpec, Exit, Sandbox

Spec = Callable[..., EnvironmentSpec]


def spec_maker(folder: Path) -> Spec:
    """`spec(code, **changes)`: an environment that runs `code`, with its folders under `folder`."""
    task, runtime = folder / "task", folder / "runtime"
    task.mkdir(exist_ok=True)
    runtime.mkdir(exist_ok=True)
    base = EnvironmentSpec(
        id="one",
        argv=(),
        env={"GREETING": "hello", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"},
        task_dir=task,
        runtime_dir=runtime,
        opt_dir=None,
        prefixes=(Path(sys.base_prefix),),
        memory_mb=1769,
        ephemeral_mb=16,
    )

    def make(code: str, **changes: object) -> EnvironmentSpec:
        # Not the venv's: it may lie under /tmp, where an environment has a folder of its own.
        return replace(base, **{"argv": (str(Path(sys.executable).resolve()), "-S", "-c", code), **changes})  # type: ignore[arg-type]

    return make


async def read_line(sandbox: Sandbox) -> str:
    """The next line of its output; "" at its end."""
    loop, data = asyncio.get_running_loop(), b""
    while not data.endswith(b"\n"):
        readable = asyncio.Event()
        loop.add_reader(sandbox.output, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), 20)
        finally:
            loop.remove_reader(sandbox.output)
        byte = os.read(sandbox.output, 1)
        if not byte:
            break
        data += byte
    return data.decode().strip()


async def ended(sandbox: Sandbox) -> Exit:
    return await asyncio.wait_for(asyncio.shield(sandbox.exited), 20)
