"""The main flow as its users drive it: boto3 with its waiters and paginators, the aws command, plain HTTP; and
what a function sees of the service: context, variables, reuse, freezing, concurrency."""

import base64
import concurrent.futures
import http.client
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from commands import AwsLambda
from residue import PARKED, Residue, settle, slots_are_parked
from running import ROLE, RUNTIME, Answer, Functions, Server, needs, request, zipped

INVOKE = "/2015-03-31/functions/{}/invocations"
ECHO = "def handler(event, context):\n    return event\n"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture
def made(functions: Functions) -> Iterator[Callable[..., str]]:
    """As `functions.create`; what it made is deleted at the end."""
    names: list[str] = []

    def create(code: Any = ECHO, **members: Any) -> str:
        names.append(functions.create(code, **members))
        return names[-1]

    yield create
    for name in names:
        functions.aws.delete_function(FunctionName=name)


def returns(value: str) -> bytes:
    return zipped({"app.py": f"def handler(event, context):\n    return {value!r}\n"})


# ---- boto3 ---------------------------------------------------------------------------------------------------


def test_boto3_from_creation_to_deletion(functions: Functions) -> None:
    aws, name = functions.aws, f"boto-{uuid.uuid4().hex[:8]}"
    made = aws.create_function(
        FunctionName=name, Runtime=RUNTIME, Handler="app.handler", Role=ROLE, Code={"ZipFile": returns("one")}
    )
    assert (made["State"], made["StateReasonCode"], made["Timeout"], made["MemorySize"]) == (
        "Pending",
        "Creating",
        3,
        128,
    )
    assert "LastUpdateStatus" not in made
    aws.get_waiter("function_exists").wait(FunctionName=name)
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert functions.invoke(name).result == "one"
    updated = aws.update_function_code(FunctionName=name, ZipFile=returns("two"))
    assert updated["LastUpdateStatus"] == "InProgress"
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert functions.invoke(name).result == "two"
    aws.update_function_configuration(FunctionName=name, Description="said", Timeout=9)
    aws.get_waiter("function_updated").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    shown = aws.get_function(FunctionName=name)["Configuration"]
    assert (shown["Description"], shown["Timeout"], shown["State"]) == ("said", 9, "Active")
    assert "StateReason" not in shown
    answer = aws.delete_function(FunctionName=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function(FunctionName=name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.invoke(FunctionName=name)


def test_boto3_pages_through_functions(functions: Functions, made: Callable[..., str]) -> None:
    names = {made() for _ in range(4)}
    pages = list(functions.aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    assert all(len(page["Functions"]) <= 2 for page in pages)
    listed = [row["FunctionName"] for page in pages for row in page["Functions"]]
    assert len(listed) == len(set(listed)) and names <= set(listed)
    assert not any("State" in row for page in pages for row in page["Functions"])


def test_boto3_works_inside_a_function(functions: Functions, made: Callable[..., str]) -> None:
    """boto3 is there as on AWS, and its Lambda client reaches this server: a function invokes another one."""
    other = made("def handler(event, context):\n    return ['other', event]\n")
    name = made(
        "import boto3, json\n"
        "def handler(event, context):\n"
        "    answer = boto3.client('lambda').invoke(FunctionName=event, Payload=b'7')\n"
        "    return [json.load(answer['Payload']), answer['StatusCode']]\n",
        MemorySize=1024,
    )
    assert functions.invoke(name, other).result == [["other", 7], 200]


def test_boto3_needs_nothing_but_the_lines_that_the_banner_says_to_export(
    server: Server, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **server.exports()}
    code = "import boto3; print(boto3.client('lambda').get_account_settings()['AccountUsage']['FunctionCount'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.strip().isdigit(), done.stderr


# ---- the aws command -----------------------------------------------------------------------------------------


def test_the_aws_command_from_creation_to_deletion(server: Server, tmp_path: Path) -> None:
    aws, name = AwsLambda(server, tmp_path), f"cli-{uuid.uuid4().hex[:8]}"
    (tmp_path / "one.zip").write_bytes(returns("one"))
    (tmp_path / "two.zip").write_bytes(returns("two"))
    (tmp_path / "layer.zip").write_bytes(zipped({"python/shared.py": "X = 1\n"}))
    layer = aws("publish-layer-version", "--layer-name", name, "--zip-file", "fileb://layer.zip")
    made = aws(
        *("create-function", "--function-name", name, "--runtime", RUNTIME, "--handler", "app.handler"),
        *("--role", ROLE, "--zip-file", "fileb://one.zip", "--layers", layer["LayerVersionArn"]),
    )
    assert made["State"] == "Pending" and made["Layers"][0]["Arn"] == layer["LayerVersionArn"]
    aws("wait", "function-active-v2", "--function-name", name)
    answer = aws("invoke", "--function-name", name, "--payload", '{"a": 1}', "--log-type", "Tail", "out.json")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert b"REPORT RequestId" in base64.b64decode(answer["LogResult"])
    assert (tmp_path / "out.json").read_text() == '"one"'
    got = aws("get-function", "--function-name", name)
    with urlopen(got["Code"]["Location"]) as download:
        assert download.read() == returns("one")
    aws("update-function-code", "--function-name", name, "--zip-file", "fileb://two.zip")
    aws("wait", "function-updated", "--function-name", name)
    changed = ("--timeout", "9", "--environment", "Variables={AB=c}")
    aws("update-function-configuration", "--function-name", name, *changed)
    aws("wait", "function-updated-v2", "--function-name", name)
    aws("invoke", "--function-name", name, "out.json")
    assert (tmp_path / "out.json").read_text() == '"two"'
    aws("tag-resource", "--resource", made["FunctionArn"], "--tags", "team=a b,empty=")
    assert aws("list-tags", "--resource", made["FunctionArn"])["Tags"] == {"team": "a b", "empty": ""}
    aws("delete-function", "--function-name", name)
    aws("delete-layer-version", "--layer-name", name, "--version-number", "1")


def test_the_aws_command_pages_and_says_what_is_wrong(
    server: Server, tmp_path: Path, made: Callable[..., str]
) -> None:
    aws, names = AwsLambda(server, tmp_path), {made() for _ in range(3)}
    listed: list[str] = []
    token: tuple[str, ...] = ()
    while True:
        page = aws("list-functions", "--max-items", "2", "--page-size", "1", *token)
        listed += [row["FunctionName"] for row in page["Functions"]]
        if "NextToken" not in page:
            break
        token = ("--starting-token", page["NextToken"])
    assert names <= set(listed) and len(listed) == len(set(listed))
    with pytest.raises(AssertionError, match=r"ResourceNotFoundException.*Function not found: arn:aws:lambda:"):
        aws("get-function", "--function-name", "nobody")


# ---- plain HTTP ----------------------------------------------------------------------------------------------


def test_the_headers_of_an_invocation(server: Server, made: Callable[..., str]) -> None:
    name = made("def handler(event, context):\n    return [1 / event, context.aws_request_id]\n")
    status, headers, body = request(server, "POST", INVOKE.format(name), b"1")
    assert (status, headers["content-type"], headers["x-amz-executed-version"]) == (
        200,
        "application/json",
        "$LATEST",
    )
    assert re.fullmatch(UUID, headers["x-amzn-requestid"])
    assert json.loads(body) == [1.0, headers["x-amzn-requestid"]]
    assert headers["content-length"] == str(len(body))
    answered = r"root=1-[0-9a-f]{8}-[0-9a-f]{24};sampled=0;lineage=[0-9a-f]{8}:1"
    assert re.fullmatch(answered, headers["x-amzn-trace-id"])
    assert "x-amz-function-error" not in headers and "x-amz-log-result" not in headers and "date" in headers
    status, headers, body = request(server, "POST", INVOKE.format(name), b"0", {"X-Amz-Log-Type": "Tail"})
    assert (status, headers["x-amz-function-error"]) == (200, "Unhandled")
    assert json.loads(body)["errorType"] == "ZeroDivisionError"
    assert b"REPORT" in base64.b64decode(headers["x-amz-log-result"])
    event = {"X-Amz-Invocation-Type": "Event"}
    assert request(server, "POST", INVOKE.format(name), b"1", event)[::2] == (202, b"")
    dry = {"X-Amz-Invocation-Type": "DryRun"}
    assert request(server, "POST", INVOKE.format(name), b"1", dry)[::2] == (204, b"")


def test_an_error_in_plain_http(server: Server) -> None:
    status, headers, body = request(server, "POST", INVOKE.format("nobody"), b"{}")
    assert (status, headers["x-amzn-errortype"]) == (404, "ResourceNotFoundException")
    assert re.fullmatch(UUID, headers["x-amzn-requestid"]) and headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "Type": "User",
        "Message": "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody",
    }


def test_a_name_in_the_path_may_be_an_arn(server: Server, made: Callable[..., str]) -> None:
    name = made()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    for form in (arn, arn.replace(":", "%3A"), f"{arn}:$LATEST", f"{name}%3A%24LATEST", f"function:{name}"):
        status, _, body = request(server, "POST", INVOKE.format(form), b"5")
        assert (status, body) == (200, b"5"), form


def test_a_connection_is_kept(server: Server, made: Callable[..., str]) -> None:
    """Also after errors and answers without a body, whose end a client must be able to see."""
    name = made()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.connect()
    socket = connection.sock
    for path, headers, status in (
        (INVOKE.format(name), {}, 200),
        (INVOKE.format("nobody"), {}, 404),
        (INVOKE.format(name), {"X-Amz-Invocation-Type": "DryRun"}, 204),
        (INVOKE.format(name), {"X-Amz-Invocation-Type": "Event"}, 202),
        ("/nothing", {}, 404),
        (INVOKE.format(name), {}, 200),
    ):
        connection.request("POST", path, b"1", headers)
        response = connection.getresponse()
        response.read()
        assert (response.status, connection.sock) == (status, socket)
    connection.close()


def test_a_body_may_be_chunked(server: Server, made: Callable[..., str]) -> None:
    parts = [b'{"text":"', b"x" * 100_000, b'"}']
    status, _, body = request(server, "POST", INVOKE.format(made()), iter(parts), encode_chunked=True)
    assert (status, json.loads(body)) == (200, {"text": "x" * 100_000})


def test_a_body_that_waits_for_leave_is_asked_for(server: Server, made: Callable[..., str]) -> None:
    """curl sends Expect: 100-continue with larger bodies, and waits a second if nobody answers it."""
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(
            f"POST {INVOKE.format(made())} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert caller.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        caller.sendall(b"77")
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\n77")


def test_head_has_no_body(server: Server, functions: Functions, made: Callable[..., str]) -> None:
    location = functions.aws.get_function(FunctionName=made())["Code"]["Location"]
    status, headers, body = request(server, "HEAD", location.removeprefix(server.url))
    assert (status, body, headers["content-type"]) == (200, b"", "application/zip")
    assert int(headers["content-length"]) > 0
    assert request(server, "HEAD", "/2015-03-31/functions")[::2] == (404, b"")


def test_a_download_link_is_not_guessed(server: Server, functions: Functions, made: Callable[..., str]) -> None:
    location = functions.aws.get_function(FunctionName=made())["Code"]["Location"]
    path = location.removeprefix(server.url)
    assert request(server, "GET", path)[0] == 200
    assert request(server, "GET", path[:-1] + ("0" if path[-1] != "0" else "1"))[0] == 403
    assert request(server, "GET", path.split("?")[0])[0] == 403


# ---- what a function sees ------------------------------------------------------------------------------------


def test_the_context(functions: Functions, made: Callable[..., str]) -> None:
    code = """
        def handler(event, context):
            identity = context.identity
            return {
                "function_name": context.function_name,
                "function_version": context.function_version,
                "invoked_function_arn": context.invoked_function_arn,
                "memory_limit_in_mb": context.memory_limit_in_mb,
                "aws_request_id": context.aws_request_id,
                "log_group_name": context.log_group_name,
                "identity": [identity.cognito_identity_id, identity.cognito_identity_pool_id],
                "client_context": context.client_context,
                "log_stream_name": context.log_stream_name,
                "left": context.get_remaining_time_in_millis(),
            }
    """
    name = made(code, MemorySize=192, Timeout=7)
    answer = functions.invoke(name)
    seen = answer.result
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen.pop("log_stream_name"))
    assert 6500 <= seen.pop("left") <= 7000
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert seen == {
        "function_name": name,
        "function_version": "$LATEST",
        "invoked_function_arn": arn,
        "memory_limit_in_mb": "192",
        "aws_request_id": answer.request_id,
        "log_group_name": f"/aws/lambda/{name}",
        "identity": [None, None],
        "client_context": None,
    }
    assert functions.invoke(f"{name}:$LATEST").result["invoked_function_arn"] == f"{arn}:$LATEST"


def test_a_callers_trace_is_the_functions_and_its_root_is_answered(
    server: Server, made: Callable[..., str]
) -> None:
    name = made("import os\ndef handler(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n")
    trace = "Root=1-67ae8b2c-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a87bd80c:1"
    _, headers, body = request(server, "POST", INVOKE.format(name), b"{}", {"X-Amzn-Trace-Id": trace})
    # The chain of calls goes on: this function's own call is counted with it.
    given, _, mark = json.loads(body).rpartition("|")
    assert given == trace and re.fullmatch("[0-9a-f]{8}:1", mark)
    answered = f"root=1-67ae8b2c-0123456789abcdef01234567;sampled=1;lineage=a87bd80c:1|{mark}"
    assert headers["x-amzn-trace-id"] == answered


def test_the_runtime_version_is_the_same_in_the_log_and_in_the_configuration(
    functions: Functions, made: Callable[..., str]
) -> None:
    name = made()
    functions.invoke(name)
    shown = functions.aws.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]
    said = next(line for line in functions.logged(name, until="INIT_START") if line.startswith("INIT_START"))
    assert said.split("Runtime Version ARN: ")[1].strip() == shown["RuntimeVersionArn"]


def test_the_variables(functions: Functions, made: Callable[..., str]) -> None:
    name = made("import os\ndef handler(event, context):\n    return dict(os.environ)\n", MemorySize=256)
    seen = functions.invoke(name).result
    reserved = {
        "_HANDLER": "app.handler",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{RUNTIME}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
    }
    assert {key: seen.get(key) for key in reserved} == reserved
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen["AWS_LAMBDA_LOG_STREAM_NAME"])
    trace = r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=[0-9a-f]{8}:1"
    assert re.fullmatch(trace, seen["_X_AMZN_TRACE_ID"])
    assert seen["AWS_ACCESS_KEY_ID"] and seen["AWS_SECRET_ACCESS_KEY"] and seen["AWS_SESSION_TOKEN"]
    assert seen["AWS_XRAY_CONTEXT_MISSING"] == "LOG_ERROR"
    for key in ("HOME", "COLUMNS", "PWD", "VIRTUAL_ENV"):
        assert key not in seen or not seen[key].startswith(str(functions.server.data_dir.parent)), key


