"""Versions and aliases on a running server, with boto3 and the aws command: each runs its own code, callers
move by alias, and nobody who calls after the move is served by what was before it."""

import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import AwsLambda
from running import ROLE, RUNTIME, Functions, Server, request, zipped
from traces import until

ACCOUNT = "arn:aws:lambda:us-east-1:000000000000:function"
# Says which code ran, and what it was told of itself.
CODE = """
    import os, time
    def handler(event, context):
        time.sleep(event.get("seconds", 0))
        return {
            "code": "CODE",
            "version": context.function_version,
            "variable": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
            "arn": context.invoked_function_arn,
            "stream": context.log_stream_name,
            "pid": os.getpid(),
        }
"""


def text(code: str) -> str:
    return CODE.replace("CODE", code).replace("\n    ", "\n")


@pytest.fixture
def made(functions: Functions) -> Iterator[Callable[..., str]]:
    """Makes a function with a version for each code; it is deleted at the end."""
    names: list[str] = []

    def make(*codes: str, **members: Any) -> str:
        name = functions.create(text("latest"), **members)
        names.append(name)
        for code in codes:
            publish(functions, name, code)
        return name

    yield make
    for name in names:
        functions.aws.delete_function(FunctionName=name)


def publish(functions: Functions, name: str, code: str) -> str:
    """Updates the code and publishes it, as a deployment does; the version's number."""
    aws = functions.aws
    version = aws.update_function_code(FunctionName=name, ZipFile=zipped({"app.py": text(code)}), Publish=True)
    number: str = version["Version"]
    for waiter in ("published_version_active", "function_active_v2", "function_updated_v2"):
        aws.get_waiter(waiter).wait(FunctionName=name, Qualifier=number, WaiterConfig={"Delay": 1})
    functions.active(name)
    return number


def test_versions_run_their_own_code_and_latest_goes_on(functions: Functions, made: Callable[..., str]) -> None:
    name = made()
    first = functions.aws.publish_version(FunctionName=name, Description="first")
    assert (first["Version"], first["FunctionArn"]) == ("1", f"{ACCOUNT}:{name}:1")
    functions.aws.update_function_code(FunctionName=name, ZipFile=zipped({"app.py": text("newer")}))
    functions.active(name)
    pids = set()
    for named, more in (
        (name, {"Qualifier": "1"}),
        (f"{name}:1", {}),
        (f"{ACCOUNT}:{name}:1", {}),
        (f"000000000000:function:{name}:1", {"Qualifier": "1"}),
    ):
        answer = functions.invoke(named, **more)
        said = answer.result
        assert (answer.version, said["code"], said["version"], said["variable"]) == ("1", "latest", "1", "1")
        assert said["arn"] == f"{ACCOUNT}:{name}:1"
        assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[1\][0-9a-f]{32}", said["stream"])
        assert f"START RequestId: {answer.request_id} Version: 1\n" in answer.log
        pids.add(said["pid"])
    assert len(pids) == 1, "it stayed warm"
    latest = functions.invoke(name)
    assert (latest.version, latest.result["code"], latest.result["version"]) == ("$LATEST", "newer", "$LATEST")
    assert latest.result["arn"] == f"{ACCOUNT}:{name}"
    with pytest.raises(functions.aws.exceptions.ResourceNotFoundException, match=f"{name}:2$"):
        functions.invoke(name, Qualifier="2")


def test_a_function_is_created_with_a_version(functions: Functions) -> None:
    aws, name = functions.aws, f"created-{uuid.uuid4().hex[:8]}"
    version = aws.create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Handler="app.handler",
        Role=ROLE,
        Code={"ZipFile": zipped({"app.py": text("one")})},
        Publish=True,
    )
    try:
        assert (version["Version"], version["State"]) == ("1", "Pending")
        aws.get_waiter("published_version_active").wait(
            FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1}
        )
        assert functions.invoke(name, Qualifier="1").result["version"] == "1"
        functions.active(name)
        assert functions.invoke(name).result["version"] == "$LATEST"
    finally:
        aws.delete_function(FunctionName=name)


