"""python3.x: the interpreters of this machine, each with the runtime folder that fits it.

Everything is looked up once and remembered. A runtime that is missing is looked for again, at most every few
seconds, so that one installed meanwhile is found without a restart. Nothing is fetched but by `install`.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lambent.executor.runtimes import names, packages, python
from lambent.executor.runtimes.family import Options, Place, RuntimeCommand, RuntimeInfo, install_line, nearest
from lambent.executor.runtimes.interpreters import Interpreter, Interpreters, Rejected
from lambent.executor.runtimes.packages import RuntimeFolder
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.log import Log

_log = Log(__name__)
_RESCAN_SECONDS = 3.0
_RETRY_SECONDS = 60.0  # a folder that could not be made takes seconds to try again


@dataclass(frozen=True, slots=True)
class _Found:
    """What one scan found: by minor version, and why the rest is not usable."""

    ready: Mapping[int, tuple[Interpreter, RuntimeFolder]]
    interpreters: Sequence[Interpreter]
    rejected: Sequence[Rejected]
    own_failure: str | None


class PythonFamily:
    """See `family.Family`."""

    names = names.PYTHON

    def __init__(self, place: Place) -> None:
        self._place = place
        self._root = place.root
        self._look_only = place.look_only
        self._interpreters = Interpreters()
        self._found: _Found | None = None
        self._scanned = 0.0
        self._own_failures: dict[object, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def scan(self) -> None:
        """Looks again. From any thread; blocks for the first look at each interpreter."""
        with self._lock:
            if not self._look_only:
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                packages.clear_leftovers(self._root)
            interpreters, rejected = self._interpreters.scan()
            own, failure = self._own(interpreters)
            ready: dict[int, tuple[Interpreter, RuntimeFolder]] = {}
            folders = packages.find(self._root, look_only=self._look_only)
            if self._look_only and own is not None:
                folders.append(own)
            for interpreter in interpreters:
                fitting = next((folder for folder in folders if folder.fits(interpreter)), None)
                if fitting is not None:
                    ready.setdefault(interpreter.minor, (interpreter, fitting))
            self._found = _Found(ready, interpreters, rejected, failure)
            self._scanned = time.monotonic()

    def _own(self, interpreters: Sequence[Interpreter]) -> tuple[RuntimeFolder | None, str | None]:
        """Our own version's folder, or None and why there is none."""
        own = [interpreter for interpreter in interpreters if interpreter.minor == packages.own_minor()]
        failure = f"no python3.{packages.own_minor()} was found that functions could run on"
        for interpreter in own:
            when, why = self._own_failures.get(interpreter.executable, (-_RETRY_SECONDS, ""))
            if time.monotonic() - when < _RETRY_SECONDS:
                failure = why
                continue
            try:
                make = packages.planned_own if self._look_only else packages.prepare_own
                return make(self._root, interpreter), None
            except LambdaError as problem:
                failure = problem.message
                self._own_failures[interpreter.executable] = (time.monotonic(), failure)
                _log.warning(
                    "The runtime folder could not be made.", python=str(interpreter.executable), why=failure
                )
        return None, failure

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        """`CodeCheck.runtime_problem`: (why it cannot run here, or None; a warning, or None)."""
        wanted = _minor(runtime)
        found = self._resolve(wanted)
        if found is None:
            return self._advice(runtime, wanted), None
        interpreter, _ = found
        if interpreter.minor != wanted:
            return None, (
                f"{runtime} is not on this machine; the function runs on Python {interpreter.version_text} "
                f"(python3.{interpreter.minor}), because LAMBENT_RUNTIME_MATCH is compatible."
            )
        return None, None

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand | None:
        found = self._resolve(_minor(runtime))
        if found is None:
            return None
        interpreter, folder = found
        return python.command(runtime, handler, interpreter, folder.path)

    def rejected(self) -> Sequence[Rejected]:
        """The interpreters that cannot be used, and why; for `lambent doctor`."""
        return self._look().rejected

    async def install(self, runtime: str, options: Options) -> None:
        """Makes the runtime folder of one Python version by pip."""
        wanted = _minor(runtime)
        able = [one for one in self._look().interpreters if one.minor == wanted]
        if not able:
            raise ServiceException(self._advice(runtime, wanted))
        await packages.install(self._root, able[0], seconds=options.seconds, on_line=options.on_line)

    def _look(self) -> _Found:
        if self._found is None:
            self.scan()
        assert self._found is not None
        return self._found

    def _refresh(self) -> None:
        if self._found is None or time.monotonic() - self._scanned >= _RESCAN_SECONDS:
            self.scan()

    def _resolve(self, wanted: int) -> tuple[Interpreter, RuntimeFolder] | None:
        found = self._choose(wanted)
        if found is None or not (found[0].executable.exists() and found[1].path.exists()):
            self._refresh()
            found = self._choose(wanted)
        return found

    def _choose(self, wanted: int) -> tuple[Interpreter, RuntimeFolder] | None:
        ready = self._look().ready
        taken = wanted if self._place.match == "exact" else nearest(wanted, ready)
        return ready.get(taken) if taken is not None else None

    def _advice(self, runtime: str, wanted: int) -> str:
        look = self._look()
        install = install_line(runtime, self._place.state_dir)
        able = [interpreter for interpreter in look.interpreters if interpreter.minor == wanted]
        there = sorted({f"python3.{minor}" for minor in look.ready}, key=lambda name: int(name[8:]))
        here = f" Ready now: {', '.join(there)}." if there else ""
        if able:
            why = f" ({look.own_failure})" if wanted == packages.own_minor() and look.own_failure else ""
            return (
                f"Lambent cannot run {runtime} on this machine yet: {able[0].executable} is there, but its "
                f"runtime client is not{why}. Run: {install}.{here}"
            )
        failed = [one for one in look.rejected if one.path.name == runtime]
        seen = f" ({failed[0].path} {failed[0].reason})" if failed else ""
        return (
            f"Lambent cannot run {runtime} on this machine: there is no Python 3.{wanted} that works{seen}. "
            f"Install one (apt-get install {runtime}, pyenv install 3.{wanted} or uv python install "
            f"3.{wanted}), then run: {install}.{here}"
        )

    def info(self, runtime: str) -> RuntimeInfo:
        problem, warning = self.problem(runtime)
        found = self._resolve(_minor(runtime)) if problem is None else None
        if found is None:
            return RuntimeInfo(runtime, False, problem=problem)
        interpreter, folder = found
        return RuntimeInfo(
            runtime,
            True,
            runs_on=f"python3.{interpreter.minor}",
            interpreter=str(interpreter.executable),
            version=interpreter.version_text,
            client=f"awslambdaric {folder.packages['awslambdaric']}",
            packages={name: folder.packages[name] for name in packages.ROOTS},
            warning=warning,
        )


def _minor(runtime: str) -> int:
    minor = names.python_minor(runtime)
    assert minor is not None, "the registry asks a family for its own names only"
    return minor
