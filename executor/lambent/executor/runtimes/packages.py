"""Runtime folders: what is /var/runtime inside, one per Python minor version, because the runtime client has a
native extension that only its own version loads.

For the version that Lambent itself runs on the folder is made offline, from the packages installed beside
Lambent; for others pip fetches them, only when asked to. A folder appears by one rename, after its interpreter
has imported the client and boto3 from it; it is named by what is in it, so an upgrade makes another one.
"""

import asyncio
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.executor.runtimes import tool
from lambent.executor.runtimes.folders import new_folder, put_file
from lambent.executor.runtimes.interpreters import Interpreter
from lambent.kernel.errors import ServiceException
from lambent.kernel.log import Log

_log = Log(__name__)
ROOTS = ("awslambdaric", "boto3")
MANIFEST = ".lambent.json"
LAUNCHER = "bootstrap.py"
_SCHEMA = 1
_OWN_SOURCE = "the packages installed beside Lambent"
_LAUNCHER_SOURCE = Path(__file__).with_name("python_bootstrap.py")
_LEFTOVER_SECONDS = 3600  # another process may be installing right now
_CHECK = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "import runtime_client, awslambdaric.bootstrap, boto3, simplejson"
)


@dataclass(frozen=True, slots=True)
class RuntimeFolder:
    """A finished folder. `packages`: {distribution: version}; `soabi` names the ABI of its extensions."""

    path: Path
    minor: int
    soabi: str
    packages: Mapping[str, str]
    source: str

    def fits(self, interpreter: Interpreter) -> bool:
        return (self.minor, self.soabi) == (interpreter.minor, interpreter.soabi)


def find(root: Path, *, look_only: bool = False) -> list[RuntimeFolder]:
    """The finished folders below `root`, newest first, each with this release's launcher; with `look_only`
    nothing is written."""
    if not root.is_dir():
        return []
    found: list[tuple[float, RuntimeFolder]] = []
    for path in root.iterdir():
        manifest = path / MANIFEST
        if path.name.startswith(".") or not manifest.is_file():
            continue
        try:
            said = json.loads(manifest.read_text())
            if said["schema"] != _SCHEMA:
                continue
            folder = RuntimeFolder(path, said["minor"], said["soabi"], said["packages"], said["source"])
        except (ValueError, KeyError, TypeError) as failure:
            _log.warning("A runtime folder is damaged; remove it.", path=str(path), why=repr(failure))
            continue
        if not look_only:
            _put_launcher(path)
        found.append((manifest.stat().st_mtime, folder))
    return [folder for _, folder in sorted(found, key=lambda item: item[0], reverse=True)]


def clear_leftovers(root: Path) -> None:
    """Removes what an interrupted build left more than an hour ago."""
    for path in root.glob(".new-*"):
        if path.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
            shutil.rmtree(path)


def own_minor() -> int:
    """The minor version whose packages this process has."""
    return sys.version_info.minor


def prepare_own(root: Path, interpreter: Interpreter) -> RuntimeFolder:
    """The folder made of the packages installed beside Lambent, without any network; made if it is not there.
    Takes seconds the first time: run it in a thread. Raises ServiceException."""
    parts = _own_parts(interpreter)
    packages = _versions(parts)
    there = [folder for folder in find(root) if folder.fits(interpreter) and folder.packages == packages]
    if there:
        return there[0]
    new = new_folder(root)
    try:
        for name, part in parts.items():
            _copy(name, part, new)
        return _finish(new, root, interpreter, packages, _OWN_SOURCE)
    except (OSError, subprocess.SubprocessError) as failure:
        raise _not_made(root, failure) from failure
    finally:
        if new.exists():
            shutil.rmtree(new)


def planned_own(root: Path, interpreter: Interpreter) -> RuntimeFolder:
    """What `prepare_own` would make, without making it. Raises ServiceException."""
    packages = _versions(_own_parts(interpreter))
    path = root / f"python3.{interpreter.minor}"
    return RuntimeFolder(path, interpreter.minor, interpreter.soabi, packages, _OWN_SOURCE)


def _own_parts(interpreter: Interpreter) -> dict[str, importlib.metadata.Distribution]:
    soabi = sysconfig.get_config_var("SOABI") or ""
    if (interpreter.minor, interpreter.soabi) != (own_minor(), soabi):
        raise ServiceException(f"{interpreter.executable} is not built like the Python that Lambent runs on.")
    return _closure(ROOTS)


def _versions(parts: Mapping[str, importlib.metadata.Distribution]) -> dict[str, str]:
    return {name: part.version for name, part in sorted(parts.items())}


async def install(
    root: Path, interpreter: Interpreter, *, seconds: float, on_line: Callable[[str], None] | None = None
) -> RuntimeFolder:
    """Fetches the newest client and boto3 that this interpreter can have, by pip. `on_line` gets pip's output.
    Raises ServiceException with the end of the output and advice."""
    new = await asyncio.to_thread(new_folder, root)
    try:
        command = [
            *await asyncio.to_thread(pip, interpreter.executable),
            *("install", "--target", str(new), "--prefer-binary", "--no-input", "--no-warn-script-location"),
            *("--disable-pip-version-check", "--upgrade", *ROOTS),
        ]
        code, lines = await tool.run(command, seconds=seconds, on_line=on_line)
        if code != 0:
            raise ServiceException(_advice(lines, interpreter))
        packages = {
            _normal(part.name): part.version for part in importlib.metadata.distributions(path=[str(new)])
        }
        shutil.rmtree(new / "bin", ignore_errors=True)  # scripts with this machine's paths; AWS has none
        return await asyncio.to_thread(_finish, new, root, interpreter, packages, "pip")
    except (OSError, subprocess.SubprocessError) as failure:
        raise _not_made(root, failure) from failure
    finally:
        if new.exists():
            await asyncio.to_thread(shutil.rmtree, new)


