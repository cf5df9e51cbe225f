"""Reads what a runtime writes to stdout and stderr, and cuts it into lines, without ever letting a function
that writes without end take the server's time from the others: the function waits for its pipe instead.
"""

import asyncio
import os
from collections.abc import Callable

from lambent.executor.log_lines import LineCutter

_READ = 65536
# How much is read in so many seconds; a pipe holds one read.
_MOST = 16 * _READ
_SECONDS = 0.1
_DRAIN_READS = 4


class Output:
    """The output of one runtime process. `pipe`: the non-blocking read end, which stays its owner's; `emit`
    gets each line. `close` before the pipe is closed."""

    def __init__(self, pipe: int, emit: Callable[[str], None]) -> None:
        self._pipe = pipe
        self._cutter = LineCutter(emit)
        self._loop = asyncio.get_running_loop()
        self._left = _MOST
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._ended = False
        self._listen()

    def drain(self) -> None:
        """What was written before now; bounded, for a background thread may go on writing."""
        for _ in range(_DRAIN_READS):
            if not self._read():
                return

    def finish_line(self) -> None:
        """A last line without an end belongs to what was written before, not to what comes."""
        self._cutter.flush()

    def close(self) -> None:
        """The last of it; reads no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._silence()
        self.drain()
        self._ended = True
        self._cutter.flush()

    def _listen(self) -> None:
        self._reading = True
        self._loop.add_reader(self._pipe, self._readable)

    def _silence(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._pipe)

    def _readable(self) -> None:
        self._read()
        if self._ended:
            self._silence()
            return
        self._left -= _READ
        if self._timer is None:
            self._timer = self._loop.call_later(_SECONDS, self._go_on)
        if self._left <= 0:
            self._silence()

    def _go_on(self) -> None:
        self._timer = None
        self._left = _MOST
        if not self._reading and not self._ended:
            self._listen()

    def _read(self) -> bool:
        """Whether there was something."""
        if self._ended:
            return False
        try:
            data = os.read(self._pipe, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._ended = True
            return False
        self._cutter.feed(data)
        return True
