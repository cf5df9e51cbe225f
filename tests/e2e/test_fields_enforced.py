"""Each input field that the field table calls enforced acts, on a running server, through boto3.

A field that is stored and has no effect is what this file is against; so every test looks at the effect.
"""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from running import RUNTIME, Functions, Server, needs, request, zipped

ACCOUNT = "arn:aws:lambda:us-east-1:000000000000"
ECHO = "def handler(event, context):\n    return event\n"


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


@pytest.fixture
def layer(functions: Functions) -> Iterator[Callable[..., dict[str, Any]]]:
    """Publishes a layer's version; what it published is deleted at the end."""
    published: list[dict[str, Any]] = []

    def publish(files: dict[str, str], name: str | None = None, **members: Any) -> dict[str, Any]:
        name = name or f"l-{uuid.uuid4().hex[:8]}"
        answer = functions.aws.publish_layer_version(
            LayerName=name, Content={"ZipFile": zipped(files)}, **members
        )
        published.append(answer)
        return dict(answer)

    yield publish
    for each in published:
        functions.aws.delete_layer_version(LayerName=each["LayerArn"], VersionNumber=each["Version"])


def configure(functions: Functions, name: str, **members: Any) -> None:
    functions.aws.update_function_configuration(FunctionName=name, **members)
    functions.active(name)


# ---- configuration -------------------------------------------------------------------------------------------


def test_handler(functions: Functions, made: Callable[..., str]) -> None:
    files = {
        "one.py": "def run(event, context):\n    return 'one'\n",
        "deep/two.py": "def go(event, context):\n    return 'two'\n",
    }
    name = made(files, Handler="one.run")
    assert functions.invoke(name).result == "one"
    configure(functions, name, Handler="deep/two.go")
    assert functions.invoke(name).result == "two"
    configure(functions, name, Handler="deep.two.go")
    assert functions.invoke(name).result == "two"


def test_runtime(functions: Functions, made: Callable[..., str], server: Server) -> None:
    name = made(
        "import os, sys\ndef handler(event, context):\n"
        "    return [*sys.version_info[:2], os.environ['AWS_EXECUTION_ENV']]\n"
    )
    major, minor, environment = functions.invoke(name).result
    assert (f"python{major}.{minor}", environment) == (RUNTIME, f"AWS_Lambda_{RUNTIME}")
    listed = json.loads(request(server, "GET", "/_lambent/runtimes")[2])["runtimes"]
    for row in listed:
        if row["runtime"] == RUNTIME or (row["available"] and not row["runtime"].startswith("python")):
            continue  # other languages have tests of their own
        if row["available"]:
            configure(functions, name, Runtime=row["runtime"])
            assert f"python{'.'.join(map(str, functions.invoke(name).result[:2]))}" == row["runtime"]
        else:
            with pytest.raises(ClientError, match=row["runtime"]):
                functions.aws.update_function_configuration(FunctionName=name, Runtime=row["runtime"])


def test_timeout(functions: Functions, made: Callable[..., str]) -> None:
    code = """
        import time
        def handler(event, context):
            left = context.get_remaining_time_in_millis()
            time.sleep(event)
            return left
    """
    name = made(code, Timeout=1)
    assert 900 <= functions.invoke(name, 0).result <= 1000
    answer = functions.invoke(name, 1.3)
    assert answer.result["errorType"] == "Sandbox.Timedout"
    configure(functions, name, Timeout=4)
    assert 3900 <= functions.invoke(name, 1.3).result <= 4000


def test_memory_size(functions: Functions, made: Callable[..., str]) -> None:
    needs(functions.server, "memory")
    code = """
        import os
        def handler(event, context):
            taken = b"x" * (event << 20)
            return [os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], context.memory_limit_in_mb, len(taken) >> 20]
    """
    name = made(code, MemorySize=128)
    assert functions.invoke(name, 64).result == ["128", "128", 64]
    answer = functions.invoke(name, 160)
    assert answer.result["errorType"] == "Runtime.OutOfMemory"
    assert "Memory Size: 128 MB" in answer.log
    configure(functions, name, MemorySize=256)
    answer = functions.invoke(name, 160)
    assert answer.result == ["256", "256", 160]
    assert "Memory Size: 256 MB" in answer.log
    used = int(answer.log.split("Max Memory Used: ")[1].split(" ")[0])
    assert 160 <= used <= 256


