"""External and internal extensions from layers, in two languages, as AWS's samples are written."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from installed_runtimes import compiled
from running import Functions, zipped
from support import TESTS, require
from traces import until

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
CODE = """
import os, sys, time

print("the function starts", time.monotonic())

def handler(event, context):
    if event and "exit" in event:
        sys.exit(3)
    if event and "sleep" in event:
        time.sleep(event["sleep"])
    return os.environ.get("AWS_EXECUTION_ENV")
"""

Layer = Callable[..., str]


@pytest.fixture(scope="module")
def layer(functions: Functions) -> Layer:
    def publish(files: Mapping[str, str], mode: int = 0o755) -> str:
        made = functions.aws.publish_layer_version(
            LayerName=f"extensions-{uuid.uuid4().hex[:8]}",
            Content={"ZipFile": zipped({f"extensions/{name}": text for name, text in files.items()}, mode)},
        )
        return str(made["LayerVersionArn"])

    return publish


def _with(functions: Functions, *layers: str, code: str = CODE, mode: str = "", **members: Any) -> str:
    variables = {"Environment": {"Variables": {"MODE": mode}}}
    return functions.create(code, Layers=list(layers), **{**variables, "Timeout": 5, **members})


def _events(lines: list[str], name: str) -> list[Any]:
    prefix = f"{name} got "
    return [json.loads(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]


def test_an_extension_registers_before_the_runtime_starts_and_gets_each_invocation(
    functions: Functions, layer: Layer, unharmed: None
) -> None:
    name = _with(functions, layer({"watcher": PYTHON}))
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
    name = _with(functions, layer({"watcher": PYTHON}), layer({"shell": SHELL}))
    answer = functions.invoke(name)
    assert answer.error is None, answer.result
    lines = functions.logged(name, until=f"END RequestId: {answer.request_id}")
    assert len(_events(lines, "watcher")) == len(_events(lines, "shell")) == 1
    assert "EXTENSION\tName: shell\tState: Ready\tEvents: [INVOKE]" in lines


def test_the_answer_does_not_wait_for_an_extension_and_the_report_does(
    functions: Functions, layer: Layer
) -> None:
    name = _with(functions, layer({"watcher": PYTHON}), mode="slow")
    answer = functions.invoke(name)
    functions.logged(name, until="watcher is done")
    lines = functions.logged(name, until=f"REPORT RequestId: {answer.request_id}")
    report = next(line for line in lines if line.startswith("REPORT"))
    assert float(report.partition("\tDuration: ")[2].split()[0]) >= 500, "what extensions take is billed"


def test_the_end_is_told_with_its_reason(functions: Functions, layer: Layer) -> None:
    name = _with(functions, layer({"watcher": PYTHON}))
    assert functions.invoke(name).error is None
    functions.aws.update_function_configuration(FunctionName=name, Description="a new environment", Timeout=4)
    lines = functions.logged(name, until='watcher got {"eventType": "SHUTDOWN"')
    assert _events(lines, "watcher")[-1]["shutdownReason"] == "spindown"


def test_one_that_works_when_the_end_comes_gets_it_when_it_asks(functions: Functions, layer: Layer) -> None:
    name = _with(functions, layer({"watcher": PYTHON}), mode="busy", Timeout=1)
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
    name = _with(functions, layer({"watcher": PYTHON}), Timeout=1)
    answer = functions.invoke(name, event)
    assert (answer.error, answer.result["errorType"]) == ("Unhandled", error)
    lines = functions.logged(name, until='watcher got {"eventType": "SHUTDOWN"')
    assert _events(lines, "watcher")[-1]["shutdownReason"] == reason
    again = functions.invoke(name)
    assert again.error is None
    lines = functions.logged(name, until=f"END RequestId: {again.request_id}")
    assert sum(line.startswith("watcher registered") for line in lines) == 2, "it is a new environment"


def test_a_crash_is_no_timeout_however_long_an_extension_takes(functions: Functions, layer: Layer) -> None:
    name = _with(functions, layer({"watcher": PYTHON}), mode="busy", Timeout=1)
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
    name = _with(functions, layer({"watcher": PYTHON}), code=code, mode=mode)
    answer = functions.invoke(name)
    assert (answer.error, answer.result["errorType"]) == ("Unhandled", error)
    assert answer.result["errorMessage"] == f"RequestId: {answer.request_id} Error: {message}"
    assert any(line.startswith("EXTENSION\tName: watcher\tState: ") for line in answer.log.splitlines())


def test_one_that_cannot_be_started_says_why(functions: Functions, layer: Layer, unharmed: None) -> None:
    for files, mode, why in (
        ({"broken": "no program"}, 0o755, "exec format error"),
        ({"closed": PYTHON}, 0o644, "permission denied"),
    ):
        name = _with(functions, layer(files, mode))
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
    name = _with(functions, layer({"shows": shows}), mode="mine", Timeout=1)
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
    name = _with(functions, layer({"probes": PROBES}), Timeout=1)
    functions.invoke(name)
    lines = functions.logged(name, until="write ")
    assert "uid 993 990" in lines
    assert "caps ['0000000000000000']" in lines and "seccomp ['2']" in lines
    assert "write Read-only file system" in lines


def test_a_folder_below_is_no_extension(functions: Functions, layer: Layer) -> None:
    name = _with(functions, layer({"lib/helper.py": "x = 1\n"}))
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
    name = _with(functions, made["LayerVersionArn"])
    answer = functions.invoke(name)
    assert answer.error is None, answer.result
    functions.aws.update_function_configuration(FunctionName=name, Timeout=4)
    lines = functions.logged(name, until="watcher got SHUTDOWN")
    assert [line for line in lines if line.startswith("watcher got")] == [
        "watcher got INVOKE",
        "watcher got SHUTDOWN spindown",
    ]


LISTENER = r"""#!/usr/bin/env -S python3 -u
import http.client, http.server, json, os, socketserver, sys, threading

