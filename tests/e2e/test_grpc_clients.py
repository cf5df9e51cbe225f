"""Clients of other languages, made of the same .proto files: what they see is what Python's sees."""

import json
import subprocess
from collections.abc import Callable

import foreign_clients
import pytest
from running import Functions, Server

ECHOES = """
import time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return event
"""
EVENTS = 500


@pytest.mark.timeout(400)  # the first time a compiler runs
@pytest.mark.parametrize("client", [foreign_clients.go_client, foreign_clients.node_client])
def test_a_client_of_another_language(
    rpc_server: Server, rpc_functions: Functions, client: Callable[[], list[str]]
) -> None:
    command = client()
    name = rpc_functions.create(ECHOES)
    rpc_functions.invoke(name)
    done = subprocess.run(
        [*command, rpc_server.grpc_target, name, str(EVENTS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert json.loads(seen["payload"])["from"] in ("Go", "Node")
    assert seen["request id"] is True
    assert seen.get("health", "SERVING") == "SERVING"  # only Go has its stub at hand
    assert seen["code"].replace("_", "").upper() == "NOTFOUND"
    assert seen["reason"] in ("ResourceNotFoundException", True)
    assert seen["deadline"].replace("_", "").upper() == "DEADLINEEXCEEDED"
    assert (seen["several chunks"], seen["complete"]) == (True, "$LATEST")
    assert seen["accepted"] == EVENTS
    assert (seen["targets"], seen["currency"], seen["state"]) == (0, "USD", "STATE_ACTIVE")
