"""Names in a real function: answered by the host's resolver, also where that is an address of the host's
loopback that no function reaches."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from isolation_network import OUTSIDE, machine_beside
from isolation_world import inside, need_root, on_host
from running import Functions, Server

RESOLVER = "127.0.0.77"
NAMES = {b"outside.lambent.test": OUTSIDE[0], b"long.lambent.test": "198.51.100.8"}
_LOOKS_UP = """
    import socket
    def handler(event, context):
        try:
            found = socket.getaddrinfo(event["name"], 80, socket.AF_INET, socket.SOCK_STREAM)
            return [found[0][4][0], ""]
        except socket.gaierror as error:
            return ["", error.strerror]
"""


class Resolver:
    """Knows NAMES, on RESOLVER's port 53. Its answers for long names are cut off by UDP, as those that do not
    fit are, so that they are asked for again by TCP. `asked`: (name, how)."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, str]] = []
        self._servers: list[socketserver.BaseServer] = []
        for kind, handle in (("UDP", self._datagram), ("TCP", self._stream)):
            server = getattr(socketserver, f"Threading{kind}Server")
            server.allow_reuse_address = True
            self._servers.append(server((RESOLVER, 53), type(kind, (_Handler,), {"answer": handle})))
            threading.Thread(target=self._servers[-1].serve_forever, args=(0.05,), daemon=True).start()

    def _datagram(self, request: tuple[bytes, socket.socket], client: Any) -> None:
        request[1].sendto(self._reply(request[0], "UDP"), client)

    def _stream(self, request: socket.socket, client: Any) -> None:
        (length,) = struct.unpack("!H", request.recv(2, socket.MSG_WAITALL))
        reply = self._reply(request.recv(length, socket.MSG_WAITALL), "TCP")
        request.sendall(struct.pack("!H", len(reply)) + reply)

    def _reply(self, query: bytes, how: str) -> bytes:
        at, labels = 12, list[bytes]()
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]])
            at += 1 + query[at]
        name, question = b".".join(labels), query[12 : at + 5]
        self.asked.append((name, how))
        address = NAMES.get(name)
        cut = how == "UDP" and name.startswith(b"long.")
        answers = address is not None and not cut and question[-4:-2] == b"\0\1"  # A
        flags = 0x8180 | (0x0200 if cut else 0) | (0 if address else 3)  # cut off; no such name
        head = query[:2] + struct.pack("!5H", flags, 1, int(answers), 0, 0)
        if not answers:
            return head + question
        record = struct.pack("!3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(str(address))
        return head + question + record

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Handler(socketserver.BaseRequestHandler):
    answer: Any

    def handle(self) -> None:
        type(self).answer(self.request, self.client_address)


@pytest.fixture(scope="module")
def resolver() -> Iterator[Resolver]:
    need_root()
    made = Resolver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """In mounts of its own, where the host's resolver is ours."""
    file: Path = tmp_path_factory.mktemp("names") / "resolv.conf"
    file.write_text(f"nameserver {RESOLVER}\n")
    return ("unshare", "-m", "sh", "-c", f'mount --bind {file} /etc/resolv.conf && exec "$0" "$@"')


@pytest.fixture(scope="module")
def functions(
    resolver: Resolver, through: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    server = Server(tmp_path_factory.mktemp("lambent") / "data", "--no-s3", through=through).start()
    yield Functions(server)
    assert server.stop() == 0


def test_the_hosts_resolver_answers(functions: Functions, resolver: Resolver) -> None:
    name = functions.create(_LOOKS_UP)
    assert functions.invoke(name, {"name": "outside.lambent.test"}).result == [OUTSIDE[0], ""]
    assert (b"outside.lambent.test", "UDP") in resolver.asked
    assert functions.invoke(name, {"name": "nobody.lambent.test"}).result == ["", "Name or service not known"]
    assert (b"nobody.lambent.test", "UDP") in resolver.asked


def test_an_answer_that_is_cut_off_is_asked_for_by_tcp(functions: Functions, resolver: Resolver) -> None:
    name = functions.create(_LOOKS_UP)
    assert functions.invoke(name, {"name": "long.lambent.test"}).result == ["198.51.100.8", ""]
    assert (b"long.lambent.test", "TCP") in resolver.asked


def test_a_machine_outside_is_reached_by_its_name(
    functions: Functions, resolver: Resolver, through: tuple[str, ...]
) -> None:
    with machine_beside() as beside:
        attempt = {"x": {"do": "connect", "host": "outside.lambent.test", "port": beside.port}}
        assert on_host(attempt, through=through)["x"] == ["done", "here"], "the control"
        assert inside(functions, attempt)["x"] == ["done", "here"]


def test_the_resolver_itself_is_out_of_reach(
    functions: Functions, resolver: Resolver, through: tuple[str, ...]
) -> None:
    """Its answers come by a relay; the control: the host asks it directly."""
    attempt = {"x": {"do": "look_up", "server": RESOLVER, "name": "outside.lambent.test"}}
    assert on_host(attempt, through=through)["x"] == ["done", OUTSIDE[0]]
    assert inside(functions, attempt)["x"][0] == "refused"
