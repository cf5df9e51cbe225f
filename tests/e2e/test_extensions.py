"""External and internal extensions from layers, in two languages, as AWS's samples are written."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from installed_runtimes import compiled
from layers import Layer, with_layers
from running import Functions, zipped
from support import TESTS, require

PYTHON = r"""#!/usr/bin/env -S python3 -u
import http.client, json, os, sys, time

name = os.path.basename(__file__)
mode = os.environ.get("MODE", "")
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def ask(method, path, body=None, **headers):
    named = {"Lambda-Extension-" + key.replace("_", "-"): value for key, value in headers.items()}
    data = json.dumps(body) if body is not None else None
    connection.request(method, "/2020-01-01/extension/" + path, data, named)
    answer = connection.getresponse()
    return answer, answer.read()


if mode == "exit-at-start":
    sys.exit(7)
asked = time.monotonic()
answer, body = ask("POST", "register", {"events": ["INVOKE", "SHUTDOWN"]}, Name=name)
print(f"{name} asked {asked}")
print(f"{name} registered {answer.status} {body.decode()}")
identifier = answer.headers["Lambda-Extension-Identifier"]
if mode == "init-error":
    ask("POST", "init/error", {}, Identifier=identifier, Function_Error_Type="Extension.NoKey")
    time.sleep(60)
while True:
    answer, body = ask("GET", "event/next", Identifier=identifier)
    event = json.loads(body)
    print(f"{name} got {json.dumps(event)}")
    if event["eventType"] == "SHUTDOWN":
        with open("/tmp/ended", "w") as file:
            file.write(event["shutdownReason"])
        break
    if mode == "exit-in-invoke":
        sys.exit(7)
    if mode == "exit-error-told":
        told = {"errorMessage": "the disk is full", "errorType": "Extension.Disk", "stackTrace": []}
        ask("POST", "exit/error", told, Identifier=identifier, Function_Error_Type="Extension.Disk")
        time.sleep(60)
    if mode == "exit-error":
        ask("POST", "exit/error", {}, Identifier=identifier, Function_Error_Type="Extension.Broken")
        time.sleep(60)
    if mode == "busy":
        time.sleep(1.5)
    if mode == "slow":
        time.sleep(0.5)
        print(f"{name} is done")
"""
SHELL = r"""#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
id=$(curl -sS -D - -o /dev/null -H "Lambda-Extension-Name: ${0##*/}" \
    -d '{"events": ["INVOKE"]}' "$api/register" |
    tr -d '\r' | sed -n 's/^[Ll]ambda-[Ee]xtension-[Ii]dentifier: //p')
while event=$(curl -sS -H "Lambda-Extension-Identifier: $id" "$api/event/next"); do
    echo "shell got $event"
