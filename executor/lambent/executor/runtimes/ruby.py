"""ruby3.2 and later: a Ruby of this machine with Lambent's own runtime client, because AWS's is a gem whose
registry Lambent does not ask.

AWS: "Building Lambda functions with Ruby", "Defined runtime environment variables".
"""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import names, prefixes
from lambent.executor.runtimes.family import (
    RUNTIME_DIR,
    TASK_ROOT,
    Options,
    Place,
    RuntimeCommand,
    RuntimeInfo,
    nearest,
    variables,
)
from lambent.executor.runtimes.folders import put_folder
from lambent.executor.runtimes.interpreters import Rejected
from lambent.kernel.errors import ServiceException

_RESCAN_SECONDS = 3.0
_PROBE_SECONDS = 10
_READ_AT_START = ("GEM_PATH", "LANG", "LD_LIBRARY_PATH", "PATH", "RUBYLIB", "TZ")
_SOURCE = Path(__file__).with_name("ruby_bootstrap.rb")
_MANAGED = (  # below the home folder
    ".rbenv/versions/*/bin",
    ".rvm/rubies/*/bin",
    ".rubies/*/bin",
    ".asdf/installs/ruby/*/bin",
    ".local/share/mise/installs/ruby/*/bin",
)
_PROBE = """
require 'json'; require 'rbconfig'
libraries = File.readlines('/proc/self/maps').map { |line| line[/\\/.*\\.so[^ ]*$/] }.compact.uniq
puts JSON.generate(version: RUBY_VERSION, engine: RUBY_ENGINE, abi: RbConfig::CONFIG['ruby_version'],
  executable: File.realpath(RbConfig.ruby), prefix: File.realpath(RbConfig::CONFIG['prefix']),
  libraries: libraries)
"""


@dataclass(frozen=True, slots=True)
class Ruby:
    """A Ruby that works. `abi` names its gem folders ("3.3.0")."""

    executable: Path
    version: str
    abi: str
    prefixes: tuple[Path, ...]

    @property
    def minor(self) -> tuple[int, int]:
        first, second, *_ = self.version.split(".")
        return int(first), int(second)