def test_an_environment_is_used_again(functions: Functions, made: Callable[..., str]) -> None:
    code = """
        import os
        n = 0
        def handler(event, context):
            global n
            n += 1
            with open("/tmp/kept", "a") as file:
                file.write("x")
            return [n, os.path.getsize("/tmp/kept"), os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]]
    """
    name = made(code)
    first, *others = (functions.invoke(name) for _ in range(4))
    assert [answer.result[:2] for answer in (first, *others)] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert "Init Duration" in first.log and not any("Init Duration" in answer.log for answer in others)
    assert len({answer.result[2] for answer in (first, *others)}) == 1


def test_cold_billing_includes_init(functions: Functions, made: Callable[..., str]) -> None:
    name = made("import time\ntime.sleep(0.3)\n" + ECHO)
    log = functions.invoke(name).log
    found = re.search(
        r"\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms.*\tInit Duration: ([\d.]+) ms\t", log
    )
    assert found is not None, log
    duration, billed, init = (float(number) for number in found.groups())
    assert init >= 300
    assert abs(billed - (duration + init)) <= 1.02


def test_an_event_runs_and_its_log_can_be_read(functions: Functions, made: Callable[..., str]) -> None:
    name = made("def handler(event, context):\n    print('ran with', event['a'], context.aws_request_id)\n")
    answer = functions.aws.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"a": 5}')
    request_id = answer["ResponseMetadata"]["RequestId"]
    lines = functions.logged(name, until="REPORT")
    assert f"ran with 5 {request_id}" in lines
    assert f"START RequestId: {request_id} Version: $LATEST" in lines