name = os.path.basename(__file__)
wanted = json.loads(os.environ["SUBSCRIBE"])
path = os.environ.get("API", "/2022-07-01/telemetry")


def heard(events):
    for event in events:
        print("heard " + json.dumps(event))


class Web(http.server.BaseHTTPRequestHandler):
    refused = 0

    def do_POST(self):
        events = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/busy" and Web.refused < 3:
            Web.refused += 1
            print(f"refused {Web.refused}")
            self.send_response(503)
        else:
            if self.path == "/busy":
                print("heard busy " + json.dumps(events))
            else:
                heard(events)
            self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        heard(json.loads(line) for line in self.rfile)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Web)
threading.Thread(target=server.serve_forever, daemon=True).start()
lines = socketserver.ThreadingTCPServer(("127.0.0.1", 8081), Lines)
threading.Thread(target=lines.serve_forever, daemon=True).start()
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def ask(method, path, body, **headers):
    named = {"Lambda-Extension-" + key: value for key, value in headers.items()}
    connection.request(method, path, json.dumps(body), named)
    answer = connection.getresponse()
    return answer, answer.read().decode()


answer, _ = ask("POST", "/2020-01-01/extension/register", {"events": ["INVOKE", "SHUTDOWN"]}, Name=name)
identifier = answer.headers["Lambda-Extension-Identifier"]
for document in wanted:
    answer, body = ask("PUT", path, document, Identifier=identifier)
    print("subscribed", answer.status, body)
while True:
    _, body = ask("GET", "/2020-01-01/extension/event/next", None, Identifier=identifier)
    if json.loads(body)["eventType"] == "SHUTDOWN":
        break