done
"""


def _events(lines: list[str], name: str) -> list[Any]:
    prefix = f"{name} got "
    return [json.loads(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]


def test_an_extension_registers_before_the_runtime_starts_and_gets_each_invocation(
    functions: Functions, layer: Layer, unharmed: None
) -> None:
    name = with_layers(functions, layer({"watcher": PYTHON}))
    answers = [functions.invoke(name) for _ in range(2)]
    assert [answer.error for answer in answers] == [None, None], answers[0].result
    lines = functions.logged(name, until=f"END RequestId: {answers[1].request_id}")
    registered = next(line for line in lines if line.startswith("watcher registered 200 "))
    facts = json.loads(registered.removeprefix("watcher registered 200 "))
    assert facts == {"functionName": name, "functionVersion": "$LATEST", "handler": "app.handler"}
    asked, started = (
        float(next(line for line in lines if line.startswith(prefix)).removeprefix(prefix))
        for prefix in ("watcher asked ", "the function starts ")
    )
    assert asked < started, "the runtime waits for those who are to register"
    assert "EXTENSION\tName: watcher\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in lines
    events = _events(lines, "watcher")
    assert [event["eventType"] for event in events] == ["INVOKE", "INVOKE"]
    assert [event["requestId"] for event in events] == [answer.request_id for answer in answers]
    assert events[0]["invokedFunctionArn"].endswith(f":function:{name}")
    assert events[0]["deadlineMs"] > 0 and events[0]["tracing"]["value"].startswith("Root=1-")


def test_two_extensions_in_two_languages_from_two_layers(functions: Functions, layer: Layer) -> None:
    require("curl", shutil.which("curl"), "apt-get install curl")
    name = with_layers(functions, layer({"watcher": PYTHON}), layer({"shell": SHELL}))
    answer = functions.invoke(name)
    assert answer.error is None, answer.result
    lines = functions.logged(name, until=f"END RequestId: {answer.request_id}")
    assert len(_events(lines, "watcher")) == len(_events(lines, "shell")) == 1
    assert "EXTENSION\tName: shell\tState: Ready\tEvents: [INVOKE]" in lines


def test_the_answer_does_not_wait_for_an_extension_and_the_report_does(
    functions: Functions, layer: Layer
) -> None:
    name = with_layers(functions, layer({"watcher": PYTHON}), mode="slow")
    answer = functions.invoke(name)
    functions.logged(name, until="watcher is done")
    lines = functions.logged(name, until=f"REPORT RequestId: {answer.request_id}")
    report = next(line for line in lines if line.startswith("REPORT"))
    assert float(report.partition("\tDuration: ")[2].split()[0]) >= 500, "what extensions take is billed"


def test_the_end_is_told_with_its_reason(functions: Functions, layer: Layer) -> None:
    name = with_layers(functions, layer({"watcher": PYTHON}))
    assert functions.invoke(name).error is None
    functions.aws.update_function_configuration(FunctionName=name, Description="a new environment", Timeout=4)
    lines = functions.logged(name, until='watcher got {"eventType": "SHUTDOWN"')
    assert _events(lines, "watcher")[-1]["shutdownReason"] == "spindown"


def test_one_that_works_when_the_end_comes_gets_it_when_it_asks(functions: Functions, layer: Layer) -> None:
    name = with_layers(functions, layer({"watcher": PYTHON}), mode="busy", Timeout=1)
    assert functions.invoke(name, {"sleep": 5}).result["errorType"] == "Sandbox.Timedout"
    lines = functions.logged(name, until='watcher got {"eventType": "SHUTDOWN"')
    assert _events(lines, "watcher")[-1]["shutdownReason"] == "timeout"


@pytest.mark.parametrize(
    "event, reason, error",
    [({"exit": 1}, "failure", "Runtime.ExitError"), ({"sleep": 30}, "timeout", "Sandbox.Timedout")],
    ids=["exit", "timeout"],
)
def test_a_failure_of_the_function_is_told_and_nothing_dirty_is_used_again(
    functions: Functions, layer: Layer, unharmed: None, event: Any, reason: str, error: str
) -> None:
    name = with_layers(functions, layer({"watcher": PYTHON}), Timeout=1)
    answer = functions.invoke(name, event)
    assert (answer.error, answer.result["errorType"]) == ("Unhandled", error)
    lines = functions.logged(name, until='watcher got {"eventType": "SHUTDOWN"')
    assert _events(lines, "watcher")[-1]["shutdownReason"] == reason
    again = functions.invoke(name)
    assert again.error is None
    lines = functions.logged(name, until=f"END RequestId: {again.request_id}")
    assert sum(line.startswith("watcher registered") for line in lines) == 2, "it is a new environment"


def test_a_crash_is_no_timeout_however_long_an_extension_takes(functions: Functions, layer: Layer) -> None:
    name = with_layers(functions, layer({"watcher": PYTHON}), mode="busy", Timeout=1)
    assert functions.invoke(name, {"exit": 1}).result["errorType"] == "Runtime.ExitError"
    lines = functions.logged(name, until='watcher got {"eventType": "SHUTDOWN"')
    assert _events(lines, "watcher")[-1]["shutdownReason"] == "failure"


@pytest.mark.parametrize(
    "mode, error, message",
    [
        ("exit-in-invoke", "Extension.Crash", "exit status 7"),
        ("exit-error", "Extension.ExitError", "Extension.Broken"),
        ("exit-error-told", "Extension.ExitError", "the disk is full"),
        ("exit-at-start", "Extension.Crash", "exit status 7"),
        ("init-error", "Extension.InitError", "Extension.NoKey"),
    ],
)
def test_an_extension_that_fails_fails_the_invocation(
    functions: Functions, layer: Layer, unharmed: None, mode: str, error: str, message: str
) -> None:
    code = "import time\ndef handler(event, context):\n    time.sleep(1)\n"
    name = with_layers(functions, layer({"watcher": PYTHON}), code=code, mode=mode)
    answer = functions.invoke(name)
    assert (answer.error, answer.result["errorType"]) == ("Unhandled", error)
    assert answer.result["errorMessage"] == f"RequestId: {answer.request_id} Error: {message}"
    assert any(line.startswith("EXTENSION\tName: watcher\tState: ") for line in answer.log.splitlines())


def test_one_that_cannot_be_started_says_why(functions: Functions, layer: Layer, unharmed: None) -> None:
    for files, mode, why in (
        ({"broken": "no program"}, 0o755, "exec format error"),
        ({"closed": PYTHON}, 0o644, "permission denied"),
    ):
        name = with_layers(functions, layer(files, mode))
        answer = functions.invoke(name)
        assert answer.result["errorType"] == "Extension.LaunchError"
        assert answer.result["errorMessage"].endswith(
            f"Error: fork/exec /opt/extensions/{next(iter(files))}: {why}"
        )


INTERNAL = """
import http.client, json, os, threading, time

