"""What has really run, whatever a server believes: functions that tell a listener of the test's own which event
they got."""

import contextlib
import json
import socketserver
import threading
from collections import Counter
from typing import Any

from running import Functions

REPORTS = """
    import os, socket, time

    def handler(event, context):
        with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 5) as collector:
            collector.settimeout(None)
            collector.sendall(f"{event['id']}\\n".encode())
            assert collector.recv(3) == b"ok\\n"
        time.sleep(event.get("seconds", 0))
    """


class Collector(socketserver.ThreadingTCPServer):
    """Counts the lines that functions send it. While `open` is not set they wait, each after it was counted."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()
        super().__init__(("127.0.0.1", 0), _Lines)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def environment(self) -> dict[str, str]:
        """For the server: its functions may reach us."""
        return {"LAMBENT_REACHABLE": f"tcp://127.0.0.1:{self.port}"}


class _Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Collector)
        with contextlib.suppress(ConnectionResetError):  # the relay went with its server
            self._count(self.server)

    def _count(self, collector: Collector) -> None:
        for line in self.rfile:
            collector.seen[line.decode().strip()] += 1
            collector.open.wait()
            self.wfile.write(b"ok\n")  # else a function could end while its line is still under way


def reporting(functions: Functions, collector: Collector, **members: Any) -> str:
    variables = {"Variables": {"PORT": str(collector.port)}}
    return functions.create(REPORTS, Environment=variables, **members)


def send(functions: Functions, name: str, event: Any) -> None:
    """Queues an event, and takes the empty answer: a body that is left lying keeps its connection."""
    answer = functions.aws.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""