def test_an_alias_moves_from_one_version_to_the_next(functions: Functions, made: Callable[..., str]) -> None:
    name, aws = made("one", "two"), functions.aws
    alias = aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert alias["AliasArn"] == f"{ACCOUNT}:{name}:live"
    for version, code in (("1", "one"), ("2", "two"), ("1", "one"), ("$LATEST", "two")):
        aws.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
        answer = functions.invoke(alias["AliasArn"])
        assert (answer.version, answer.result["code"], answer.result["version"]) == (version, code, version)
        assert answer.result["arn"] == alias["AliasArn"], "as it was invoked"
    dry = aws.invoke(FunctionName=f"{name}:live", InvocationType="DryRun")
    assert dry["StatusCode"] == 204


def test_nobody_who_calls_after_a_move_is_served_by_the_old_version(
    server: Server, functions: Functions, made: Callable[..., str]
) -> None:
    """Under load: the alias moves to and fro, and each mover looks at once."""
    name = made("one", "two")
    functions.aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    stop = threading.Event()
    wrong: list[str] = []

    def load() -> None:
        client = Functions(server)
        while not stop.is_set():
            answer = client.invoke(f"{name}:live")
            if answer.error is not None or answer.version != answer.result["version"]:
                wrong.append(answer.log)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        seen = []
        for number in range(60):
            version = "12"[number % 2]
            functions.aws.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
            seen.append(functions.invoke(f"{name}:live").version == version)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(seen)
    assert wrong == []


def test_a_weighted_alias_runs_both_versions(functions: Functions, made: Callable[..., str]) -> None:
    name, aws = made("one", "two"), functions.aws

    def counted(weight: float, times: int) -> Counter[str | None]:
        aws.update_alias(
            FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": weight}}
        )
        return Counter(functions.invoke(f"{name}:live").version for _ in range(times))

    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    # 400 draws of 0.3: 9.2 is the standard deviation, and 66 off is once in 10^12.
    found = counted(0.3, 400)
    assert set(found) == {"1", "2"} and 120 - 66 < found["2"] < 120 + 66, found
    assert counted(0.0, 20) == {"1": 20}
    assert counted(1.0, 20) == {"2": 20}
    aws.update_alias(FunctionName=name, Name="live", RoutingConfig={})
    assert Counter(functions.invoke(f"{name}:live").version for _ in range(20)) == {"1": 20}


def test_usage_is_told_apart_by_version_and_alias(
    server: Server, functions: Functions, made: Callable[..., str]
) -> None:
    name = made("one")
    functions.aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualifier, times in (("1", 1), ("live", 2), ("$LATEST", 3)):
        for _ in range(times):
            functions.invoke(name, Qualifier=qualifier)

    def rows(by: str) -> dict[str, int]:
        status, _, body = request(server, "GET", f"/_lambent/usage?by={by}")
        assert status == 200, body
        found = [row for row in json.loads(body)["rows"] if row["function"] == name]
        return {row[by]: row["invocations"] for row in found}

    until(lambda: rows("version") == {"1": 3, "$LATEST": 3}, 10, "the ledger has all by version")
    assert rows("alias") == {"": 4, "live": 2}


@pytest.fixture
def busy(server: Server, functions: Functions) -> Iterator[Callable[[str, str], None]]:
    """Has a function run for 8 s with all that is reserved for it, which is 1, and returns while it does."""
    threads: list[threading.Thread] = []

    def make(name: str, qualifier: str) -> None:
        functions.aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        run = {"FunctionName": name, "Qualifier": qualifier, "Payload": b'{"seconds": 8}'}
        threads.append(threading.Thread(target=lambda: server.client().invoke(**run)))
        threads[-1].start()
        running = f'lambent_concurrent_executions{{function="{name}"}} 1.0'
        until(lambda: running in request(server, "GET", "/metrics")[2].decode(), 20, "it runs")

    yield make
    for thread in threads:
        thread.join()


def test_reserved_concurrency_is_one_for_all_versions(
    functions: Functions, made: Callable[..., str], busy: Callable[[str, str], None]
) -> None:
    name, aws = made("one"), functions.aws
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    busy(name, "1")
    for qualifier in ("live", "$LATEST", "1"):
        with pytest.raises(aws.exceptions.TooManyRequestsException) as refusal:
            functions.invoke(name, Qualifier=qualifier)
        assert refusal.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    aws.delete_function_concurrency(FunctionName=name)
    assert functions.invoke(name).version == "$LATEST"


