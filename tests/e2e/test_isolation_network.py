"""What a function reaches over the network: the world outside, and nothing of its host, of link-local networks
or of other environments, in both address families. Each target answers the same code on the host."""

import base64
import hashlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from isolation_network import LINK_LOCAL, METADATA, OUTSIDE, Beside, Service, machine_beside
from isolation_runtimes import Make, in_a_static_binary, in_node, installed, static_binary
from isolation_world import CODE, Attempts, Outcomes, inside, need_root, on_host, processes_of
from running import Functions, Server, request, zipped
from support import free_port, require

OTHER = """
    import socket
    def handler(event, context):
        '''Listens on every address while the tests run: until the far end of a connection closes.'''
        listener = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.connect(("198.51.100.7", 9))
        with socket.create_connection(("127.0.0.1", event["port"])) as control:
            control.sendall(probe.getsockname()[0].encode())
            listener.settimeout(0.2)
            control.settimeout(0.01)
            served = 0
            while True:
                try:
                    if control.recv(1) == b"":
                        return served
                except TimeoutError:
                    pass
                try:
                    client, _ = listener.accept()
                    client.sendall(b"here")
                    client.close()
                    served += 1
                except TimeoutError:
                    pass
"""


@dataclass(frozen=True)
class World:
    """A server; `service` on the host's every address; another environment that listens at `other`:7000.
    Not even the host reaches that one, so its controls run in its own network: `controls` names them."""

    server: Server
    functions: Functions
    service: Service
    beside: Beside
    other: str
    process_of_other: int
    controls: list[str]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_root()
    data = tmp_path_factory.mktemp("isolation") / "data"
    data.mkdir()
    installed(request, data, "nodejs22.x")
    service, talk = Service(), socket.create_server(("127.0.0.1", 0))
    port = talk.getsockname()[1]
    named = f"http://localhost:{port}"
    with machine_beside() as beside, talk:
        server = Server(data, "--no-s3", environment={"LAMBENT_REACHABLE": named}).start()
        try:
            functions = Functions(server)
            name = functions.create(OTHER, Timeout=120)
            answers: list[Any] = []
            running = threading.Thread(
                target=lambda: answers.append(Functions(server).invoke(name, {"port": port})), daemon=True
            )
            running.start()
            talk.settimeout(20)
            control, _ = talk.accept()
            with control:
                other = control.recv(100).decode()
                (process,) = processes_of(name)
                made = World(server, functions, service, beside, other, process, [])
                yield made
            running.join(20)
            assert answers and answers[0].error is None, "the other environment was disturbed"
            assert answers[0].result == len(made.controls), "only the controls reached the other environment"
        finally:
            server.stop()
            service.close()


def _host_addresses(server: Server) -> dict[str, str]:
    """{what it is: address} of this host but loopback, a link-local one with its link."""
    instance = json.loads((server.data_dir / "lambent.json").read_text())["instance"]
    ours = "lmb" + hashlib.sha256(instance.encode()).hexdigest()[:6]
    shown = json.loads(subprocess.run(["ip", "-j", "addr"], check=True, capture_output=True).stdout)
    found = {}
    for link in shown:
        for each in link.get("addr_info", ()):
            foreign = link["ifname"].startswith("lm") and not link["ifname"].startswith(ours)
            if link["ifname"] != "lo" and not foreign:  # other servers' links come and go
                scope = f"%{link['ifname']}" if each["local"].startswith("fe80") else ""
                kind = "environment's link" if link["ifname"].startswith("lmb") else each["scope"]
                found[f"{kind} {each['family']}"] = each["local"] + scope
    return found


