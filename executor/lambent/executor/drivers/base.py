"""What an executor asks of a driver, so that `host.py` and `environment.py` know no system call and a driver
knows no Lambda semantics. One contract suite runs every driver."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from lambent.kernel.errors import ServiceException
from lambent.kernel.models import Enforcement

# No function can have a variable whose name begins so.
AHEAD = "_LAMBENT_FUNCTION"


class Share(NamedTuple):
    """A folder of the host that environments share, at a path inside."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What to start. Paths are the host's; inside they are /var/task, /opt, /var/runtime.

    `argv[0]` and `prefixes` (folders of the interpreter, bound read-only at the same path) are the runtime's.
    Memory and ephemeral storage in MB. `fork_env`: the variables of a process of `argv` from which a driver may
    fork this one instead of starting it; None: it can't be forked. `ahead_env`: those of one that, with `AHEAD`
    beside them, waits for its function; None: it can't. `AHEAD` names a descriptor, of a SEQPACKET socket, to
    which that process sends {"step": "parked"}, from which it reads {"function": {"env": {name: value}}} and,
    that its code is there, {"step": "mounted"}, and which it closes then. `root`: the root file system inside,
    instead of this machine's own; it has its own /var/runtime. `task_dir` None: and its own /var/task.
    """

    id: str
    argv: Sequence[str]
    env: Mapping[str, str]
    task_dir: Path | None
    runtime_dir: Path
    opt_dir: Path | None
    prefixes: Sequence[Path]
    memory_mb: int
    ephemeral_mb: int
    fork_env: Mapping[str, str] | None = None
    ahead_env: Mapping[str, str] | None = None
    shares: Sequence[Share] = ()
    snapshot: "Snapshot | None" = None
    template: bool = False
    root: Path | None = None
    cwd: str = "/var/task"


@dataclass(frozen=True, slots=True)
class Exit:
    """How the runtime process ended: an exit code or a signal; `oom` when the kernel killed for memory."""

    code: int | None = None
    signal: int | None = None
    oom: bool = False


class Snapshot(Protocol):
    """An environment after its init, from which others are made. `size`: bytes of memory it takes."""

    @property
    def size(self) -> int: ...

    @property
    def alive(self) -> bool:
        """Whether environments can still be made from it."""


class NoSnapshot(Exception):
    """What an environment is cannot be kept; the text says why, for the function's owner."""


class Sandbox(Protocol):
    """One started environment.

    `listener` is a listening TCP socket on 127.0.0.1:9001 of the environment's own network (non-blocking);
    `output` the read end of a pipe that carries the runtime's stdout and stderr (non-blocking).
    `exited` completes when the runtime process has ended, whatever ended it. `start` says how it was started:
    "parked" (made ahead of need), "forked", "plain", or "restored" (from its snapshot).
    """

    id: str
    start: str
    listener: socket.socket
    output: int
    exited: "asyncio.Future[Exit]"

    async def sockets(self, count: int) -> Sequence[socket.socket]:
        """So many unconnected, non-blocking TCP sockets of the environment's own network, the caller's to
        close: what listens inside on 127.0.0.1 is reached by them. Raises OSError."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def alive(self) -> bool:
        """Whether the runtime process lives, as far as the kernel knows it now: `exited` comes later. To be
        asked after `thaw`, for what was killed while it was frozen may die only then. Raises OSError."""

    def initialised(self) -> None:
        """Init is over: from now on CPU in proportion to memory. Until then the environment has a whole core,
        or its share if that is more (AWS: init bursts)."""

    def kill(self) -> None:
        """SIGKILL to the whole process tree, frozen or not; returns at once; `exited` follows."""

    def signal(self, number: int) -> None:
        """Sends a signal to the runtime process."""

    async def dispose(self) -> None:
        """Kills what lives and frees everything: cgroup, network, /tmp, descriptors, uid. Idempotent."""

    def used(self) -> tuple[int, int]:
        """(peak memory, in bytes; CPU time, in microseconds) of the environment so far."""


class NoRoom(ServiceException):
    """The host has no room for another environment now; it has when one that runs has gone."""

    @property
    def code(self) -> str:
        return "ServiceException"


class Driver(Protocol):
    """Makes environments."""

    async def open(self) -> None:
        """Reaps what an earlier run left and gets ready. LambdaError with advice if it can run nothing."""

    async def start(self, spec: EnvironmentSpec) -> Sandbox:
        """Starts an environment's runtime process; returns when it is started, not when it is initialised.
        On any failure everything is freed and a ServiceException says why: NoRoom if it may be tried again
        when another environment has gone."""

    async def snapshot(self, sandbox: Sandbox) -> Snapshot:
        """Of an environment whose runtime waits to be restored, which must be disposed of then. Raises
        NoSnapshot, ServiceException."""

    def drop(self, snapshot: Snapshot) -> None:
        """Nothing is made from it any more."""

    def expect(self, spec: EnvironmentSpec) -> None:
        """Such an environment will be asked for soon: what helps may be made ready."""

    async def close(self) -> None:
        """Kills every environment and undoes what was changed on the host."""

    def enforcement(self) -> Sequence[Enforcement]:
        """What this host enforces; complete after `open`."""

    @property
    def parked(self) -> int:
        """Environments that were made ahead of need and wait for a function."""

    def promised(self) -> int:
        """Bytes of the disk of its folder that environments may still come to take. From any thread."""


@dataclass(frozen=True, slots=True)
class Reachable:
    """One TCP endpoint on loopback (or an address of the host) that functions may reach under its own name:
    a relay listens on (host, port) inside the environment and connects to `target` outside.

    `target`: ("127.0.0.1", 8333) or the path of a unix socket.
    """

    host: str
    port: int
    target: tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Limits:
    """What every environment gets, as on AWS."""

    processes: int = 1024
    descriptors: int = 1024
    cpu_mb_per_core: int = 1769


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """What the wiring tells a driver. `state_dir` is the driver's own folder, kept across restarts."""

    state_dir: Path
    instance: str
    uid_base: int
    uid_count: int
    reachable: Sequence[Reachable] = ()
    limits: Limits = field(default_factory=Limits)
    parked_slots: int = 0  # at most so many environments are made ahead of need
