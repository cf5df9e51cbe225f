"""nodejsNN.x: AWS's runtime client with real functions, each behaviour as AWS documents it. The client's native
addon is replaced by our own HTTP calls here; `make runtimes-test` builds it and runs the same tests."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from commands import Command
from installed_runtimes import fetched, server_with
from running import Functions, request, zipped
from support import TESTS

BUILD = os.environ.get("LAMBENT_TEST_BUILD") == "1"
RUNTIMES = ("nodejs20.x", "nodejs22.x", "nodejs24.x") if BUILD else ("nodejs22.x", "nodejs24.x")
OLDEST, NEWEST = RUNTIMES[0], RUNTIMES[-1]
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)
pytestmark = pytest.mark.timeout(900 if BUILD else 240)


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    cache = request.config.cache
    assert cache is not None
    folder = fetched(cache.mkdir("runtimes"), *RUNTIMES, build=BUILD)
    with server_with(tmp_path_factory.mktemp("lambent-node") / "data", folder) as server:
        yield Functions(server)


def made(node: Functions, runtime: str, files: dict[str, str | bytes], **members: Any) -> str:
    return node.create(files, Runtime=runtime, **{"Handler": "index.handler", "Timeout": 10, **members})


@every_runtime
@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("index.js", "exports.handler = async (event, context) => ({ event, id: context.awsRequestId })"),
        ("index.mjs", "export const handler = async (event, context) => ({ event, id: context.awsRequestId })"),
        ("index.cjs", "exports.handler = async (event, context) => ({ event, id: context.awsRequestId })"),
    ],
)
def test_an_async_handler_of_each_kind_of_module(node: Functions, runtime: str, file: str, code: str) -> None:
    name = made(node, runtime, {file: code})
    for event in ({"a": "é"}, ["x" * 100_000]):
        answer = node.invoke(name, event)
        assert answer.error is None, answer.log
        assert answer.result == {"event": event, "id": answer.request_id}


def test_a_package_json_makes_js_files_es_modules_and_folders_may_be_nested(node: Functions) -> None:
    files: dict[str, str | bytes] = {
        "src/deep/app.js": "import { helper } from '../helper.js'; export const run = async () => helper()",
        "src/helper.js": "export const helper = () => import.meta.url",
        "package.json": '{"type": "module"}',
    }
    name = made(node, NEWEST, files, Handler="src/deep/app.run")
    assert node.invoke(name).result == "file:///var/task/src/helper.js"


def test_the_context_and_the_variables_are_aws_s(node: Functions) -> None:
    code = """
    export const handler = async (event, context) => {
      const { PATH, NODE_PATH, AWS_EXECUTION_ENV, LAMBDA_TASK_ROOT, _HANDLER, _X_AMZN_TRACE_ID } = process.env;
      return { ...context, left: context.getRemainingTimeInMillis(), major: process.versions.node.split('.')[0],
        PATH, NODE_PATH, AWS_EXECUTION_ENV, LAMBDA_TASK_ROOT, _HANDLER, _X_AMZN_TRACE_ID, cwd: process.cwd() };
    };
    """
    name = made(node, NEWEST, {"index.mjs": code}, MemorySize=256)
    answer = node.invoke(name, {})
    seen = answer.result
    assert 0 < seen.pop("left") <= 10_000
    assert seen.pop("_X_AMZN_TRACE_ID", seen.pop("xRayTraceId")).startswith("Root=1-")
    assert seen.pop("logStreamName").count("[$LATEST]") == 1
    assert seen.pop("invokedFunctionArn").endswith(f":function:{name}")
    assert seen.pop("PATH").endswith("/usr/local/bin:/usr/bin/:/bin:/opt/bin")
    assert seen == {
        "functionVersion": "$LATEST",
        "functionName": name,
        "memoryLimitInMB": "256",
        "logGroupName": f"/aws/lambda/{name}",
        "awsRequestId": answer.request_id,
        "major": "24",
        "NODE_PATH": "/opt/nodejs/node24/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules",
        "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs24.x",
        "LAMBDA_TASK_ROOT": "/var/task",
        "_HANDLER": "index.handler",
        "cwd": "/var/task",
    }
    [line] = [line for line in node.logged(name, until="INIT_START") if line.startswith("INIT_START")]
    assert line.startswith("INIT_START Runtime Version: nodejs:24."), line


def test_a_client_context_arrives(node: Functions) -> None:
    name = made(node, OLDEST, {"index.mjs": "export const handler = async (e, c) => c.clientContext"})
    sent = {"client": {"app_title": "t"}, "Custom": {"k": "v"}}
    answer = node.invoke(name, ClientContext=base64.b64encode(json.dumps(sent).encode()).decode())
    assert answer.result == sent


@pytest.mark.parametrize("runtime", RUNTIMES[:-1])
def test_a_callback_handler_answers_when_the_event_loop_is_empty(node: Functions, runtime: str) -> None:
    code = """
    let later = 'not yet';
    exports.handler = (event, context, callback) => {
      context.callbackWaitsForEmptyEventLoop = event.wait;
      later = 'not yet';
      setTimeout(() => { later = 'done'; }, 100);
      callback(event.fail ? new TypeError('as asked') : null, { get now() { return later; } });
    };
    """
    name = made(node, runtime, {"index.js": code})
    assert node.invoke(name, {"wait": True}).result == {"now": "done"}
    assert node.invoke(name, {"wait": False}).result == {"now": "not yet"}
    failed = node.invoke(name, {"fail": True})
    assert (failed.error, failed.result["errorType"]) == ("Unhandled", "TypeError")


def test_from_node_24_on_a_callback_handler_is_refused(node: Functions) -> None:
    code = "exports.handler = (event, context, callback) => callback(null, 1)"
    failed = node.invoke(made(node, "nodejs24.x", {"index.js": code}))
    assert failed.error == "Unhandled"
    assert failed.result["errorType"] == "Runtime.CallbackHandlerDeprecated"


@every_runtime
def test_what_is_thrown_is_the_answer_and_the_next_event_is_served(node: Functions, runtime: str) -> None:
    code = """
    export const handler = async (event) => {
      if (event.error) throw new RangeError(event.error);
      if (event.text) throw event.text;
      return process.uptime() > 0;
    };
    """
    name = made(node, runtime, {"index.mjs": code})
    failed = node.invoke(name, {"error": "boom"})
    assert failed.error == "Unhandled"
    assert (failed.result["errorType"], failed.result["errorMessage"]) == ("RangeError", "boom")
    assert failed.result["trace"][0] == "RangeError: boom"
    assert "/var/task/index.mjs:3:" in failed.result["trace"][1]
    assert "\tERROR\tInvoke Error \t{" in failed.log
    thrown = node.invoke(name, {"text": "just text"}).result
    assert thrown == {"errorType": "string", "errorMessage": "just text", "trace": []}
    again = node.invoke(name, {})
    assert again.result is True
    assert "Init Duration" not in again.log


@every_runtime
@pytest.mark.parametrize(
    ("files", "handler", "error_type", "text"),
    [
        ({"other.js": ""}, "index.handler", "Runtime.ImportModuleError", "Cannot find module 'index'"),
        (
            {"index.js": "require('left-out')"},
            "index.handler",
            "Runtime.ImportModuleError",
            "Cannot find module 'left-out'",
        ),
        (
            {"index.js": "exports.other = 1"},
            "index.handler",
            "Runtime.HandlerNotFound",
            "undefined or not expo",
        ),
        ({"index.js": "exports.handler = 1"}, "index.handler", "Runtime.HandlerNotFound", "is not a function"),
        ({"index.js": "exports.handler = ("}, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError"),
        ({"index.js": ""}, "index", "Runtime.MalformedHandlerName", "Bad handler"),
        ({"index.js": "throw new TypeError('at init')"}, "index.handler", "TypeError", "at init"),
    ],
    ids=["no file", "no module", "no handler", "no function", "syntax", "no name", "throws"],
)
def test_a_failing_init_says_why_in_aws_words(
    node: Functions, runtime: str, files: dict[str, str | bytes], handler: str, error_type: str, text: str
) -> None:
    failed = node.invoke(made(node, runtime, files, Handler=handler))
    assert failed.error == "Unhandled"
    assert failed.result["errorType"] == error_type, failed.result
    assert text in failed.result["errorMessage"]


@every_runtime
def test_a_rejection_that_nobody_handles_ends_the_runtime_and_the_next_event_finds_another(
    node: Functions, runtime: str
) -> None:
    code = """
    export const handler = async (event) => {
      if (event.reject) {
        Promise.reject(new Error('left alone'));
        await new Promise((resolve) => setTimeout(resolve, 5000));
      }
      if (event.throw) {
        setTimeout(() => { throw new Error('from a timer'); }, 1);
        await new Promise((resolve) => setTimeout(resolve, 5000));
      }
      return 'fine';
    };
    """
    name = made(node, runtime, {"index.mjs": code})
    # Version 4 of AWS's client, for nodejs24.x, leaves both to Node.js, which ends with exit status 1.
    exits = runtime == NEWEST
    for asked, error_type, text in (
        ("reject", "Runtime.UnhandledPromiseRejection", "left alone"),
        ("throw", "Error", "from a timer"),
    ):
        failed = node.invoke(name, {asked: True})
        assert failed.error == "Unhandled"
        assert failed.result["errorType"] == ("Runtime.ExitError" if exits else error_type), failed.log
        assert text in (failed.log if exits else failed.result["errorMessage"])
        assert node.invoke(name, {}).result == "fine"


LOGS = """
console.log('at init');
export const handler = async () => {
  console.debug('d'); console.info('i %s', 1); console.warn('w\\nsecond'); console.error(new Error('e'));
  process.stdout.write('raw\\n');
};
"""


def test_text_logs_are_aws_s(node: Functions) -> None:
    name = made(node, NEWEST, {"index.mjs": LOGS})
    answer = node.invoke(name)
    lines = node.logged(name, until="REPORT")
    [init] = [line for line in lines if "at init" in line]
    assert init.split("\t")[1:3] == ["-", "INFO"]  # "undefined" from the client of nodejs22.x
    assert init.split("\t")[0].endswith("Z")
    found = {line.split("\t")[2]: line.split("\t") for line in lines if f"\t{answer.request_id}\t" in line}
    assert found["DEBUG"][3].rstrip() == "d"
    assert found["INFO"][3].rstrip() == "i 1"
    assert "second" in found["WARN"][3]
    assert "Error: e" in found["ERROR"][3]
    assert any(line.rstrip() == "raw" for line in lines)


def test_json_logs_are_aws_s_and_the_level_filters(node: Functions) -> None:
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN"}
    name = made(node, NEWEST, {"index.mjs": LOGS}, LoggingConfig=config)
    answer = node.invoke(name)
    lines = node.logged(name, until='{"timestamp"', count=2)
    records = [json.loads(line) for line in lines if line.startswith('{"timestamp"')]
    assert [record["level"] for record in records] == ["WARN", "ERROR"]
    assert records[0]["message"] == "w\nsecond"
    assert {record["requestId"] for record in records} == {answer.request_id}


def test_layers_bring_modules(node: Functions) -> None:
    module = "module.exports = __dirname"
    content = {
        "nodejs/node_modules/plain/index.js": module,
        "nodejs/node24/node_modules/own/index.js": module,
        "nodejs/node22/node_modules/older/index.js": module,
    }
    layer = node.aws.publish_layer_version(LayerName="modules", Content={"ZipFile": zipped(content)})
    code = """
    const found = (name) => { try { return require(name); } catch (error) { return error.code; } };
    exports.handler = async () => ['plain', 'own', 'older'].map(found);
    """
    name = made(node, "nodejs24.x", {"index.js": code}, Layers=[layer["LayerVersionArn"]])
    assert node.invoke(name).result == [
        "/opt/nodejs/node_modules/plain",
        "/opt/nodejs/node24/node_modules/own",
        "MODULE_NOT_FOUND",
    ]


@every_runtime
def test_es_modules_find_modules_of_layers(node: Functions, runtime: str) -> None:
    """As on AWS from nodejs18.x on; Node.js by itself would not."""
    content: dict[str, str | bytes] = {
        "nodejs/node_modules/words/index.mjs": "import { end } from 'ends'; export const word = `layer${end}`;",
        "nodejs/node_modules/words/package.json": '{"name": "words", "exports": "./index.mjs"}',
        "nodejs/node_modules/ends/index.js": "exports.end = '!';",
    }
    layer = node.aws.publish_layer_version(LayerName="words", Content={"ZipFile": zipped(content)})
    code = """
    import { word } from 'words';
    export const handler = async (event) => event.other ? import(event.other) : word;
    """
    name = made(node, runtime, {"index.mjs": code}, Layers=[layer["LayerVersionArn"]])
    assert node.invoke(name).result == "layer!"
    failed = node.invoke(name, {"other": "left-out"}).result
    assert "Cannot find package 'left-out' imported from /var/task/index.mjs" in failed["errorMessage"]


@every_runtime
@pytest.mark.parametrize(
    ("file", "taken"),
    [
        ("index.mjs", "import { LambdaClient, InvokeCommand } from '@aws-sdk/client-lambda'; export"),
        ("index.cjs", "const { LambdaClient, InvokeCommand } = require('@aws-sdk/client-lambda'); exports"),
    ],
)
def test_aws_sdk_is_there_and_reaches_the_server(node: Functions, runtime: str, file: str, taken: str) -> None:
    """As in AWS's runtimes; by ES modules and by require()."""
    other = made(node, runtime, {"index.mjs": "export const handler = async (event) => event.word"})
    handler = "export const handler" if file == "index.mjs" else "exports.handler"
    code = f"""
    {taken.rpartition(" ")[0]}
    {handler} = async () => {{
      const Payload = JSON.stringify({{ word: 'sdk' }});
      const asked = new InvokeCommand({{ FunctionName: '{other}', Payload }});
      const answer = await new LambdaClient().send(asked);
      return JSON.parse(Buffer.from(answer.Payload).toString());
    }};
    """
    name = made(node, runtime, {file: code}, MemorySize=512)
    answer = node.invoke(name)
    assert (answer.error, answer.result) == (None, "sdk"), answer.payload