def _attempts(world: World) -> Attempts:
    here = world.service.port
    targets: dict[str, tuple[str, int]] = {
        "loopback inet": ("127.0.0.1", here),
        "loopback inet, another": ("127.9.9.9", here),
        "loopback inet6": ("::1", here),
        "any address": ("0.0.0.0", here),
        "any address inet6": ("::", here),
        "loopback mapped": ("::ffff:127.0.0.1", here),
        "metadata inet": (METADATA[0], world.beside.port),
        "metadata inet6": (METADATA[1], world.beside.port),
        "a machine beside link-local inet6": (f"{LINK_LOCAL}%{world.beside.link}", world.beside.port),
        "the host's end of a link beside": ("198.51.100.1", here),
        "the host's end of a link beside inet6": ("fd51:100::1", here),
        "another environment": (world.other, 7000),
        "another environment mapped": (f"::ffff:{world.other}", 7000),
    }
    targets |= {f"host {kind}": (address, here) for kind, address in _host_addresses(world.server).items()}
    targets |= {
        f"host {kind} mapped": (f"::ffff:{address}", here)
        for kind, address in _host_addresses(world.server).items()
        if ":" not in address
    }
    attempts: dict[str, dict[str, Any]] = {}
    for what, (host, port) in targets.items():
        family = "AF_INET6" if ":" in host else "AF_INET"
        attempts[what] = {"do": "connect", "host": host, "port": port, "family": family}
        # Not to a link's host end: answers to the host itself are masqueraded there, which loses datagrams.
        if port == here and "%" not in host and "environment's link" not in what:
            attempts[f"{what}, datagram"] = {**attempts[what], "do": "datagram"}
    return attempts


NAMES = (
    "loopback inet",
    "loopback inet, another",
    "loopback inet6",
    "any address",
    "any address inet6",
    "loopback mapped",
    "metadata inet",
    "metadata inet6",
    "a machine beside link-local inet6",
    "the host's end of a link beside",
    "the host's end of a link beside inet6",
    "another environment",
    "another environment mapped",
    "host global inet",
    "host global inet6",
    "host link inet6",
    "host environment's link inet",
    "host global inet mapped",
    "loopback inet, datagram",
    "loopback inet6, datagram",
    "the host's end of a link beside, datagram",
    "host global inet, datagram",
    "host global inet6, datagram",
)


@pytest.fixture(scope="module")
def attempts(world: World) -> Attempts:
    return _attempts(world)


@pytest.fixture(scope="module")
def allowed(world: World, attempts: Attempts) -> Outcomes:
    others = {name: given for name, given in attempts.items() if name.startswith("another environment")}
    world.controls.extend(others)
    rest = {name: given for name, given in attempts.items() if name not in others}
    return {**on_host(rest), **on_host(others, network_of=world.process_of_other)}


@pytest.fixture(scope="module")
def tried(world: World, attempts: Attempts) -> Outcomes:
    world.service.callers.clear()
    outside: dict[str, dict[str, Any]] = {
        "outside": {"do": "connect", "host": OUTSIDE[0], "port": world.beside.port},
        "itself": {"do": "connect_url", "url": "http://127.0.0.1:9001"},
    }
    return inside(world.functions, {**_from_inside(attempts), **outside})