def test_ephemeral_storage(functions: Functions, made: Callable[..., str]) -> None:
    code = """
        import errno, os
        def handler(event, context):
            system = os.statvfs("/tmp")
            size = system.f_blocks * system.f_frsize >> 20
            with open("/tmp/file", "wb") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, event << 20)
                    said = "fits"
                except OSError as failure:
                    said = errno.errorcode[failure.errno]
            os.remove("/tmp/file")
            return [size, said]
    """
    name = made(code)
    size, said = functions.invoke(name, 450).result
    assert 500 <= size <= 530 and said == "fits"
    assert functions.invoke(name, 540).result == [size, "ENOSPC"]
    configure(functions, name, EphemeralStorage={"Size": 700})
    size, said = functions.invoke(name, 600).result
    assert 680 <= size <= 740 and said == "fits"
    assert functions.invoke(name, 740).result == [size, "ENOSPC"]


def test_environment_variables(functions: Functions, made: Callable[..., str]) -> None:
    code = "import os\ndef handler(event, context):\n    return [os.environ.get(key) for key in event]\n"
    keys = ["COLOUR", "TZ", "LANG", "AWS_ENDPOINT_URL_S3", "EMPTY"]
    given = {"COLOUR": "grün\n=x", "TZ": "Europe/Berlin", "AWS_ENDPOINT_URL_S3": "http://mine", "EMPTY": ""}
    name = made(code, Environment={"Variables": given})
    assert functions.invoke(name, keys).result == [
        "grün\n=x",
        "Europe/Berlin",
        "en_US.UTF-8",
        "http://mine",
        "",
    ]
    configure(functions, name, Environment={"Variables": {"COLOUR": "red"}})
    assert functions.invoke(name, keys).result[:3] == ["red", ":UTC", "en_US.UTF-8"]
    configure(functions, name, Timeout=4)
    assert functions.invoke(name, keys).result[0] == "red", "what an update does not name stays"
    configure(functions, name, Environment={"Variables": {}})
    assert functions.invoke(name, keys).result[0] is None
    assert "Environment" not in functions.aws.get_function_configuration(FunctionName=name)


def test_layers(functions: Functions, made: Callable[..., str], layer: Callable[..., dict[str, Any]]) -> None:
    first = layer({"python/shared.py": "NAME = 'first'\n", "python/only_first.py": "X = 1\n", "bin/tool": "1"})
    second = layer({"python/shared.py": "NAME = 'second'\n", "data/file": "two"})
    code = """
        import os
        def handler(event, context):
            import shared
            found = [os.path.join(at, name)[5:] for at, _, names in os.walk("/opt") for name in names]
            return [shared.NAME, shared.__file__, sorted(found)]
    """
    arns = [first["LayerVersionArn"], second["LayerVersionArn"]]
    name = made(code, Layers=arns)
    files = ["bin/tool", "data/file", "python/only_first.py", "python/shared.py"]
    assert functions.invoke(name).result == ["second", "/opt/python/shared.py", files]
    shown = functions.aws.get_function_configuration(FunctionName=name)["Layers"]
    assert [row["Arn"] for row in shown] == arns
    assert [row["CodeSize"] for row in shown] == [first["Content"]["CodeSize"], second["Content"]["CodeSize"]]
    configure(functions, name, Layers=arns[::-1])
    assert functions.invoke(name).result == ["first", "/opt/python/shared.py", files]
    functions.aws.delete_layer_version(LayerName=first["LayerArn"], VersionNumber=1)
    configure(functions, name, Timeout=5)
    assert functions.invoke(name).result[0] == "first", "a deleted layer version works on where it is used"
    configure(functions, name, Layers=[])
    assert functions.invoke(name).result["errorType"] == "ModuleNotFoundError"