@every_runtime
def test_the_sdk_of_a_layer_or_of_the_code_comes_before_the_runtimes(node: Functions, runtime: str) -> None:
    own = {"@aws-sdk/client-sts/index.js": "exports.whose = 'layer'"}
    content: dict[str, str | bytes] = {f"nodejs/node_modules/{path}": code for path, code in own.items()}
    layer = node.aws.publish_layer_version(LayerName="own-sdk", Content={"ZipFile": zipped(content)})
    layers = [layer["LayerVersionArn"]]
    code = "const { whose } = require('@aws-sdk/client-sts'); exports.handler = async () => whose;"
    assert node.invoke(made(node, runtime, {"index.cjs": code}, Layers=layers)).result == "layer"
    es = "import sts from '@aws-sdk/client-sts'; export const handler = async () => sts.whose;"
    assert node.invoke(made(node, runtime, {"index.mjs": es}, Layers=layers)).result == "layer"
    theirs: dict[str, str | bytes] = {
        "node_modules/@aws-sdk/client-sts/index.js": "exports.whose = 'code'",
        "index.mjs": es,
    }
    assert node.invoke(made(node, runtime, theirs, Layers=layers)).result == "code"


STREAMS = """
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.http) {
    stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'X-Mine': 'yes' } });
  } else {
    stream.setContentType('text/plain');
  }
  stream.write('one,');
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (event.fail) throw new Error('halfway');
  stream.write('two');
  stream.end();
});
"""


