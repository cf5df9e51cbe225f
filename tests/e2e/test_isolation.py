"""What a function sees of the machine, the server and other functions: files, processes, memory, identity. Each
attempt has its control: the same code finds the same thing on the host."""

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from isolation_targets import ENVIRONMENT, World, secrets_of, targets
from isolation_world import Outcomes, halves, inside, need_root, on_host, processes_of
from running import Server

PLANTED = uuid.uuid4().hex


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_root()
    server = Server(tmp_path_factory.mktemp("isolation") / "data", "--no-s3", environment=ENVIRONMENT).start()
    try:
        with targets(server) as made:
            yield made
    finally:
        server.stop()


# The names are needed before there is a server, so they are written out once more.
NAMES = [
    *(f"read another function's code{how}" for how in ("", ", by its process", " by symlink", " by hardlink")),
    "find another function's code anywhere",
    *("read a blob", "read the server's secret", "read the store's data", "read the server's memory map"),
    *("read the shadow file", "read the shadow file, by pid 1", "read the kernel's symbols"),
    *("read the server's environment", "read the environment of pid 1"),
    *("find the server's secret in an environment", "see the server's process", "signal the server"),
    *("see another function's process", "signal another function"),
    *("open /dev/mem", "open /dev/kmsg", "open /dev/vda", "open /dev/loop-control", "open /dev/fuse"),
    *("open /dev/net/tun", "open /dev/kvm", "list /sys", "list /sys/fs/cgroup"),
    *("list the data folder", "use the store's socket", "use the functions' socket", "use an abstract socket"),
    *("change /proc/sys/kernel/core_pattern", "change /proc/sys/kernel/hostname"),
    *("change /proc/sys/vm/overcommit_memory", "change /proc/sys/net/ipv4/ip_forward"),
    "share memory with the host",
]


@pytest.fixture(scope="module")
def allowed(world: World) -> Outcomes:
    # Inside, pid 1 is a process of the server; on the host it may have more power than root here.
    text = json.dumps(world.attempts).replace("/proc/1/", f"/proc/{world.server.pid}/")
    return on_host(json.loads(text))


@pytest.fixture(scope="module")
def tried(world: World) -> Outcomes:
    return inside(world.functions, world.attempts)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_host_has_is_out_of_reach(name: str, tried: Outcomes, allowed: Outcomes) -> None:
    control = allowed[name]
    if name.startswith("open /dev/") and control[0] == "refused":
        pytest.skip(f"this machine lets not even root: {control}")
    assert control[0] == "done" and control[1] not in ("", []), control
    outcome = tried[name]
    if name == "read the kernel's symbols":
        assert outcome == ["done", ""]
    else:
        assert outcome[0] == "refused", outcome


def test_its_own_memory_has_none_of_the_servers_secrets(world: World) -> None:
    secrets = {**secrets_of(world.server), "planted": PLANTED.encode()}
    scans: dict[str, dict[str, Any]] = {
        what: {"do": "scan_memory", "halves": halves(value)} for what, value in secrets.items()
    }
    found = dict(inside(world.functions, scans, Environment={"Variables": {"PLANTED": PLANTED}}))
    assert found.pop("planted")[0] == "done", found
    # The control: the server's own memory has them.
    there = on_host({what: {**scans[what], "pid": str(world.server.pid)} for what in found})
    for what, outcome in found.items():
        assert there[what][0] == "done", (what, there)
        assert outcome[:2] == ["refused", "LookupError"], (what, found)


_FOLDERS = (
    "/var/task",
    "/opt",
    "/var/runtime",
    "/usr",
    "/usr/bin",
    "/etc",
    "/",
    "/var",
    "/dev",
    "/root",
    "/home",
)


def test_only_tmp_can_be_written(world: World) -> None:
    attempts = {
        path: {"do": "write_folder", "path": path} for path in (*_FOLDERS, "/tmp", "/var/tmp", "/proc/sys")
    }
    here = on_host(
        {**attempts, "/var/task": {"do": "write_folder", "path": str(world.server.data_dir / "trees")}}
    )
    for path in ("/var/task", "/opt", "/usr", "/usr/bin", "/etc", "/", "/var", "/root", "/home", "/tmp"):
        assert here[path] == ["done", "written"], (path, here[path])
    there = inside(world.functions, attempts)
    assert there.pop("/tmp") == ["done", "written"]  # type: ignore[attr-defined]
    assert {path: outcome[0] for path, outcome in there.items()} == dict.fromkeys(there, "refused")


def test_its_own_code_cannot_be_changed(world: World) -> None:
    code = """
        import os
        def handler(event, context):
            path, said = event["path"], {}
            for what, change in {
                "append": lambda: open(path, "a"), "chmod": lambda: os.chmod(path, 0o666),
                "delete": lambda: os.unlink(path), "rename": lambda: os.rename(path, path + "x"),
                "times": lambda: os.utime(path), "truncate": lambda: os.truncate(path, 0),
            }.items():
                try:
                    change()
                    said[what] = "done"
                    open(path, "a").close()
                except OSError as error:
                    said[what] = type(error).__name__
                if not os.path.exists(path) and os.path.exists(path + "x"):
                    os.rename(path + "x", path)
            return said
    """
    name = world.functions.create(code)
    changes = ("append", "chmod", "delete", "rename", "times", "truncate")
    refused = world.functions.invoke(name, {"path": "/var/task/app.py"}).result
    assert set(refused) == set(changes) and "done" not in refused.values(), refused
    # the control: a file of its own
    own = world.functions.create(code.replace("path, said", 'open(event["path"], "w").close(); path, said'))
    assert world.functions.invoke(own, {"path": "/tmp/own.py"}).result == dict.fromkeys(changes, "done")
    assert world.functions.invoke(name, {"path": "/var/task/app.py"}).result == refused