def test_an_event_runs_what_its_alias_stands_for_when_it_runs(
    functions: Functions, made: Callable[..., str], busy: Callable[[str, str], None]
) -> None:
    name, aws = made("one", "two"), functions.aws
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    busy(name, "$LATEST")
    sent = aws.invoke(FunctionName=f"{name}:live", InvocationType="Event", Payload=b"{}")
    assert sent["StatusCode"] == 202
    aws.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    aws.delete_function_concurrency(FunctionName=name)
    start = f"START RequestId: {sent['ResponseMetadata']['RequestId']} Version: "
    until(lambda: any(line.startswith(start) for line in functions.logged(name)), 30, "the event runs")
    ran = next(line for line in functions.logged(name) if line.startswith(start))
    assert ran.strip() == f"{start}2"


def test_deleting_versions_and_aliases(functions: Functions, made: Callable[..., str]) -> None:
    name, aws = made("one", "two"), functions.aws
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    with pytest.raises(aws.exceptions.ResourceConflictException, match=r"aliases reference it: \[live\]"):
        aws.delete_function(FunctionName=name, Qualifier="1")
    assert functions.invoke(f"{name}:live").result["code"] == "one"
    aws.delete_alias(FunctionName=name, Name="live")
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match=f"Function not found: .*{name}:live$"):
        functions.invoke(f"{name}:live")
    aws.delete_function(FunctionName=name, Qualifier="1")
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match=f"Function not found: .*{name}:1$"):
        functions.invoke(f"{name}:1")
    assert functions.invoke(f"{name}:2").result["code"] == "two"
    assert publish(functions, name, "three") == "3"


def test_boto3_pages_versions_and_aliases(functions: Functions, made: Callable[..., str]) -> None:
    name, aws = made("one", "two", "three"), functions.aws
    for alias in ("a", "b", "c"):
        aws.create_alias(FunctionName=name, Name=alias, FunctionVersion="2")
    small = {"PaginationConfig": {"PageSize": 2}}
    pages = aws.get_paginator("list_versions_by_function").paginate(FunctionName=name, **small)
    assert [row["Version"] for page in pages for row in page["Versions"]] == ["$LATEST", "1", "2", "3"]
    pages = aws.get_paginator("list_aliases").paginate(FunctionName=name, FunctionVersion="2", **small)
    assert [row["Name"] for page in pages for row in page["Aliases"]] == ["a", "b", "c"]
    pages = aws.get_paginator("list_functions").paginate(FunctionVersion="ALL", **small)
    mine = [row["FunctionArn"] for page in pages for row in page["Functions"] if row["FunctionName"] == name]
    assert mine == [f"{ACCOUNT}:{name}:{version}" for version in ("$LATEST", "1", "2", "3")]


def test_the_aws_command_publishes_and_moves_an_alias(
    server: Server, functions: Functions, made: Callable[..., str], tmp_path: Path
) -> None:
    aws, name = AwsLambda(server, tmp_path), made()
    assert aws("publish-version", "--function-name", name, "--description", "one")["Version"] == "1"
    (tmp_path / "two.zip").write_bytes(zipped({"app.py": text("two")}))
    code = ("--function-name", name, "--zip-file", "fileb://two.zip", "--publish")
    assert aws("update-function-code", *code)["Version"] == "2"
    aws("wait", "published-version-active", "--function-name", name, "--qualifier", "2")
    alias = ("--function-name", name, "--name", "live")
    aws("create-alias", *alias, "--function-version", "1")
    aws("update-alias", *alias, "--routing-config", "AdditionalVersionWeights={2=0.25}")
    assert aws("get-alias", *alias)["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.25}}
    aws("update-alias", *alias, "--function-version", "2", "--routing-config", "AdditionalVersionWeights={}")
    ran = aws("invoke", "--function-name", name, "--qualifier", "live", "out.json")
    assert ran["ExecutedVersion"] == "2"
    assert json.loads((tmp_path / "out.json").read_text())["code"] == "two"
    listed = aws("list-versions-by-function", "--function-name", name)["Versions"]
    assert {row["Version"]: row["Description"] for row in listed} == {"$LATEST": "", "1": "one", "2": ""}
    assert [row["Name"] for row in aws("list-aliases", "--function-name", name)["Aliases"]] == ["live"]
    aws("delete-alias", *alias)
    aws("delete-function", "--function-name", name, "--qualifier", "1")
    listed = aws("list-versions-by-function", "--function-name", name)["Versions"]
    assert [row["Version"] for row in listed] == ["$LATEST", "2"]
