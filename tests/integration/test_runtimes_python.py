"""The unmodified runtime client, run from a folder that we made, by real interpreters, against a Runtime API of
a few lines: one event, one response."""

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import require

from lambent.executor.runtimes import packages
from lambent.executor.runtimes.family import Options
from lambent.executor.runtimes.interpreters import Interpreters
from lambent.executor.runtimes.registry import RuntimeCommand, Runtimes
from lambent.kernel.errors import ServiceException

OWN = f"python3.{sys.version_info.minor}"


class RuntimeApi:
    """Gives each event once; keeps what the runtime posts as (path, JSON)."""

    def __init__(self) -> None:
        self.events: queue.Queue[bytes] = queue.Queue()
        self.posted: queue.Queue[tuple[str, Any]] = queue.Queue()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = api.events.get()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")  # without it the client crashes
                self.send_header("Lambda-Runtime-Aws-Request-Id", "one")
                self.send_header("Lambda-Runtime-Deadline-Ms", "99999999999999")
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:0:function:f")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.posted.put((self.path.rpartition("/")[2], json.loads(body)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A killed runtime resets its connection."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.events.put(b"{}")
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    api = RuntimeApi()
    yield api
    api.close()


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> Runtimes:
    runtimes = Runtimes(tmp_path_factory.mktemp("state"))
    asyncio.run(runtimes.open())
    return runtimes