def test_it_is_sbx_user_without_any_power(world: World) -> None:
    here = on_host({"x": {"do": "facts"}})["x"][1]
    there = inside(world.functions, {"x": {"do": "facts"}})["x"][1]
    assert there["ids"] == [993] * 3 + [990] * 3 and here["ids"][0] == 0
    assert [group for group in there["groups"] if group not in (990, 65534)] == []
    none = {"CapBnd": "0" * 16, "CapEff": "0" * 16, "CapPrm": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert there["status"] == none and here["status"] != none
    shared = {name for name in there["namespaces"] if there["namespaces"][name] == here["namespaces"][name]}
    assert shared <= {"time", "time_for_children"}, shared
    assert there["host"] == "localhost" and there["core"] == 0
    allowed = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")}
    assert set(there["devices"]) == allowed < set(here["devices"])
    assert there["processes"] <= 4 < here["processes"]


def test_a_program_it_runs_inherits_no_descriptor(world: World) -> None:
    """At import, before the runtime client has connected: its own sockets are nobody else's business."""
    code = """
        import os, subprocess
        own = {number: os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)}
        shown = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
        def handler(event, context):
            return {"own": own, "executed": shown.stdout.split()}
    """
    result = world.functions.run(code)
    # 3 is the folder that ls lists; the control is that it shows 0, 1 and 2
    assert result["executed"] == ["0", "1", "2", "3"], result
    kinds = [target.partition(":")[0] for target in result["own"].values()]
    assert kinds == ["/dev/null", "pipe", "pipe"], result


def test_two_environments_have_uids_of_their_own_in_the_configured_range(world: World) -> None:
    second = world.functions.create("def handler(event, context):\n    return 2\n")
    assert world.functions.invoke(second).result == 2
    assert world.functions.invoke(world.other).result == 1
    found = [processes_of(name) for name in (world.other, second)]
    uids = [{status["Uid"] for status in processes.values()} for processes in found]
    assert all(len(each) == 1 for each in uids) and uids[0] != uids[1], uids
    for (uid,) in uids:
        ids = {int(each) for each in uid.split()}
        assert len(ids) == 1 and 1_500_000 <= ids.pop() < 1_500_000 + 4096
    world.functions.aws.delete_function(FunctionName=second)


def test_one_environment_sees_nothing_of_anothers_tmp(world: World) -> None:
    code = """
        import os
        def handler(event, context):
            before = os.listdir("/tmp")
            open("/tmp/left", "w").close()
            return before
    """
    first = world.functions.create(code)
    assert world.functions.invoke(first).result == []
    assert world.functions.invoke(first).result == ["left"]
    assert world.functions.run(code) == []


def test_killing_everything_it_may_ends_only_its_own(world: World) -> None:
    """kill(-1) reaches every process that its caller may signal."""
    code = """
        import os, signal, subprocess
        def handler(event, context):
            child = subprocess.Popen(["sleep", "60"])
            os.kill(-1, signal.SIGKILL)
            return child.wait(10)
    """
    (before,) = processes_of(world.other)
    assert world.functions.run(code) == -9
    assert set(processes_of(world.other)) == {before}
    assert world.functions.invoke(world.other).result == 1


DAEMON = """
    import os, signal
    def handler(event, context):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            if os.fork():
                os._exit(0)
            os.write(write, b"x")
            while True:
                sum(range(1000))
        os.read(read, 1)
        os.waitpid(child, 0)
"""


def _ran(pids: Iterable[int]) -> int:
    """Nanoseconds that these processes have been on a processor."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)


def test_a_daemon_stands_still_between_invocations_and_goes_with_its_environment(world: World) -> None:
    name = world.functions.create(DAEMON)
    world.functions.invoke(name)
    assert len(processes_of(name)) == 2
    until = time.monotonic() + 10
    while True:  # freezing comes 10 ms after the answer; the daemon would run in each of these spans
        before = _ran(processes_of(name))
        time.sleep(0.3)
        if _ran(processes_of(name)) == before:
            break
        assert time.monotonic() < until, "it is not frozen"
    processes = processes_of(name)
    daemon = max(processes, key=lambda pid: int(processes[pid]["NSpid"].split()[-1]))
    still = _ran([daemon])
    while _ran([daemon]) == still:  # the control: it goes on with an invocation
        assert time.monotonic() < until, "it never ran again"
        world.functions.invoke(name)
    world.functions.aws.delete_function(FunctionName=name)
    while left := processes_of(name):
        assert time.monotonic() < until, f"left behind: {json.dumps(left)}"
        time.sleep(0.02)
