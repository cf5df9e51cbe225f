"""Ends an executor that hangs: what it runs would go on though nobody counts it any more. A process of its own,
for the executor cannot watch itself; it knows the executor by a descriptor of its process, which no other can
get.

It reads ticks from its standard input. When none came for so long the parent is killed, and its environments
end with it; the end of the input is the executor's own end."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time

from lambent.kernel.ports import Clock

TICK_SECONDS = 0.5


def watch(source: int, parent: int, seconds: float) -> bool:
    """Until the input ends (False), or the parent had to be killed (True)."""
    until = time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        if left <= 0:
            signal.pidfd_send_signal(parent, signal.SIGKILL)
            return True
        readable, _, _ = select.select([source], [], [], left)
        if readable:
            if not os.read(source, 4096):
                return False
            until = time.monotonic() + seconds


class Watchdog:
    """The executor's side: run `run` under `Tasks.forever`."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        command = [sys.executable, "-I", "-c", _START, str(seconds), str(os.getpid()), *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    async def run(self) -> None:
        """Ticks, for ever."""
        assert self._process.stdin is not None
        while True:
            os.write(self._process.stdin.fileno(), b".")
            await self._clock.sleep(TICK_SECONDS)

    async def close(self) -> None:
        """The executor ends by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.to_thread(self._process.wait)


_START = """
import sys
seconds, parent, sys.path[:] = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
from lambent.executor.watchdog import main
main(seconds, parent)
"""


def main(seconds: float, parent: int) -> None:
    """The watching process. Signals of the terminal are the executor's to obey."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    descriptor = os.pidfd_open(parent)
    if os.getppid() == parent:  # else it has ended, and the number may be another's
        watch(0, descriptor, seconds)


__all__ = ["Watchdog", "main", "watch"]