def test_no_old_answer_comes_after_an_update(functions: Functions, made: Callable[..., str]) -> None:
    """Under load: each call notes whether the update was done before it was sent."""
    name = made({"app.py": "def handler(event, context):\n    return 'old'\n"})
    done = [False]

    def call() -> list[tuple[bool, str]]:
        client = functions.server.client()
        seen: list[tuple[bool, str]] = []
        while len(seen) < 400 and not (done[0] and len([one for one in seen if one[0]]) > 10):
            after = done[0]
            answer = Answer(client.invoke(FunctionName=name, Payload=b"{}"))
            assert answer.error is None, answer.payload
            seen.append((after, answer.result))
        return seen

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call) for _ in range(4)]
        functions.aws.update_function_code(FunctionName=name, ZipFile=returns("new"))
        functions.active(name)
        done[0] = True
        seen = [one for each in calls for one in each.result()]
    assert (True, "old") not in seen
    assert {after for after, _ in seen} == {True, False} and (True, "new") in seen


# ---- time and concurrency ------------------------------------------------------------------------------------


def test_an_idle_environment_is_frozen(functions: Functions, made: Callable[..., str]) -> None:
    """A thread counts; the count must stand still between invocations, and go on within them."""
    needs(functions.server, "freeze")
    code = """
        import threading, time
        count = 0
        def run():
            global count
            while True:
                count += 1
                time.sleep(0.001)
        threading.Thread(target=run, daemon=True).start()
        def handler(event, context):
            before = count
            time.sleep(event)
            return [before, count]
    """
    name = made(code, MemorySize=1024)
    _, left = functions.invoke(name, 0.2).result
    time.sleep(1.0)
    found, after = functions.invoke(name, 0.2).result
    assert found - left < 100, "it ran on while nobody asked for it: a second is some 900 counts"
    assert after - found > 50, "and it goes on when it is thawed"


