"""The process that takes and restores snapshots, apart from the server: the kernel lets a thread trace, not a
process, and what it reads of functions must not be in the server's memory. It has the server's powers, and ends
with its socket. Standard library only.

Requests: {"take": name, "pid", "init"} [pidfd] is answered by {"taken": bytes} [memory], {"restore": name,
"pid"} [pidfd] by {"restored": name}, {"drop": name} by nothing; {"refused": text} and {"error": text} say why
not.
"""

import os
import signal
import socket
from typing import Any

from lambent.executor.drivers.sandbox import snapshot, wire
from lambent.executor.drivers.sandbox.snapshot import Refused, Snapshot


def _serve(
    control: socket.socket, kept: dict[str, Snapshot], message: dict[str, Any], given: list[int]
) -> None:
    if "drop" in message:
        dropped = kept.pop(message["drop"], None)
        if dropped is not None:
            dropped.close()
        return
    try:
        if "take" in message:
            taken = kept[message["take"]] = snapshot.take(message["pid"], given[0], message["init"])
            wire.send(control, {"taken": taken.size}, [taken.memory])
        elif message["restore"] not in kept:
            wire.send(control, {"error": "the snapshot was dropped"})
        else:
            snapshot.restore(kept[message["restore"]], message["pid"], given[0])
            wire.send(control, {"restored": message["restore"]})
    except Refused as refusal:
        wire.send(control, {"refused": str(refusal)})
    except OSError as failure:
        wire.send(control, {"error": str(failure)})


def main(descriptor: int) -> None:
    """The process's whole life."""
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kept: dict[str, Snapshot] = {}
    while True:
        received = wire.receive(control)
        if received is None:
            return
        message, given = received
        try:
            _serve(control, kept, message, given)
        finally:
            for each in given:
                os.close(each)
