"""Telemetry to subscribers inside environments: external and internal extensions, over HTTP and TCP."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from layers import CODE, Layer
from running import Functions
from traces import until

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