def test_many_at_once_use_many_environments(functions: Functions, made: Callable[..., str]) -> None:
    code = """
        import os, time
        def handler(event, context):
            time.sleep(0.5)
            return os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
    """
    name = made(code)
    client = functions.server.client(max_pool_connections=20)

    def call(_: int) -> str:
        answer = Answer(client.invoke(FunctionName=name, Payload=b"{}"))
        assert answer.error is None, answer.payload
        return str(answer.result)

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        streams = list(pool.map(call, range(20)))
    took = time.monotonic() - began
    assert took < 20 * 0.5 / 2
    assert len(set(streams)) >= 5


def test_an_idle_environment_is_stopped(own_server: Callable[..., Server]) -> None:
    own = {"LAMBENT_KEEP_ALIVE_SECONDS": "0.5", "LAMBENT_PARKED_SLOTS": str(PARKED)}
    server = own_server("--no-s3", environment=own)
    functions = Functions(server)
    functions.run(ECHO, 1)  # what the first execution opens is kept open: the spool of usage
    slots_are_parked(server, functions, PARKED)
    settle(server)
    before = Residue.of(server)
    name = functions.create("n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")
    assert [functions.invoke(name).result for _ in range(2)] == [1, 2]
    until = time.monotonic() + 15
    while Residue.of(server).beyond(before):
        assert time.monotonic() < until, Residue.of(server).beyond(before)
        time.sleep(0.1)
    assert functions.invoke(name).result == 1, "the next one is a cold start"


