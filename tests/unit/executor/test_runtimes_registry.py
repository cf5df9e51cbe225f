"""Which runtime a name means on a machine with given interpreters and runtime folders, and what is said about
the others."""

import json
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from support import require

from lambent.executor.runtimes import interpreters as interpreters_module
from lambent.executor.runtimes import jdks, names, nodes, packages, prefixes, ruby
from lambent.executor.runtimes.code_check import CodeInspector
from lambent.executor.runtimes.interpreters import Interpreter, Interpreters, Rejected, probe
from lambent.executor.runtimes.python import command
from lambent.executor.runtimes.registry import Runtimes
from lambent.kernel.errors import InvalidParameterValueException, InvalidRuntimeException, ServiceException
from lambent.kernel.ports import CodeCheck


class Machine:
    """Interpreters and runtime folders that are only said to be there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.interpreters: list[Interpreter] = []
        self.rejected: list[Rejected] = []
        self.scans = 0

    def scan(self) -> tuple[list[Interpreter], list[Rejected]]:
        self.scans += 1
        return list(self.interpreters), list(self.rejected)

    def python(self, minor: int, *, folder: bool = True, prefix: str = "/srv/python") -> Interpreter:
        executable = self.root / f"bin/python3.{minor}"
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
        made = Interpreter(executable, (3, minor, 4), f"abi-{minor}", Path(prefix), (Path(prefix),))
        self.interpreters.append(made)
        if folder:
            self.folder(minor)
        return made

    def folder(self, minor: int, *, soabi: str | None = None, version: str = "4.2.2") -> Path:
        path = self.root / "runtimes" / f"python3.{minor}-{version}"
        path.mkdir(parents=True)
        said = {
            "schema": 1,
            "minor": minor,
            "soabi": soabi or f"abi-{minor}",
            "packages": {"awslambdaric": version, "boto3": "1.44.5"},
            "source": "test",
        }
        (path / packages.MANIFEST).write_text(json.dumps(said))
        return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(interpreters_module.Interpreters, "scan", lambda self: machine.scan())
    monkeypatch.setattr(packages, "own_minor", lambda: 99)
    monkeypatch.setattr(jdks, "scan", lambda: ([], []))
    monkeypatch.setattr(ruby, "_candidates", lambda: iter(()))
    monkeypatch.setattr(nodes.Nodes, "scan", lambda self: ([], []))
    return machine


def test_a_runtime_with_interpreter_and_folder_is_ready(machine: Machine) -> None:
    python = machine.python(12)
    runtimes = Runtimes(machine.root)
    assert runtimes.problem("python3.12") == (None, None)
    started = runtimes.command("python3.12", "app.handler")
    assert started.argv == (str(python.executable), "-S", "/var/runtime/bootstrap.py")
    assert started.prefixes == (Path("/srv/python"),)
    assert started.version_text == "python:3.12.4"
    assert (started.runtime_dir / "bootstrap.py").read_bytes() == packages._LAUNCHER_SOURCE.read_bytes()


def test_the_variables_are_those_of_aws_with_the_interpreters_prefix(machine: Machine) -> None:
    env = command("python3.12", "app.handler", machine.python(12), machine.root).env
    assert env["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.12"
    assert env["_HANDLER"] == "app.handler"
    assert env["PATH"] == "/srv/python/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
    assert env["LD_LIBRARY_PATH"] == (
        "/srv/python/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    )
    assert (env["LANG"], env["TZ"]) == ("en_US.UTF-8", ":UTC")
    system = command("python3.12", "a.b", machine.python(12, folder=False, prefix="/usr"), machine.root).env
    assert system["PATH"].startswith("/usr/local/bin:")
    assert system["LD_LIBRARY_PATH"].startswith("/lib64:")


def test_an_interpreter_without_a_folder_is_refused_with_the_command_to_run(machine: Machine) -> None:
    machine.python(11)
    python = machine.python(12, folder=False)
    problem, warning = Runtimes(machine.root).problem("python3.12")
    assert problem is not None
    assert f"Run: lambent runtimes install python3.12 --data-dir {machine.root}." in problem
    assert str(python.executable) in problem
    assert "Ready now: python3.11." in problem
    assert warning is None


def test_without_an_interpreter_it_is_said_how_to_get_one_and_why_a_shim_did_not_do(machine: Machine) -> None:
    machine.rejected.append(Rejected(Path("/shims/python3.13"), "does not run (exit 127)"))
    problem, _ = Runtimes(machine.root).problem("python3.13")
    assert problem is not None
    for part in (
        "apt-get install python3.13",
        f"lambent runtimes install python3.13 --data-dir {machine.root}.",
        "/shims/python3.13",
        "127",
    ):
        assert part in problem


def test_a_folder_of_another_abi_does_not_count(machine: Machine) -> None:
    machine.python(12, folder=False)
    machine.folder(12, soabi="abi-12-musl")
    problem, _ = Runtimes(machine.root).problem("python3.12")
    assert problem is not None


def test_the_newest_folder_is_used_and_a_damaged_one_is_passed_over(machine: Machine) -> None:
    machine.python(12, folder=False)
    for age, version in ((30, "4.1"), (20, "4.2")):
        manifest = machine.folder(12, version=version) / packages.MANIFEST
        os.utime(manifest, (manifest.stat().st_mtime - age,) * 2)
    (machine.folder(12, version="4.3") / packages.MANIFEST).write_text("{")
    assert Runtimes(machine.root).command("python3.12", "a.b").runtime_dir.name == "python3.12-4.2"


@pytest.mark.parametrize("runtime", ["dotnet8", "dotnet10"])
def test_a_runtime_of_aws_that_is_not_built_yet_is_refused(machine: Machine, runtime: str) -> None:
    problem, _ = Runtimes(machine.root).problem(runtime)
    assert problem is not None
    assert problem.startswith(f"Lambent cannot run {runtime} yet: ")
    with pytest.raises(InvalidRuntimeException, match="cannot run"):
        Runtimes(machine.root).command(runtime, "a.b")


@pytest.mark.parametrize("runtime", ["python3.8", "python2.7", "nodejs18.x", "go1.x"])
def test_a_deprecated_runtime_is_refused_in_aws_words_even_in_compatible_mode(
    machine: Machine, runtime: str
) -> None:
    machine.python(11)
    problem, _ = Runtimes(machine.root, "compatible").problem(runtime)
    assert problem == (
        f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
        "functions. We recommend you use a supported runtime while creating or updating functions."
    )


def test_an_unknown_runtime_is_refused_with_the_enum(machine: Machine) -> None:
    problem, _ = Runtimes(machine.root).problem("python3.99")
    assert problem is not None
    assert problem.startswith("Value python3.99 at 'runtime' failed to satisfy constraint: Member must satisfy")
    assert "python3.13" in problem


@pytest.mark.parametrize(
    ("there", "wanted", "real"),
    [((11, 13, 14), 12, 13), ((9, 11), 13, 11), ((9, 14), 9, 9), ((10, 14), 11, 14)],
)
def test_compatible_takes_the_nearest_higher_then_the_nearest_lower(
    machine: Machine, there: tuple[int, ...], wanted: int, real: int
) -> None:
    for minor in there:
        machine.python(minor)
    runtimes = Runtimes(machine.root, "compatible")
    problem, warning = runtimes.problem(f"python3.{wanted}")
    assert problem is None
    assert (warning is None) == (wanted == real)
    assert warning is None or f"Python 3.{real}.4" in warning
    started = runtimes.command(f"python3.{wanted}", "a.b")
    assert started.version_text == f"python:3.{real}.4"
    assert started.env["AWS_EXECUTION_ENV"] == f"AWS_Lambda_python3.{wanted}"
    [line] = [info for info in runtimes.listing() if info.runtime == f"python3.{wanted}"]
    assert (line.available, line.runs_on, line.version) == (True, f"python3.{real}", f"3.{real}.4")


def test_compatible_with_no_python_at_all_refuses(machine: Machine) -> None:
    problem, _ = Runtimes(machine.root, "compatible").problem("python3.12")
    assert problem is not None


def test_what_is_installed_later_is_found_but_misses_do_not_scan_each_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("lambent.executor.runtimes.registry.time.monotonic", lambda: now)
    runtimes = Runtimes(machine.root)
    assert runtimes.problem("python3.12")[0] is not None
    machine.python(12)
    scans = machine.scans
    for _ in range(10):
        assert runtimes.problem("python3.12")[0] is not None
    assert machine.scans == scans
    now += 5
    assert runtimes.problem("python3.12") == (None, None)
    for _ in range(10):
        runtimes.command("python3.12", "a.b")
    assert machine.scans == scans + 1


def test_a_folder_of_our_own_that_cannot_be_made_is_explained_and_not_tried_at_each_look(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("lambent.executor.runtimes.registry.time.monotonic", lambda: now)
    monkeypatch.setattr(packages, "own_minor", lambda: 12)
    tried: list[Path] = []

    def fails(root: Path, interpreter: Interpreter) -> packages.RuntimeFolder:
        tried.append(root)
        raise ServiceException("awslambdaric is not installed beside Lambent.")

    monkeypatch.setattr(packages, "prepare_own", fails)
    machine.python(12, folder=False)
    runtimes = Runtimes(machine.root)
    for _ in range(3):
        problem, _ = runtimes.problem("python3.12")
        assert problem is not None
        assert "(awslambdaric is not installed beside Lambent.)" in problem
        now += 5
    assert len(tried) == 1
    now += 60
    runtimes.scan()
    assert len(tried) == 2


def test_an_interpreter_that_was_removed_is_noticed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("lambent.executor.runtimes.registry.time.monotonic", lambda: now)
    python = machine.python(12)
    runtimes = Runtimes(machine.root)
    assert runtimes.problem("python3.12") == (None, None)
    python.executable.unlink()
    machine.interpreters.clear()
    now += 5
    assert runtimes.problem("python3.12")[0] is not None


def test_the_listing_names_every_runtime_once(machine: Machine) -> None:
    machine.python(12)
    listing = Runtimes(machine.root).listing()
    assert [info.runtime for info in listing] == list(names.CURRENT)
    assert [info.runtime for info in listing if info.available] == [
        "python3.12",
        "provided.al2",
        "provided.al2023",
    ]
    assert all((info.problem is None) == info.available for info in listing)
    line = next(info for info in listing if info.available)
    assert line.packages == {"awslambdaric": "4.2.2", "boto3": "1.44.5"}


def test_a_look_writes_nothing_and_counts_what_a_start_would_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = probe(Path(sys.executable))
    assert isinstance(python, Interpreter)
    monkeypatch.setattr(interpreters_module.Interpreters, "scan", lambda self: ([python], []))
    own = f"python3.{sys.version_info.minor}"
    looked = {info.runtime: info for info in Runtimes(tmp_path / "data", look_only=True).listing()}
    assert not (tmp_path / "data").exists()
    made = {info.runtime: info for info in Runtimes(tmp_path / "data").listing()}
    assert looked == made
    assert looked[own].available
    [launcher] = (tmp_path / "data/runtimes").glob("*/bootstrap.py")
    launcher.unlink()
    again = {info.runtime: info for info in Runtimes(tmp_path / "data", look_only=True).listing()}
    assert again == made
    assert not launcher.exists()


async def test_install_of_what_has_no_interpreter_or_is_no_python_says_what_to_do(machine: Machine) -> None:
    runtimes = Runtimes(machine.root)
    with pytest.raises(ServiceException, match="pyenv install 3.12"):
        await runtimes.install("python3.12")
    with pytest.raises(ServiceException, match="cannot run dotnet8 yet"):
        await runtimes.install("dotnet8")


async def test_the_inspector_is_the_port(machine: Machine) -> None:
    inspector: CodeCheck = CodeInspector(Runtimes(machine.root))
    machine.python(12)
    assert inspector.runtime_problem("python3.12") == (None, None)
    with pytest.raises(InvalidParameterValueException, match="Could not unzip"):
        await inspector.inspect(b"no zip", layer=False)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "python3.12"
        path.write_text(text)
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n", "exit 127"),
        ("#!/bin/sh\necho hello\n", "does not run"),
        ("#!/bin/sh\necho '[1, 2]'\n", "does not run"),
        ("#!/nonexistent/interpreter\n", "cannot be executed"),
        ("#!/bin/sh\nkill -9 $$\n", "exit -9"),
    ],
)
def test_a_shim_that_fails_is_rejected_with_its_reason(
    script: Callable[[str], Path], text: str, reason: str
) -> None:
    answer = probe(script(text))
    assert isinstance(answer, Rejected)
    assert reason in answer.reason


def test_a_candidate_that_hangs_is_rejected(
    script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters_module, "_TIMEOUT_SECONDS", 0.2)
    answer = probe(script("#!/bin/sh\nexec sleep 60\n"))
    assert isinstance(answer, Rejected)
    assert "did not answer" in answer.reason


def judged(tmp_path: Path, **changes: object) -> Interpreter | Rejected:
    stdlib = tmp_path / "py/lib/python3.12"
    stdlib.mkdir(parents=True, exist_ok=True)
    (stdlib / "os.py").touch()
    binary = tmp_path / "py/bin/python3.12"
    binary.parent.mkdir(exist_ok=True)
    binary.touch()
    for path in (tmp_path / "py", binary.parent, binary, stdlib.parent, stdlib, stdlib / "os.py"):
        path.chmod(0o755)
    said = {
        "version": [3, 12, 1],
        "implementation": "cpython",
        "soabi": "abi",
        "free_threaded": False,
        "executable": str(binary),
        "base_prefix": str(tmp_path / "py"),
        "base_exec_prefix": str(tmp_path / "py"),
        "stdlib": str(stdlib),
        "libraries": ["/usr/lib/libc.so.6", "/lib/x/libz.so", str(tmp_path / "py/lib/libpython.so")],
        "missing": [],
    }
    return interpreters_module._judge(binary, {**said, **changes})


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test folders may lie in /tmp, where a real interpreter is rejected."""
    monkeypatch.setattr(prefixes, "_TAKEN", ("/opt",))


