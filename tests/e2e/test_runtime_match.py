"""LAMBENT_RUNTIME_MATCH=compatible: a function of a Python that is not there runs on another, and everything
says on which."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError
from running import ROLE, RUNTIME, Functions, Server, request, zipped

Start = Callable[..., Server]
CODE = "import sys\ndef handler(event, context):\n    return list(sys.version_info[:3])\n"
THIS = ".".join(map(str, sys.version_info[:3]))


def absent(server: Server) -> str:
    """A Python that this server does not have: in a new data folder, every one but ours."""
    listed = json.loads(request(server, "GET", "/_lambent/runtimes")[2])["runtimes"]
    names = [str(row["runtime"]) for row in listed if row.get("runs_on") != row["runtime"]]
    return next(name for name in names if name.startswith("python3."))


def runtimes(server: Server, match: str) -> dict[str, str]:
    """{runtime: its row} of `lambent runtimes`, and {"runtime:": what is said of it}."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(server.data_dir.parent), "COLUMNS": "300"}
    settings = {"LAMBENT_RUNTIME_MATCH": match, "LAMBENT_DATA_DIR": str(server.data_dir)}
    command = [sys.executable, "-m", "lambent.cli", "runtimes"]
    shown = subprocess.run(command, env={**environment, **settings}, check=True, capture_output=True, text=True)
    return {line.split()[0]: line for line in shown.stdout.splitlines()[1:]}


def test_compatible_runs_on_the_nearest_python_and_says_so(own_server: Start) -> None:
    server = own_server("--no-s3", environment={"LAMBENT_RUNTIME_MATCH": "compatible"})
    functions, wanted = Functions(server), absent(server)
    members = {"FunctionName": "f", "Runtime": wanted, "Handler": "app.handler", "Role": ROLE}
    answer = functions.aws.create_function(Code={"ZipFile": zipped({"app.py": CODE})}, **members)
    assert answer["Runtime"] == wanted
    warning = answer["ResponseMetadata"]["HTTPHeaders"]["x-lambent-warning"]
    assert warning == (
        f"{wanted} is not on this machine; the function runs on Python {THIS} ({RUNTIME}), "
        "because LAMBENT_RUNTIME_MATCH is compatible."
    )
    functions.active("f")
    assert functions.invoke("f").result == list(sys.version_info[:3])
    (started,) = [line for line in functions.logged("f", until="INIT_START") if line.startswith("INIT_START")]
    assert started.startswith(f"INIT_START Runtime Version: python:{THIS}\t"), started
    shown = runtimes(server, "compatible")
    assert shown[wanted].split()[:4] == [wanted, "yes", RUNTIME, THIS]
    assert shown[f"{wanted}:"] == f"{wanted}: {warning}"
    # Where the wanted one is there, nothing is said.
    answer = functions.aws.update_function_configuration(FunctionName="f", Runtime=RUNTIME)
    assert "x-lambent-warning" not in answer["ResponseMetadata"]["HTTPHeaders"]
    functions.active("f")
    answer = functions.aws.update_function_configuration(FunctionName="f", Runtime=wanted)
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-lambent-warning"] == warning


def test_exact_refuses_the_same(own_server: Start) -> None:
    """The control, and the default."""
    server = own_server("--no-s3")
    functions, wanted = Functions(server), absent(server)
    with pytest.raises(ClientError, match=f"Lambent cannot run {wanted} on this machine"):
        functions.create(CODE, Runtime=wanted)
    assert runtimes(server, "exact")[wanted].split()[:2] == [wanted, "no"]
