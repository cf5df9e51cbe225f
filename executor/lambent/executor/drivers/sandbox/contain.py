"""What a forked process does to itself to become a runtime process in an environment that it has no power
over: between fork and exec, or, forked from a zygote, without exec. The order is the point: everything that
needs privilege comes first, and the user namespace last, so that every other namespace belongs to a user
namespace outside.

Talks to the driver over its own channel: descriptors out, one message back ("go", when the network is
attached and the cgroups are joined), an error text if any step fails; the channel closes at the end. Runs
on every Python 3 that a runtime names, for a zygote loads it: no newer syntax. Standard library only.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Mapping
from typing import Any, NoReturn

from lambent.executor.drivers.sandbox import rootfs, shares, wire
from lambent.executor.drivers.sandbox import syscalls as sys_

UID, GID = 993, 990  # AWS: sbx_user1051
RUNTIME_API = ("127.0.0.1", 9001)
ZYGOTE_CONTROL = 3  # the launcher looks there for a socket
WAITS_ON = 3  # and a process that waits for its function, for that
_LISTEN_BACKLOG = 128
_IPV6_FREEBIND = 78
_OOM_SCORE = "500"  # a host out of memory loses functions before the server


class Steps:
    """The name of the step under way, for an error that says where it came from."""

    def __init__(self) -> None:
        self.now = "start"

    def at(self, name: str) -> None:
        self.now = name


def run(
    request: Mapping[str, Any], channel: socket.socket, output: int, root: str, program: sys_.Filter
) -> NoReturn:
    """Never returns: the process becomes the runtime, or reports and exits."""
    steps = Steps()
    try:
        _reset_signals()
        begin(steps, request, channel, output)
        steps.at("file system")
        rootfs.complete(root, request)
        steps.at("/tmp")
        rootfs.mount_tmp(root, request)
        steps.at("file systems")
        shares.mount(root, request["shares"], request["uid"], separate_uid=request["separate_uid"])
        steps.at("root")
        sys_.pivot(root)
        settle(steps, channel)
        os.chdir(request["cwd"])
        drop(steps, request, program)
        steps.at(f"starting {request['argv'][0]}")
        if request.get("waits"):
            _hand_over(channel)
        os.execve(request["argv"][0], request["argv"], request["env"])
    except BaseException as error:
        give_up(steps, error, channel)


def _hand_over(channel: socket.socket) -> None:
    """The program that comes next finds the channel where it looks for it."""
    if channel.fileno() == WAITS_ON:
        channel.set_inheritable(True)
    else:
        os.dup2(channel.fileno(), WAITS_ON)


def give_up(steps: Steps, error: BaseException, channel: socket.socket) -> NoReturn:
    try:
        wire.send(channel, {"error": f"{steps.now}: {error}"})
    finally:
        os._exit(127)


def begin(steps: Steps, request: Mapping[str, Any], channel: socket.socket, output: int) -> None:
    """A session, output and namespaces of its own."""
    steps.at("session")
    os.setsid()
    os.umask(0o022)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_OOM_SCORE)
    os.dup2(output, 1)
    os.dup2(output, 2)
    steps.at("network namespace")
    sys_.unshare(sys_.NEWNET)
    sys_.loopback_up()
    steps.at("sockets of the network namespace")
    _send_network(request, channel)
    steps.at("mount, ipc and uts namespaces")
    sys_.unshare(sys_.NEWNS | sys_.NEWIPC | sys_.NEWUTS)
    sys_.mount(None, "/", None, sys_.MS_REC | sys_.MS_PRIVATE)


def settle(steps: Steps, channel: socket.socket) -> None:
    """Once the root is its own: waits until the driver has attached the network and joined the cgroups."""
    sys_.set_hostname("localhost")
    _wait_for_go(steps, channel)
    steps.at("cgroup namespace")
    sys_.unshare(sys_.NEWCGROUP)


def drop(steps: Steps, request: Mapping[str, Any], program: sys_.Filter) -> None:
    """Gives every power away."""
    steps.at("limits")
    set_limits(request["rlimits"])
    steps.at("user namespace")
    uid = request["uid"]
    sys_.become_user_of(uid, f"{UID} {uid} 1", f"{GID} {uid} 1", separate=request["separate_uid"])
    steps.at("capabilities")
    sys_.drop_capabilities()
    sys_.close_on_exec_from(3)
    steps.at("system call filter")
    program.install()


def become_zygote(
    request: Mapping[str, Any], channel: socket.socket, output: int, control: int, root: str
) -> NoReturn:
    """Never returns: the process becomes a zygote, an interpreter inside the read-only root that has every
    power of the spawner, its control socket, and no user code; or reports and exits."""
    steps = Steps()
    try:
        steps.at("session")
        os.setsid()
        os.umask(0o022)
        _reset_signals()
        steps.at("mount namespace")
        sys_.unshare(sys_.NEWNS)
        sys_.mount(None, "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
        steps.at("file system")
        rootfs.complete_for_zygote(root, request)
        steps.at("root")
        sys_.pivot(root)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(control, ZYGOTE_CONTROL)
        sys_.close_on_exec_from(ZYGOTE_CONTROL + 1)
        steps.at(f"starting {request['argv'][0]}")
        os.execve(request["argv"][0], request["argv"], request["env"])
    except BaseException as error:
        give_up(steps, error, channel)


def _reset_signals() -> None:
    """Before exec: Python ignores SIGPIPE, and an ignored signal stays ignored through exec."""
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _send_network(request: Mapping[str, Any], channel: socket.socket) -> None:
    """Sends the namespace, the Runtime API's listener and the network's sockets, in this order."""
    added: set[str] = set()
    sockets = [_listener(socket.AF_INET, socket.SOCK_STREAM, *RUNTIME_API)]
    for family, kind, host, port in request["sockets"]:
        if not host.startswith("127.") and host != "::1" and host not in added:
            sys_.add_loopback_address(family, host, len(added))
            added.add(host)
        sockets.append(_listener(family, kind, host, port))
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    wire.send(channel, {"step": "network"}, [namespace, *(one.fileno() for one in sockets)])
    os.close(namespace)
    for one in sockets:
        one.close()


def _listener(family: int, kind: int, host: str, port: int) -> socket.socket:
    one = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # An address that was just added is usable only moments later.
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        one.bind((host, port))
        if kind == socket.SOCK_STREAM:
            one.listen(_LISTEN_BACKLOG)
    except OSError as error:
        one.close()
        raise OSError(error.errno, f"{host} port {port}: {error.strerror}") from None
    return one


def set_limits(limits: Mapping[str, int]) -> None:
    """`limits`: {resource name without RLIMIT_: value}; never above what this process may have."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))


def _wait_for_go(steps: Steps, channel: socket.socket) -> None:
    """Says that all is made, with a descriptor on /tmp for the driver, and waits."""
    steps.at("waiting for the driver")
    folder = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    wire.send(channel, {"step": "ready"}, [folder])
    os.close(folder)
    if not channel.recv(16):
        os._exit(126)  # the driver gave up
