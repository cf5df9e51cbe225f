"""Memory limits where no control group can be had: looks at the processes of every environment some times a
second and has those above their limit killed. Coarser than the kernel's limit, and said to be so.
"""

import asyncio
from collections.abc import Callable, Iterable

from lambent.executor.drivers.sandbox import usage
from lambent.executor.drivers.sandbox.running import RunningSandbox
from lambent.kernel.log import Log

_log = Log(__name__)

SECONDS = 0.2


async def watch(sandboxes: Callable[[], Iterable[RunningSandbox]]) -> None:
    """Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SECONDS)
        for sandbox in list(sandboxes()):
            if sandbox.exited.done():
                continue
            try:
                used = await loop.run_in_executor(None, usage.memory_of, sandbox.pids())
            except OSError as failure:  # out of descriptors, say; a sampler that dies would end every limit
                _log.error("An environment's memory cannot be read.", environment=sandbox.id, failure=failure)
                continue
            sandbox.sampled_peak = max(sandbox.sampled_peak, used)
            if used > sandbox.memory_limit and not sandbox.exited.done():
                _log.warning("An environment is above its memory limit.", environment=sandbox.id, bytes=used)
                sandbox.over_memory()
