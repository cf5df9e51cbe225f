"""Functions of other runtimes that run the isolation tests' Python code, as a child of their own runtime
process, by the Python that /usr shows to every environment: what an environment holds back must not hang on
the runtime."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from installed_runtimes import fetched
from running import Functions, zipped
from support import require

Files = Mapping[str, str | bytes]
Make = Callable[..., str]

_NODE = """
import { spawnSync } from 'node:child_process';
export const handler = async (event) => {
  const options = { input: JSON.stringify(event), maxBuffer: 1 << 26 };
  return JSON.parse(spawnSync('/usr/bin/python3', ['/var/task/app.py'], options).stdout);
};
"""
_GO = """package main

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


def node_installed(request: pytest.FixtureRequest, data: Path) -> None:
    """Gives the data folder of a server to come the Node.js that the tests have fetched."""
    python = Path("/usr/bin/python3")
    require(str(python), python.exists(), "the attempts run by it inside: apt-get install python3")
    cache = request.config.cache
    assert cache is not None
    (data / "runtimes").symlink_to(fetched(cache.mkdir("runtimes"), "nodejs22.x") / "runtimes")


def static_binary(folder: Path) -> bytes:
    """A bootstrap in Go, without a library of its own or of the system's."""
    go = shutil.which("go")
    require("go", go, "no Go compiler on PATH: https://go.dev/dl or apt-get install golang-go")
    (folder / "main.go").write_text(_GO)
    (folder / "go.mod").write_text("module attempts\n\ngo 1.21\n")
    command = [str(go), "build", "-o", "bootstrap", "."]
    subprocess.run(command, cwd=folder, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return (folder / "bootstrap").read_bytes()


def in_node(functions: Functions, files: Files, binary: bytes, **members: Any) -> str:
    """Makes the function; its name. `files`: its code, of which app.py is the child's."""
    asked = {"MemorySize": 512, "Timeout": 110, **members}
    return functions.create(
        {**files, "index.mjs": _NODE}, Runtime="nodejs22.x", Handler="index.handler", **asked
    )


def in_a_static_binary(functions: Functions, files: Files, binary: bytes, **members: Any) -> str:
    """As `in_node`; `binary`: of `static_binary`."""
    archive = zipped({**files, "bootstrap": binary}, 0o755)
    asked = {"MemorySize": 512, "Timeout": 110, **members}
    return functions.create_from({"ZipFile": archive}, Runtime="provided.al2023", Handler="x", **asked)


def restored(functions: Functions, files: Files, binary: bytes, **members: Any) -> str:
    """A version whose environments are restored from a snapshot: app.py is its own code."""
    given = {"Runtime": "python3.13", "MemorySize": 512, "Timeout": 110, **members}
    name = functions.create(files, SnapStart={"ApplyOn": "PublishedVersions"}, **given)
    version = functions.aws.publish_version(FunctionName=name)["Version"]
    functions.aws.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 1}
    )
    return f"{name}:{version}"
