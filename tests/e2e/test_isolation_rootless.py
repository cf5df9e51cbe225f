"""What a function reaches of a server of an ordinary user, whose environments run as that user too: nothing but
namespaces keeps it from that user's files, processes and memory. Each attempt has its control: the same code,
run by that user on the host, finds the thing.
"""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from isolation_targets import ENVIRONMENT, World, secrets_of, targets
from isolation_world import Outcomes, halves, inside, on_host, ordinary_user, processes_of
from running import Functions, Server
from traces import left_behind

PLANTED = uuid.uuid4().hex
NAMES = [
    *(f"read another function's code{how}" for how in ("", ", by its process", " by symlink", " by hardlink")),
    "find another function's code anywhere",
    *("read a blob", "read the server's secret", "read the store's data", "read the server's memory map"),
    *("read the server's environment", "read the environment of pid 1", "list the data folder"),
    *("find the server's secret in an environment", "see the server's process", "signal the server"),
    *("see another function's process", "signal another function", "share memory with the host"),
    *("use the store's socket", "use the functions' socket", "use an abstract socket", "list /sys"),
]


@dataclass(frozen=True)
class Rootless:
    """`through`: the command by which the controls become the server's user."""

    world: World
    uid: int
    through: Sequence[str]

    def on_host(self, attempts: Any) -> Outcomes:
        return on_host(attempts, through=self.through)


@pytest.fixture(scope="module")
def rootless() -> Iterator[Rootless]:
    uid, through = ordinary_user()
    folder = Path(tempfile.mkdtemp(prefix="lambent-rootless-"))  # pytest's own are closed to others
    try:
        os.chown(folder, uid, -1)
        server = Server(folder / "data", "--no-s3", environment=ENVIRONMENT, through=through).start()
        try:
            with targets(server) as world:
                yield Rootless(world, uid, through)
        finally:
            assert server.stop() == 0
        assert left_behind(server.data_dir) == []
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def allowed(rootless: Rootless) -> Outcomes:
    attempts = {name: dict(rootless.world.attempts[name]) for name in NAMES}
    # Inside, pid 1 is a process of the server; on the host it is somebody else's.
    attempts["read the environment of pid 1"]["path"] = f"/proc/{rootless.world.server.pid}/environ"
    return rootless.on_host(attempts)


@pytest.fixture(scope="module")
def tried(rootless: Rootless) -> Outcomes:
    return inside(rootless.world.functions, {name: rootless.world.attempts[name] for name in NAMES})


def test_the_server_and_its_functions_are_the_same_user(rootless: Rootless) -> None:
    """Else the attempts below would be on somebody else's things, and prove less."""
    (status,) = processes_of(rootless.world.other).values()
    assert set(status["Uid"].split()) == {str(rootless.uid)}
    assert os.stat(f"/proc/{rootless.world.server.pid}").st_uid == rootless.uid != 0
    assert "uid separation: every environment runs as the server's own user" in rootless.world.server.output()


@pytest.mark.parametrize("name", NAMES)
def test_what_its_user_has_is_out_of_a_functions_reach(name: str, tried: Outcomes, allowed: Outcomes) -> None:
    control = allowed[name]
    assert control[0] == "done" and control[1] not in ("", []), control
    assert tried[name][0] == "refused", tried[name]


def test_its_own_memory_has_none_of_the_servers_secrets(rootless: Rootless) -> None:
    secrets = {**secrets_of(rootless.world.server), "planted": PLANTED.encode()}
    scans: dict[str, dict[str, Any]] = {
        what: {"do": "scan_memory", "halves": halves(value)} for what, value in secrets.items()
    }
    found = dict(inside(rootless.world.functions, scans, Environment={"Variables": {"PLANTED": PLANTED}}))
    assert found.pop("planted")[0] == "done", found
    pid = str(rootless.world.server.pid)
    there = rootless.on_host({what: {**scans[what], "pid": pid} for what in found})
    for what, outcome in found.items():
        assert there[what][0] == "done", (what, there)
        assert outcome[:2] == ["refused", "LookupError"], (what, found)


def test_the_servers_memory_is_out_of_reach(rootless: Rootless) -> None:
    """By its pid outside, and by every pid that there is inside."""
    value = halves(next(iter(secrets_of(rootless.world.server).values())))
    pid = rootless.world.server.pid
    scan = {"do": "scan_memory", "halves": value, "pid": str(pid)}
    assert rootless.on_host({"x": scan})["x"][0] == "done"
    attempts = {str(each): {**scan, "pid": str(each)} for each in (pid, 1)}
    assert {outcome[0] for outcome in inside(rootless.world.functions, attempts).values()} == {"refused"}


def test_only_tmp_can_be_written(rootless: Rootless) -> None:
    data = str(rootless.world.server.data_dir)
    folders = ("/var/task", "/opt", "/var/runtime", "/usr", "/etc", "/", "/dev", "/root", "/home", data)
    write = {path: {"do": "write_folder", "path": path} for path in (*folders, "/tmp")}
    assert rootless.on_host({"x": write[data]})["x"] == ["done", "written"]
    there = dict(inside(rootless.world.functions, write))
    assert there.pop("/tmp") == ["done", "written"]
    assert {path: outcome[0] for path, outcome in there.items()} == dict.fromkeys(there, "refused")


def test_killing_everything_it_may_ends_only_its_own(rootless: Rootless) -> None:
    """kill(-1) reaches every process that its caller may signal: outside, all of the server's."""
    code = """
        import os, signal, subprocess
        def handler(event, context):
            child = subprocess.Popen(["sleep", "60"])
            os.kill(-1, signal.SIGKILL)
            return child.wait(10)
    """
    world = rootless.world
    (before,) = processes_of(world.other)
    assert world.functions.run(code) == -signal.SIGKILL
    assert set(processes_of(world.other)) == {before}
    assert world.functions.invoke(world.other).result == 1


def test_it_has_no_power_and_shares_no_namespace(rootless: Rootless) -> None:
    here = rootless.on_host({"x": {"do": "facts"}})["x"][1]
    there = inside(rootless.world.functions, {"x": {"do": "facts"}})["x"][1]
    assert there["ids"] == [993] * 3 + [990] * 3 and here["ids"][0] == rootless.uid
    none = {"CapBnd": "0" * 16, "CapEff": "0" * 16, "CapPrm": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert there["status"] == none
    shared = {name for name in there["namespaces"] if there["namespaces"][name] == here["namespaces"][name]}
    assert shared <= {"time", "time_for_children"}, shared
    assert there["processes"] <= 4 < here["processes"]


def test_memory_that_it_takes_is_taken_back(rootless: Rootless) -> None:
    """The limit is looked after, not enforced by the kernel; the control has room for as much."""
    code = """
        import time
        def handler(event, context):
            taken = bytearray(b"x") * (event << 20)
            time.sleep(3 if event > 128 else 0)
            return len(taken) >> 20
    """
    functions: Functions = rootless.world.functions
    small, roomy = functions.create(code), functions.create(code, MemorySize=1024)
    assert functions.invoke(small, 40).result == 40
    answer = functions.invoke(small, 400)
    assert answer.error == "Unhandled" and answer.result["errorType"] == "Runtime.OutOfMemory", answer.payload
    assert functions.invoke(roomy, 400).result == 400
    assert functions.invoke(small, 40).result == 40
