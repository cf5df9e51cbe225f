"""What tests of forked environments share: a driver that forks, with the real runtime client, and a
function's view of its own process as JSON."""

import asyncio
import json
import os
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from driver_support import read_line

from lambent.executor.drivers.base import DriverConfig, EnvironmentSpec, Sandbox
from lambent.executor.drivers.sandbox.driver import SandboxDriver
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.executor.drivers.sandbox.spawning import ZygoteProcess
from lambent.executor.runtimes.family import RuntimeCommand


class World:
    """One driver and functions of a runtime."""

    def __init__(self, driver: SandboxDriver, command: RuntimeCommand, folder: Path) -> None:
        self.driver = driver
        self.command = command
        self.folder = folder
        self._count = 0

    def spec(self, code: str | Mapping[str, str], **changes: Any) -> EnvironmentSpec:
        """A start of a function with this code; `env`: variables of its own."""
        self._count += 1
        task = self.folder / f"task{self._count}"
        files = {"app.py": code} if isinstance(code, str) else code
        for name, text in files.items():
            path = task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        own = {
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
            "AWS_REGION": "us-east-1",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "_HANDLER": "app.handler",
        }
        return EnvironmentSpec(
            id=f"e{self._count}",
            argv=self.command.argv,
            env={**self.command.env, **own, **changes.pop("env", {})},
            task_dir=task,
            runtime_dir=self.command.runtime_dir,
            opt_dir=changes.pop("opt_dir", None),
            prefixes=self.command.prefixes,
            memory_mb=changes.pop("memory_mb", 1769),
            ephemeral_mb=changes.pop("ephemeral_mb", 512),
            fork_env=self.command.fork_env,
            ahead_env=self.command.ahead_env,
            snapshot=changes.pop("snapshot", None),
        )

    async def start(self, code: str | Mapping[str, str], **changes: Any) -> RunningSandbox:
        sandbox: Sandbox = await self.driver.start(self.spec(code, **changes))
        assert isinstance(sandbox, RunningSandbox)
        return sandbox

    async def says(self, code: str | Mapping[str, str], *, start: str = "parked", **changes: Any) -> Any:
        """The first line that the code prints, as JSON, of an environment that was started so."""
        sandbox = await self.start(code, **changes)
        try:
            assert sandbox.start == start
            line = await read_line(sandbox)
            assert line.startswith(("{", "[", '"')), line + await read_line(sandbox) + await read_line(sandbox)
            return json.loads(line)
        finally:
            await sandbox.dispose()

    async def parked(
        self, count: int = 1, code: str | Mapping[str, str] = "def handler(e, c): pass", **changes: Any
    ) -> None:
        """Asks for so many starts, and waits until as many slots are there for the next ones."""
        for sandbox in await asyncio.gather(*(self.start(code, **changes) for _ in range(count))):
            await sandbox.dispose()
        async with asyncio.timeout(30):
            while self.driver.parked < count:
                await asyncio.sleep(0.01)

    def zygotes(self) -> list[ZygoteProcess]:
        return [line.zygote for line in self.driver._parking._lines.values() if line.zygote is not None]

    def slots(self) -> list[RunningSandbox]:
        return [slot for line in self.driver._parking._lines.values() for slot in line.parked]


@asynccontextmanager
async def forking(command: RuntimeCommand, folder: Path, *, slots: int = 4) -> AsyncIterator[World]:
    driver = SandboxDriver(
        DriverConfig(folder / "state", f"forking-{os.getpid()}", 1_750_000, 64, parked_slots=slots), None
    )
    await driver.open()
    try:
        yield World(driver, command, folder)
    finally:
        await driver.close()