@pytest.mark.usefixtures("elsewhere")
def test_the_folders_to_bind_are_the_prefix_and_what_else_it_loads_from(tmp_path: Path) -> None:
    other = tmp_path / "ssl/lib"
    other.mkdir(parents=True)
    other.chmod(0o755)
    plain = judged(tmp_path)
    assert isinstance(plain, Interpreter)
    assert plain.prefixes == (tmp_path / "py",)
    more = judged(tmp_path, libraries=[str(other / "libssl.so.3")])
    assert isinstance(more, Interpreter)
    assert more.prefixes == (tmp_path / "py", other)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"implementation": "pypy"}, "not CPython"),
        ({"version": [3, 6, 15]}, "older"),
        ({"free_threaded": True}, "free-threaded"),
        ({"missing": ["ssl", "readline"]}, "without ssl"),
        ({"libraries": ["/libx.so"]}, "cannot be shown"),
        ({"base_prefix": "/opt/python"}, "folders of its own"),
    ],
)
def test_an_interpreter_that_functions_could_not_use_is_rejected(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    answer = judged(tmp_path, **changes)
    assert isinstance(answer, Rejected)
    assert reason in answer.reason


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("closed", ["py", "py/bin", "py/bin/python3.12", "py/lib/python3.12/os.py"])
def test_as_root_an_interpreter_that_others_cannot_read_is_rejected(tmp_path: Path, closed: str) -> None:
    require("root", os.geteuid() == 0, "only root's functions run as another user: run it as root")
    tmp_path.chmod(0o700)  # above the bound folder: does not matter
    assert isinstance(judged(tmp_path), Interpreter)
    judge = prefixes._unreadable
    (tmp_path / closed).chmod(0o700 if closed != "py/lib/python3.12/os.py" else 0o600)
    prefix = tmp_path / "py"
    found = judge([prefix], prefix / "bin/python3.12", prefix / "lib/python3.12/os.py")
    assert found == tmp_path / closed


def test_a_folder_of_a_version_manager_that_cannot_be_looked_into_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYENV_ROOT", "/" + "x" * 5000)  # root may look into every other one
    found, _ = Interpreters().scan()
    assert Path(sys.executable).resolve() in [one.executable for one in found]


def test_the_running_python_passes_the_probe() -> None:
    answer = probe(Path(sys.executable))
    assert isinstance(answer, Interpreter), answer
    assert answer.version == sys.version_info[:3]
    assert answer.soabi == sysconfig.get_config_var("SOABI")
    assert answer.executable == answer.executable.resolve()
