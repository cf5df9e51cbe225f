"""The loop of a process that forks environments, shared by the spawner (whose children execute a runtime)
and by zygotes (whose children are the runtime already).

Such a process is PID 1 of a PID namespace of its own: when it dies, by whatever, the kernel kills every
environment; and it ends when its socket does, so nothing outlives the server. Each environment is a PID
namespace inside with two children: a PID 1 that only sleeps (and lets the kernel reap orphans), and the
runtime process as PID 2, so that signals mean to it what they mean anywhere (a PID 1 ignores SIGTERM and
its own SIGKILL, and ends an abort as a segfault), and its parent gets its true wait status. The sleeper is
a loop around one system call in machine code, not a forked interpreter: 4 KiB of memory instead of more
than 1 MiB, times the environments.

Runs on every Python 3 that a runtime names, for a zygote loads it: no newer syntax. Standard library only.
"""

from __future__ import annotations

import gc
import os
import platform
import select
import signal
import socket
import struct
from typing import Any, NoReturn

from lambent.executor.drivers.sandbox import syscalls as sys_
from lambent.executor.drivers.sandbox import wire

# for (;;) pause();
_SLEEP = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7".replace(" ", ""))),  # mov eax,34; syscall; jmp -9
    "aarch64": (
        183,
        struct.pack(  # x0..x3 = 0; x8 = 73 (ppoll); svc 0; b -6 instructions
            "<7I", 0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800928, 0xD4000001, 0x17FFFFFA
        ),
    ),
}


def sleeper(machine: str) -> bytes | None:
    """A whole ELF program that only sleeps, one read-only page; None for an unknown architecture."""
    if machine not in _SLEEP:
        return None
    number, code = _SLEEP[machine]
    base, start = 0x400000, 64 + 56
    size = start + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)
    return identity + header + segment + code


class _Environment:
    __slots__ = ("id", "init", "init_alive", "runtime", "status")

    def __init__(self, environment_id: str, init: int, runtime: int) -> None:
        self.id = environment_id
        self.init = init
        self.runtime = runtime
        self.init_alive = True
        self.status: int | None = None


class Forker:
    """`control`: its socket to the driver; `folder`: one that only it uses, for the sleeper.

    Reports {"ready": true, "problem": what is slower for it} once, and {"exited": id, "status": wait
    status} when nothing of an environment is left.
    """

    def __init__(self, control: socket.socket, folder: str) -> None:
        self._control = control
        self._sleeper = self._write_sleeper(folder)
        self._namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._by_pid: dict[int, _Environment] = {}
        self._woken = self._wake = -1
        self.problem = ""

    @staticmethod
    def _write_sleeper(folder: str) -> str | None:
        code = sleeper(platform.machine())
        if code is None:
            return None
        path = f"{folder}/init"
        with open(path, "wb") as file:
            file.write(code)
        os.chmod(path, 0o555)
        return path

    def serve(self) -> Any:
        """Runs until the control socket closes; then None. In a child that `handle` came back in, what it
        gave."""
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        gc.collect()
        gc.freeze()  # children share these pages as long as nobody writes to them
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        wire.send(self._control, {"ready": True, "problem": self.problem})
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._woken:
                    os.read(self._woken, 4096)
                    self._reap()
                    continue
                received = wire.receive(self._control)
                if received is None:
                    return None
                became = self.handle(*received)
                if became is not None:
                    return became

    def handle(self, message: dict[str, Any], descriptors: list[int]) -> Any:
        """Serves one request. Anything but None means that this is a child now, which leaves the loop."""
        raise NotImplementedError

    def fork(self, environment_id: str, channel: socket.socket) -> bool:
        """Forks an environment's two processes and sends their pidfds, {"step": "processes"}. True in the
        runtime process. Raises OSError; nothing is left then."""
        init, runtime = 0, -1
        failure: OSError | None = None
        sys_.unshare(sys_.NEWPID)
        try:
            init = os.fork()
            if init == 0:
                self._sleep_forever()
            runtime = os.fork()
        except OSError as error:
            failure = error
        if runtime == 0:
            self._leave()
            return True
        sys_.setns(self._namespace, sys_.NEWPID)
        if failure is not None:
            if init:
                os.kill(init, signal.SIGKILL)
            raise failure
        environment = _Environment(environment_id, init, runtime)
        self._by_pid[init] = self._by_pid[runtime] = environment
        pidfds = [os.pidfd_open(init), os.pidfd_open(runtime)]
        try:
            wire.send(channel, {"step": "processes"}, pidfds)
        except OSError:
            os.kill(init, signal.SIGKILL)  # the driver gave this start up: nobody else will
        finally:
            for pidfd in pidfds:
                os.close(pidfd)
        return False

    def _leave(self) -> None:
        """A child lets go of what is its parent's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for descriptor in (self._woken, self._wake, self._namespace):
            os.close(descriptor)

    def _sleep_forever(self) -> NoReturn:
        """PID 1 of an environment. Outside its user namespace, so the function may neither trace nor read it;
        outside its cgroups, so it costs the function nothing and no OOM kill can hit it."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            sys_.close_on_exec_from(3)
            sys_.drop_capabilities()
            if self._sleeper is not None:
                os.execve(self._sleeper, ["init"], {})
            sys_.close_from(3)
            while True:
                signal.pause()
        finally:
            os._exit(125)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            environment = self._by_pid.pop(pid, None)
            if environment is not None:
                self._ended(environment, pid, status)

    def _ended(self, environment: _Environment, pid: int, status: int) -> None:
        if pid == environment.init:
            environment.init_alive = False
        else:
            environment.status = status
            if environment.init_alive:
                os.kill(environment.init, signal.SIGKILL)  # and with it everything in the namespace
        if environment.status is not None and not environment.init_alive:
            wire.send(self._control, {"exited": environment.id, "status": environment.status})


def report(channel: socket.socket, text: str) -> None:
    """Tells the driver that a start failed."""
    try:
        wire.send(channel, {"error": text})
    except OSError:
        return  # the driver gave this start up and closed its end; it wants no answer


def _ignore(*_: object) -> None:
    """A handler that does nothing, so that the signal wakes `poll`."""