def streamed(node: Functions, name: str, event: object) -> tuple[bytes, dict[str, Any]]:
    answer = node.aws.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event))
    body, end = b"", dict[str, Any]()
    for part in answer["EventStream"]:
        body += part.get("PayloadChunk", {}).get("Payload", b"")
        end = part.get("InvokeComplete", end)
    return body, end


@every_runtime
def test_a_response_is_streamed(node: Functions, runtime: str) -> None:
    name = made(node, runtime, {"index.mjs": STREAMS})
    body, end = streamed(node, name, {})
    assert (body, end.get("ErrorCode")) == (b"one,two", None)
    body, end = streamed(node, name, {"http": True})
    prelude, _, rest = body.partition(b"\0" * 8)
    assert json.loads(prelude) == {"statusCode": 201, "headers": {"X-Mine": "yes"}}
    assert rest == b"one,two"
    body, end = streamed(node, name, {"fail": True})
    assert (body, end["ErrorCode"]) == (b"one,", "Error")
    assert json.loads(end["ErrorDetails"])["errorMessage"] == "halfway"
    assert streamed(node, name, {})[0] == b"one,two"


@every_runtime
def test_a_function_url_streams_with_its_status_and_headers(node: Functions, runtime: str) -> None:
    name = made(node, runtime, {"index.mjs": STREAMS.replace("event.http", "true")})
    config = {"FunctionName": name, "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
    host = urlsplit(node.aws.create_function_url_config(**config)["FunctionUrl"]).netloc
    status, headers, body = request(node.server, "GET", "/", headers={"Host": host})
    assert (status, headers["x-mine"], body) == (201, "yes", b"one,two")


def test_memory_is_the_functions(node: Functions) -> None:
    """The heap's limit follows the function's memory, so that garbage is collected before the kernel kills."""
    code = (
        "export const handler = async () => process.getBuiltinModule('v8').getHeapStatistics().heap_size_limit"
    )
    limits = [
        node.invoke(made(node, NEWEST, {"index.mjs": code}, MemorySize=memory)).result / (1 << 20)
        for memory in (256, 1024)
    ]
    assert limits[0] < 320 < 900 < limits[1] < 1150


def test_the_example_is_deployed_with_its_modules(node: Functions, tmp_path: Path) -> None:
    shutil.copytree(TESTS.parent / "examples/node", tmp_path / "code")
    module = tmp_path / "code/node_modules/own"
    module.mkdir(parents=True)
    (module / "index.mjs").write_text("export const word = 'module';\n")
    (module / "package.json").write_text('{"name": "own", "exports": "./index.mjs"}')
    with open(tmp_path / "code/index.mjs", "a", encoding="utf-8") as file:
        file.write("import { word } from 'own';\nexport const other = async () => word;\n")
    lambent = Command(tmp_path, LAMBENT_ENDPOINT=node.server.url)
    lambent(
        "deploy", str(tmp_path / "code"), "--runtime", OLDEST, "--handler", "index.handler", "--name", "words"
    )
    answer = node.invoke("words", {"text": "the quick brown fox"}).result
    assert (answer["words"], answer["longest"], answer["millisecondsLeft"] > 0) == (4, "quick", True)
    lambent("deploy", str(tmp_path / "code"), "--name", "words", "--handler", "index.other")
    assert node.invoke("words").result == "module"
    assert (
        "--handler" in lambent("deploy", str(tmp_path / "code"), "--runtime", OLDEST, "--name", "x", code=1).err
    )
