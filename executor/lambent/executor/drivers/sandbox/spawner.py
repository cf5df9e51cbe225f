"""The process that forks environments, apart from the server, because only a single-threaded process without
event loop or open files can be forked and unshared safely.

It is PID 1 of a PID namespace of its own: when it dies, by whatever, the kernel kills every environment;
and it ends when its socket does, so nothing outlives the server. Each environment is a PID namespace inside
with two children of the spawner: a PID 1 that only sleeps (and lets the kernel reap orphans), and the
runtime process as PID 2, so that signals mean to it what they mean anywhere (a PID 1 ignores SIGTERM and
its own SIGKILL, and ends an abort as a segfault), and the spawner gets its true wait status. The sleeper is
a loop around one system call in machine code, not a forked interpreter: 4 KiB of memory instead of more than
1 MiB, times the environments.

Started by the driver as a plain interpreter without site-packages and environment; standard library only.
Requests: {} with [body, channel, output]; body as `contain.run` and `rootfs.complete` read it. Answers:
{"spawner": pid} with a pidfd, {"ready": ...}, {"exited": id, "status": wait status} once nothing of the
environment is left, {"fatal": text, "traceback": text}.
"""

import gc
import os
import platform
import select
import signal
import socket
import struct
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from lambent.executor.drivers.sandbox import contain, rootfs, seccomp, wire
from lambent.executor.drivers.sandbox import syscalls as sys_

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


@dataclass(slots=True)
class _Environment:
    id: str
    init: int
    runtime: int
    init_alive: bool = True
    status: int | None = None


class Spawner:
    """The loop of the spawner process."""

    def __init__(self, control: socket.socket, folder: str) -> None:
        self._control = control
        self._folder = folder
        self._program = seccomp.program()
        self._sleeper = self._write_sleeper()
        self._namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._templates: dict[str, str] = {}
        self._by_pid: dict[int, _Environment] = {}

    def _write_sleeper(self) -> str | None:
        code = sleeper(platform.machine())
        if code is None:
            return None
        path = f"{self._folder}/init"
        with open(path, "wb") as file:
            file.write(code)
        os.chmod(path, 0o555)
        return path

    def serve(self) -> None:
        """Runs until the control socket closes."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()  # children share these pages as long as nobody writes to them
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(woken, select.POLLIN)
        wire.send(self._control, {"ready": True})
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken:
                    os.read(woken, 4096)
                    self._reap()
                else:
                    received = wire.receive(self._control)
                    if received is None:
                        return
                    self._start(received[1])

    def _start(self, descriptors: list[int]) -> None:
        body, channel_fd, output = descriptors
        channel = socket.socket(fileno=channel_fd)
        try:
            request = wire.read_body(body)
            self._spawn(request, channel, output, self._template(request))
        except OSError as error:
            self._report(channel, f"spawner: {error}")
        finally:
            os.close(output)
            channel.close()

    @staticmethod
    def _report(channel: socket.socket, text: str) -> None:
        try:
            wire.send(channel, {"error": text})
        except OSError:
            return  # the driver gave this start up and closed its end; it wants no answer

    def _template(self, request: dict[str, Any]) -> str:
        key = repr((request["prefixes"], request["etc"]))
        if key not in self._templates:
            root = f"{self._folder}/{len(self._templates)}"
            os.makedirs(root, exist_ok=True)
            try:
                rootfs.build_template(root, request["prefixes"], request["etc"])
            except OSError:
                sys_.detach(root)
                raise
            self._templates[key] = root
        return self._templates[key]

    def _spawn(self, request: dict[str, Any], channel: socket.socket, output: int, root: str) -> None:
        init = runtime = 0
        sys_.unshare(sys_.NEWPID)
        try:
            init = os.fork()
            if init == 0:
                self._sleep_forever()
            runtime = os.fork()
            if runtime == 0:
                signal.set_wakeup_fd(-1)
                contain.run(request, channel, output, root, self._program)
        finally:
            if not runtime and init:
                os.kill(init, signal.SIGKILL)
            sys_.setns(self._namespace, sys_.NEWPID)
        environment = _Environment(request["id"], init, runtime)
        self._by_pid[init] = self._by_pid[runtime] = environment
        pidfds = [os.pidfd_open(init), os.pidfd_open(runtime)]
        try:
            wire.send(channel, {"step": "processes"}, pidfds)
        except OSError:
            os.kill(init, signal.SIGKILL)  # the driver gave this start up: nobody else will
        finally:
            for pidfd in pidfds:
                os.close(pidfd)

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
            os.closerange(3, 4096)
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


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    sys_.unshare(sys_.NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def main(descriptor: int, folder: str, rootless: bool) -> None:
    """The process's whole life. `folder`: an empty one that only it uses, hidden under a tmpfs of its own."""
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if rootless:
            _enter_user_namespace()
        sys_.unshare(sys_.NEWPID | sys_.NEWNS)
        child = os.fork()
        if child:
            wire.send(control, {"spawner": child}, [os.pidfd_open(child)])
            os._exit(0)
        # Unmounts of the host come in, so that nothing of it is kept busy; nothing goes out.
        sys_.mount(None, "/", None, sys_.MS_REC | sys_.MS_SLAVE)
        sys_.mount("lambent", folder, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "size=4m,mode=700")
        Spawner(control, folder).serve()
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        wire.send(control, {"fatal": text, "traceback": traceback.format_exc()})
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "rootless")
