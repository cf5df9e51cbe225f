"""Ends an executor that hangs: what it runs would go on though nobody counts it any more. A process of its own,
for the executor cannot watch itself; it knows the executor by a descriptor of its process, which no other can
get.

It reads from its standard input how long the executor may be silent. When no other word came by then it is
killed, and its environments end with it; the end of the input is the executor's own end."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from lambent.kernel.ports import Clock

TICK_SECONDS = 0.5


def watch(source: int, parent: int, seconds: float) -> bool:
    """Until the input ends (False), or the parent had to be killed (True). `seconds`: before the first word."""
    until = time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        if left <= 0:
            signal.pidfd_send_signal(parent, signal.SIGKILL)
            return True
        readable, _, _ = select.select([source], [], [], left)
        if readable:
            said = os.read(source, 4096)
            if not said:
                return False
            # One byte a word: tenths of a second from now.
            until = time.monotonic() + said[-1] / 10


class Watchdog:
    """The executor's side: run `run` under `Tasks.forever`. `left()`: for how long it may be silent from now,
    in seconds; at most 25."""

    def __init__(self, seconds: float, clock: Clock, left: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._left = left or (lambda: seconds)
        self._closed = False
        command = [sys.executable, "-I", "-c", _START, str(seconds), str(os.getpid()), *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    async def run(self) -> None:
        """Ticks, for ever."""
        assert self._process.stdin is not None
        while not self._closed:
            tenths = min(250, max(1, int(self._left() * 10)))
            os.write(self._process.stdin.fileno(), bytes([tenths]))
            await self._clock.sleep(TICK_SECONDS)
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """The executor ends by itself."""
        assert self._process.stdin is not None
        self._closed = True
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