# ---- code ----------------------------------------------------------------------------------------------------


def test_zip_file(functions: Functions, made: Callable[..., str]) -> None:
    files: dict[str, str | bytes] = {
        "app.py": "import os\ndef handler(event, context):\n"
        "    return [open('data/x').read(), os.getcwd(), __file__]\n",
        "data/x": "one",
    }
    name = made(files)
    assert functions.invoke(name).result == ["one", "/var/task", "/var/task/app.py"]
    archive = zipped({**files, "data/x": "two"})
    answer = functions.aws.update_function_code(FunctionName=name, ZipFile=archive)
    functions.active(name)
    assert functions.invoke(name).result[0] == "two"
    import hashlib

    digest = base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert (answer["CodeSha256"], answer["CodeSize"]) == (digest, len(archive))
    with urlopen(functions.aws.get_function(FunctionName=name)["Code"]["Location"]) as download:
        assert download.read() == archive


def test_image_uri_of_a_zip_function(functions: Functions, made: Callable[..., str]) -> None:
    name = made()
    with pytest.raises(ClientError) as caught:
        functions.aws.update_function_code(FunctionName=name, ImageUri="1.dkr.ecr.us-east-1.amazonaws.com/x:y")
    error = caught.value.response["Error"]
    assert (error["Code"], error["Message"]) == (
        "InvalidParameterValueException",
        "Please don't provide ImageUri when updating a function with packageType Zip.",
    )


def test_qualifier(functions: Functions, made: Callable[..., str]) -> None:
    """$LATEST, a version and an alias, however they are spelt; what is not there is AWS's 404."""
    name = made()
    aws, arn = functions.aws, f"{ACCOUNT}:function:{name}"
    asked = aws.get_function_configuration(FunctionName=name, Qualifier="$LATEST")
    assert (asked["FunctionArn"], asked["Version"]) == (f"{arn}:$LATEST", "$LATEST")
    assert functions.invoke(name, "hello", Qualifier="$LATEST").result == "hello"
    aws.publish_version(FunctionName=name)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualifier in ("1", "live"):
        asked = aws.get_function_configuration(FunctionName=name, Qualifier=qualifier)
        assert (asked["FunctionArn"], asked["Version"]) == (f"{arn}:{qualifier}", "1")
        assert aws.get_function(FunctionName=f"{name}:{qualifier}")["Configuration"]["Version"] == "1"
        assert functions.invoke(name, "hello", Qualifier=qualifier).version == "1"
    for absent in ("7", "gone"):
        for call in (aws.get_function, aws.get_function_configuration, aws.invoke):
            with pytest.raises(aws.exceptions.ResourceNotFoundException, match=f"not found: {arn}:{absent}$"):
                call(FunctionName=name, Qualifier=absent)
    aws.delete_function(FunctionName=name, Qualifier="7")  # there is none: deleting it is fine
    assert functions.invoke(name, "still here").result == "still here"


def test_update_code_dry_run(functions: Functions, made: Callable[..., str]) -> None:
    name = made()
    before = functions.aws.get_function_configuration(FunctionName=name)
    other = zipped({"app.py": "def handler(event, context):\n    return 'other'\n"})
    answer = functions.aws.update_function_code(FunctionName=name, ZipFile=other, DryRun=True)
    assert answer["CodeSize"] == len(other)
    after = functions.aws.get_function_configuration(FunctionName=name)
    assert {**before, "ResponseMetadata": 0} == {**after, "ResponseMetadata": 0}
    assert functions.invoke(name, "same").result == "same"
    with pytest.raises(ClientError, match="Could not unzip uploaded file"):
        functions.aws.update_function_code(FunctionName=name, ZipFile=b"no zip", DryRun=True)


