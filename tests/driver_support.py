"""What tests of drivers share: environments whose runtime is a few lines of Python, started or forked, and
their output awaited."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lambent.executor.drivers.base import EnvironmentSpec, Exit, Sandbox
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.runtimes import python

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


# In the place of the runtime client: `main` runs the code of the start, whose variables it takes away.
_CLIENT = """
import os, sys
def main(argv):
    code = os.environ["CODE"]
    for name in ("CODE", "_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "PYTHONPATH"):
        del os.environ[name]
    exec(compile(code, "code", "exec"), sys.modules["__main__"].__dict__)
"""


def fork_maker(folder: Path) -> Spec:
    """As `spec_maker`, of starts that can be forked."""
    plain = spec_maker(folder)
    runtime = folder / "runtime"
    (runtime / "awslambdaric").mkdir(exist_ok=True)
    (runtime / "awslambdaric/__init__.py").touch()
    (runtime / "awslambdaric/__main__.py").write_text(_CLIENT)
    shutil.copy(python.__file__.replace("python.py", "python_bootstrap.py"), runtime / "bootstrap.py")

    def make(code: str, **changes: object) -> EnvironmentSpec:
        spec = plain(code, **{"ephemeral_mb": 512, **changes})
        own = {
            "CODE": code,
            "_HANDLER": "",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
        }
        argv = spec.argv if "argv" in changes else (spec.argv[0], "-S", "/var/runtime/bootstrap.py")
        return replace(spec, argv=argv, env={**spec.env, **own}, fork_env={})

    return make


async def until_parked(driver: SandboxDriver, spec: Spec, count: int = 1) -> None:
    """Asks for a start, and waits until so many slots are parked for the next ones."""
    first = await driver.start(spec("pass", id="first"))
    await first.dispose()
    async with asyncio.timeout(20):
        while driver.parked < count:
            await asyncio.sleep(0.01)


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