class RubyFamily:
    """See `family.Family`."""

    names = tuple(name for name in names.CURRENT if name.startswith("ruby"))

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = place.root / "ruby"
        self._made = False
        self._said: dict[tuple[object, ...], Ruby | Rejected] = {}
        self._found: dict[tuple[int, int], Ruby] = {}
        self._scanned: float | None = None
        self._lock = threading.Lock()

    def scan(self) -> None:
        with self._lock:
            found: dict[tuple[int, int], Ruby] = {}
            for path in _candidates():
                state = path.stat()
                key = (path, state.st_ino, state.st_mtime_ns, state.st_size)
                if key not in self._said:
                    self._said[key] = probe(path)
                answer = self._said[key]
                if isinstance(answer, Ruby):
                    found.setdefault(answer.minor, answer)
            self._found = found
            self._scanned = time.monotonic()

    def problem(self, runtime: str) -> tuple[str | None, str | None]:
        found = self._resolve(runtime)
        if found is None:
            there = ", ".join(f"{one.executable} is {one.version}" for one in self._found.values())
            version = ".".join(map(str, _minor(runtime)))
            return (
                f"Lambent cannot run {runtime} on this machine: there is no Ruby {version}"
                f"{f' ({there})' if there else ''}. Install one (rbenv install {version}, asdf, rvm or a "
                "package); Lambent brings the client. With LAMBENT_RUNTIME_MATCH=compatible the nearest "
                "Ruby is taken.",
                None,
            )
        if found.minor != _minor(runtime):
            return None, (
                f"{runtime} is not on this machine; the function runs on Ruby {found.version}, because "
                "LAMBENT_RUNTIME_MATCH is compatible."
            )
        return None, None

    def command(self, runtime: str, handler: str, memory_mb: int) -> RuntimeCommand | None:
        ruby = self._resolve(runtime)
        if ruby is None:
            return None
        self._make_folder()
        outside = [] if ruby.executable.is_relative_to("/usr") else [ruby.executable.parent]
        env = {
            **variables(handler, path=outside, libraries=[one.parent / "lib" for one in outside]),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
            "GEM_PATH": f"{TASK_ROOT}/vendor/bundle/ruby/{ruby.abi}:/opt/ruby/gems/{ruby.abi}",
            "RUBYLIB": f"{TASK_ROOT}:/opt/ruby/lib",
        }
        return RuntimeCommand(
            argv=(str(ruby.executable), f"{RUNTIME_DIR}/{_SOURCE.name}"),
            prefixes=ruby.prefixes,
            runtime_dir=self._folder,
            env=env,
            version_text=f"ruby:{ruby.version}",
            ahead_env={name: env[name] for name in _READ_AT_START},
        )

    def _make_folder(self) -> None:
        if not self._made:
            put_folder(self._folder, _SOURCE)
            self._made = True

    def info(self, runtime: str) -> RuntimeInfo:
        problem, warning = self.problem(runtime)
        ruby = self._resolve(runtime)
        if ruby is None:
            return RuntimeInfo(runtime, False, problem=problem)
        return RuntimeInfo(
            runtime,
            True,
            runs_on=f"ruby{'.'.join(map(str, ruby.minor))}",
            interpreter=str(ruby.executable),
            version=ruby.version,
            client="Lambent's own",
            warning=warning,
        )

    async def install(self, runtime: str, options: Options) -> None:
        raise ServiceException(
            self.problem(runtime)[0]
            or f"There is nothing to install for {runtime}: Lambent brings the runtime client."
        )

    def _resolve(self, runtime: str) -> Ruby | None:
        found = self._choose(runtime)
        if found is None or not found.executable.exists():
            if self._scanned is None or time.monotonic() - self._scanned >= _RESCAN_SECONDS:
                self.scan()
            found = self._choose(runtime)
        return found

    def _choose(self, runtime: str) -> Ruby | None:
        wanted = _minor(runtime)
        taken = wanted if self._place.match == "exact" else nearest(wanted, self._found)
        return self._found.get(taken) if taken is not None else None


def probe(path: Path) -> Ruby | Rejected:
    """Runs a candidate and judges what it says of itself."""
    try:
        ran = subprocess.run(
            [path, "--disable-gems", "-e", _PROBE],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            stdin=subprocess.DEVNULL,
            cwd="/",
            check=False,
        )
        said = json.loads(ran.stdout)
        if said["engine"] != "ruby":
            return Rejected(path, f"is {said['engine']}, not the Ruby of AWS's runtimes")
        executable = Path(said["executable"])
        folders = [Path(said["prefix"]), executable.parent]
        folders += [Path(library).resolve().parent for library in said["libraries"]]
        shown = prefixes.bindable(folders, executable)
        if isinstance(shown, str):
            return Rejected(path, shown)
        return Ruby(executable, str(said["version"]), str(said["abi"]), shown)
    except subprocess.TimeoutExpired:
        return Rejected(path, f"did not answer within {_PROBE_SECONDS} s")
    except OSError as failure:
        return Rejected(path, f"cannot be executed: {failure.strerror}")
    except (ValueError, KeyError, TypeError):
        return Rejected(path, f"does not run (exit {ran.returncode})")


def _candidates() -> Iterator[Path]:
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
    folders += [Path("/usr/bin"), Path("/usr/local/bin")]
    for pattern in _MANAGED:
        folders += sorted(prefixes.home().glob(pattern), reverse=True)
    seen: dict[Path, None] = {}
    for folder in folders:
        if os.access(folder / "ruby", os.X_OK):
            seen[folder / "ruby"] = None
    yield from seen


def _minor(runtime: str) -> tuple[int, int]:
    match = re.fullmatch(r"ruby(\d+)\.(\d+)", runtime)
    assert match is not None, "the registry asks a family for its own names only"
    return int(match[1]), int(match[2])