def ask(connection, method, path, body=None, **headers):
    named = {"Lambda-Extension-" + key: value for key, value in headers.items()}
    connection.request(method, "/2020-01-01/extension/" + path, body, named)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read().decode()

made = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
found = {
    "no name": ask(made, "POST", "register", '{"events": []}')[::2],
    "no json": ask(made, "POST", "register", "{", Name="x")[::2],
    "wrong event": ask(made, "POST", "register", '{"events": ["SHUTDOWN"]}', Name="x")[::2],
    "no identifier": ask(made, "GET", "event/next")[::2],
    "bad identifier": ask(made, "GET", "event/next", Identifier="x")[::2],
    "unknown": ask(made, "GET", "event/next", Identifier="00000000-0000-4000-8000-000000000000")[::2],
}
status, headers, body = ask(
    made, "POST", "register", '{"events": ["INVOKE"]}', Name="inside", **{"Accept-Feature": "accountId"}
)
identifier = {name.lower(): value for name, value in headers.items()}["lambda-extension-identifier"]
found["registered"] = status, json.loads(body)
found["twice"] = ask(made, "POST", "register", '{"events": []}', Name="inside")[::2]
seen = []

def work():
    while True:
        seen.append(json.loads(ask(made, "GET", "event/next", Identifier=identifier)[2]))

threading.Thread(target=work, daemon=True).start()

invocations = []

def handler(event, context):
    invocations.append(event)
    while len(seen) < len(invocations):  # the thread is told at the same time
        time.sleep(0.01)
    late = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    found["late"] = ask(late, "POST", "register", '{"events": []}', Name="late")[::2]
    return {"found": found, "seen": seen}