def _from_inside(attempts: Attempts) -> Attempts:
    """The host's links are not there: a link-local address is tried through the function's own."""
    return {
        what: {**given, "host": re.sub("%.*", "%eth0", str(given["host"]))} for what, given in attempts.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_the_host_reaches_is_closed_to_a_function(name: str, allowed: Outcomes, tried: Outcomes) -> None:
    require(f"address: {name}", name in allowed, "this host has no such address")
    assert allowed[name] == ["done", "here"], allowed[name]
    assert tried[name][0] == "refused", tried[name]


def test_nothing_else_of_the_host_was_reached(allowed: Outcomes, tried: Outcomes) -> None:
    reached = {name for name in allowed if tried[name][0] == "done"}
    assert reached == set()
    assert any(outcome == ["done", "here"] for outcome in allowed.values())


def test_no_packet_of_a_function_arrived_at_the_host(world: World, allowed: Outcomes, tried: Outcomes) -> None:
    """A refused call could still have been heard: the service lists its callers."""
    world.service.callers.clear()
    attempts = _attempts(world)
    inside(world.functions, _from_inside(attempts))
    assert world.service.callers == []
    on_host({"control": attempts["loopback inet"]})
    assert len(world.service.callers) == 1


def test_the_world_outside_is_reached(tried: Outcomes) -> None:
    """The control of all: the network inside works, and so does the code."""
    assert tried["outside"] == ["done", "here"]


@pytest.mark.timeout(300)  # of which a compiler without a cache may take a good part
@pytest.mark.parametrize("make", [in_node, in_a_static_binary])
def test_other_runtimes_reach_no_more(
    world: World, allowed: Outcomes, attempts: Attempts, tmp_path: Path, make: Make
) -> None:
    name = make(world.functions, CODE, static_binary(tmp_path) if make is in_a_static_binary else {})
    outside = {"do": "connect", "host": OUTSIDE[0], "port": world.beside.port}
    answer = world.functions.invoke(name, {**_from_inside(attempts), "outside": outside})
    assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
    tried: dict[str, Any] = answer.result
    assert tried.pop("outside") == ["done", "here"]
    assert set(tried) == set(allowed)
    assert {what: outcome for what, outcome in tried.items() if outcome[0] != "refused"} == {}


def test_an_environment_has_no_address_of_ipv6_but_its_loopback(world: World) -> None:
    """So what is refused above in IPv6 is so wherever it is tried from. The control: the host has others."""
    path = "/proc/net/if_inet6"
    attempts: dict[str, dict[str, Any]] = {"addresses": {"do": "read_file", "path": path}}
    found = {
        "host": on_host(attempts)["addresses"],
        "this": inside(world.functions, attempts)["addresses"],
        "other": on_host(attempts, network_of=world.process_of_other)["addresses"],
    }
    links = {where: {line.split()[-1] for line in text.splitlines()} for where, (_, text) in found.items()}
    assert world.beside.link in links["host"]
    assert links["this"] == links["other"] == {"lo"}


def test_its_own_variables_open_nothing(world: World) -> None:
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{world.service.port}",
        "AWS_ENDPOINT_URL_S3": f"http://localhost:{world.service.port}",
        "LAMBENT_REACHABLE": f"http://127.0.0.1:{world.service.port}",
    }
    attempts = {name: {"do": "connect_url", "variable": name} for name in variables}
    there = inside(world.functions, attempts, Environment={"Variables": variables})
    here = on_host({name: {"do": "connect_url", "url": url} for name, url in variables.items()})
    for name in variables:
        assert here[name] == ["done", "here"]
        assert there[name][:2] == ["refused", "ECONNREFUSED"], there[name]