"""
HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"}
FAST = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}


def _subscribed(functions: Functions, layer: Layer, *documents: Any, code: str = CODE, **members: Any) -> str:
    variables = {"SUBSCRIBE": json.dumps(documents), **members.pop("variables", {})}
    return functions.create(
        code, Layers=[layer({"listener": LISTENER})], Environment={"Variables": variables}, Timeout=5, **members
    )


def _on_port(script: str, number: int, variables: Mapping[str, str]) -> str:
    """The listener with ports and variables of its own, for several in one environment."""
    first, rest = script.split("\n", 1)
    made = f"{first}\nimport os\nos.environ.update({variables!r})\n{rest}"
    for port in (8080, 8081):
        made = made.replace(str(port), str(port + 10 * number))
    return made


def _heard(functions: Functions, name: str, until: str) -> list[Any]:
    """What the subscriber got, once an event of that type has come. Each invocation gives it time."""
    for _ in range(40):
        lines = functions.logged(name)
        events = [json.loads(line.removeprefix("heard ")) for line in lines if line.startswith("heard {")]
        if any(event["type"] == until for event in events):
            return events
        functions.invoke(name, {"sleep": 0.2})
    raise AssertionError(f"no {until} in {events}")


@pytest.mark.parametrize("destination", [HTTP, {"protocol": "TCP", "port": 8081}], ids=["HTTP", "TCP"])
def test_telemetry_is_delivered_where_it_is_wanted(
    functions: Functions, layer: Layer, destination: Any
) -> None:
    document = {
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function"],
        "buffering": FAST,
        "destination": destination,
    }
    code = "def handler(event, context):\n    print('said by the function')\n    import time; time.sleep(0.2)\n"
    name = _subscribed(functions, layer, document, code=code)
    first = functions.invoke(name)
    events = _heard(functions, name, "platform.report")
    assert 'subscribed 200 "OK"' in functions.logged(name)
    assert "TELEMETRY\tName: listener\tState: Subscribed\tTypes: [function, platform]" in functions.logged(name)
    types = [event["type"] for event in events]
    order = ["platform.initStart", "platform.telemetrySubscription", "platform.extension"]
    order += ["platform.initRuntimeDone", "platform.initReport", "platform.start", "function"]
    order += ["platform.runtimeDone", "platform.report"]
    assert [kind for kind in dict.fromkeys(types) if kind in order] == order
    start = next(event for event in events if event["type"] == "platform.start")
    assert start["record"]["requestId"] == first.request_id and start["time"].endswith("Z")
    assert next(event for event in events if event["type"] == "function")["record"] == "said by the function"
    report = next(event for event in events if event["type"] == "platform.report")["record"]
    assert report["status"] == "success" and report["metrics"]["billedDurationMs"] >= 200
    assert all(event["record"] != "" for event in events)


def test_the_logs_api_has_its_own_shapes(functions: Functions, layer: Layer) -> None:
    document = {
        "schemaVersion": "2020-08-15",
        "types": ["platform", "function", "extension"],
        "buffering": FAST,
        "destination": HTTP,
    }
    name = _subscribed(functions, layer, document, variables={"API": "/2020-08-15/logs"})
    functions.invoke(name)
    events = _heard(functions, name, "platform.report")
    types = [event["type"] for event in events]
    assert types.index("platform.start") < types.index("platform.end") < types.index("platform.report")
    assert not {"platform.initStart", "platform.runtimeDone", "platform.initReport"} & set(types)
    start = next(event for event in events if event["type"] == "platform.start")
    assert start["record"].keys() == {"requestId", "version"}

    def heard_itself() -> bool:
        functions.invoke(name)
        events = _heard(functions, name, "platform.report")
        return any(event["type"] == "extension" and event["record"].startswith("heard ") for event in events)

    until(heard_itself, 20, "what the extension prints is delivered, too")
    assert any(line.startswith("LOGS\tName: listener\tState: Subscribed") for line in functions.logged(name))


def test_the_last_that_waits_is_delivered_before_the_end(functions: Functions, layer: Layer) -> None:
    late = {"maxItems": 10000, "maxBytes": 262144, "timeoutMs": 30000}
    document = {"schemaVersion": "2022-12-13", "types": ["platform"], "buffering": late, "destination": HTTP}
    name = _subscribed(functions, layer, document)
    asked = functions.invoke(name).request_id
    functions.aws.update_function_configuration(FunctionName=name, Timeout=4)

    def reported() -> list[str]:
        events = [line.removeprefix("heard ") for line in functions.logged(name) if line.startswith("heard {")]
        reports = [event for event in map(json.loads, events) if event["type"] == "platform.report"]
        return [event["record"]["requestId"] for event in reports]

    until(lambda: bool(reported()), 10, "the last report came")
    assert reported() == [asked]


def test_a_subscriber_that_refuses_is_asked_again_and_holds_up_no_other(
    functions: Functions, layer: Layer
) -> None:
    good = {"schemaVersion": "2022-12-13", "types": ["platform"], "buffering": FAST, "destination": HTTP}
    busy = {**good, "destination": {**HTTP, "URI": HTTP["URI"] + "/busy"}}
    away = {**good, "destination": {"protocol": "TCP", "port": 8099}}
    variables = [{"SUBSCRIBE": json.dumps([document])} for document in (away, busy, good)]
    scripts = {f"listener{number}": _on_port(LISTENER, number, each) for number, each in enumerate(variables)}
    name = functions.create(CODE, Layers=[layer(scripts)], Timeout=5, MemorySize=256)
    _heard(functions, name, "platform.report")
    for _ in range(40):
        lines = functions.logged(name)
        busy_heard = [number for number, line in enumerate(lines) if line.startswith("heard busy ")]
        if busy_heard:
            break
        functions.invoke(name, {"sleep": 0.2})
    assert lines.index("refused 3") < busy_heard[0]
    assert "platform.initStart" in lines[busy_heard[0]], "what was refused came again"


INTERNAL_LISTENER = """
import http.client, http.server, json, os, threading

