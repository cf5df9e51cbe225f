"""One server for most end-to-end tests, since a start takes seconds; tests of faults start their own."""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from collector import Collector
from layers import Layer
from residue import PARKED, nothing_left, settle
from running import Functions, Server, zipped
from traces import left_behind

from lambent.client import Client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`lambent up --no-s3`."""
    few = {"LAMBENT_PARKED_SLOTS": str(PARKED)}
    made = Server(tmp_path_factory.mktemp("lambent") / "data", "--no-s3", environment=few).start()
    yield made
    code = made.stop()
    assert code == 0, made.output()


@pytest.fixture(scope="session")
def rpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`lambent up --no-s3 --grpc-port 0`."""
    made = Server(tmp_path_factory.mktemp("lambent-grpc") / "data", "--no-s3", "--grpc-port", "0").start()
    yield made
    code = made.stop()
    assert code == 0, made.output()
    assert "Traceback" not in made.output()


@pytest.fixture(scope="session")
def rpc_functions(rpc_server: Server) -> Functions:
    return Functions(rpc_server)


@pytest.fixture(scope="session")
def echo(rpc_functions: Functions) -> str:
    """A function of `rpc_server` that gives its event back."""
    return rpc_functions.create("def handler(event, context):\n    return event\n")


@pytest.fixture
def rpc(rpc_server: Server) -> Iterator[Client]:
    with Client(rpc_server.grpc_target) as client:
        yield client


@pytest.fixture(scope="session")
def functions(server: Server) -> Functions:
    return Functions(server)


@pytest.fixture(scope="session")
def layer(functions: Functions) -> Layer:
    """Makes a layer with these files as its extensions; its ARN."""

    def publish(files: Mapping[str, str], mode: int = 0o755) -> str:
        made = functions.aws.publish_layer_version(
            LayerName=f"extensions-{uuid.uuid4().hex[:8]}",
            Content={"ZipFile": zipped({f"extensions/{name}": text for name, text in files.items()}, mode)},
        )
        return str(made["LayerVersionArn"])

    return publish


@pytest.fixture(scope="session")
def canary(server: Server, functions: Functions) -> str:
    """A function that is always there, and warm: it shows that the server serves."""
    name = functions.create("def handler(event, context):\n    return event\n")
    assert functions.invoke(name, 1).result == 1
    settle(server)
    return name


@pytest.fixture
def unharmed(server: Server, functions: Functions, canary: str) -> Iterator[None]:
    """Whatever the test does to the server, its functions leave nothing behind and the next invoke works."""
    with nothing_left(server, functions):
        yield
        answer = functions.invoke(canary, "still here")
        assert (answer.error, answer.result) == (None, "still here")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that the test may kill; what is left of them is stopped at the end, and leaves nothing."""
    made: list[Server] = []

    def start(*arguments: str, data_dir: Path | None = None, **options: Any) -> Server:
        server = Server(data_dir or tmp_path / f"data{len(made)}", *arguments, **options)
        made.append(server)
        return server.start()

    yield start
    for server in made:
        server.stop()
    assert [left for server in made for left in left_behind(server.data_dir)] == []


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.open.set()
        server.shutdown()
        thread.join()
