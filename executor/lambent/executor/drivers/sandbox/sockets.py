"""Sockets of an environment's own network for the executor, which delivers telemetry to what listens inside.

A socket belongs to the network namespace in which it was made, whoever holds it; and only a process without
other threads may enter a user namespace. So a small program enters, makes them, hands them over and ends: the
executor itself never leaves the host's network, and the program holds nothing of a function.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lambent.executor.drivers.sandbox import wire

_SECONDS = 10.0
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from lambent.executor.drivers.sandbox.sockets_inside import main; "
    "main(*sys.argv[2:])"
)


def interpreter(code: str, *arguments: str) -> list[str]:
    """A bare interpreter that runs `code`, whose first argument is the source root: it goes last, for nothing
    beside us may stand before the standard library."""
    source_root = str(Path(__file__).resolve().parents[4])
    return [sys.executable, "-I", "-S", "-E", "-c", code, source_root, *arguments]


async def make(namespace: int, user_namespace: str | None, count: int) -> Sequence[socket.socket]:
    """`count` unconnected, non-blocking TCP sockets of the network namespace. Raises OSError."""
    if namespace < 0:
        raise OSError("the environment has gone")
    network = os.dup(namespace)  # the environment may go meanwhile
    work = asyncio.get_running_loop().run_in_executor(None, _make, network, user_namespace, count)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close_all)  # who asked has gone; the thread goes on to its end
        raise


def _close_all(work: "asyncio.Future[Sequence[socket.socket]]") -> None:
    if not work.cancelled() and work.exception() is None:
        for one in work.result():
            one.close()


def _make(network: int, user_namespace: str | None, count: int) -> Sequence[socket.socket]:
    """Closes `network`."""
    try:
        return _made_inside(network, user_namespace, count)
    finally:
        os.close(network)


def _made_inside(network: int, user_namespace: str | None, count: int) -> Sequence[socket.socket]:
    ours, theirs = wire.pair()
    with ours:
        with theirs:
            ours.settimeout(_SECONDS)
            process = subprocess.Popen(
                interpreter(_CODE, str(theirs.fileno()), str(network), user_namespace or "-", str(count)),
                env={},
                cwd="/",
                pass_fds=[theirs.fileno(), network],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            received = wire.receive(ours)
        finally:
            process.kill()
            process.wait()
    if received is None or "error" in received[0]:
        raise OSError(f"no socket inside: {received[0]['error'] if received is not None else 'it ended'}")
    made = [socket.socket(fileno=descriptor) for descriptor in received[1]]
    for one in made:
        one.setblocking(False)
    return made