def test_what_the_operator_names_is_reached(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The control of the variables: the same URL in the server's environment opens it."""
    need_root()
    service = Service()
    url = f"http://127.0.0.1:{service.port}"
    server = Server(
        tmp_path_factory.mktemp("named") / "data", "--no-s3", environment={"AWS_ENDPOINT_URL_SQS": url}
    ).start()
    try:
        found = inside(Functions(server), {"x": {"do": "connect_url", "variable": "AWS_ENDPOINT_URL_SQS"}})
        assert found["x"] == ["done", "here"]
    finally:
        server.stop()
        service.close()


def test_another_environments_runtime_api_is_out_of_reach(world: World) -> None:
    urls = {
        "its own": "http://127.0.0.1:9001",
        "another's": f"http://{world.other}:9001",
        "another's mapped": f"http://[::ffff:{world.other}]:9001",
    }
    attempts: dict[str, dict[str, Any]] = {
        what: {"do": "request", "url": url, "method": "POST", "path": "/none"} for what, url in urls.items()
    }
    found = inside(world.functions, attempts)
    # The control: in the other's network it answers, but at no address that anybody else could reach.
    there = on_host(attempts, network_of=world.process_of_other)
    for outcomes in (found, there):
        assert outcomes["its own"][0] == "done" and outcomes["its own"][1][0] == 404, outcomes
    for what in ("another's", "another's mapped"):
        assert found[what][0] == "refused", found
        assert there[what][:2] == ["refused", "ECONNREFUSED"], there


# ---- Lambent's own port ---------------------------------------------------------------------------------

_F = "/2015-03-31/functions"
_CHANGES = '{"Description": "changed"}'
REQUESTS: dict[str, tuple[str, str, str]] = {
    "GetFunction": ("GET", _F + "/NAME", ""),
    "GetFunctionConfiguration": ("GET", _F + "/NAME/configuration", ""),
    "ListFunctions": ("GET", _F + "/", ""),
    "UpdateFunctionConfiguration": ("PUT", _F + "/NAME/configuration", _CHANGES),
    "UpdateFunctionCode": ("PUT", _F + "/NAME/code", "CODE"),
    "ListLayers": ("GET", "/2018-10-31/layers", ""),
    "ListTags": ("GET", "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:NAME", ""),
    "GetAccountSettings": ("GET", "/2016-08-19/account-settings/", ""),
    "metrics": ("GET", "/metrics", ""),
    "logs": ("GET", "/_lambent/logs?function=NAME", ""),
    "code": ("GET", "LOCATION", ""),
    "DeleteFunction": ("DELETE", _F + "/NAME", ""),
}
TRICKS = {
    "dots": _F + "/NAME/invocations/../../NAME",
    "encoded dots": _F + "/NAME/invocations/%2e%2e/%2e%2e/NAME",
    "two slashes": "/" + _F + "/NAME",
    "encoded slash": _F + "%2FNAME",
    "absolute": "http://127.0.0.1" + _F + "/NAME",
    "query": "/metrics?/invocations",
    "upper case": "/METRICS",
    "semicolon": _F + "/NAME;/invocations",
}


@pytest.fixture(scope="module")
def relayed(world: World) -> tuple[str, Outcomes]:
    """A function to attack, and what the attempts on it through the relay answered."""
    name = world.functions.create("def handler(event, context):\n    return 1\n", name=f"target-{free_port()}")
    url = "$AWS_ENDPOINT_URL_LAMBDA"
    attempts: dict[str, dict[str, Any]] = {
        what: {"do": "request", "url": url, **_request(world, what, name)} for what in REQUESTS
    }
    attempts |= {
        what: {"do": "request", "url": url, "method": "GET", "path": path.replace("NAME", name)}
        for what, path in TRICKS.items()
    }
    attempts["override"] = {
        **attempts["dots"],
        "method": "POST",
        "path": f"{_F}/{name}",
        "headers": {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": f"{_F}/{name}"},
    }
    attempts["Invoke"] = {
        **attempts["dots"],
        "method": "POST",
        "path": f"{_F}/{name}/invocations",
        "body": "{}",
    }
    return name, inside(world.functions, attempts)


def _request(world: World, what: str, name: str) -> dict[str, str]:
    method, path, body = REQUESTS[what]
    if path == "LOCATION":
        location = world.functions.aws.get_function(FunctionName=name)["Code"]["Location"]
        path = location.removeprefix(world.server.url)
    code = base64.b64encode(zipped({"app.py": "def handler(event, context):\n    return 2\n"})).decode()
    body = body.replace("CODE", json.dumps({"ZipFile": code}))
    return {"method": method, "path": path.replace("NAME", name), "body": body}


def test_a_function_may_invoke_another(relayed: tuple[str, Outcomes]) -> None:
    assert relayed[1]["Invoke"] == ["done", [200, "1"]]


@pytest.mark.parametrize("what", REQUESTS)
def test_the_relay_refuses_all_but_invoke(what: str, world: World, relayed: tuple[str, Outcomes]) -> None:
    name, outcomes = relayed
    assert outcomes[what][0] == "done" and outcomes[what][1][0] == 403, outcomes[what]
    if what != "DeleteFunction":
        assert world.functions.invoke(name).result in (1, 2), "it is still there"
    given = _request(world, what, name)
    assert world.functions.aws.get_function_configuration(FunctionName=name)["State"] == "Active"
    status, _, _ = request(world.server, given["method"], given["path"], given["body"])
    assert 200 <= status < 300, "the control: whoever is on the host may"
    if what.startswith("Update"):
        world.functions.active(name)


@pytest.mark.parametrize("what", [*TRICKS, "override"])
def test_no_spelling_gets_past_the_relay(what: str, relayed: tuple[str, Outcomes]) -> None:
    kind, answer, *_ = relayed[1][what]
    assert kind == "done" and answer[0] in (400, 403, 404, 405), answer
    assert "CodeSha256" not in answer[1] and "# HELP" not in answer[1], answer
