"""System calls by which a function would get power over its machine: each is refused inside, and the same call
on the host reaches the kernel's own code, so that a wrong number or a kernel without it cannot pass as safe."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from isolation_powers import ATTEMPTS, CALLS, NOT_THERE, OTHERS, SOCKETS
from isolation_world import Outcomes, inside, need_root, on_host
from running import Functions

_NEED_RESOURCE = ("take more descriptors", "take oom score")


@pytest.fixture(scope="module")
def tried(functions: Functions) -> Outcomes:
    return inside(functions, ATTEMPTS)


@pytest.fixture(scope="module")
def allowed() -> Outcomes:
    need_root()
    return on_host(ATTEMPTS)


@pytest.mark.parametrize("name", [*CALLS, *SOCKETS])
def test_a_call_that_root_may_make_is_refused(name: str, tried: Outcomes, allowed: Outcomes) -> None:
    control = allowed[name]
    if control[0] == "refused" and control[1] in NOT_THERE:
        pytest.skip(f"this kernel has no {name}: {control}")
    assert control[0] == "done" or control[0] == "refused" and control[1] not in ("EPERM", "EACCES"), control
    outcome = tried[name]
    assert outcome[0] == "refused", outcome
    assert outcome[1] == ("ENOSYS" if "clone3" in name else "EPERM"), outcome


@pytest.mark.parametrize("name", OTHERS)
def test_a_power_that_root_has_is_refused(name: str, tried: Outcomes, allowed: Outcomes) -> None:
    if name in _NEED_RESOURCE and not _root_has(24):
        pytest.skip("root itself has no CAP_SYS_RESOURCE on this machine")
    assert allowed[name][0] == "done", allowed[name]
    outcome = tried[name]
    # EINVAL: an id that the environment's user namespace does not have
    assert outcome[0] == "refused" and outcome[1] in ("EPERM", "EACCES", "EINVAL"), outcome


def _root_has(capability: int) -> bool:
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if "CapEff" in each)
    return bool(int(line.split()[1], 16) >> capability & 1)


def test_tracing_the_environments_first_process_is_refused(functions: Functions) -> None:
    need_root()
    with subprocess.Popen(["sleep", "60"]) as other:
        assert on_host({"x": {"do": "trace", "pid": other.pid}})["x"] == ["done", "attached"]
        other.kill()
    outcome = inside(functions, {"x": {"do": "trace", "pid": 1}})["x"]
    assert outcome[:2] == ["refused", "EPERM"], outcome


def test_changing_an_interface_is_refused(functions: Functions) -> None:
    need_root()
    assert on_host({"x": {"do": "set_link_up", "own_network": True}})["x"] == ["done", "changed"]
    outcome = inside(functions, {"x": {"do": "set_link_up"}})["x"]
    assert outcome[:2] == ["refused", "EPERM"], outcome


def test_a_setuid_program_gains_nothing(functions: Functions) -> None:
    need_root()
    attempt: dict[str, Any] = {"do": "run_setuid_program", "program": "/usr/bin/su"}
    assert on_host({"x": {**attempt, "first_become": 65534}})["x"] == ["done", 0]
    outcome = inside(functions, {"x": attempt})["x"]
    assert outcome[:2] == ["refused", "EPERM"] and "runs as 993" in outcome[2], outcome
