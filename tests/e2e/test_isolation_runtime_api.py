"""What a function does to its own Runtime API, which the server itself speaks: wrong calls are answered as AWS
answers them, and floods cost neither the server's memory nor other functions' time. The control of each is that
the ordinary call beside it works.

AWS: "Using the Lambda runtime API"; state errors are InvalidStateTransition, unknown ids InvalidRequestID.
"""

import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from collector import Collector
from running import Functions, Server, request
from traces import until

pytestmark = pytest.mark.usefixtures("unharmed")

_PREFIX = "/2018-06-01/runtime"
HEAD = f"""
    import http.client, json, os, socket
    PREFIX = "{_PREFIX}"
    def call(method, path, body=b"", headers=None):
        one = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=3)
        one.request(method, PREFIX + path, body, headers or {{}})
        answer = one.getresponse()
        text = answer.read().decode()
        return [answer.status, json.loads(text).get("errorType", "")]
    def raw(port=9001):
        one = socket.create_connection(("127.0.0.1", port))
        one.settimeout(2)
        return one
"""
ROOM_MB = 60


class ServerHarmed(AssertionError):
    """A function took the server's memory or time."""


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@contextmanager
def unmoved(server: Server, functions: Functions, canary: str) -> Iterator[None]:
    """While the body runs other functions answer in time, and the server's memory hardly grows."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM, the peak, begins anew
    before, stop = _resident_mb(server.pid), threading.Event()
    took: list[float] = []
    client = Functions(server)

    def ask() -> None:
        while True:  # once at least: a flood may be over before the first wait is
            began = time.monotonic()
            assert client.invoke(canary, "ping").result == "ping"
            took.append(time.monotonic() - began)
            if stop.wait(0.05):
                return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join(60)
    grown = _resident_mb(server.pid) - before
    assert request(server, "GET", "/healthz")[0] == 200
    if not took or max(took) > 2.0:
        raise ServerHarmed(f"another function waited for {took} s")
    if grown > ROOM_MB:
        raise ServerHarmed(f"the server's memory grew by {grown:.0f} MB")


def _run(functions: Functions, body: str, **members: Any) -> Any:
    """A handler of these lines, invoked twice: the environment must be as good afterwards."""
    lines = "\n".join("        " + line for line in body.strip().splitlines())
    name = functions.create(HEAD + "    def handler(event, context):\n" + lines + "\n", **members)
    first = functions.invoke(name)
    assert first.error is None, f"{first.payload!r}\n{first.log}"
    second = functions.invoke(name)
    assert second.error is None, f"{second.payload!r}\n{second.log}"
    return first.result


def test_it_cannot_answer_for_an_unknown_request(functions: Functions) -> None:
    body = """
unknown = "/invocation/00000000-0000-0000-0000-000000000000"
return [call("POST", unknown + "/response", b"1"), call("POST", unknown + "/error", b"{}")]
"""
    assert _run(functions, body) == [[400, "InvalidRequestID"]] * 2


def test_it_cannot_answer_for_another_functions_request(
    own_server: Callable[..., Server], collector: Collector
) -> None:
    """The other one runs meanwhile, and its caller gets its own answer."""
    functions = Functions(own_server("--no-s3", environment=collector.environment))
    thief = functions.create(
        HEAD
        + """
    def handler(event, context):
        return call("POST", f"/invocation/{event}/response", b"stolen")
    """
    )
    code = """
        import os, socket
        def handler(event, context):
            with socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))) as collector:
                collector.sendall(f"{context.aws_request_id}\\n".encode())
                return [collector.recv(3).decode(), "mine"]
    """
    victim = functions.create(code, Environment={"Variables": {"PORT": str(collector.port)}})
    collector.open.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(Functions(functions.server).invoke, victim)
        try:
            until(lambda: collector.seen, 20, "the other one runs")
            (request_id,) = collector.seen
            stolen = [functions.invoke(thief, request_id).result for _ in range(2)]
            assert not answer.done()
        finally:
            collector.open.set()
        own = answer.result(30)
    assert stolen == [[400, "InvalidRequestID"]] * 2
    assert (own.request_id, own.result) == (request_id, ["ok\n", "mine"])


def test_next_is_refused_while_an_event_is_worked_on(functions: Functions) -> None:
    body = 'return [call("GET", "/invocation/next"), call("GET", "/invocation/next")]'
    assert _run(functions, body) == [[403, "InvalidStateTransition"]] * 2


def test_init_error_is_refused_after_init(functions: Functions) -> None:
    body = """return call("POST", "/init/error", b'{"errorType": "Late"}')"""
    assert _run(functions, body) == [403, "InvalidStateTransition"]


def test_an_answer_ahead_of_the_handlers_own_counts_once(functions: Functions) -> None:
    """The runtime client's own answer is refused then. Whatever it makes of that, the caller has one answer and
    the next invocation works."""
    name = functions.create(
        HEAD
        + """
    def handler(event, context):
        if event != "early":
            return "ordinary"
        path = f"/invocation/{context.aws_request_id}/response"
        return [call("POST", path, b'"first"'), call("POST", path, b'"second"')]
    """
    )
    assert functions.invoke(name, "early").result == "first"
    assert functions.invoke(name, "again").result == "ordinary"


def test_what_is_not_there_is_404(functions: Functions) -> None:
    body = """
