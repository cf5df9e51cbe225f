"""The sandbox driver's parts that need no namespace: the sleeper, images, usage, what is said, paths."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import require

from lambent.executor.drivers.base import DriverConfig
from lambent.executor.drivers.plain import on_host
from lambent.executor.drivers.sandbox import cgroups, ephemeral, facts, forking, rootfs, usage, wire

CONFIG = DriverConfig(Path("/nowhere"), "a", 1000, 10)


def test_the_sleeper_is_a_program_that_runs_and_only_sleeps(tmp_path: Path) -> None:
    code = forking.sleeper(os.uname().machine)
    require("x86-64 or arm64", code, "elsewhere the interpreter itself sleeps")
    assert code is not None
    program = tmp_path / "init"
    program.write_bytes(code)
    program.chmod(0o555)
    process = subprocess.Popen([str(program)], env={})
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_a_sleeper_is_built_for_both_architectures_and_for_no_other() -> None:
    machines = {name: forking.sleeper(name) for name in ("x86_64", "aarch64", "riscv64")}
    assert machines["riscv64"] is None
    for name, number in (("x86_64", 62), ("aarch64", 183)):
        code = machines[name]
        assert code is not None
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == number
        assert len(code) < 200


@pytest.mark.parametrize("path", ["/tmp/python", "/proc", "/dev/x", "/etc", "/var", "/var/task/python", "/"])
def test_an_interpreter_where_functions_have_folders_of_their_own_is_refused(path: str) -> None:
    with pytest.raises(OSError, match="cannot be shown to functions"):
        rootfs._outermost([path])


def test_prefixes_inside_others_or_usr_are_bound_once() -> None:
    prefixes = ["/opt2/py/lib", "/usr/local", "/home/u/.pyenv/versions/3.11", "/opt2/py", "/opt2/py", "/usr"]
    assert rootfs._outermost(prefixes) == ["/home/u/.pyenv/versions/3.11", "/opt2/py"]


def test_a_message_of_any_size_crosses(tmp_path: Path) -> None:
    message = {"env": {"NAME": "ü" * 300_000}}
    assert wire.read_body(wire.body(message)) == message


def test_a_message_carries_descriptors_and_the_end_is_seen() -> None:
    one, two = wire.pair()
    with two:
        with one:
            wire.send(one, {"step": "x"}, [0, 0])
        received = wire.receive(two)
        assert received is not None
        assert received[0] == {"step": "x"}
        for descriptor in received[1]:
            assert not os.get_inheritable(descriptor)
            os.close(descriptor)
        assert wire.receive(two) is None


def test_a_sparse_copy_keeps_data_and_holes(tmp_path: Path) -> None:
    template = tmp_path / "template"
    with open(template, "wb") as file:
        file.truncate(64 << 20)
        for at in (0, 5 << 20, (64 << 20) - 4096):
            file.seek(at)
            file.write(b"data" * 1024)
    copy = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    assert ephemeral._copy_sparse(template, copy) == 64 << 20
    used = os.fstat(copy).st_blocks * 512
    os.close(copy)
    assert used < 1 << 20
    assert (tmp_path / "copy").read_bytes() == template.read_bytes()


def test_usage_counts_children_and_forgets_the_dead() -> None:
    code = "import subprocess, sys; d = bytearray(40 << 20); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        assert usage.memory_of([process.pid]) > 40 << 20
        assert usage.memory_of([os.getpid()]) > 40 << 20
        process.stdin.close()
        process.wait()
        assert usage.memory_of([process.pid, -1]) == 0
        assert usage.used_by([process.pid])[1] == 0


def test_a_host_without_groups_says_what_does_not_hold_and_what_to_do() -> None:
    host = facts.Host(True, None, False, {"groups": "no group", "images": "no root"}, -1, 175)
    said = {one.name: one for one in facts.enforcement(host, CONFIG)}
    off = {name for name, one in said.items() if not one.enforced}
    assert off == {"uid separation", "memory", "cpu", "freeze"}
    assert all(said[name].advice for name in off)
    assert "no group" in said["memory"].how
    assert "takes the machine's memory" in said["/tmp size"].how


def test_a_host_with_everything_enforces_everything() -> None:
    tree = cgroups.Tree({}, Path("/g"), frozenset({"memory", "cpu", "pids"}))
    host = facts.Host(False, tree, True, {}, -1, 175)
    assert all(one.enforced for one in facts.enforcement(host, CONFIG))


def test_without_isolation_an_environments_paths_become_the_hosts() -> None:
    folders = {"/var/task": "/h/task", "/var/runtime": "/h/rt", "/opt": "/h/opt"}
    given = "/var/task:/opt/python:/var/runtime/bootstrap:/var/tasks:/srv/opt/x:/opt"
    expected = "/h/task:/h/opt/python:/h/rt/bootstrap:/var/tasks:/srv/opt/x:/h/opt"
    assert on_host(given, folders) == expected
