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
Programs = Mapping[str, bytes]
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


_RUBY = """
require 'json'
require 'open3'
def handler(event:, context:)
  JSON.parse(Open3.capture2('/usr/bin/python3', '/var/task/app.py', stdin_data: JSON.generate(event))[0])
end
"""
_JAVA = """
public class App {
  public void handle(java.io.InputStream in, java.io.OutputStream out) throws Exception {
    Process child = new ProcessBuilder("/usr/bin/python3", "/var/task/app.py").start();
    try (var input = child.getOutputStream()) { in.transferTo(input); }
    child.getInputStream().transferTo(out);
  }
}
"""
JAVA = "java17"


def installed(request: pytest.FixtureRequest, data: Path, *runtimes: str) -> None:
    """Gives the data folder of a server to come the runtimes that the tests have fetched."""
    python = Path("/usr/bin/python3")
    require(str(python), python.exists(), "the attempts run by it inside: apt-get install python3")
    cache = request.config.cache
    assert cache is not None
    (data / "runtimes").symlink_to(fetched(cache.mkdir("runtimes"), *runtimes) / "runtimes")


def java_class(folder: Path) -> Programs:
    """A handler in Java, compiled."""
    compiler = shutil.which("javac")
    require("javac", compiler, "no JDK 17 or newer: apt-get install openjdk-17-jdk-headless")
    (folder / "App.java").write_text(_JAVA)
    subprocess.run([str(compiler), "--release", "17", "App.java"], cwd=folder, check=True)
    return {"App.class": (folder / "App.class").read_bytes()}


def static_binary(folder: Path) -> Programs:
    """A bootstrap in Go, without a library of its own or of the system's."""
    go = shutil.which("go")
    require("go", go, "no Go compiler on PATH: https://go.dev/dl or apt-get install golang-go")
    (folder / "main.go").write_text(_GO)
    (folder / "go.mod").write_text("module attempts\n\ngo 1.21\n")
    command = [str(go), "build", "-o", "bootstrap", "."]
    subprocess.run(command, cwd=folder, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return {"bootstrap": (folder / "bootstrap").read_bytes()}


def in_node(functions: Functions, files: Files, programs: Programs, **members: Any) -> str:
    """Makes the function; its name. `files`: its code, of which app.py is the child's; `programs`: what was
    compiled."""
    asked = {"MemorySize": 512, "Timeout": 110, **members}
    return functions.create(
        {**files, "index.mjs": _NODE}, Runtime="nodejs22.x", Handler="index.handler", **asked
    )


def in_ruby(functions: Functions, files: Files, programs: Programs, **members: Any) -> str:
    require("ruby", shutil.which("ruby"), "functions in Ruby run on this machine's: apt-get install ruby")
    asked = {"MemorySize": 512, "Timeout": 110, **members}
    return functions.create({**files, "index.rb": _RUBY}, Runtime="ruby3.3", Handler="index.handler", **asked)


def in_java(functions: Functions, files: Files, programs: Programs, **members: Any) -> str:
    asked = {"MemorySize": 1024, "Timeout": 110, **members}
    code = {**files, "App.class": programs["App.class"]}
    return functions.create(code, Runtime=JAVA, Handler="App::handle", **asked)


def in_a_static_binary(functions: Functions, files: Files, programs: Programs, **members: Any) -> str:
    archive = zipped({**files, "bootstrap": programs["bootstrap"]}, 0o755)
    asked = {"MemorySize": 512, "Timeout": 110, **members}
    return functions.create_from({"ZipFile": archive}, Runtime="provided.al2023", Handler="x", **asked)


def restored(functions: Functions, files: Files, programs: Programs, **members: Any) -> str:
    """A version whose environments are restored from a snapshot: app.py is its own code."""
    given = {"Runtime": "python3.13", "MemorySize": 512, "Timeout": 110, **members}
    name = functions.create(files, SnapStart={"ApplyOn": "PublishedVersions"}, **given)
    version = functions.aws.publish_version(FunctionName=name)["Version"]
    functions.aws.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 1}
    )
    return f"{name}:{version}"