"""


def test_an_extension_inside_the_runtime_and_every_refusal(functions: Functions) -> None:
    name = functions.create(INTERNAL)
    functions.invoke(name)
    second = functions.invoke(name)
    found, seen = second.result["found"], second.result["seen"]
    assert found["registered"][1]["functionName"] == name and "accountId" in found["registered"][1]
    assert [event["eventType"] for event in seen] == ["INVOKE", "INVOKE"]
    kinds = {
        what: (status, json.loads(body)["errorType"])
        for what, (status, body) in found.items()
        if what != "registered"
    }
    assert kinds == {
        "no name": (400, "Extension.InvalidExtensionName"),
        "no json": (400, "InvalidRequestFormat"),
        "wrong event": (400, "Extension.InvalidEventType"),
        "no identifier": (403, "Extension.MissingExtensionIdentifier"),
        "bad identifier": (403, "Extension.InvalidExtensionIdentifier"),
        "unknown": (403, "Extension.UnknownExtensionIdentifier"),
        "twice": (403, "Extension.AlreadyRegistered"),
        "late": (403, "Extension.RegistrationClosed"),
    }


def test_extensions_have_the_functions_variables_but_for_its_own(functions: Functions, layer: Layer) -> None:
    shows = "#!/bin/sh\nenv | sort | sed 's/^/has /'\nexec sleep 60\n"
    name = with_layers(functions, layer({"shows": shows}), mode="mine", Timeout=1)
    functions.invoke(name)
    lines = functions.logged(name, until="has AWS_LAMBDA_RUNTIME_API=")
    had = {line.removeprefix("has ").partition("=")[0] for line in lines if line.startswith("has ")}
    assert {"MODE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION", "AWS_ACCESS_KEY_ID", "PATH"} <= had
    assert not {"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME"} & had


PROBES = r"""#!/usr/bin/env -S python3 -u
import os, time
print("uid", os.getuid(), os.getgid())
status = open("/proc/self/status").read()
print("caps", [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")])
print("seccomp", [line.split()[1] for line in status.splitlines() if line.startswith("Seccomp:")])
try:
    open("/var/task/x", "w")
except OSError as failure:
    print("write", failure.strerror)
time.sleep(60)
"""


def test_extensions_are_as_confined_as_the_function(functions: Functions, layer: Layer) -> None:
    name = with_layers(functions, layer({"probes": PROBES}), Timeout=1)
    functions.invoke(name)
    lines = functions.logged(name, until="write ")
    assert "uid 993 990" in lines
    assert "caps ['0000000000000000']" in lines and "seccomp ['2']" in lines
    assert "write Read-only file system" in lines


def test_a_folder_below_is_no_extension(functions: Functions, layer: Layer) -> None:
    name = with_layers(functions, layer({"lib/helper.py": "x = 1\n"}))
    assert (
        functions.invoke(name).result
        == "AWS_Lambda_" + functions.aws.get_function_configuration(FunctionName=name)["Runtime"]
    )


def test_a_go_extension(functions: Functions, layer: Layer, tmp_path: Path) -> None:
    require("go", shutil.which("go"), "install Go")
    source = Path(__file__).parents[1] / "functions" / "go-extension"
    subprocess.run(
        ["go", "build", "-o", str(tmp_path / "watcher"), "."],
        cwd=source,
        env={"CGO_ENABLED": "0", "HOME": str(Path.home()), "PATH": os.environ["PATH"], "GOFLAGS": "-mod=mod"},
        check=True,
        timeout=120,
    )
    made = functions.aws.publish_layer_version(
        LayerName=f"go-{uuid.uuid4().hex[:8]}",
        Content={"ZipFile": zipped({"extensions/watcher": (tmp_path / "watcher").read_bytes()}, 0o755)},
    )
    name = with_layers(functions, made["LayerVersionArn"])
    answer = functions.invoke(name)
    assert answer.error is None, answer.result
    functions.aws.update_function_configuration(FunctionName=name, Timeout=4)
    lines = functions.logged(name, until="watcher got SHUTDOWN")
    assert [line for line in lines if line.startswith("watcher got")] == [
        "watcher got INVOKE",
        "watcher got SHUTDOWN spindown",
    ]


def test_aws_own_library_for_extensions(functions: Functions, request: pytest.FixtureRequest) -> None:
    if os.environ.get("LAMBENT_TEST_BUILD") != "1":
        pytest.skip("compiling it takes a minute or two: `make runtimes-test` does")
    found = shutil.which("cargo")
    require("cargo", found, "no Rust compiler on PATH: https://rustup.rs or apt-get install cargo")
    assert request.config.cache is not None
    program = compiled(
        request.config.cache.mkdir("runtimes"),
        TESTS / "functions" / "rust-extension",
        [str(found), "build", "--release", "--locked"],
        "target/release/watcher",
    )
    made = functions.aws.publish_layer_version(
        LayerName=f"rust-{uuid.uuid4().hex[:8]}",
        Content={"ZipFile": zipped({"extensions/watcher": program}, 0o755)},
    )
    code = "def handler(event, context):\n    print('said by the function')\n"
    name = with_layers(functions, made["LayerVersionArn"], code=code)
    answer = functions.invoke(name)
    assert answer.error is None, answer.result
    functions.aws.update_function_configuration(FunctionName=name, Timeout=4)
    lines = functions.logged(name, until="watcher got SHUTDOWN")
    assert f"watcher got INVOKE {answer.request_id}" in lines
    assert "watcher got SHUTDOWN spindown" in lines
    assert any(line.startswith("watcher heard said by the function") for line in lines)
