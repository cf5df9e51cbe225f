"""Finding Node.js interpreters by running them, as `interpreters` does for Python: on PATH, in the usual places
and in the folders of version managers. What a candidate said is remembered until its file changes.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import prefixes
from lambent.executor.runtimes.interpreters import Rejected

_TIMEOUT_SECONDS = 10
# Below the home folder; * is a version.
_MANAGED = (
    ".nvm/versions/node/*/bin",
    ".local/share/fnm/node-versions/*/installation/bin",
    ".fnm/node-versions/*/installation/bin",
    ".asdf/installs/nodejs/*/bin",
    ".local/share/mise/installs/node/*/bin",
    ".volta/tools/image/node/*/bin",
    ".nodenv/versions/*/bin",
)
_PROBE = """
const libraries = new Set();
try {
  for (const line of require('fs').readFileSync('/proc/self/maps', 'utf8').split('\\n')) {
    const path = line.slice(line.indexOf('/'));
    if (line.includes('/') && path.includes('.so')) libraries.add(require('fs').realpathSync(path));
  }
} catch {}
console.log(JSON.stringify({
  version: process.versions.node,
  executable: require('fs').realpathSync(process.execPath),
  libraries: [...libraries],
  flags: ['--experimental-require-module', '--experimental-detect-module']
    .filter((flag) => process.allowedNodeEnvironmentFlags.has(flag)),
}));
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js that works. `prefixes` are the folders to bind at the same path; `off`: the options that turn
    off what AWS's runtimes of this version have off."""

    executable: Path
    version: str
    prefixes: tuple[Path, ...]
    off: tuple[str, ...]

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


class Nodes:
    """The interpreters of this machine. `scan` may be called from any thread, one at a time."""

    def __init__(self) -> None:
        self._said: dict[tuple[object, ...], Node | Rejected] = {}

    def scan(self) -> tuple[list[Node], list[Rejected]]:
        """What is there now, in order of preference, each executable once; and what was rejected."""
        keys: dict[tuple[object, ...], Path] = {}
        for path in _candidates():
            try:
                found = path.stat()
            except OSError:
                continue
            keys.setdefault((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size), path)
        new = [(key, path) for key, path in keys.items() if key not in self._said]
        if new:
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="node-probe") as pool:
                for (key, _), answer in zip(new, pool.map(lambda item: probe(item[1]), new), strict=True):
                    self._said[key] = answer
        said = [self._said[key] for key in keys]
        good = {one.executable: one for one in reversed(said) if isinstance(one, Node)}
        return list(reversed(good.values())), [one for one in said if isinstance(one, Rejected)]


def probe(path: Path, *, inside: bool = False) -> Node | Rejected:
    """Runs a candidate and judges what it says of itself. `inside`: it lies in a runtime folder, so nothing of
    the host has to be shown."""
    try:
        ran = subprocess.run(
            [path, "-e", _PROBE],
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            stdin=subprocess.DEVNULL,
            cwd="/",
            check=False,
        )
        said = json.loads(ran.stdout)
        executable = Path(said["executable"])
        shown: tuple[Path, ...] | str = ()
        if not inside:
            top = executable.parent.parent if executable.parent.name == "bin" else executable.parent
            folders = [top, *(Path(library).parent for library in said["libraries"])]
            shown = prefixes.bindable(folders, executable)
        if isinstance(shown, str):
            return Rejected(path, shown)
        return Node(executable, str(said["version"]), shown, _off(str(said["version"]), said["flags"]))
    except subprocess.TimeoutExpired:
        return Rejected(path, f"did not answer within {_TIMEOUT_SECONDS} s")
    except OSError as failure:
        return Rejected(path, f"cannot be executed: {failure.strerror}")
    except (ValueError, KeyError, TypeError):
        lines = ran.stderr.decode(errors="replace").strip().splitlines()
        return Rejected(
            path, f"does not run (exit {ran.returncode}): {lines[0][:200] if lines else 'no output'}"
        )


def _off(version: str, flags: list[str]) -> tuple[str, ...]:
    """AWS: "Experimental Node.js features": require() of ES modules and detecting them by their syntax are off
    in nodejs20.x and nodejs22.x."""
    if int(version.partition(".")[0]) >= 24:
        return ()
    return tuple(flag.replace("--", "--no-", 1) for flag in flags)


def _candidates() -> Iterator[Path]:
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
    folders += [Path("/usr/bin"), Path("/usr/local/bin")]
    home = prefixes.home()
    for pattern in _MANAGED:
        folders += sorted(home.glob(pattern), key=_numbers, reverse=True)
    for folder in dict.fromkeys(folders):
        for name in ("node", "nodejs"):
            if os.access(folder / name, os.X_OK):
                yield folder / name


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
