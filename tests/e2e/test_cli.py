"""The command `lambent` as a person runs it: a process of its own, its output in a pipe."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from commands import Command
from folders import folder as files_in
from folders import greetings_from, wheel
from running import RUNTIME, Functions, Server, zipped
from traces import until

from lambent.executor.runtimes.registry import Runtimes

Start = Callable[..., Server]
HELLO = """
    def handler(event, context):
        print("got", event)
        if event.get("fail"):
            raise ValueError("no")
        return {"hello": event}
    """
SLOW = """
    import time

    def handler(event, context):
        print("began", flush=True)
        time.sleep(2)
    """


@pytest.fixture
def lambent(server: Server, tmp_path: Path) -> Command:
    return Command(tmp_path, LAMBENT_ENDPOINT=server.url)


@pytest.fixture
def name() -> str:
    return f"cli-{uuid.uuid4().hex[:12]}"


def folder(parent: Path, files: Mapping[str, str], called: str = "code") -> Path:
    return files_in(parent / called, files)


@pytest.fixture(scope="module")
def hello(server: Server, functions: Functions) -> Iterator[str]:
    made = functions.create(HELLO)
    yield made
    functions.aws.delete_function(FunctionName=made)


class TestDeploy:
    def test_a_folder_becomes_a_function_and_a_second_deploy_updates_it(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        code = folder(tmp_path, {"app.py": HELLO}, called=name)
        said = lambent("deploy", str(code), "--memory", "256", "--env", "STAGE=dev", "--env", "URL=a=b")
        assert f"Created {name} (app.handler), " in said.out
        made = functions.aws.get_function_configuration(FunctionName=name)
        assert (made["Runtime"], made["MemorySize"]) == (RUNTIME, 256)
        assert made["Environment"]["Variables"] == {"STAGE": "dev", "URL": "a=b"}

        (code / "app.py").write_text("def handler(event, context):\n    return 'second'\n")
        said = lambent("deploy", str(code), "--timeout", "7")
        assert f"Updated {name} (app.handler), " in said.out
        changed = functions.aws.get_function_configuration(FunctionName=name)
        assert (changed["Timeout"], changed["MemorySize"]) == (7, 256)
        assert changed["Environment"]["Variables"] == {"STAGE": "dev", "URL": "a=b"}
        assert functions.invoke(name).result == "second"

    def test_a_version_is_published_and_an_alias_moved_to_it(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        code = folder(tmp_path, {"app.py": HELLO}, called=name)
        said = lambent("deploy", str(code), "--publish")
        assert f"Published as version 1.\nTry it: lambent invoke {name}:1 " in said.out
        for number, text in (("2", "second"), ("3", "third")):
            (code / "app.py").write_text(f"def handler(event, context):\n    return '{text}'\n")
            said = lambent("deploy", str(code), "--alias", "live")
            assert f"Published as version {number}, which live is now." in said.out
            assert f"lambent invoke {name}:live" in said.out
            assert lambent("invoke", f"{name}:live").out == f'"{text}"\n'
        assert "version 3, which live is now" in lambent("deploy", str(code), "--alias", "live").out

    def test_requirements_are_installed_into_the_package(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        wheel = folder(
            tmp_path,
            {
                "pyproject.toml": """
                    [build-system]
                    requires = []
                    build-backend = "backend"
                    backend-path = ["."]
                    """,
                "backend.py": BACKEND,
            },
            called="greetings",
        )
        code = folder(
            tmp_path,
            {
                "requirements.txt": f"{wheel}\n",
                "main.py": "import greetings\ndef handler(event, context):\n    return greetings.HELLO\n",
            },
        )
        said = lambent("deploy", str(code), "--name", name)
        assert "Created" in said.out
        assert functions.invoke(name).result == "hello from a requirement"

    def test_requirements_and_role_are_those_of_the_server(self, own_server: Start, tmp_path: Path) -> None:
        """The server runs a newer runtime's functions on this Python: its wheels are the ones that load."""
        newer = f"python3.{sys.version_info.minor + 1}"
        for python in (RUNTIME, newer):
            wheel(tmp_path / "wheels", python.replace("python3.", "py3"), python)
        code = folder(
            tmp_path,
            {
                "requirements.txt": greetings_from(tmp_path / "wheels"),
                "app.py": "import greetings\ndef handler(event, context):\n    return greetings.TEXT\n",
            },
        )
        server = own_server(
            "--no-s3",
            environment={"LAMBENT_RUNTIME_MATCH": "compatible", "LAMBENT_ACCOUNT_ID": "123456789012"},
        )
        lambent, functions = Command(tmp_path, LAMBENT_ENDPOINT=server.url), Functions(server)
        said = lambent("deploy", str(code), "--name", "f", "--runtime", newer)
        assert f"warning: {newer} is not on this machine" in said.err
        assert functions.invoke("f").result == RUNTIME
        lambent("deploy", str(code), "--name", "f")
        assert functions.invoke("f").result == RUNTIME
        made = functions.aws.get_function_configuration(FunctionName="f")
        assert (made["Runtime"], made["Role"]) == (newer, "arn:aws:iam::123456789012:role/lambent")

    def test_a_redeploy_keeps_the_handler_that_was_named(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        code = folder(tmp_path, {"one.py": HELLO, "two.py": HELLO})
        lambent("deploy", str(code), "--name", name, "--handler", "two.handler")
        (code / "two.py").write_text("def handler(event, context):\n    return 'second'\n")
        assert "(two.handler)" in lambent("deploy", str(code), "--name", name).out
        assert functions.invoke(name).result == "second"

    def test_a_configuration_that_is_refused_leaves_the_function_as_it_was(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        code = folder(tmp_path, {"app.py": "def handler(event, context):\n    return 'first'\n"})
        lambent("deploy", str(code), "--name", name)
        (code / "app.py").write_text("def handler(event, context):\n    return 'second'\n")
        layer = "arn:aws:lambda:us-east-1:000000000000:layer:nobody:1"
        told = lambent("deploy", str(code), "--name", name, "--timeout", "9", "--layer", layer, code=1)
        assert "nobody" in told.err
        assert functions.invoke(name).result == "first"
        assert functions.aws.get_function_configuration(FunctionName=name)["Timeout"] == 3

    def test_a_linked_folder_is_deployed_and_what_is_left_out_is_said(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        folder(tmp_path, {"tools.py": "X = 7\n"}, called="shared")
        app = "from shared.tools import X\ndef handler(event, context):\n    return X\n"
        code = folder(tmp_path, {"app.py": app, "venv/bin/python": "", "__pycache__/app.pyc": ""})
        (code / "shared").symlink_to("../shared")
        said = lambent("deploy", str(code), "--name", name)
        assert said.out.splitlines()[0] == "Left out: venv"
        assert functions.invoke(name).result == 7

    def test_requirements_that_cannot_be_installed_are_told(self, lambent: Command, tmp_path: Path) -> None:
        code = folder(tmp_path, {"app.py": HELLO, "requirements.txt": "/nonexistent/thing\n"})
        said = lambent("deploy", str(code), code=1)
        assert said.err.startswith("error: requirements.txt could not be installed")
        assert "/nonexistent/thing" in said.err

    def test_two_handlers_ask_for_the_flag_and_the_flag_decides(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        code = folder(tmp_path, {"one.py": HELLO, "two.py": HELLO})
        said = lambent("deploy", str(code), "--name", name, code=1)
        assert said.err.splitlines() == [
            f"error: several handlers in {code}: one.handler, two.handler. Choose one with --handler."
        ]
        lambent("deploy", str(code), "--name", name, "--handler", "two.handler")
        assert functions.aws.get_function_configuration(FunctionName=name)["Handler"] == "two.handler"

    def test_a_folder_without_a_handler_asks_for_the_flag(self, lambent: Command, tmp_path: Path) -> None:
        said = lambent("deploy", str(folder(tmp_path, {"app.py": "x = 1\n"})), code=1)
        assert "--handler FILE.FUNCTION" in said.err

    @pytest.mark.parametrize("runtime", ["python9.9", "banana", "nodejs20.x"])
    def test_an_unknown_runtime_is_refused_before_anything_is_installed_for_it(
        self, lambent: Command, tmp_path: Path, name: str, runtime: str
    ) -> None:
        code = folder(tmp_path, {"app.py": HELLO, "requirements.txt": "nothing\n"})
        said = lambent("deploy", str(code), "--name", name, "--runtime", runtime, code=1)
        assert runtime in said.err
        assert len(said.err.splitlines()) == 1

    def test_an_env_flag_without_equals_is_told(self, lambent: Command, tmp_path: Path) -> None:
        said = lambent("deploy", str(folder(tmp_path, {"app.py": HELLO})), "--env", "STAGE", code=1)
        assert said.err == "error: --env wants KEY=VALUE, not 'STAGE'.\n"


BACKEND = '''
    """A build backend of a few lines, so that a local package installs without the network."""
    import zipfile

    def build_wheel(folder, config_settings=None, metadata_directory=None):
        name = "greetings-1.0-py3-none-any.whl"
        info = "greetings-1.0.dist-info"
        with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
            wheel.writestr("greetings.py", "HELLO = 'hello from a requirement'\\n")
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: greetings\\nVersion: 1.0\\n")
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
            )
            wheel.writestr(f"{info}/RECORD", "")
        return name
    '''


class TestWatch:
    def test_a_change_is_deployed_and_one_that_is_broken_is_told(
        self, lambent: Command, functions: Functions, tmp_path: Path, name: str
    ) -> None:
        code = folder(tmp_path, {"app.py": "def handler(event, context):\n    return 'one'\n"})
        with (
            lambent.popen("deploy", str(code), "--name", name, "--watch", stdin=subprocess.DEVNULL) as process,
            _ended_after(process, 60),
        ):
            assert process.stdout is not None and process.stderr is not None
            _read_until(process.stdout, "Watching ")
            assert functions.invoke(name).result == "one"
            (code / "app.py").write_text("def handler(event, context):\n    return 'two'\n")
            (code / "more.txt").write_text("more")
            _read_until(process.stdout, "Updated ")
            assert functions.invoke(name).result == "two"
            (code / "link").symlink_to("nowhere")
            assert "nowhere, which is not there" in _read_until(process.stderr, "error: ")
            (code / "link").unlink()
            _read_until(process.stdout, "Updated ")
            (code / "app.py").write_text("def handler(event, context):\n    return 'three'\n")
            _read_until(process.stdout, "Updated ")
            assert functions.invoke(name).result == "three"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (130, "")
        functions.aws.delete_function(FunctionName=name)


@contextmanager
def _ended_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """So that a test that reads what never comes fails."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()


def _read_until(stream: IO[str], start: str) -> str:
    """The line that starts so; fails at the stream's end."""
    for line in stream:
        if line.startswith(start):
            return line
    raise AssertionError(f"no line {start!r}")


class TestInvoke:
    @pytest.mark.parametrize("how", ["json", "file", "stdin"])
    def test_the_payload_comes_from_the_flag_a_file_or_standard_input(
        self, lambent: Command, hello: str, tmp_path: Path, how: str
    ) -> None:
        event = '{"a": "ä [b]"}'
        (tmp_path / "event.json").write_text(event)
        payload = {"json": event, "file": f"@{tmp_path}/event.json", "stdin": "@-"}[how]
        said = lambent("invoke", hello, "--payload", payload, given=event)
        assert json.loads(said.out) == {"hello": {"a": "ä [b]"}}
        assert said.err == ""

    def test_tail_shows_the_log_apart_from_the_answer(self, lambent: Command, hello: str) -> None:
        said = lambent("invoke", hello, "--tail")
        assert json.loads(said.out) == {"hello": {}}
        assert "got {}" in said.err
        assert "REPORT RequestId: " in said.err

    def test_a_function_error_is_printed_and_the_exit_code_is_1(self, lambent: Command, hello: str) -> None:
        said = lambent("invoke", hello, "--payload", '{"fail": true}', code=1)
        assert json.loads(said.out)["errorType"] == "ValueError"
        assert said.err == f"The function failed. See: lambent logs {hello}\n"

    def test_async_returns_the_request_id_at_once_and_it_runs(
        self, lambent: Command, hello: str, server: Server
    ) -> None:
        said = lambent("invoke", hello, "--async", "--payload", '{"later": 1}')
        request_id = said.out.splitlines()[0].removeprefix("Accepted: request id ")
        until(lambda: f"END RequestId: {request_id}" in lambent("logs", hello).out, 20, "it ran")

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ("hello", "the payload is not JSON: "),
            ("@/nonexistent.json", "/nonexistent.json can't be read: No such file or directory"),
        ],
    )
    def test_a_bad_payload_is_told_before_anything_is_sent(
        self, lambent: Command, payload: str, said: str
    ) -> None:
        told = lambent("invoke", "any", "--payload", payload, code=1).err
        assert told.startswith(f"error: {said}")
        assert len(told.splitlines()) == 1

    def test_a_function_that_is_not_there_is_told_with_its_whole_arn(self, lambent: Command) -> None:
        told = lambent("invoke", "nobody", code=1).err
        assert "ResourceNotFoundException" in told
        assert "arn:aws:lambda:us-east-1:000000000000:function:nobody" in told
        assert len(told.splitlines()) == 1

    def test_ctrl_c_ends_the_command_and_not_the_function(self, lambent: Command, functions: Functions) -> None:
        name = functions.create(SLOW)
        with lambent.popen("invoke", name) as process:
            until(lambda: "began" in "".join(functions.logged(name)), 20, "the function began")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (130, "")
        assert functions.logged(name, until="END RequestId: ")

    @pytest.mark.parametrize("command", ["invoke", "delete"])
    def test_no_name_at_all_is_told(self, lambent: Command, command: str) -> None:
        told = lambent(command, "", code=1).err
        assert "FunctionName" in told
        assert len(told.splitlines()) == 1


class TestLogs:
    def test_the_log_has_every_line_in_order(self, lambent: Command, functions: Functions, hello: str) -> None:
        answer = functions.invoke(hello, {"n": 1})
        report = f"REPORT RequestId: {answer.request_id}"  # written just after the answer
        until(lambda: report in lambent("logs", hello).out, 10, "the REPORT line is there")
        lines = [line for line in lambent("logs", hello).out.splitlines() if line]
        after = lines[
            next(i for i, line in enumerate(lines) if f"START RequestId: {answer.request_id}" in line) :
        ]
        assert "got {'n': 1}" in after[1]
        assert f"END RequestId: {answer.request_id}" in after[2]
        assert f"REPORT RequestId: {answer.request_id}" in after[3]

    def test_the_lines_of_a_traceback_are_lines(
        self, lambent: Command, functions: Functions, hello: str
    ) -> None:
        tail = lambent.raw("invoke", hello, "--payload", '{"fail": true}', "--tail").stderr
        until(lambda: b"ValueError" in lambent.raw("logs", hello).stdout, 10, "the error is in the log")
        for shown in (tail, lambent.raw("logs", hello).stdout):
            assert b"\r" not in shown
            lines = [line.strip() for line in shown.decode().split("\n")]
            assert any(line.endswith("ValueError: no") for line in lines)
            assert 'raise ValueError("no")' in lines
        assert any("\r" in line for line in functions.logged(hello))  # what is stored is what came

    def test_follow_shows_a_new_line_when_it_comes_and_ctrl_c_ends_it(
        self, lambent: Command, functions: Functions
    ) -> None:
        name = functions.create(HELLO)
        functions.invoke(name, {"n": "first"})
        with lambent.popen("logs", name, "--follow") as process:
            assert process.stdout is not None
            read_until(process, "'first'")
            began = time.monotonic()
            functions.invoke(name, {"n": "second"})
            read_until(process, "'second'")
            assert time.monotonic() - began < 5
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "Traceback" not in err

    def test_a_function_may_be_named_as_everywhere_else(self, lambent: Command, hello: str) -> None:
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{hello}"
        said = lambent("logs", hello).out
        assert said
        for form in (f"{hello}:$LATEST", arn, f"{arn}:$LATEST"):
            assert lambent("logs", form).out == said
        assert "not a valid function name" in lambent("logs", "no such/name", code=1).err

    def test_no_such_function_is_told(self, lambent: Command) -> None:
        assert "nobody" in lambent("logs", "nobody", code=1).err


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without {text}")


class TestFunctions:
    def test_each_function_is_one_unbroken_line_in_a_pipe(self, lambent: Command, functions: Functions) -> None:
        long = f"long-{uuid.uuid4().hex}{'x' * 20}"
        handler = "package.deeper.module.with_a_long_name.handler"
        functions.aws.create_function(
            FunctionName=long,
            Runtime=RUNTIME,
            Handler=handler,
            Role="arn:aws:iam::000000000000:role/test",
            Code={"ZipFile": zipped({"app.py": ""})},
        )
        lines = lambent("functions").out.splitlines()
        row = next(line for line in lines if line.startswith(long))
        assert row.split()[:4] == [long, RUNTIME, handler, "128"]
        assert lambent("delete", long).out == f"Deleted {long}.\n"
        assert long not in lambent("functions").out
        assert "ResourceNotFoundException" in lambent("delete", long, code=1).err

    def test_none_yet_says_how_to_make_one(self, own_server: Start, tmp_path: Path) -> None:
        server = own_server("--no-s3")
        said = Command(tmp_path, LAMBENT_ENDPOINT=server.url)("functions")
        assert said.out == "No functions yet. Make one: lambent deploy DIR\n"


class TestTriggers:
    def test_add_list_and_remove(self, own_server: Start, tmp_path: Path) -> None:
        server = own_server()
        lambent, made = Command(tmp_path, LAMBENT_ENDPOINT=server.url), Functions(server).create(HELLO)
        said = lambent("trigger", "add", "s3://photos", made, "--prefix", "in/", "--suffix", ".jpg")
        assert said.out.endswith(f": s3://photos -> {made}\n")
        assert said.err.startswith("warning: There is no bucket photos yet: ")
        server.client("s3").create_bucket(Bucket="there")
        assert lambent("trigger", "add", "s3://there", made).err == ""
        number = said.out.split()[1].removesuffix(":")
        row = next(line for line in lambent("trigger", "list").out.splitlines() if line.startswith(number))
        assert row.split() == [number, "photos", made, "s3:ObjectCreated:*", "in/", ".jpg"]
        assert lambent("trigger", "rm", number).out == f"Removed {number}.\n"
        assert number not in lambent("trigger", "list").out
        assert lambent("trigger", "rm", number, code=1).err.startswith("error: ")

    def test_without_an_s3_server_one_is_refused_with_advice(self, lambent: Command, hello: str) -> None:
        said = lambent("trigger", "add", "s3://photos", hello, code=1).err
        assert "never fire" in said
        assert "without --no-s3" in said

    def test_an_unknown_function_or_a_bad_source_is_told(self, lambent: Command, hello: str) -> None:
        assert "nobody" in lambent("trigger", "add", "s3://photos", "nobody", code=1).err
        assert lambent("trigger", "add", "photos", hello, code=1).err == "error: photos is no s3://BUCKET.\n"
        assert (
            "s3:Nonsense"
            in lambent("trigger", "add", "s3://photos", hello, "--events", "s3:Nonsense", code=1).err
        )


class TestTheMachine:
    def test_runtimes_lists_what_is_there_and_what_to_do_for_the_rest(self, tmp_path: Path) -> None:
        said = Command(tmp_path)("runtimes", "--data-dir", str(tmp_path / "data"))
        heading, *rest = said.out.splitlines()
        assert heading.split()[0] == "runtime"
        rows = [line.split() for line in rest if line.startswith("python3.") and ":" not in line.split()[0]]
        found = {row[0]: row[1] for row in rows}
        assert found[RUNTIME] == "yes"
        for runtime in (name for name, there in found.items() if there == "no"):
            [advice] = [line for line in rest if line.startswith(f"{runtime}: ")]
            assert f"lambent runtimes install {runtime} --data-dir {tmp_path / 'data'}" in advice
        assert [line.split()[1] for line in rest if line.startswith("provided.al")] == ["yes", "yes"]
        for runtime in ("nodejs22.x", "java21", "dotnet8", "ruby3.4"):
            [row, advice] = [line for line in rest if line.startswith(runtime)]
            assert row.split()[1] == "no"
            assert advice.startswith(f"{runtime}: Lambent cannot run {runtime}")
        assert not (tmp_path / "data").exists()

    def test_an_unusable_data_folder_is_told(self, tmp_path: Path) -> None:
        told = Command(tmp_path, LAMBENT_DATA_DIR="/proc/zz")("runtimes", "install", RUNTIME, code=1).err
        assert told.startswith("error: the data folder /proc/zz can't be used: ")
        assert "--data-dir" in told

    def test_what_was_installed_before_the_first_start_is_the_servers(
        self, own_server: Start, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        asyncio.run(Runtimes(data).open())  # what `lambent runtimes install` writes, without a network
        assert [path.name.rpartition("-")[0] for path in (data / "runtimes").iterdir()] == [RUNTIME]
        assert Functions(own_server("--no-s3", data_dir=data)).run("def handler(e, c):\n    return 1\n") == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_nothing_is_installed_into_another_users_data_folder(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        os.chown(tmp_path / "data", 12345, 12345)
        said = Command(tmp_path)("runtimes", "install", RUNTIME, "--data-dir", str(tmp_path / "data"), code=1)
        assert "belongs to uid 12345" in said.err
        assert os.listdir(tmp_path / "data") == []

    def test_doctor_says_of_each_thing_whether_it_is_enforced(self, tmp_path: Path) -> None:
        said = Command(tmp_path)("doctor")
        heading, *rows, last = said.out.splitlines()
        assert heading.split()[:2] == ["what", "how"]
        assert {row.split()[0] for row in rows} <= {"yes", "no"}
        assert any("memory" in row for row in rows)
        assert "enforce" in last

    def test_wrong_settings_are_one_line_for_every_command(self, tmp_path: Path) -> None:
        for command in ("doctor", "runtimes"):
            told = Command(tmp_path, LAMBENT_ISOLATION="maybe")(command, code=1).err
            assert "LAMBENT_ISOLATION" in told
            assert len(told.splitlines()) == 1


class TestWithoutAServer:
    @pytest.mark.parametrize(
        "command",
        [
            ("functions",),
            ("invoke", "f"),
            ("logs", "f"),
            ("logs", "f", "--follow"),
            ("delete", "f"),
            ("trigger", "list"),
        ],
        ids=" ".join,
    )
    def test_one_line_says_what_to_do(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        told = Command(tmp_path, LAMBENT_ENDPOINT="http://127.0.0.1:9")(*command, code=1).err
        assert told == (
            "error: no Lambent answers at http://127.0.0.1:9. Start one with `lambent up`, "
            "or name another with --endpoint URL.\n"
        )
