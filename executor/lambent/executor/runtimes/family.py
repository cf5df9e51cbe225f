"""What every family of runtimes (python3.x, nodejsNN.x, ...) answers, so that the registry knows none of them:
what is on this machine, what is missing and what to install for it, and how a runtime process is started.
"""

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

TASK_ROOT = "/var/task"
RUNTIME_DIR = "/var/runtime"

Match = Literal["exact", "compatible"]
Version = TypeVar("Version", int, tuple[int, int])
OnLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """How to start a runtime process. `argv` names paths inside the environment; `prefixes` are folders to bind
    at their own path, `runtime_dir` the one to bind at /var/runtime; `env` has the runtime's variables only;
    `version_text` is for the INIT_START line ("python:3.11.7": the interpreter's true version); `fork_env` the
    variables of a process from which it can be forked instead, None if it can't; `ahead_env` those of one that
    can wait for its function (`drivers.base.EnvironmentSpec`), None if it can't.

    `root`: the root file system that it has instead of this machine's /usr, /lib and /etc.

    `entrypoints`: the first of these that the function brings is run; `argv` is empty then.
    """

    argv: Sequence[str]
    prefixes: Sequence[Path]
    runtime_dir: Path
    env: Mapping[str, str]
    version_text: str
    fork_env: Mapping[str, str] | None = None
    ahead_env: Mapping[str, str] | None = None
    entrypoints: Sequence[str] = ()
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """One line of `lambent runtimes`. `problem`: why it cannot run here and what to do; `runs_on`: the runtime
    that it really is, another one only in compatible mode; `client`: the runtime client and its version;
    `packages`: {distribution: version}."""

    runtime: str
    available: bool
    runs_on: str | None = None
    interpreter: str | None = None
    version: str | None = None
    client: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a family looks. `state_dir`: the data folder, whose `runtimes/` has what was installed;
    `look_only`: nothing is written, and what a server would make at its start counts as there."""

    state_dir: Path
    match: Match = "exact"
    look_only: bool = False

    @property
    def root(self) -> Path:
        return self.state_dir / "runtimes"


@dataclass(frozen=True, slots=True)
class Options:
    """How to install. `seconds`: for one step; `on_line` gets the output of pip and its like; without `build`
    nothing is compiled that can be done without; `packages`: for functions, beside the client (None: what AWS's
    runtime brings, as far as the family has it); `image`: to run in, instead of what this machine has."""

    seconds: float = 900.0
    on_line: OnLine | None = None
    build: bool = True
    packages: Sequence[str] | None = None
    image: str | None = None


class Family(Protocol):
    """One family. Every method but `install` may be called from any thread; what was found is remembered until
    the next `scan`."""

    @property
    def names(self) -> Sequence[str]:
        """The names that AWS gives them."""

    def scan(self) -> None:
        """Looks at the machine. Never raises for what cannot be had: `problem` says it."""

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        """(why it cannot run here and what to install, or None; a warning, or None)."""

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand | None:
        """How to start it, or None when it is not on this machine (any more)."""

    def info(self, runtime: str) -> RuntimeInfo: ...

    async def install(self, runtime: str, options: Options) -> None:
        """Fetches what can be fetched, from the network. Raises ServiceException with advice."""


def variables(handler: str, *, path: Iterable[object] = (), libraries: Iterable[object] = ()) -> dict[str, str]:
    """Those that every runtime has. `path`, `libraries`: folders of the interpreter, before AWS's own. AWS:
    "Defined runtime environment variables"."""
    found = [*libraries, "/lib64", "/usr/lib64", RUNTIME_DIR, f"{RUNTIME_DIR}/lib", TASK_ROOT]
    return {
        "LAMBDA_TASK_ROOT": TASK_ROOT,
        "LAMBDA_RUNTIME_DIR": RUNTIME_DIR,
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": ":".join(map(str, [*found, f"{TASK_ROOT}/lib", "/opt/lib"])),
        "PATH": ":".join(map(str, [*path, "/usr/local/bin", "/usr/bin/", "/bin", "/opt/bin"])),
        "TZ": ":UTC",
        "_HANDLER": handler,
    }


def nearest(wanted: Version, there: Collection[Version]) -> Version | None:
    """Compatible mode: the wanted version, else the next higher one that is there, else the next lower."""
    higher = [one for one in there if one >= wanted]
    return min(higher) if higher else max(there, default=None)


def install_line(runtime: str, state_dir: Path) -> str:
    """The command that installs it for a server with this data folder."""
    return f"lambent runtimes install {runtime} --data-dir {shlex.quote(str(state_dir))}"
