"""A zygote: an interpreter with the runtime client imported and no user code, from which environments are
forked. The launcher of the runtime loads this when it finds a control socket; it runs in the read-only
root, with the spawner's powers, on whatever Python 3 the runtime names (no newer syntax; standard library
only).

Each request forks a *slot*: everything of an environment is made but what depends on the function, and
there it waits, without any power: in its user namespace, under the outside uid, no capabilities, no_new_privs,
the system call filter. Then, in this order: the spawner mounts the code; every descriptor from 3 on is
closed; and only then come the function's variables and its path, in `turn_into`. Nothing is imported in
between. What a slot reads of its function it reads itself; the zygote never does, so no function's variables
can be in the memory that another's process starts with.
"""

from __future__ import annotations

import codecs
import gc
import os
import random
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from lambent.executor.drivers.sandbox import appearance, contain, packing, rehearsal, rootfs, seccomp, wire
from lambent.executor.drivers.sandbox import syscalls as sys_
from lambent.executor.drivers.sandbox.forking import Forker, report
from lambent.executor.drivers.sandbox.preloaded import Preloaded

_REHEARSED_MODULE = "rehearsed"
# As many as a function has.
_REHEARSED = {
    **{f"VARIABLE_{number}": "of some length" for number in range(24)},
    "AWS_LAMBDA_RUNTIME_API": ":".join(map(str, contain.RUNTIME_API)),
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "LAMBDA_TASK_ROOT": "/var/task",
    "_HANDLER": f"{_REHEARSED_MODULE}.handler",
}
_READ_AT_IMPORT = {"AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL"}


class Zygote(Forker):
    """The loop of a zygote. Requests: first {"preload": names of modules}; then {} [body, channel, output,
    the /tmp image's device if there is one]."""

    def __init__(self, control: socket.socket) -> None:
        super().__init__(control, rootfs.ZYGOTE_TMP)
        self._footprint: list[tuple[int, int, bool]] = []
        self._filter = sys_.Filter(seccomp.program())
        self._appearance = appearance.Appearance()

    def handle(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any] | None:
        body, channel_fd, output, *image = descriptors
        channel = socket.socket(fileno=channel_fd)
        try:
            request = wire.read_body(body)
            if self.fork(request["id"], channel):
                return self._become(request, channel, output, image)
        except OSError as error:
            report(channel, f"zygote: {error}")
        for descriptor in (output, *image):
            os.close(descriptor)
        channel.close()
        return None

    def _become(
        self, request: dict[str, Any], channel: socket.socket, output: int, image: list[int]
    ) -> dict[str, Any]:
        """In the child: from fork to being a function's. Returns what the driver said of the function."""
        steps = contain.Steps()
        try:
            contain.begin(steps, request, channel, output)
            steps.at("file system")
            rootfs.renew()
            steps.at("/tmp")
            device = f"/proc/self/fd/{image[0]}" if image else None
            rootfs.mount_tmp("", {**request, "image": device})
            contain.settle(steps, channel)
            contain.drop(steps, request, self._filter)
            steps.at("waiting for a function")
            self._get_ready()
            wire.send(channel, {"step": "parked"})
            function, memory = _wait_for_function(channel)
            steps.at("file system")
            os.chdir("/var/task")
            steps.at("limits")
            contain.set_limits(function["rlimits"])
            steps.at("descriptors")
            if memory >= 0:
                os.dup2(memory, 3)
                sys_.close_from(4)
                _wait_to_be_replaced()
            sys_.close_from(3)
        except BaseException as error:
            contain.give_up(steps, error, channel)
        channel.detach()
        return function

    def rehearse(self, begin: Callable[[], None]) -> None:
        """A start of a function that does nothing. Without it slots are slower, and no less right."""

        def perform() -> None:
            self._appearance.prepare()
            self.turn_into({"env": {**os.environ, **_REHEARSED}})
            begin()

        with open(f"{rootfs.ZYGOTE_TMP}/0/{_REHEARSED_MODULE}.py", "w", encoding="ascii") as file:
            file.write("def handler(event, context): pass\n")
        gc.collect()
        self._filling = packing.fill_gaps()
        gc.freeze()  # as it will be in a slot
        try:
            self._footprint = rehearsal.learn(perform)
        except OSError as failure:
            self.problem = str(failure)

    def turn_into(self, function: dict[str, Any]) -> None:
        """Makes the process what a plain start with the function's variables would be. The function is in power
        of it from here on."""
        given: dict[str, str] = function["env"]
        variables = dict(given)
        if "LC_CTYPE" in os.environ:  # set by the interpreter, which would have done so again
            variables.setdefault("LC_CTYPE", os.environ["LC_CTYPE"])
        zone = os.environ.get("TZ")
        os.environ.clear()
        os.environ.update(variables)
        if variables.get("TZ") != zone:
            time.tzset()
        self._appearance.show(given)
        sys.path[1:1] = [folder for folder in variables.get("PYTHONPATH", "").split(":") if folder]
        _forget_settings(variables)
        gc.enable()

    def _get_ready(self) -> None:
        """What a start would wait for otherwise, and what must not be the same in two forks."""
        self._appearance.prepare()
        rehearsal.touch(self._footprint)
        random.seed()
        ssl.RAND_add(os.urandom(32), 32.0)


def _wait_for_function(channel: socket.socket) -> tuple[dict[str, Any], int]:
    """The function, from the driver, when the spawner has said that its code is mounted; the memory of the
    snapshot that it is to be restored from, else -1. Ends with the driver."""
    function: dict[str, Any] | None = None
    mounted = restore = False
    memory = -1
    while function is None or not mounted or (restore and memory < 0):
        received = wire.receive(channel)
        if received is None:
            os._exit(126)
        message, descriptors = received
        if "error" in message:
            wire.send(channel, message)
            os._exit(126)
        function = message.get("function", function)
        restore = message.get("restore", restore)
        mounted = mounted or message.get("step") == "mounted"
        if "memory" in message:
            memory = descriptors[0]
    return function, memory


def _wait_to_be_replaced() -> NoReturn:
    """A snapshot takes this process's place: its memory, its registers, its descriptors."""
    while True:
        signal.pause()


def serve(client: set[str], begin: Callable[[], None]) -> None:
    """Runs until the driver hangs up, and then ends the process; returns in a process that is a function's now.
    `client`: the names of the modules that a process which was started plainly would have; `begin`: what
    comes next, for a rehearsal."""
    control = socket.socket(fileno=contain.ZYGOTE_CONTROL)
    os.set_inheritable(contain.ZYGOTE_CONTROL, False)
    gc.disable()  # a collection would write to the pages that are shared
    codecs.lookup("ascii")  # so that no slot has to import it
    ssl.RAND_bytes(1)  # nor to make its generator, a megabyte
    first = wire.receive(control)
    if first is None:
        os._exit(0)
    preloaded = Preloaded(client, first[0]["preload"])
    preloaded.hide()
    sys_.unmount(rootfs.SOURCES)
    zygote = Zygote(control)
    preloaded.keep(zygote)
    zygote.rehearse(begin)
    function = zygote.serve()
    if function is None:
        os._exit(0)
    zygote.turn_into(function)


def _forget_settings(variables: dict[str, str]) -> None:
    """The client reads these variables when it is imported; so it is imported again where they are set."""
    if "awslambdaric.lambda_literals" not in sys.modules and not _READ_AT_IMPORT & set(variables):
        return
    client = sys.modules["awslambdaric"]
    for name in ("__main__", "bootstrap", "lambda_literals"):
        if sys.modules.pop(f"awslambdaric.{name}", None) is not None:
            delattr(client, name)