heard = []

class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        heard.extend(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Web)
threading.Thread(target=server.serve_forever, daemon=True).start()
made = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def ask(method, path, body=None, **headers):
    made.request(method, path, body, {"Lambda-Extension-" + key: value for key, value in headers.items()})
    answer = made.getresponse()
    return answer, answer.read()

answer, _ = ask("POST", "/2020-01-01/extension/register", '{"events": []}', Name="inside")
identifier = answer.headers["Lambda-Extension-Identifier"]
wanted = {
    "schemaVersion": "2022-07-01",
    "types": ["platform", "function"],
    "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
    "destination": {"protocol": "HTTP", "URI": "http://sandbox:8080/"},
}
answer, body = ask("PUT", "/2022-07-01/telemetry", json.dumps(wanted), Identifier=identifier)
print("subscribed", answer.status, body)
threading.Thread(
    target=ask, args=("GET", "/2020-01-01/extension/event/next"), kwargs={"Identifier": identifier}, daemon=True
).start()

def handler(event, context):
    import time
    time.sleep(0.2)
    return heard
"""


def test_an_extension_inside_the_runtime_gets_telemetry_too(functions: Functions, unharmed: None) -> None:
    name = functions.create(INTERNAL_LISTENER, Timeout=5)
    first = functions.invoke(name)
    assert first.error is None, first.result
    for _ in range(40):
        events = functions.invoke(name).result
        if any(event["type"] == "platform.report" for event in events):
            break
    kinds = [event["type"] for event in events]
    order = [kinds.index(f"platform.{kind}") for kind in ("initStart", "initReport", "start")]
    assert order == sorted(order)
    ids = [event["record"]["requestId"] for event in events if event["type"] == "platform.report"]
    assert ids[0] == first.request_id


def test_a_subscription_that_is_wrong_is_refused_with_its_reason(functions: Functions, layer: Layer) -> None:
    good = {"schemaVersion": "2022-12-13", "types": ["platform"], "destination": HTTP}
    wrong: list[Any] = [
        {**good, "schemaVersion": "1"},
        {**good, "types": []},
        {**good, "types": ["all"]},
        {**good, "buffering": {"maxItems": 1}},
        {**good, "buffering": {"timeoutMs": 5}},
        {**good, "destination": {"protocol": "HTTP", "URI": "http://example.com"}},
        {**good, "destination": {"protocol": "HTTP", "URI": "http://sandbox:9001"}},
        {**good, "destination": {"protocol": "TCP", "port": "8080"}},
        {**good, "destination": {"protocol": "UDP"}},
    ]
    name = _subscribed(functions, layer, *wrong, good)
    functions.invoke(name)
    lines = [line for line in functions.logged(name, until="subscribed 200") if line.startswith("subscribed ")]
    assert [line.split()[1] for line in lines] == ["400"] * len(wrong) + ["200"]
    for line in lines[:-1]:
        assert json.loads(line.split(" ", 2)[2])["errorType"] == "ValidationError"


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
    name = _with(functions, made["LayerVersionArn"], code=code)
    answer = functions.invoke(name)
    assert answer.error is None, answer.result
    functions.aws.update_function_configuration(FunctionName=name, Timeout=4)
    lines = functions.logged(name, until="watcher got SHUTDOWN")
    assert f"watcher got INVOKE {answer.request_id}" in lines
    assert "watcher got SHUTDOWN spindown" in lines
    assert any(line.startswith("watcher heard said by the function") for line in lines)
