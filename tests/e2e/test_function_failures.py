"""What a caller and the log get when a function fails, because alarms and people match on exactly these texts;
and that nothing dirty is used again, and nothing of it stays.

AWS: "Lambda runtime errors", "Lambda function error handling".
"""

import concurrent.futures
import json
import re
import threading
import time
import uuid
from typing import Any

import pytest
from residue import marked
from running import Answer, Functions, Server, needs, zipped

pytestmark = pytest.mark.usefixtures("unharmed")

COUNTER = """
    import ctypes, os, subprocess, sys, time
    n = 0
    def handler(event, context):
        global n
        n += 1
        if event.get("fail"):
            print("failing", flush=True)
            {failure}
        return n
"""
FAIL = {"fail": True}
NUMBER = r"\d+\.\d\d"


def report(answer: Answer, status: str = "") -> re.Match[str]:
    """The REPORT line of a warm invocation: duration, billed, used."""
    found = re.search(
        rf"REPORT RequestId: {answer.request_id}\tDuration: ({NUMBER}) ms\tBilled Duration: (\d+) ms"
        rf"\tMemory Size: 128 MB\tMax Memory Used: (\d+) MB{status}\t\n",
        answer.log,
    )
    assert found is not None, answer.log
    return found


def failed(answer: Answer) -> dict[str, Any]:
    assert answer.error == "Unhandled", answer.payload
    assert answer.version == "$LATEST"
    result = answer.result
    assert isinstance(result, dict)
    return result


def in_order(log: str, *parts: str) -> None:
    """Each part is there, after the one before it. The runtime client writes one event's lines with \\r."""
    log, at = log.replace("\r", "\n"), 0
    for part in parts:
        found = log.find(part, at)
        assert found >= 0, f"{part!r} is missing or too early in:\n{log}"
        at = found + len(part)


