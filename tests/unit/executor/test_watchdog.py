"""A real process that hangs is ended; one that ticks, or ends by itself, is left alone."""

import os
import signal
import subprocess
import sys
import time

from lambent.executor.watchdog import watch

_VICTIM = """
import asyncio, sys
from lambent.executor.watchdog import Watchdog
from lambent.kernel.clock import SystemClock
async def main():
    dog = Watchdog(float(sys.argv[1]), SystemClock())
    ticking = asyncio.ensure_future(dog.run())
    print(dog._process.pid, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ticking.cancel()
    await dog.close()
    print("closed", flush=True)
asyncio.run(main())
"""


def _victim(seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_process_that_hangs_is_killed() -> None:
    with _victim(1.0) as victim:
        assert victim.stdout is not None
        victim.stdout.readline()
        victim.send_signal(signal.SIGSTOP)
        assert victim.wait(20) == -signal.SIGKILL


def test_a_process_that_ticks_lives_on_and_ends_as_it_likes() -> None:
    with _victim(1.0) as victim:
        assert victim.stdout is not None and victim.stdin is not None
        dog = int(victim.stdout.readline())
        time.sleep(2.0)  # twice as long as it may be silent
        assert victim.poll() is None
        victim.stdin.write("\n")
        victim.stdin.flush()
        assert victim.stdout.readline() == "closed\n"
        assert victim.wait(20) == 0
    assert not os.path.exists(f"/proc/{dog}")


def test_the_end_of_the_input_kills_nobody() -> None:
    ticks, input_ = os.pipe()
    os.close(input_)
    own = os.pidfd_open(os.getpid())
    try:
        assert watch(ticks, own, 5.0) is False
    finally:
        os.close(ticks)
        os.close(own)