def _not_made(root: Path, failure: Exception) -> ServiceException:
    return ServiceException(f"The runtime folder could not be made in {root}: {failure}.")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(roots: Sequence[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that `roots` need, themselves included, without extras."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = list(roots)
    while todo:
        name = _normal(todo.pop())
        if name in found:
            continue
        try:
            part = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in roots:
                raise ServiceException(f"{name} is not installed beside Lambent.") from None
            continue  # a requirement under a marker that is not true here
        found[name] = part
        for requirement in part.requires or ():
            wanted, _, marker = requirement.partition(";")
            match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", wanted.strip())
            if match and not re.search(r"\bextra\b", marker):
                todo.append(match[0])
    return found


def _copy(name: str, part: importlib.metadata.Distribution, into: Path) -> None:
    """Copies rather than links: what a function is shown must not be the file that Lambent itself runs."""
    if part.files is None:
        raise ServiceException(f"{name} is installed without a list of its files, so it cannot be copied.")
    for file in part.files:
        if ".." in file.parts or file.is_absolute() or file.suffix == ".pth" or file.parts[0] == "bin":
            continue  # scripts
        source = Path(str(part.locate_file(file)))
        if source.is_file():
            target = into.joinpath(*file.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)  # with its time, which compiled files are checked against


def _finish(
    new: Path, root: Path, interpreter: Interpreter, packages: Mapping[str, str], source: str
) -> RuntimeFolder:
    missing = [name for name in ROOTS if name not in packages]
    if missing:
        raise ServiceException(f"{', '.join(missing)} did not arrive in the runtime folder.")
    _put_launcher(new)
    _compile(new, interpreter)
    _check(new, interpreter)
    manifest = {
        "schema": _SCHEMA,
        "minor": interpreter.minor,
        "soabi": interpreter.soabi,
        "packages": dict(sorted(packages.items())),
        "source": source,
    }
    (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in (new, *new.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
    os.sync()  # the name must not outlive a power cut without the files
    key = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]
    path = root / f"python3.{interpreter.minor}-{key}"
    if path.is_dir():  # the same packages were there: it may be in use
        os.utime(path / MANIFEST)
        shutil.rmtree(new)
    else:
        new.rename(path)
    _log.info(
        "A runtime folder is ready.", runtime=f"python3.{interpreter.minor}", path=str(path), source=source
    )
    return RuntimeFolder(path, interpreter.minor, interpreter.soabi, packages, source)


def _put_launcher(folder: Path) -> None:
    put_file(folder / LAUNCHER, _LAUNCHER_SOURCE.read_bytes())


def _compile(folder: Path, interpreter: Interpreter) -> None:
    """Compiles what is not compiled yet: functions cannot write there, and would compile boto3 at each start.
    A file that does not compile (a template, a newer syntax) is no error."""
    subprocess.run(
        [interpreter.executable, "-I", "-S", "-m", "compileall", "-q", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


def _check(folder: Path, interpreter: Interpreter) -> None:
    ran = subprocess.run(
        [interpreter.executable, "-I", "-S", "-B", "-c", _CHECK, str(folder)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    if ran.returncode != 0:
        lines = ran.stderr.decode(errors="replace").strip().splitlines()
        raise ServiceException(
            f"{interpreter.executable} cannot import the runtime client: {lines[-1] if lines else 'no output'}"
        )


def pip(executable: Path) -> list[str]:
    """How to run pip for an interpreter: its own, else Lambent's (pip >= 22.3 works for another Python)."""
    own = [str(executable), "-I", "-m", "pip"]
    if tool.works([*own, "--version"]):
        return own
    ours = [sys.executable, "-I", "-m", "pip"]
    if tool.works([*ours, "--version"]):
        return [*ours, "--python", str(executable)]
    raise ServiceException(
        f"Neither {executable} nor {sys.executable} has pip. Install it "
        f"({sys.executable} -m ensurepip, or apt-get install python3-pip) and try again."
    )


def _advice(lines: Sequence[str], interpreter: Interpreter) -> str:
    tail = "\n".join(lines[-15:])
    name = f"python3.{interpreter.minor}"
    if "Failed building wheel" in tail or "Failed to build" in tail or "error: command" in tail:
        return (
            f"There is no ready-made awslambdaric for {name} on this machine, and building it failed. It needs "
            f"a C++ compiler, cmake, autoconf, libtool and Python's headers: apt-get install g++ make cmake "
            f"autoconf automake libtool libcurl4-openssl-dev {name}-dev. pip said:\n{tail}"
        )
    return (
        f"pip could not fetch the runtime client and boto3 for {name}. Is the package index reachable "
        f"(pip's own settings, as PIP_INDEX_URL and proxies, apply)? pip said:\n{tail}"
    )
