"""Finding Python interpreters by running them, because a name on PATH proves nothing: version managers leave
shims that fail, and a build may lack ssl or lie where an environment cannot read it.

What a candidate said is remembered until its file changes, so that another scan costs a few `stat` calls.
Only CPython is taken: the runtime client has a native extension.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import prefixes

_TIMEOUT_SECONDS = 10
_OLDEST_MINOR = 9
_NAME = re.compile(r"python3(\.(9|1\d))?")

_PROBE = """
import json, os, sys, sysconfig
missing = []
for name in ("ssl", "zlib", "ctypes", "hashlib", "sqlite3", "bz2", "lzma", "uuid", "decimal", "readline"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
libraries = set()
try:
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip().partition("/")
            if path[1] and ".so" in path[2]:
                libraries.add(os.path.realpath("/" + path[2]))
except OSError:
    pass
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "soabi": sysconfig.get_config_var("SOABI") or "",
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "base_prefix": os.path.realpath(sys.base_prefix),
    "base_exec_prefix": os.path.realpath(sys.base_exec_prefix),
    "stdlib": os.path.realpath(os.path.dirname(os.__file__)),
    "libraries": sorted(libraries),
    "missing": missing,
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that works. `executable` is a real path; `prefixes` are the folders to bind, at the same path,
    so that it runs where only /usr and /lib are."""

    executable: Path
    version: tuple[int, int, int]
    soabi: str
    base_prefix: Path
    prefixes: tuple[Path, ...]

    @property
    def minor(self) -> int:
        return self.version[1]

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that cannot be used, and why."""

    path: Path
    reason: str


class Interpreters:
    """The interpreters of this machine. `scan` may be called from any thread, one at a time."""

    def __init__(self) -> None:
        self._said: dict[tuple[object, ...], Interpreter | Rejected] = {}

    def scan(self) -> tuple[list[Interpreter], list[Rejected]]:
        """What is there now, in order of preference, each executable once; and what was rejected."""
        keys: dict[tuple[object, ...], Path] = {}
        for path in _candidates():
            try:
                found = path.stat()
            except OSError:
                continue
            keys.setdefault((path, found.st_ino, found.st_mtime_ns, found.st_size), path)
        new = [(key, path) for key, path in keys.items() if key not in self._said]
        if new:
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="python-probe") as pool:
                for (key, _), answer in zip(new, pool.map(lambda item: probe(item[1]), new), strict=True):
                    self._said[key] = answer
        good: dict[Path, Interpreter] = {}
        bad: list[Rejected] = []
        for key in keys:
            answer = self._said[key]
            if isinstance(answer, Interpreter):
                good.setdefault(answer.executable, answer)
            else:
                bad.append(answer)
        return list(good.values()), bad


def probe(path: Path) -> Interpreter | Rejected:
    """Runs a candidate and judges what it says of itself."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYENV_ROOT") if name in os.environ}
    try:
        ran = subprocess.run(
            [path, "-I", "-c", _PROBE],
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            env={**environment, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Rejected(path, f"did not answer within {_TIMEOUT_SECONDS} s")
    except OSError as failure:
        return Rejected(path, f"cannot be executed: {failure.strerror}")
    try:
        said = json.loads(ran.stdout)
        return _judge(path, said)
    except (ValueError, KeyError, TypeError):
        lines = ran.stderr.decode(errors="replace").strip().splitlines()
        return Rejected(
            path, f"does not run (exit {ran.returncode}): {lines[0][:200] if lines else 'no output'}"
        )
    except OSError as failure:
        return Rejected(path, f"{failure.filename} cannot be looked at: {failure.strerror}")


def _judge(path: Path, said: dict[str, object]) -> Interpreter | Rejected:
    version = said["version"]
    libraries, missing = said["libraries"], said["missing"]
    if not isinstance(version, list) or not isinstance(libraries, list) or not isinstance(missing, list):
        raise TypeError("not an answer of the probe")
    if version[0] != 3 or said["implementation"] != "cpython":
        return Rejected(path, "is not CPython 3")
    if version[1] < _OLDEST_MINOR:
        return Rejected(path, f"is Python 3.{version[1]}, older than any runtime")
    if said["free_threaded"]:
        return Rejected(path, "is a free-threaded build, which AWS's runtimes are not")
    lacking = [name for name in missing if name in ("ssl", "zlib", "ctypes", "hashlib")]
    if lacking:
        return Rejected(path, f"was built without {', '.join(lacking)}")
    executable, stdlib = Path(str(said["executable"])), Path(str(said["stdlib"]))
    folders = [Path(str(said["base_prefix"])), Path(str(said["base_exec_prefix"])), stdlib, executable.parent]
    folders += [Path(library).parent for library in libraries]
    found = prefixes.bindable(folders, executable, stdlib / "os.py")
    if isinstance(found, str):
        return Rejected(path, found)
    return Interpreter(
        executable=executable,
        version=(int(version[0]), int(version[1]), int(version[2])),
        soabi=str(said["soabi"]),
        base_prefix=folders[0],
        prefixes=found,
    )


def _candidates() -> Iterator[Path]:
    """Paths worth trying, best first: our own base interpreter, whose packages we have; then PATH and the usual
    places; then version managers, newest first."""
    own = Path(getattr(sys, "_base_executable", None) or sys.executable)
    yield own.resolve()
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
    folders += [Path("/usr/bin"), Path("/usr/local/bin")]
    home = prefixes.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    for managed in (pyenv / "versions", home / ".local/share/uv/python"):
        try:
            folders += sorted((entry / "bin" for entry in managed.iterdir()), key=_newest, reverse=True)
        except OSError:  # none there, or another user's, as with an inherited PYENV_ROOT
            continue
    for folder in dict.fromkeys(folders):
        try:
            names = sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
        except OSError:
            continue
        yield from (folder / name for name in names if os.access(folder / name, os.X_OK))


def _newest(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parent.name)]
