"""The attempts of `test_isolation` in environments of other runtimes: what an environment holds back must not
hang on Python. Each function runs the very same attempts, by the Python that /usr shows to every environment,
as a child of its own runtime process."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installed_runtimes import fetched
from isolation_powers import ATTEMPTS, CALLS, NOT_THERE, OTHERS, SOCKETS
from isolation_targets import ENVIRONMENT, World, targets
from isolation_world import CODE, Outcomes, need_root, on_host
from running import Server, zipped
from support import require

PYTHON = Path("/usr/bin/python3")
SKIPPED_WHERE_ROOT_MAY_NOT = "open /dev/"
NODE = """
import { spawnSync } from 'node:child_process';
export const handler = async (event) => {
  const options = { input: JSON.stringify(event), maxBuffer: 1 << 26 };
  return JSON.parse(spawnSync('/usr/bin/python3', ['/var/task/app.py'], options).stdout);
};
"""
GO = """package main

import (
\t"bytes"
\t"io"
\t"net/http"
\t"os"
\t"os/exec"
)

func main() {
\tapi := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
\tfor {
\t\tevent, err := http.Get(api + "next")
\t\tif err != nil {
\t\t\tpanic(err)
\t\t}
\t\tbody, _ := io.ReadAll(event.Body)
\t\tcommand := exec.Command("/usr/bin/python3", "/var/task/app.py")
\t\tcommand.Stdin = bytes.NewReader(body)
\t\tsaid, err := command.Output()
\t\twhere := event.Header.Get("Lambda-Runtime-Aws-Request-Id") + "/response"
\t\tif err != nil {
\t\t\tsaid = []byte(`{"failed": true}`)
\t\t}
\t\tanswer, err := http.Post(api+where, "application/json", bytes.NewReader(said))
\t\tif err != nil {
\t\t\tpanic(err)
\t\t}
\t\tanswer.Body.Close()
\t}
}
"""
FOLDERS = ("/var/task", "/var/runtime", "/usr", "/etc", "/tmp")


@pytest.fixture(scope="module")
def static_binary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    go = shutil.which("go")
    require("go", go, "no Go compiler on PATH: https://go.dev/dl or apt-get install golang-go")
    folder = tmp_path_factory.mktemp("attempts")
    (folder / "main.go").write_text(GO)
    (folder / "go.mod").write_text("module attempts\n\ngo 1.21\n")
    command = [str(go), "build", "-o", "bootstrap", "."]
    subprocess.run(command, cwd=folder, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return (folder / "bootstrap").read_bytes()


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_root()
    require("/usr/bin/python3", PYTHON.exists(), "the attempts run by it inside: apt-get install python3")
    cache = request.config.cache
    assert cache is not None
    folder = fetched(cache.mkdir("runtimes"), "nodejs22.x")
    data = tmp_path_factory.mktemp("isolation-runtimes") / "data"
    data.mkdir()
    (data / "runtimes").symlink_to(folder / "runtimes")
    server = Server(data, "--no-s3", environment=ENVIRONMENT).start()
    try:
        with targets(server) as made:
            yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def allowed(world: World) -> Outcomes:
    text = json.dumps(world.attempts).replace("/proc/1/", f"/proc/{world.server.pid}/")
    return on_host(json.loads(text))


def in_node(world: World, static_binary: bytes) -> str:
    files: dict[str, str | bytes] = {**CODE, "index.mjs": NODE}
    return world.functions.create(
        files, Runtime="nodejs22.x", Handler="index.handler", MemorySize=512, Timeout=110
    )


def in_a_static_binary(world: World, static_binary: bytes) -> str:
    archive = zipped({**CODE, "bootstrap": static_binary}, 0o755)
    return world.functions.create_from(
        {"ZipFile": archive}, Runtime="provided.al2023", Handler="x", MemorySize=512, Timeout=110
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", [in_node, in_a_static_binary])
def test_what_the_host_has_is_out_of_reach(
    world: World, allowed: Outcomes, static_binary: bytes, make: Callable[[World, bytes], str]
) -> None:
    answer = world.functions.invoke(make(world, static_binary), world.attempts)
    assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
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
@pytest.mark.parametrize("make", [in_node, in_a_static_binary])
def test_it_is_sbx_user_without_any_power(
    world: World, static_binary: bytes, make: Callable[[World, bytes], str]
) -> None:
    attempts = {
        "x": {"do": "facts"},
        **{
            path: {"do": "write_folder", "path": path} for path in ("/var/task", "/var/runtime", "/usr", "/etc")
        },
        "/tmp": {"do": "write_folder", "path": "/tmp"},
    }
    tried = world.functions.invoke(make(world, static_binary), attempts).result
    there = tried.pop("x")[1]
    assert there["ids"] == [993] * 3 + [990] * 3
    none = {"CapBnd": "0" * 16, "CapEff": "0" * 16, "CapPrm": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert there["status"] == none
    assert tried.pop("/tmp") == ["done", "written"]
    assert {path: outcome[0] for path, outcome in tried.items()} == dict.fromkeys(tried, "refused")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("make", [in_node, in_a_static_binary])
def test_no_system_call_gives_it_power(
    world: World, static_binary: bytes, make: Callable[[World, bytes], str]
) -> None:
    here = on_host(ATTEMPTS)
    answer = world.functions.invoke(make(world, static_binary), ATTEMPTS)
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
