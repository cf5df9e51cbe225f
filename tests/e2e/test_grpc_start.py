"""The gRPC port of `lambent up`: what it says, what it refuses, TLS and mTLS."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from running import Functions, Server
from support import RedisServer, free_port
from traces import until

from lambent.client import Client, LambentError, Tls

Start = Callable[..., Server]
ECHO = "def handler(event, context):\n    return event\n"


def refused(tmp_path: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """The one line that `lambent up` says when it doesn't start."""
    done = subprocess.run(
        [sys.executable, "-m", "lambent.cli", "up", "--port", "0", "--no-s3"]
        + ["--data-dir", str(tmp_path / "d"), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "60", **(environment or {})},
        check=False,
    )
    assert done.returncode == 1, done
    assert not (tmp_path / "d/redis").exists()
    [line] = done.stderr.strip().splitlines()
    return line


class Papers(NamedTuple):
    """PEM files: the server's, a client's, and those of a client that another authority signed."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path
    other_cert: Path
    other_key: Path

    @property
    def tls(self) -> dict[str, str]:
        return {"LAMBENT_GRPC_TLS_CERT": str(self.cert), "LAMBENT_GRPC_TLS_KEY": str(self.key)}

    @property
    def mtls(self) -> dict[str, str]:
        return {**self.tls, "LAMBENT_GRPC_TLS_CLIENT_CA": str(self.ca)}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    ca, other = trustme.CA(), trustme.CA()
    made = Papers(*(folder / name for name in Papers._fields))
    ca.cert_pem.write_to_path(made.ca)
    leaves = [(ca.issue_cert("127.0.0.1", "localhost"), made.cert, made.key)]
    leaves += [(ca.issue_cert("client@example.org"), made.client_cert, made.client_key)]
    leaves += [(other.issue_cert("client@example.org"), made.other_cert, made.other_key)]
    for leaf, cert, key in leaves:
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
    return made


def code_of(client: Client) -> grpc.StatusCode:
    with pytest.raises(LambentError) as caught:
        client.invoke("f", timeout=10)
    return caught.value.code


def without_grpc(folder: Path) -> dict[str, str]:
    """Variables under which grpcio counts as not installed."""
    bare = folder / "bare"
    bare.mkdir()
    (bare / "grpc.py").write_text("raise ModuleNotFoundError('No module named grpc', name='grpc')\n")
    return {"PYTHONPATH": str(bare)}


def test_it_is_off_and_not_needed_unless_asked_for(own_server: Start, tmp_path: Path) -> None:
    server = own_server("--no-s3", environment=without_grpc(tmp_path))
    assert server.grpc_target == ""
    assert "gRPC" not in server.output()
    assert Functions(server).run(ECHO, 1) == 1


def test_the_port_is_said_and_frees_with_the_server(own_server: Start) -> None:
    port = free_port()
    server = own_server("--no-s3", environment={"LAMBENT_GRPC_PORT": str(port)})
    assert server.grpc_target == f"127.0.0.1:{port}"
    assert f"gRPC at 127.0.0.1:{port} (plaintext)" in server.output()
    assert server.stop() == 0
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_taken_port_is_named_with_the_flag_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, "--grpc-port", str(port))
    assert said == (
        f"error: port {port} on 127.0.0.1 is taken. Take another with --grpc-port N or LAMBENT_GRPC_PORT=N "
        "(0: a free one)."
    )


def test_two_servers_never_share_a_port(own_server: Start, tmp_path: Path) -> None:
    first = own_server("--no-s3", "--grpc-port", "0")
    port = first.grpc_target.rsplit(":", 1)[1]
    assert f"port {port} on 127.0.0.1 is taken" in refused(tmp_path, "--grpc-port", port)


def test_plaintext_off_loopback_is_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, "--host", "0.0.0.0", "--grpc-port", "0")
    assert said.startswith("error: gRPC without TLS is for loopback only, and --host is 0.0.0.0.")
    assert "LAMBENT_GRPC_TLS_CERT" in said


def test_functions_are_not_let_in(tmp_path: Path) -> None:
    port = free_port()
    reachable = {"LAMBENT_REACHABLE": f"tcp://127.0.0.1:{port}"}
    assert "LAMBENT_REACHABLE names the gRPC port" in refused(
        tmp_path, "--grpc-port", str(port), environment=reachable
    )


def test_a_function_cannot_reach_the_port(rpc_server: Server, rpc_functions: Functions) -> None:
    """Like everything on loopback that is not named; the HTTP port is the control."""
    tries = """
        import socket
        def handler(event, context):
            found = {}
            for port in event["ports"]:
                try:
                    socket.create_connection(("127.0.0.1", port), 2).close()
                    found[port] = "open"
                except OSError as failure:
                    found[port] = type(failure).__name__
            return found
        """
    ports = [int(rpc_server.url.rsplit(":", 1)[1]), int(rpc_server.grpc_target.rsplit(":", 1)[1])]
    found = rpc_functions.run(tries, {"ports": ports})
    assert found == {str(ports[0]): "open", str(ports[1]): "ConnectionRefusedError"}


@pytest.mark.parametrize(
    "variable", ["LAMBENT_GRPC_TLS_CERT", "LAMBENT_GRPC_TLS_KEY", "LAMBENT_GRPC_TLS_CLIENT_CA"]
)
def test_half_of_the_files_is_refused(tmp_path: Path, papers: Papers, variable: str) -> None:
    said = refused(tmp_path, "--grpc-port", "0", environment={variable: str(papers.cert)})
    assert "LAMBENT_GRPC_TLS_CERT" in said


def test_files_that_do_not_fit_or_are_not_there_are_named(tmp_path: Path, papers: Papers) -> None:
    swapped = {**papers.tls, "LAMBENT_GRPC_TLS_KEY": str(papers.client_key)}
    assert "can't be used" in refused(tmp_path, "--grpc-port", "0", environment=swapped)
    gone = {**papers.tls, "LAMBENT_GRPC_TLS_CERT": "/nowhere.pem"}
    said = refused(tmp_path, "--grpc-port", "0", environment=gone)
    assert "/nowhere.pem" in said and "No such file" in said
    no_ca = {**papers.tls, "LAMBENT_GRPC_TLS_CLIENT_CA": str(papers.key)}
    assert "can't be used" in refused(tmp_path, "--grpc-port", "0", environment=no_ca)


def test_tls(own_server: Start, papers: Papers) -> None:
    server = own_server("--no-s3", "--grpc-port", "0", environment=papers.tls)
    assert "(TLS)" in server.output()
    name = Functions(server).create(ECHO)
    with Client(server.grpc_target, tls=Tls(ca=papers.ca)) as client:
        assert client.invoke(name, 1).json() == 1
    with Client(server.grpc_target) as plain:
        assert code_of(plain) is grpc.StatusCode.UNAVAILABLE
    with Client(server.grpc_target, tls=Tls()) as distrustful:
        assert code_of(distrustful) is grpc.StatusCode.UNAVAILABLE
    with Client(server.grpc_target, tls=Tls(ca=papers.ca, server_name="example.org")) as misled:
        assert code_of(misled) is grpc.StatusCode.UNAVAILABLE


def test_mtls(own_server: Start, papers: Papers) -> None:
    server = own_server("--no-s3", "--grpc-port", "0", environment=papers.mtls)
    assert "(TLS, clients need a certificate)" in server.output()
    name = Functions(server).create(ECHO)
    known = Tls(ca=papers.ca, cert=papers.client_cert, key=papers.client_key)
    with Client(server.grpc_target, tls=known) as client:
        assert client.invoke(name, 1).json() == 1
    with Client(server.grpc_target, tls=Tls(ca=papers.ca)) as nameless:
        assert code_of(nameless) is grpc.StatusCode.UNAVAILABLE
    foreign = Tls(ca=papers.ca, cert=papers.other_cert, key=papers.other_key)
    with Client(server.grpc_target, tls=foreign) as stranger:
        assert code_of(stranger) is grpc.StatusCode.UNAVAILABLE


def test_off_loopback_it_serves_with_tls(own_server: Start, papers: Papers) -> None:
    server = own_server("--no-s3", "--host", "0.0.0.0", "--grpc-port", "0", environment=papers.mtls)
    port = server.grpc_target.rsplit(":", 1)[1]
    assert server.grpc_target == f"0.0.0.0:{port}"
    known = Tls(ca=papers.ca, cert=papers.client_cert, key=papers.client_key)
    with Client(f"localhost:{port}", tls=known) as client:
        assert code_of(client) is grpc.StatusCode.NOT_FOUND


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    environment = without_grpc(tmp_path)
    said = refused(tmp_path, "--grpc-port", "0", environment=environment)
    assert said.startswith("error: the gRPC port needs the extra `grpc`: pip install 'lambent[grpc]'")
    asked = subprocess.run(
        [sys.executable, "-c", "import lambent.client"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
        check=False,
    )
    assert "lambent.client needs the extra `grpc`: pip install 'lambent[grpc]'" in asked.stderr.splitlines()[-1]


def test_health_tells_when_the_store_is_away(own_server: Start, own_redis: RedisServer) -> None:
    server = own_server("--no-s3", "--grpc-port", "0", environment={"LAMBENT_REDIS_URL": own_redis.url})
    with grpc.insecure_channel(server.grpc_target) as channel:
        stub = HealthStub(channel)

        def status() -> int:
            answer: health_pb2.HealthCheckResponse = stub.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
            return answer.status

        assert status() == health_pb2.HealthCheckResponse.SERVING
        own_redis.kill()
        until(lambda: status() == health_pb2.HealthCheckResponse.NOT_SERVING, 30, "it is told")
        own_redis.start()
        until(lambda: status() == health_pb2.HealthCheckResponse.SERVING, 30, "it is told again")
