"""What a server says to what it refuses, by boto3 and by plain HTTP."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import ROLE, RUNTIME, Functions, Server, request

INVOKE = "/2015-03-31/functions/{}/invocations"
ECHO = "def handler(event, context):\n    return event\n"
Refusal = tuple[int, str, str]


def refused(call: Callable[..., Any], *args: Any, **members: Any) -> Refusal:
    """Status, exception and message of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        call(*args, **members)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def raw(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Refusal:
    """As `refused`, by plain HTTP."""
    status, got, content = request(server, method, path, body, headers)
    assert b"Traceback" not in content and b".py" not in content, content
    answer = json.loads(content or b"{}")
    assert "x-amzn-requestid" in got
    return status, got.get("x-amzn-errortype", ""), answer.get("message") or answer.get("Message") or ""


def create(functions: Functions, archive: bytes, **members: Any) -> Any:
    given = {"FunctionName": f"bad-{uuid.uuid4().hex[:8]}", "Runtime": RUNTIME, "Handler": "app.handler"}
    return functions.aws.create_function(Role=ROLE, Code={"ZipFile": archive}, **{**given, **members})


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for what the server tells nobody of."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