def run(
    started: RuntimeCommand, task: Path, api: RuntimeApi, event: object, **variables: str
) -> tuple[str, Any, str]:
    """(what was posted: "response" or "error", its JSON, the output). /var/runtime and /var/task are where they
    are on the host."""
    places = {"/var/runtime": str(started.runtime_dir), "/var/task": str(task)}

    def placed(text: str) -> str:
        for inside, outside in places.items():
            text = text.replace(inside, outside)
        return text

    env = {name: placed(value) for name, value in started.env.items()}
    process = subprocess.Popen(
        [placed(part) for part in started.argv],
        env={**env, "AWS_LAMBDA_RUNTIME_API": api.address, "AWS_REGION": "us-east-1", **variables},
        cwd=task,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    api.events.put(json.dumps(event).encode())
    try:
        kind, answer = api.posted.get(timeout=30)
    except queue.Empty:
        kind, answer = "nothing", None
    finally:
        process.kill()
        output, _ = process.communicate()
    return kind, answer, output


def write(task: Path, **files: str) -> Path:
    for name, text in files.items():
        path = task / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return task


def test_our_own_version_is_ready_without_any_network(runtimes: Runtimes) -> None:
    assert runtimes.problem(OWN) == (None, None)
    folder = runtimes.command(OWN, "a.b").runtime_dir
    manifest = json.loads((folder / packages.MANIFEST).read_text())
    assert set(manifest["packages"]) >= {
        "awslambdaric",
        "boto3",
        "botocore",
        "jmespath",
        "python-dateutil",
        "s3transfer",
        "simplejson",
        "six",
        "snapshot-restore-py",
        "urllib3",
    }
    assert "pytest" not in manifest["packages"]
    assert list(folder.glob("runtime_client*.so"))
    assert list((folder / "boto3/__pycache__").iterdir())
    assert not list(folder.parent.glob(".new-*"))


def test_a_second_start_makes_no_second_folder(runtimes: Runtimes) -> None:
    first = runtimes.command(OWN, "a.b").runtime_dir
    again = Runtimes(first.parent.parent)
    asyncio.run(again.open())
    assert again.command(OWN, "a.b").runtime_dir == first
    assert len(list(first.parent.iterdir())) == 1


def test_an_event_is_answered_by_the_unmodified_client(
    runtimes: Runtimes, api: RuntimeApi, tmp_path: Path
) -> None:
    task = write(
        tmp_path,
        app="import os, sys\n"
        "def handler(event, context):\n"
        "    print('seen', event)\n"
        "    return {'got': event, 'id': context.aws_request_id, 'python': list(sys.version_info[:2]),\n"
        "            'encoding': sys.getfilesystemencoding(), 'stdout': sys.stdout.encoding}\n",
    )
    kind, answer, output = run(runtimes.command(OWN, "app.handler"), task, api, {"a": "é"})
    assert kind == "response", output
    assert answer["got"] == {"a": "é"}
    assert answer["id"] == "one"
    assert answer["python"] == list(sys.version_info[:2])
    assert (answer["encoding"], answer["stdout"]) == ("utf-8", "utf-8")
    assert "seen" in output


def test_the_path_is_aws_s_and_nothing_of_the_machine_is_on_it(
    runtimes: Runtimes, api: RuntimeApi, tmp_path: Path
) -> None:
    task = write(
        tmp_path,
        app="import os, sys\n"
        "def handler(event, context):\n"
        "    import boto3\n"
        "    try:\n"
        "        import pip\n"
        "    except ImportError:\n"
        "        pip = None\n"
        "    return {'path': sys.path, 'boto3': boto3.__file__, 'pip': str(pip), 'exit': callable(exit),\n"
        "            'PYTHONPATH': os.environ['PYTHONPATH']}\n",
    )
    started = runtimes.command(OWN, "app.handler")
    kind, answer, output = run(started, task, api, {})
    assert kind == "response", output
    runtime = str(started.runtime_dir)
    version = OWN.removeprefix("python")
    assert answer["path"][:4] == [
        str(task),
        f"/opt/python/lib/python{version}/site-packages",
        "/opt/python",
        runtime,
    ]
    assert not [part for part in answer["path"][4:] if "packages" in part]
    assert any(part.endswith("lib-dynload") for part in answer["path"])
    assert answer["boto3"].startswith(runtime)
    assert answer["pip"] == "None"
    assert answer["PYTHONPATH"] == runtime
    assert answer["exit"] is True


def test_modules_named_like_others_behave_as_on_aws(
    runtimes: Runtimes, api: RuntimeApi, tmp_path: Path
) -> None:
    """The function's own modules win over boto3 of the runtime; one named like a module of the standard library
    that the client uses does not break the client."""
    task = write(
        tmp_path,
        bootstrap="import boto3, json\n"
        "def handler(event, context):\n"
        "    return {'boto3': boto3.MINE, 'json': hasattr(json, 'dumps')}\n",
        boto3="MINE = True\n",
        json="raise RuntimeError('the function has its own json')\n",
        logging="raise RuntimeError('the function has its own logging')\n",
        runtime_client="raise RuntimeError('the function has its own runtime_client')\n",
        site="raise RuntimeError('the function has its own site')\n",
    )
    kind, answer, output = run(runtimes.command(OWN, "bootstrap.handler"), task, api, {})
    assert kind == "response", output
    assert answer == {"boto3": True, "json": True}


def test_a_function_may_set_its_own_pythonpath(runtimes: Runtimes, api: RuntimeApi, tmp_path: Path) -> None:
    task = write(
        tmp_path / "task",
        app="import extra, sys\ndef handler(event, context):\n    return [extra.WHERE, *sys.path[:3]]\n",
    )
    write(
        tmp_path / "more", extra="WHERE = 'more'\n", sitecustomize="import builtins; builtins.customized = 1\n"
    )
    started = runtimes.command(OWN, "app.handler")
    kind, answer, output = run(started, task, api, {}, PYTHONPATH=str(tmp_path / "more"))
    assert kind == "response", output
    assert answer == ["more", str(task), str(started.runtime_dir), str(tmp_path / "more")]


def test_pth_files_and_sitecustomize_work(runtimes: Runtimes, api: RuntimeApi, tmp_path: Path) -> None:
    task = write(
        tmp_path / "task",
        app="import vendored, builtins\n"
        "def handler(event, context):\n"
        "    return [vendored.X, builtins.custom]\n",
        vendor__vendored="X = 1\n",
    )
    (task / "vendor.pth").write_text("vendor\n")
    write(tmp_path / "more", sitecustomize="import builtins; builtins.custom = 2\n")
    kind, answer, output = run(
        runtimes.command(OWN, "app.handler"), task, api, {}, PYTHONPATH=str(tmp_path / "more")
    )
    assert (kind, answer) == ("response", [1, 2]), output


def test_an_import_error_is_posted_as_aws_words_it(runtimes: Runtimes, api: RuntimeApi, tmp_path: Path) -> None:
    kind, answer, output = run(runtimes.command(OWN, "missing.handler"), write(tmp_path), api, {})
    assert kind == "error", output
    assert answer["errorType"] == "Runtime.ImportModuleError"
    assert answer["errorMessage"] == "Unable to import module 'missing': No module named 'missing'"


def test_in_compatible_mode_layers_of_the_declared_version_are_found(
    runtimes: Runtimes, api: RuntimeApi, tmp_path: Path
) -> None:
    task = write(tmp_path, app="import sys\ndef handler(event, context):\n    return sys.path\n")
    started = runtimes.command(OWN, "app.handler")
    other = replace(started, env={**started.env, "AWS_EXECUTION_ENV": "AWS_Lambda_python3.9"})
    kind, answer, output = run(other, task, api, {})
    assert kind == "response", output
    version = OWN.removeprefix("python")
    assert answer[1:4] == [
        f"/opt/python/lib/python{version}/site-packages",
        "/opt/python/lib/python3.9/site-packages",
        "/opt/python",
    ]


def test_a_folder_that_does_not_import_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [own, *_] = [one for one in Interpreters().scan()[0] if one.minor == packages.own_minor()]
    monkeypatch.setattr(packages, "_CHECK", "import runtime_client_of_another_abi")
    with pytest.raises(ServiceException, match="cannot import the runtime client"):
        packages.prepare_own(tmp_path, own)
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["oldest", "newest"])
async def test_another_version_is_installed_by_pip_and_runs(
    which: str, runtimes: Runtimes, api: RuntimeApi, tmp_path: Path
) -> None:
    others = sorted({one.minor for one in Interpreters().scan()[0]} - {packages.own_minor()})
    require("another Python", others, f"only {OWN} is on this machine; install another one, as by pyenv or uv")
    minor = others[0] if which == "oldest" else others[-1]
    name = f"python3.{minor}"
    more = which == "oldest" or len(others) > 1
    require("another Python", more, f"{name} is the only other one; install another one, as by pyenv or uv")
    problem, _ = runtimes.problem(name)
    assert problem is not None
    assert f"lambent runtimes install {name}" in problem
    lines: list[str] = []
    try:
        info = await runtimes.install(name, Options(on_line=lines.append))
    except ServiceException as failure:
        require("package index", "could not fetch" not in failure.message, failure.message)
        raise
    assert info.available
    assert info.version is not None and info.version.startswith(f"3.{minor}.")
    assert any("awslambdaric" in line for line in lines)
    task = write(
        tmp_path,
        app="import boto3, sys\n"
        "def handler(event, context):\n"
        "    return [boto3.__file__, list(sys.version_info[:2])]\n",
    )
    started = runtimes.command(name, "app.handler")
    kind, answer, output = await asyncio.to_thread(run, started, task, api, {})
    assert kind == "response", output
    assert answer == [str(started.runtime_dir / "boto3/__init__.py"), [3, minor]]


def test_the_folder_is_readable_by_the_user_that_functions_run_as(runtimes: Runtimes) -> None:
    require("root", os.geteuid() == 0, "functions of an ordinary user's run as that user: run it as root")
    folder = runtimes.command(OWN, "a.b").runtime_dir
    for path in (folder, *folder.rglob("*")):
        need = 0o005 if path.is_dir() else 0o004
        assert path.stat().st_mode & need == need, path
