"""Running pip, npm or mvn for `lambent runtimes install`: their output as it comes, and an end in any case."""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambent.executor.runtimes.family import OnLine
from lambent.kernel.errors import ServiceException


async def run(
    command: Sequence[str],
    *,
    seconds: float,
    on_line: OnLine | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[int, list[str]]:
    """The exit code and the lines of output; `env`: variables added to ours. The whole process group ends with
    it. Raises ServiceException when it takes longer."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    lines: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            assert process.stdout is not None
            async for raw in process.stdout:
                lines.append(raw.decode(errors="replace").rstrip())
                if on_line is not None:
                    on_line(lines[-1])
            return await process.wait(), lines
    except TimeoutError:
        raise ServiceException(f"{Path(command[0]).name} did not end within {seconds:.0f} s.") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
            await process.wait()


def works(command: Sequence[str]) -> bool:
    """Whether it runs and ends well."""
    try:
        ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0
