"""A server that Lambent runs as its own child: started within a bound, watched, restarted with back-off when it
crashes, stopped in order, and found again by the next start when Lambent itself was killed.

It gets a session of its own, so that Ctrl-C in the terminal reaches Lambent alone, which drains first.
"""

import asyncio
import enum
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lambent.cli import leftovers
from lambent.cli.client import Failed
from lambent.kernel.log import Log
from lambent.kernel.ports import Clock
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_BACK_OFF = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LOG_BYTES = 5 * 2**20
_TAIL_LINES = 12


class Readiness(enum.Enum):
    """What a probe found. A server that is LOADING its data may take as long as it needs."""

    NO = "no"
    LOADING = "loading"
    YES = "yes"


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server. `folder` is its working directory, used by nothing else; `environment` is all
    that it gets: Lambent's own variables hold credentials."""

    name: str
    program: Path
    arguments: Sequence[str]
    folder: Path
    probe: Callable[[], Awaitable[Readiness]]
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 20.0
    stop_seconds: float = 10.0

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pidfile(self) -> Path:
        return self.folder / "server.pid"


class Child:
    """One server process. `on_crash(name, restarts)` is called each time it ended by itself; `on_up` after
    each restart, when it answers again."""

    def __init__(
        self,
        command: Command,
        *,
        clock: Clock,
        tasks: Tasks,
        on_crash: Callable[[str, int], None] | None = None,
        on_up: Callable[[], None] | None = None,
    ) -> None:
        self._command = command
        self._clock = clock
        self._tasks = tasks
        self._on_crash = on_crash
        self._on_up = on_up
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Ends a leftover, starts the server and returns once it answers. Raises Failed, with the last lines
        of its log."""
        await self.reap()
        await self._launch()
        self._supervisor = self._tasks.forever(f"watch {self._command.name}", self._watch())

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns once it is gone. Does nothing if it does not run."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        await self._end()
        self._command.pidfile.unlink(missing_ok=True)

    async def reap(self) -> None:
        """Ends what an earlier Lambent left running here. Raises Failed if it cannot be ended."""
        command = self._command
        await leftovers.reap(
            command.pidfile,
            name=command.name,
            program=command.program,
            folder=command.folder,
            clock=self._clock,
            seconds=command.stop_seconds,
        )

    async def _launch(self) -> None:
        command = self._command
        try:
            command.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _rotate(command.log)
            with open(os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
                process = await asyncio.create_subprocess_exec(
                    str(command.program),
                    *command.arguments,
                    cwd=command.folder,
                    env=dict(command.environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_private,  # uvloop has no `umask`
                )
        except OSError as failure:
            raise Failed(f"{command.program} cannot be started: {failure}.") from failure
        self._process = process
        self._note(process.pid)
        try:
            await self._answers(process)
        except BaseException:
            await self._end()
            raise

    def _note(self, pid: int) -> None:
        identity = leftovers.identify(pid)
        try:
            if identity is not None:
                leftovers.write_pidfile(self._command.pidfile, identity)
        except OSError as failure:
            # A full disk must not end a server that runs: the next start finds it by its folder as well.
            _log.warning("A pidfile cannot be written.", server=self._command.name, failure=failure)

    async def _answers(self, process: asyncio.subprocess.Process) -> None:
        command = self._command
        until = self._clock.monotonic() + command.start_seconds
        while (found := await command.probe()) is not Readiness.YES:
            if process.returncode is not None:
                raise Failed(
                    f"the {command.name} server ended at once ({_how(process.returncode)}). {self._said()}"
                )
            if found is Readiness.NO and self._clock.monotonic() > until:
                raise Failed(
                    f"the {command.name} server does not answer after {command.start_seconds:g} s. "
                    f"{self._said()}"
                )
            await self._clock.sleep(_POLL_SECONDS)

    def _said(self) -> str:
        return f"Its log, {self._command.log}, ends:\n{log_tail(self._command.log)}"

    async def _watch(self) -> None:
        """Restarts it whenever it ends. Clients reconnect by themselves: the address stays."""
        restarts = 0
        while True:
            process = self._process
            if process is not None:
                since = self._clock.monotonic()
                code = await process.wait()
                restarts = 0 if self._clock.monotonic() - since > _STEADY_SECONDS else restarts
                _log.error(
                    "A server of our own ended by itself; starting it again.",
                    server=self._command.name,
                    how=_how(code),
                    last=log_tail(self._command.log, lines=3),
                )
            if self._on_crash is not None:
                self._on_crash(self._command.name, restarts)
            await self._clock.sleep(_BACK_OFF[min(restarts, len(_BACK_OFF) - 1)])
            restarts += 1
            try:
                await self._launch()
            except Failed as failure:
                self._process = None
                _log.error(
                    "A server of our own does not start again.", server=self._command.name, failure=failure
                )
                continue
            _log.info("A server of our own is back.", server=self._command.name, pid=self.pid)
            if self._on_up is not None:
                self._on_up()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._command.stop_seconds)
        except TimeoutError:
            _log.info("A server of our own takes too long to stop; killing it.", server=self._command.name)
            process.kill()
            await process.wait()


def _private() -> None:
    """In the child: what it makes is its owner's alone."""
    os.umask(0o077)


def log_tail(path: Path, *, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, or a note that there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            text = file.read().decode(errors="replace")
    except OSError:
        text = ""
    return "\n".join(deque(text.splitlines(), lines)) or "(nothing)"


def _rotate(log: Path) -> None:
    """Keeps one old log, so that logs cannot eat the space that the data needs."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