def test_the_accounts_limit_throttles(own_server: Callable[..., Server]) -> None:
    server = own_server("--no-s3", environment={"LAMBENT_CONCURRENT_EXECUTIONS": "2"})
    functions = Functions(server)
    name = functions.create(
        "import time\ndef handler(event, context):\n    print('runs', flush=True)\n    time.sleep(event)\n"
    )
    client = server.client(max_pool_connections=4)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(client.invoke, FunctionName=name, Payload=b"3") for _ in range(2)]
        until = time.monotonic() + 20
        while functions.logged(name).count("runs") < 2:
            assert time.monotonic() < until, "they never ran at once"
            time.sleep(0.02)
        status, headers, body = request(server, "POST", INVOKE.format(name), b"0")
        assert (status, headers["x-amzn-errortype"]) == (429, "TooManyRequestsException")
        assert json.loads(body) == {
            "Reason": "ConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        }
        with pytest.raises(ClientError, match="TooManyRequestsException"):
            functions.invoke(name, 0)
        accepted = functions.aws.invoke(FunctionName=name, InvocationType="Event", Payload=b"0")
        assert accepted["StatusCode"] == 202, "an event waits in the queue for its turn"
        for each in running:
            assert each.result()["StatusCode"] == 200
    assert functions.invoke(name, 0).result is None
    until = time.monotonic() + 20
    while functions.logged(name).count("runs") < 4:
        assert time.monotonic() < until, "the throttled event never ran"
        time.sleep(0.05)
    assert functions.aws.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 2


@pytest.mark.parametrize("header", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_a_web_page_is_refused(server: Server, header: dict[str, str]) -> None:
    assert request(server, "GET", "/2015-03-31/functions")[0] == 200
    status, headers, body = request(server, "GET", "/2015-03-31/functions", headers=header)
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException"), body


@pytest.mark.parametrize("payload", [b'"\\ud83d"', b"[" * 900 + b"]" * 900])
def test_json_that_only_the_slow_reader_takes_is_passed_on(functions: Functions, payload: bytes) -> None:
    name = functions.create("def handler(event, context):\n    return len(event)\n")
    answer = functions.invoke(name, payload)
    assert (answer.error, answer.result) == (None, 1)


def test_not_a_number_is_no_json(server: Server, functions: Functions) -> None:
    name = functions.create("def handler(event, context):\n    return event\n")
    status, headers, body = request(server, "POST", f"/2015-03-31/functions/{name}/invocations", b"[NaN]")
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException"), body