@pytest.mark.parametrize(
    ("failure", "error_type", "text"),
    [
        ("sys.exit(1)", "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        ("sys.exit(0)", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("os._exit(0)", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("os._exit(7)", "Runtime.ExitError", "Runtime exited with error: exit status 7"),
        ("os.abort()", "Runtime.ExitError", "Runtime exited with error: signal: aborted"),
        (
            "ctypes.string_at(0)",
            "Runtime.ExitError",
            "Runtime exited with error: signal: segmentation fault",
        ),
        ("os.kill(os.getpid(), 9)", "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        ("b'x' * (512 << 20)", "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"),
    ],
)
def test_a_process_that_ends(functions: Functions, failure: str, error_type: str, text: str) -> None:
    if error_type == "Runtime.OutOfMemory":
        needs(functions.server, "memory")
    name = functions.create(COUNTER.format(failure=failure))
    assert [functions.invoke(name).result for _ in range(2)] == [1, 2]
    answer = functions.invoke(name, FAIL)
    message = f"RequestId: {answer.request_id} Error: {text}"
    assert failed(answer) == {"errorType": error_type, "errorMessage": message}
    in_order(
        answer.log,
        f"START RequestId: {answer.request_id} Version: $LATEST\n",
        "failing\n",
        f"{message}\n{error_type}\n",
        f"END RequestId: {answer.request_id}\n",
        "REPORT",
    )
    used = report(answer, f"\tStatus: error\tError Type: {error_type}")[3]
    if error_type == "Runtime.OutOfMemory":
        assert 100 <= int(used) <= 128
    assert functions.invoke(name).result == 1, "the next one has a fresh environment"


def test_a_timeout_kills_the_whole_tree(functions: Functions) -> None:
    marker = f"86{uuid.uuid4().int % 10**9:09d}"
    child = f"subprocess.Popen(['sleep', '{marker}'], start_new_session=True); time.sleep(60)"
    name = functions.create(COUNTER.format(failure=child), Timeout=1)
    assert functions.invoke(name).result == 1
    answers: list[Answer] = []
    caller = threading.Thread(target=lambda: answers.append(functions.invoke(name, FAIL)))
    caller.start()
    until = time.monotonic() + 10
    while not marked(marker):
        assert time.monotonic() < until, "the child never ran"
    caller.join()
    answer = answers[0]
    message = f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    assert failed(answer) == {"errorType": "Sandbox.Timedout", "errorMessage": message}
    assert re.search(
        rf"failing\n\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {answer.request_id} "
        rf"Task timed out after 1\.00 seconds\n\nEND RequestId: {answer.request_id}\nREPORT",
        answer.log,
    ), answer.log
    assert report(answer, "\tStatus: timeout").group(1, 2) == ("1000.00", "1000")
    assert functions.invoke(name).result == 1, "the next one has a fresh environment"
    assert marked(marker) == [], "its child runs on"


@pytest.mark.parametrize(
    ("failure", "error_type", "text", "log"),
    [
        ("raise ValueError('boom')", "ValueError", "boom", "[ERROR] ValueError: boom\nTraceback (most recent"),
        (
            "return {1}",
            "Runtime.MarshalError",
            "Unable to marshal response: Object of type set is not JSON serializable",
            "[ERROR] Runtime.MarshalError: Unable to marshal response",
        ),
        (
            "return event.setdefault('self', event)",
            "Runtime.MarshalError",
            "Unable to marshal response: Circular reference detected",
            "[ERROR] Runtime.MarshalError: Unable to marshal response",
        ),
    ],
)
def test_an_exception_is_the_functions_own_and_keeps_its_environment(
    functions: Functions, failure: str, error_type: str, text: str, log: str
) -> None:
    name = functions.create(COUNTER.format(failure=failure))
    assert functions.invoke(name).result == 1
    answer = functions.invoke(name, FAIL)
    result = failed(answer)
    assert (result["errorType"], result["errorMessage"]) == (error_type, text)
    assert result["requestId"] == answer.request_id
    assert isinstance(result["stackTrace"], list)
    in_order(answer.log, "START", "failing\n", log, "END", "REPORT")
    report(answer)
    assert functions.invoke(name).result == 3


def test_an_exceptions_stack_names_the_line(functions: Functions) -> None:
    name = functions.create("def handler(event, context):\n    raise KeyError('there')\n")
    assert failed(functions.invoke(name))["stackTrace"] == [
        "  File \"/var/task/app.py\", line 2, in handler\n    raise KeyError('there')\n"
    ]


def test_a_response_of_six_megabytes_passes_and_one_byte_more_does_not(functions: Functions) -> None:
    name = functions.create(
        "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n"
        "    return 'x' * event['size'] if 'size' in event else n\n",
        MemorySize=256,
    )
    assert functions.invoke(name).result == 1
    largest = functions.invoke(name, {"size": 6_291_554})
    assert (largest.error, len(largest.payload)) == (None, 6_291_556)
    answer = functions.invoke(name, {"size": 6_291_555})
    assert failed(answer) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    in_order(answer.log, "START", f"END RequestId: {answer.request_id}\n", "REPORT")
    assert functions.invoke(name).result == 1, "the next one has a fresh environment"


@pytest.mark.parametrize(
    ("code", "handler", "error_type", "text"),
    [
        (
            "import nothing_of_this_name\n",
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nothing_of_this_name'",
        ),
        (
            "print('hello')\n",
            "gone.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'gone': No module named 'gone'",
        ),
        ("x = 1\n", "app.nope", "Runtime.HandlerNotFound", "Handler 'nope' missing on module 'app'"),
        (
            "x = 1\n",
            "app",
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        ),
        (
            "def handler(event, context)\n    return 1\n",
            "app.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': expected ':' (app.py, line 1)",
        ),
        ("raise ZeroDivisionError('at import')\n", "app.handler", "ZeroDivisionError", "at import"),
        ("import sys\nsys.exit(3)\n", "app.handler", "Runtime.ExitError", None),
        ("import os\nos._exit(0)\n", "app.handler", "Runtime.ExitError", None),
        ("import ctypes\nctypes.string_at(0)\n", "app.handler", "Runtime.ExitError", None),
    ],
)
def test_a_function_that_cannot_start(
    functions: Functions, code: str, handler: str, error_type: str, text: str | None
) -> None:
    name = functions.create("print('once more')\n" + code, Handler=handler)
    answer = functions.invoke(name)
    result = failed(answer)
    assert result["errorType"] == error_type
    if text is not None:
        # Line 1 of the test's code is line 2 of the file.
        assert result["errorMessage"] == text.replace("line 1", "line 2")
    else:
        assert result["errorMessage"].startswith(f"RequestId: {answer.request_id} Error: Runtime exited with")
    lines = functions.logged(name, until="REPORT")
    kinds = [line.split(" ")[0] for line in lines if line.split(" ")[0] in _KINDS]
    assert kinds == ["INIT_START", "INIT_REPORT", "INIT_REPORT", "START", "END", "REPORT"], lines
    first, again = (line for line in lines if line.startswith("INIT_REPORT"))
    ending = rf"Status: error\tError Type: {re.escape(error_type)}"
    assert re.fullmatch(rf"INIT_REPORT Init Duration: {NUMBER} ms\tPhase: init\t{ending}", first)
    assert re.fullmatch(rf"INIT_REPORT Init Duration: {NUMBER} ms\tPhase: invoke\t{ending}", again)
    report(answer, f"\tStatus: error\tError Type: {re.escape(error_type)}")
    if (
        error_type not in ("Runtime.UserCodeSyntaxError", "Runtime.MalformedHandlerName")
        and handler != "gone.handler"
    ):
        assert lines.count("once more") == 2, "init runs once more inside the invocation"
    assert failed(functions.invoke(name))["errorType"] == error_type, "and again when asked again"


_KINDS = ("INIT_START", "INIT_REPORT", "START", "END", "REPORT")


def test_code_that_is_mended_runs_at_once(functions: Functions) -> None:
    name = functions.create("raise ZeroDivisionError('at import')\n")
    assert failed(functions.invoke(name))["errorType"] == "ZeroDivisionError"
    functions.aws.update_function_code(
        FunctionName=name, ZipFile=zipped({"app.py": "def handler(event, context):\n    return 'mended'\n"})
    )
    functions.active(name)
    answer = functions.invoke(name)
    assert (answer.error, answer.result) == (None, "mended")


SECOND_TRY = """
    import json, os, sys, time, urllib.request
    # What it is told differs from call to call; nothing in the environment outlives a failed init.
    url = os.environ["AWS_ENDPOINT_URL_LAMBDA"] + "/2015-03-31/functions/{counter}/invocations"
    if json.load(urllib.request.urlopen(url, b"null")) == 1:
        {first}
    {second}
    def handler(event, context):
        return "second try"
"""


@pytest.fixture
def counter(functions: Functions) -> str:
    return functions.create("n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")


def test_an_init_that_needs_a_second_try_gets_it_in_the_invocation(functions: Functions, counter: str) -> None:
    name = functions.create(SECOND_TRY.format(counter=counter, first="sys.exit(1)", second="time.sleep(0.2)"))
    answer = functions.invoke(name)
    assert (answer.error, answer.result) == (None, "second try")
    lines = functions.logged(name, until="REPORT")
    assert [line.split(" ")[0] for line in lines if line.split(" ")[0] in _KINDS] == [
        "INIT_START",
        "INIT_REPORT",
        "START",
        "END",
        "REPORT",
    ]
    assert float(report(answer)[1]) >= 200, "the second init is part of Duration, and no Init Duration is shown"


def test_an_init_of_more_than_ten_seconds_is_ended_and_runs_once_more(
    functions: Functions, counter: str
) -> None:
    """The second time inside the invocation, whose timeout is the function's own."""
    name = functions.create(SECOND_TRY.format(counter=counter, first="time.sleep(60)", second=""))
    answer = functions.invoke(name)
    assert (answer.error, answer.result) == (None, "second try")
    lines = functions.logged(name, until="REPORT")
    kinds = [line.split(" ")[0] for line in lines if line.split(" ")[0] in _KINDS]
    assert kinds == ["INIT_START", "INIT_REPORT", "START", "END", "REPORT"]
    (said,) = [line for line in lines if line.startswith("INIT_REPORT")]
    found = re.fullmatch(rf"INIT_REPORT Init Duration: ({NUMBER}) ms\tPhase: init\tStatus: timeout", said)
    assert found is not None and 10_000 <= float(found[1]) < 30_000, said
    assert float(report(answer)[1]) < 10_000, "the init that was ended is no part of Duration"


def test_a_second_init_has_the_functions_timeout(functions: Functions, counter: str) -> None:
    name = functions.create(
        SECOND_TRY.format(counter=counter, first="sys.exit(1)", second="time.sleep(60)"), Timeout=1
    )
    answer = functions.invoke(name)
    message = f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    assert failed(answer) == {"errorType": "Sandbox.Timedout", "errorMessage": message}
    assert re.search(rf"INIT_REPORT Init Duration: {NUMBER} ms\tPhase: invoke\tStatus: timeout\n", answer.log)
    assert report(answer, "\tStatus: timeout").group(1, 2) == ("1000.00", "1000")


def test_what_runs_beside_the_handler_dies_with_it(functions: Functions) -> None:
    """A child that outlives its invocation is frozen with the environment and ends with it."""
    marker = f"87{uuid.uuid4().int % 10**9:09d}"
    name = functions.create(
        f"import subprocess\ndef handler(event, context):\n    subprocess.Popen(['sleep', '{marker}'])\n"
    )
    assert functions.invoke(name).result is None
    assert marked(marker), "the child runs on beside the idle environment"
    functions.aws.delete_function(FunctionName=name)
    until = time.monotonic() + 10
    while marked(marker):
        assert time.monotonic() < until, "the child outlived its environment"


def test_a_caller_that_hangs_up_does_not_end_the_function(functions: Functions, server: Server) -> None:
    import socket

    marker = uuid.uuid4().hex
    name = functions.create(
        "import time\ndef handler(event, context):\n    if event:\n        time.sleep(0.4)\n"
        "        print('done', event)\n    return 'ok'\n"
    )
    body = json.dumps(marker).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until = time.monotonic() + 10
        while not any(line.startswith("START") for line in functions.logged(name)):
            assert time.monotonic() < until, "it never started"
    while f"done {marker}" not in functions.logged(name):
        assert time.monotonic() < until, "the function was cut off"
    while not functions.logged(name)[-1].startswith("REPORT"):
        assert time.monotonic() < until, "its slot is never free"
    assert functions.invoke(name, "").result == "ok"


def test_a_function_that_prints_without_end_disturbs_nobody(functions: Functions, canary: str) -> None:
    """Its own log is cut short; its answer, and everybody else's, comes."""
    name = functions.create(
        """
        import os, threading
        def flood():
            while True:
                os.write(1, b"\\n" * 65536)
        def handler(event, context):
            threading.Thread(target=flood, daemon=True).start()
            return "done"
        """,
        MemorySize=1769,
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(functions.invoke, name)
        for _ in range(20):
            assert functions.invoke(canary).error is None
        assert flooding.result().result == "done"


def test_much_output_in_one_invocation_does_not_block_it(functions: Functions) -> None:
    name = functions.create(
        """
        def handler(event, context):
            for number in range(3):
                print("x" * 1000)
            for number in range(event):
                print("y" * 100)
            return event
        """
    )
    assert functions.invoke(name, 1).result == 1
    answer = functions.invoke(name, 20_000)  # 2 MB, thirty pipes full
    assert (answer.error, answer.result) == (None, 20_000)