def test_revision_id(functions: Functions, made: Callable[..., str]) -> None:
    name = made()
    aws = functions.aws
    old = aws.get_function_configuration(FunctionName=name)["RevisionId"]
    aws.update_function_configuration(FunctionName=name, Timeout=7, RevisionId=old)
    functions.active(name)
    other = zipped({"app.py": "def handler(event, context):\n    return 'other'\n"})
    calls: list[Callable[[], Any]] = [
        lambda: aws.update_function_configuration(FunctionName=name, Timeout=8, RevisionId=old),
        lambda: aws.update_function_code(FunctionName=name, ZipFile=other, RevisionId=old),
    ]
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        answer = caught.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 412
        assert answer["Error"]["Code"] == "PreconditionFailedException"
        assert answer["Error"]["Message"] == (
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        )
    now = aws.get_function_configuration(FunctionName=name)
    assert now["Timeout"] == 7
    assert functions.invoke(name, 1).result == 1
    aws.update_function_code(FunctionName=name, ZipFile=other, RevisionId=now["RevisionId"])
    functions.active(name)
    assert functions.invoke(name).result == "other"


def test_tag_resource(functions: Functions, made: Callable[..., str]) -> None:
    name = made(Tags={"team": "a"})
    arn, aws = f"{ACCOUNT}:function:{name}", functions.aws
    aws.tag_resource(Resource=arn, Tags={"stage": "ä b/c", "empty": "", "team": "b"})
    wanted = {"team": "b", "stage": "ä b/c", "empty": ""}
    assert aws.list_tags(Resource=arn)["Tags"] == wanted
    assert aws.get_function(FunctionName=name)["Tags"] == wanted
    aws.untag_resource(Resource=arn, TagKeys=["stage", "empty", "never there"])
    assert aws.list_tags(Resource=arn)["Tags"] == {"team": "b"}


# ---- layers --------------------------------------------------------------------------------------------------


def test_layer_version_number(functions: Functions, layer: Callable[..., dict[str, Any]]) -> None:
    name, aws = f"l-{uuid.uuid4().hex[:8]}", functions.aws
    one, two = layer({"a": "1"}, name), layer({"a": "22"}, name)
    assert (one["Version"], two["Version"]) == (1, 2)
    for each in (one, two):
        found = aws.get_layer_version(LayerName=name, VersionNumber=each["Version"])
        assert found["Content"]["CodeSha256"] == each["Content"]["CodeSha256"]
        assert found["LayerVersionArn"] == f"{ACCOUNT}:layer:{name}:{each['Version']}"
    aws.delete_layer_version(LayerName=name, VersionNumber=2)
    with pytest.raises(ClientError, match="The resource you requested does not exist."):
        aws.get_layer_version(LayerName=name, VersionNumber=2)
    assert layer({"a": "3"}, name)["Version"] == 3, "a number is not used again"


def test_layer_name_in_every_form(functions: Functions, layer: Callable[..., dict[str, Any]]) -> None:
    name, aws = f"l-{uuid.uuid4().hex[:8]}", functions.aws
    arn = f"{ACCOUNT}:layer:{name}"
    assert layer({"a": "1"}, name)["LayerArn"] == arn
    assert layer({"a": "2"}, arn)["LayerVersionArn"] == f"{arn}:2"
    for form in (name, arn):
        assert aws.get_layer_version(LayerName=form, VersionNumber=2)["Version"] == 2
        assert [row["Version"] for row in aws.list_layer_versions(LayerName=form)["LayerVersions"]] == [2, 1]
    aws.delete_layer_version(LayerName=arn, VersionNumber=1)
    assert [row["Version"] for row in aws.list_layer_versions(LayerName=name)["LayerVersions"]] == [2]


