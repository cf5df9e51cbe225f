"""The attempts of `test_isolation` in environments of other runtimes, and in restored ones: what an environment
holds back must not hang on Python, or on how it came to be. See `isolation_runtimes` for how they run there.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from isolation_powers import ATTEMPTS, CALLS, NOT_THERE, OTHERS, SOCKETS
from isolation_runtimes import (
    JAVA,
    Make,
    Programs,
    in_a_static_binary,
    in_java,
    in_node,
    in_ruby,
    installed,
    java_class,
    restored,
    static_binary,
)
from isolation_targets import ENVIRONMENT, World, targets
from isolation_world import CODE, Outcomes, need_root, on_host
from running import Server

SKIPPED_WHERE_ROOT_MAY_NOT = "open /dev/"
TAKING = """
import json, os, resource, signal, sys
asked, taken = json.load(sys.stdin), {}
if "processes" in asked:
    children = []
    try:
        while len(children) < asked["processes"]:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    taken["processes"] = len(children)
if "descriptors" in asked:
    kept = []
    try:
        while len(kept) < asked["descriptors"]:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for each in kept:
        os.close(each)
    taken["descriptors"] = len(kept)
if "tmp_mb" in asked:
    written = 0
    try:
        with open("/tmp/big", "wb", 0) as file:
            while written < asked["tmp_mb"]:
                file.write(b"x" * (1 << 20))
                written += 1
    except OSError:
        pass
    taken["tmp_mb"] = written
if "memory_mb" in asked:
    taken["memory_mb"] = len(b"x" * (asked["memory_mb"] << 20)) >> 20
print(json.dumps(taken))
"""


EVERY = [in_node, in_ruby, in_java, in_a_static_binary, restored]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    folder = tmp_path_factory.mktemp("attempts")
    return {**static_binary(folder), **java_class(folder)}


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_root()
    data = tmp_path_factory.mktemp("isolation-runtimes") / "data"
    data.mkdir()
    installed(request, data, "nodejs22.x", JAVA)
    server = Server(data, "--no-s3", environment={**ENVIRONMENT, "LAMBENT_RUNTIME_MATCH": "compatible"}).start()
    try:
        with targets(server) as made:
            yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def allowed(world: World) -> Outcomes:
    text = json.dumps(world.attempts).replace("/proc/1/", f"/proc/{world.server.pid}/")
    return on_host(json.loads(text))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", EVERY)
def test_what_the_host_has_is_out_of_reach(
    world: World, allowed: Outcomes, programs: Programs, make: Make
) -> None:
    answer = world.functions.invoke(make(world.functions, CODE, programs), world.attempts)
    assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
    assert ("Restore Duration" in answer.log) == (make is restored)
    tried: dict[str, Any] = answer.result
    assert set(tried) == set(world.attempts)
    reached = {}
    for name, outcome in tried.items():
        if name.startswith(SKIPPED_WHERE_ROOT_MAY_NOT) and allowed[name][0] == "refused":
            continue  # not on this machine
        assert allowed[name][0] == "done" and allowed[name][1] not in ("", []), (name, allowed[name])
        if outcome[0] != "refused" and outcome != ["done", ""]:
            reached[name] = outcome
    assert reached == {}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", EVERY)
def test_it_is_sbx_user_without_any_power(world: World, programs: Programs, make: Make) -> None:
    attempts = {
        "x": {"do": "facts"},
        **{
            path: {"do": "write_folder", "path": path} for path in ("/var/task", "/var/runtime", "/usr", "/etc")
        },
        "/tmp": {"do": "write_folder", "path": "/tmp"},
    }
    tried = world.functions.invoke(make(world.functions, CODE, programs), attempts).result
    there = tried.pop("x")[1]
    assert there["ids"] == [993] * 3 + [990] * 3
    none = {"CapBnd": "0" * 16, "CapEff": "0" * 16, "CapPrm": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert there["status"] == none
    assert tried.pop("/tmp") == ["done", "written"]
    assert {path: outcome[0] for path, outcome in tried.items()} == dict.fromkeys(tried, "refused")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", EVERY)
def test_no_system_call_gives_it_power(world: World, programs: Programs, make: Make) -> None:
    here = on_host(ATTEMPTS)
    answer = world.functions.invoke(make(world.functions, CODE, programs), ATTEMPTS)
    assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
    there: dict[str, Any] = answer.result
    # What this machine has not, or not even root may do, shows nothing.
    shown = [name for name in {**CALLS, **SOCKETS} if here[name][1] not in (*NOT_THERE, "EPERM", "EACCES")]
    shown += [name for name in OTHERS if here[name][0] == "done"]
    assert len(shown) > len(ATTEMPTS) * 0.7, here
    refused = ("EPERM", "EACCES", "EINVAL")
    got = {name: there[name] for name in shown if there[name][0] != "refused"}
    odd = {name: there[name] for name in shown if there[name][1] not in refused and "clone3" not in name}
    assert got == odd == {}


def test_memory_outside_of_the_heap_is_counted_too(world: World) -> None:
    code = (
        "export const handler = async () => { for (const all = []; ; ) all.push(Buffer.alloc(1 << 24, 1)); };"
    )
    name = world.functions.create({"index.mjs": code}, Runtime="nodejs22.x", Handler="index.handler")
    assert world.functions.invoke(name).result["errorType"] == "Runtime.OutOfMemory"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", [in_node, in_a_static_binary])
def test_what_it_takes_ends_at_its_limits(world: World, programs: Programs, make: Make) -> None:
    """The controls: less of each, and as much memory and disk where they are given."""
    code = {"app.py": TAKING}
    name = make(world.functions, code, programs, MemorySize=1024)
    few = {"processes": 400, "descriptors": 400, "tmp_mb": 300}
    assert world.functions.invoke(name, few).result == few
    taken = world.functions.invoke(name, {"processes": 1300, "descriptors": 2000, "tmp_mb": 700}).result
    assert 400 < taken["processes"] <= 1024 and 400 < taken["descriptors"] < 1024, taken
    assert 400 < taken["tmp_mb"] < 513, taken
    roomy = make(world.functions, code, programs, MemorySize=2048, EphemeralStorage={"Size": 1024})
    much = {"memory_mb": 1000, "tmp_mb": 700}
    assert world.functions.invoke(roomy, much).result == much
    small = make(world.functions, code, programs, MemorySize=256)
    answer = world.functions.invoke(small, {"memory_mb": 1000})
    # The kernel kills the larger process, the child, and its parent may say what it likes.
    assert answer.error is not None or answer.result == {"failed": True}, answer.payload