return [call("GET", "/none"), call("POST", "/invocation/next", b"1"),
        call("PUT", "/invocation/x/response", b"1"), call("DELETE", "/../../.."),
        call("POST", "/invocation/x/none", b"1")]
"""
    assert [status for status, _ in _run(functions, body)] == [404] * 5


@pytest.mark.parametrize(
    "sent",
    [
        rb"\x00\xff\x16\x03\x01 garbage\r\n\r\n",
        rb"GET / HTTP/9.9\r\n\r\n",
        rb"POST /2018-06-01/runtime/init/error HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        rb"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nx",
        rb"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nZZZZ\r\n",
        rb"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(sent: bytes, functions: Functions) -> None:
    body = f"""
one = raw()
one.sendall(b"{sent.decode()}")
data = b""
while part := one.recv(4096):
    data += part
return data.decode()[:12]
"""
    assert _run(functions, body) == "HTTP/1.1 400"


# Each sends as much as it can; a server that hangs up on it is right.
FLOODS = {
    "a response of 300 MB": """
head = b"POST %s/invocation/x/response HTTP/1.1\\r\\ncontent-length: 314572800\\r\\n\\r\\n" % PREFIX.encode()
flood(head, b"x" * (1 << 20), 300)
""",
    "a header of 100 MB to the functions' way to the API": """
port = int(os.environ["AWS_ENDPOINT_URL_LAMBDA"].rpartition(":")[2])
flood(b"GET / HTTP/1.1\\r\\nx: ", b"x" * (1 << 20), 100, port)
""",
    "a path of 100 MB": """
flood(b"GET /", b"x" * (1 << 20), 100)
""",
    "a header of 100 MB": """
flood(b"GET / HTTP/1.1\\r\\nx: ", b"x" * (1 << 20), 100)
""",
    "a header name of 100 MB": """
flood(b"GET / HTTP/1.1\\r\\n", b"x" * (1 << 20), 100)
""",
    "a million headers": """
flood(b"GET / HTTP/1.1\\r\\n", b"".join(b"h%d: v\\r\\n" % n for n in range(10_000)), 100)
""",
    "requests whose answers are not read": """
flood(b"", b"GET /x HTTP/1.1\\r\\n\\r\\n" * 50_000, 60)
""",
    "bodies on many connections": """
head = b"POST %s/invocation/x/response HTTP/1.1\\r\\ncontent-length: 6291000\\r\\n\\r\\n" % PREFIX.encode()
kept = [flood(head, b"x" * (1 << 20), 5) for _ in range(60)]
""",
    "bodies on connections that are closed": """
head = b"POST %s/invocation/x/response HTTP/1.1\\r\\ncontent-length: 6291000\\r\\n\\r\\n" % PREFIX.encode()
for _ in range(60):
    flood(head, b"x" * (1 << 20), 5).close()
""",
    "connections": """
kept = []
try:
    for _ in range(500):
        kept.append(raw())
        kept[-1].sendall(b"GET /2018")
except OSError:
    pass
""",
    "half-open requests": """
for _ in range(2000):
    raw().sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n")
""",
}
_FLOOD_IN_HANDLER = """
    import time
    def flood(head, block, times, port=9001):
        one, until = raw(port), time.monotonic() + 1.5
        try:
            one.sendall(head)
            for _ in range(times):
                if time.monotonic() > until:
                    break
                one.sendall(block)
        except OSError:
            pass
        return one
    def handler(event, context):
        if event == "flood":
FLOOD
        return "done"
"""


@pytest.mark.parametrize("what", list(FLOODS))
def test_a_flood_costs_nobody_else(what: str, server: Server, functions: Functions, canary: str) -> None:
    """The control: the flooding function itself answers, and answers again."""
    code = HEAD + _FLOOD_IN_HANDLER.replace("FLOOD", textwrap.indent(FLOODS[what], "            "))
    name = functions.create(code, MemorySize=512)
    with unmoved(server, functions, canary):
        assert functions.invoke(name, "flood").result == "done"
    assert functions.invoke(name).result == "done"