def test_layer_version_by_arn(functions: Functions, layer: Callable[..., dict[str, Any]]) -> None:
    published = layer({"a": "1"}, Description="what it is", LicenseInfo="MIT")
    found = functions.aws.get_layer_version_by_arn(Arn=published["LayerVersionArn"])
    assert found["Content"]["CodeSha256"] == published["Content"]["CodeSha256"]
    assert (found["Description"], found["LicenseInfo"]) == ("what it is", "MIT")
    with urlopen(found["Content"]["Location"]) as download:
        assert download.read() == zipped({"a": "1"})
    with pytest.raises(ClientError, match="The resource you requested does not exist."):
        functions.aws.get_layer_version_by_arn(Arn=published["LayerArn"] + ":9")


def test_layer_lists_filter(functions: Functions, layer: Callable[..., dict[str, Any]]) -> None:
    name, aws = f"l-{uuid.uuid4().hex[:8]}", functions.aws
    layer({"a": "1"}, name, CompatibleRuntimes=["python3.11"], CompatibleArchitectures=["x86_64"])
    layer({"a": "2"}, name, CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["x86_64", "arm64"])

    def versions(**filters: str) -> list[int]:
        rows = aws.list_layer_versions(LayerName=name, **filters)["LayerVersions"]
        return [row["Version"] for row in rows]

    def latest(**filters: str) -> list[int]:
        rows = aws.list_layers(**filters)["Layers"]
        return [row["LatestMatchingVersion"]["Version"] for row in rows if row["LayerName"] == name]

    assert versions() == [2, 1] and latest() == [2]
    assert versions(CompatibleRuntime="python3.11") == [1] and latest(CompatibleRuntime="python3.11") == [1]
    assert versions(CompatibleArchitecture="arm64") == [2] and latest(CompatibleArchitecture="arm64") == [2]
    assert versions(CompatibleRuntime="python3.11", CompatibleArchitecture="arm64") == []
    assert latest(CompatibleRuntime="nodejs22.x") == []


def test_marker_and_max_items_of_layers(functions: Functions, layer: Callable[..., dict[str, Any]]) -> None:
    name, aws = f"l-{uuid.uuid4().hex[:8]}", functions.aws
    for at in range(3):
        layer({"a": str(at)}, name)
        layer({"a": "x"}, f"{name}-{at}")
    page = aws.list_layer_versions(LayerName=name, MaxItems=2)
    assert [row["Version"] for row in page["LayerVersions"]] == [3, 2]
    rest = aws.list_layer_versions(LayerName=name, MaxItems=2, Marker=page["NextMarker"])
    assert [row["Version"] for row in rest["LayerVersions"]] == [1] and "NextMarker" not in rest
    pages = list(aws.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1}))
    assert all(len(page["Layers"]) <= 1 for page in pages)
    names = [row["LayerName"] for page in pages for row in page["Layers"]]
    assert names == sorted(set(names)) and {name, f"{name}-0", f"{name}-1", f"{name}-2"} <= set(names)


# ---- Invoke --------------------------------------------------------------------------------------------------


def test_payload(functions: Functions, made: Callable[..., str]) -> None:
    name = made("def handler(event, context):\n    return [type(event).__name__, event]\n")
    for event, kind in (
        ({"a": [1, 2.5, None, True]}, "dict"),
        ([], "list"),
        ("text", "str"),
        (7, "int"),
        (None, "NoneType"),
    ):
        body = json.dumps(event).encode()
        assert functions.invoke(name, body).result == [kind, event]
    assert functions.invoke(name, b"").result == ["dict", {}]


def test_invocation_type(functions: Functions, made: Callable[..., str]) -> None:
    name = made(
        "def handler(event, context):\n    print('ran', event, context.aws_request_id)\n    return 'ran'\n"
    )
    dry = functions.aws.invoke(FunctionName=name, InvocationType="DryRun", Payload=b'"dry"')
    assert (dry["StatusCode"], dry["Payload"].read()) == (204, b"")
    event = functions.aws.invoke(FunctionName=name, InvocationType="Event", Payload=b'"event"')
    assert (event["StatusCode"], event["Payload"].read()) == (202, b"")
    request_id = event["ResponseMetadata"]["RequestId"]
    lines = functions.logged(name, until="REPORT")
    sync = functions.aws.invoke(FunctionName=name, InvocationType="RequestResponse", Payload=b'"sync"')
    assert (sync["StatusCode"], sync["Payload"].read()) == (200, b'"ran"')
    assert [line for line in lines if line.startswith("ran")] == [f"ran event {request_id}"], (
        "DryRun runs nothing"
    )


def test_log_type_tail(functions: Functions, made: Callable[..., str]) -> None:
    name = made("def handler(event, context):\n    for at in range(event):\n        print('line', at)\n")
    without = functions.aws.invoke(FunctionName=name, Payload=b"1")
    assert "LogResult" not in without
    assert "LogResult" not in functions.aws.invoke(FunctionName=name, Payload=b"1", LogType="None")
    short = functions.invoke(name, 1)
    lines = short.log.splitlines()
    assert lines[0] == f"START RequestId: {short.request_id} Version: $LATEST"
    assert lines[1:3] == ["line 0", f"END RequestId: {short.request_id}"]
    assert lines[3].startswith(f"REPORT RequestId: {short.request_id}\t")
    long = functions.invoke(name, 2000)
    assert len(long.log.encode()) == 4096
    assert "line 1999\nEND" in long.log and "line 100\n" not in long.log
    failing = functions.aws.invoke(FunctionName=name, Payload=b'"x"', LogType="Tail")
    assert b"TypeError" in base64.b64decode(failing["LogResult"])


def test_client_context(functions: Functions, made: Callable[..., str]) -> None:
    code = """
        def handler(event, context):
            given = context.client_context
            return given and [given.custom, given.env, given.client.app_title]
    """
    name = made(code)
    context = {"custom": {"k": "grün"}, "env": {"e": "1"}, "client": {"app_title": "t"}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    assert functions.invoke(name, ClientContext=encoded).result == [{"k": "grün"}, {"e": "1"}, "t"]
    assert functions.invoke(name).result is None, "and the next one has none"


# ---- concurrency and loops ---------------------------------------------------------------------------------


def test_reserved_concurrent_executions(made: Callable[..., str], functions: Functions) -> None:
    """Of more at once than are reserved the rest is throttled; with none reserved all; without a limit
    nobody."""
    name = made("import time\ndef handler(event, context):\n    time.sleep(2)\n")
    aws = functions.aws
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    assert aws.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 2}

    def outcome(_: int) -> str:
        try:
            Functions(functions.server).invoke(name)
        except ClientError as failure:
            return str(failure.response["Reason"])
        return "ran"

    with ThreadPoolExecutor(5) as threads:
        outcomes = sorted(threads.map(outcome, range(5)))
    assert outcomes == ["ReservedFunctionConcurrentInvocationLimitExceeded"] * 3 + ["ran"] * 2
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert outcome(0) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    aws.delete_function_concurrency(FunctionName=name)
    assert outcome(0) == "ran"


def test_recursive_loop(made: Callable[..., str], functions: Functions) -> None:
    """A chain of calls in which a function has been called 16 times calls it no more, unless it may."""
    name = made(
        """
        import os
        def handler(event, context):
            return os.environ["_X_AMZN_TRACE_ID"]
        """
    )

    def call(trace: str) -> str:
        status, _, body = request(
            functions.server,
            "POST",
            f"/2015-03-31/functions/{name}/invocations",
            headers={"X-Amzn-Trace-Id": trace},
        )
        assert status in (200, 400), body
        return json.loads(body) if status == 200 else f"400 {json.loads(body)['Type']}"

    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"
    for number in range(1, 17):
        trace = call(trace)
        assert trace.endswith(f":{number}") and "Lineage=" in trace
    assert call(trace) == "400 User"
    assert call("Root=1-5759e988-bd862e3fe1be46a994272793").endswith(":1")
    functions.aws.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    assert call(trace).endswith(":17")
