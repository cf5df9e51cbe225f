"""java17 and others: AWS's runtime client with real functions, compiled by this machine's javac."""

import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installed_runtimes import fetched, server_with
from running import Functions, zipped
from support import require

from lambent.executor.runtimes import jdks

pytestmark = pytest.mark.timeout(400)

SOURCE = """
package example;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.util.Map;
import java.util.TreeMap;
public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  static int events = 0;
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    context.getLogger().log("seen " + event.get("number"));
    if (event.containsKey("fail")) throw new IllegalStateException("as asked");
    if (event.containsKey("exit")) System.exit(3);
    if (event.containsKey("fill")) {
      var kept = new java.util.ArrayList<byte[]>();
      while (true) kept.add(new byte[1 << 20]);
    }
    Map<String, Object> answer = new TreeMap<>();
    answer.put("events", ++events);
    answer.put("number", event.get("number"));
    answer.put("id", context.getAwsRequestId());
    answer.put("name", context.getFunctionName());
    answer.put("memory", context.getMemoryLimitInMB());
    answer.put("left", context.getRemainingTimeInMillis() > 0);
    answer.put("feature", System.getProperty("java.specification.version"));
    answer.put("environment", System.getenv("AWS_EXECUTION_ENV"));
    answer.put("heap", Runtime.getRuntime().maxMemory() >> 20);
    return answer;
  }
  public String plain(String event) { return event.toUpperCase(); }
  public static class Streams implements RequestStreamHandler {
    public void handleRequest(java.io.InputStream in, java.io.OutputStream out, Context context)
        throws java.io.IOException {
      out.write("[".getBytes()); in.transferTo(out); out.write("]".getBytes());
    }
  }
}
"""
LIBRARY = 'package library; public class Greeting { public static String text() { return "from a layer"; } }'
USES = """
package example;
public class Uses { public String run(String event) { return library.Greeting.text(); } }
"""


def machines() -> list[str]:
    """The runtimes whose Java this machine has, with a compiler."""
    return [
        f"java{one.feature}"
        for one in jdks.scan()[0]
        if one.feature >= 17 and (one.home / "bin/javac").exists()
    ]


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    require("javac", machines(), "no JDK 17 or newer: apt-get install openjdk-17-jdk-headless")
    require("mvn", shutil.which("mvn"), "AWS's client is fetched by it: apt-get install maven")
    cache = request.config.cache
    assert cache is not None
    return fetched(cache.mkdir("runtimes"), *machines())


@pytest.fixture(scope="module")
def java(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    with server_with(tmp_path_factory.mktemp("lambent-java") / "data", folder) as server:
        yield Functions(server)


def compiled(folder: Path, tmp_path: Path, *sources: str) -> dict[str, bytes]:
    """{path: class file}, for Java 17."""
    jdk = next(one for one in jdks.scan()[0] if (one.home / "bin/javac").exists() and one.feature >= 17)
    [core] = list((folder / "runtimes").glob("java*/lib/aws-lambda-java-core-*.jar"))[:1]
    files = []
    for source in sources:
        name = source.split("public class ")[1].split()[0]
        files.append(tmp_path / f"{name}.java")
        files[-1].write_text(source)
    out = tmp_path / "classes"
    command = [
        str(jdk.home / "bin/javac"),
        "--release",
        "17",
        "-d",
        str(out),
        "-cp",
        str(core),
        *map(str, files),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.class")}


@pytest.fixture(scope="module")
def classes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return compiled(folder, tmp_path_factory.mktemp("classes"), SOURCE)


def made(java: Functions, runtime: str, files: dict[str, bytes], handler: str, **members: Any) -> str:
    given = {"Runtime": runtime, "Handler": handler, "MemorySize": 256, **members}
    return java.create_from({"ZipFile": zipped(dict(files))}, **given)


@pytest.mark.parametrize("which", [0, -1], ids=["one", "another"])
def test_a_request_handler_is_answered_by_the_unmodified_client(
    java: Functions, classes: dict[str, bytes], which: int
) -> None:
    runtime = machines()[which]
    name = made(java, runtime, classes, "example.App::handleRequest")
    for events in (1, 2):
        answer = java.invoke(name, {"number": events})
        assert answer.error is None, answer.log
        heap = answer.result.pop("heap")
        assert 128 < heap <= 192
        assert answer.result == {
            "events": events,
            "number": events,
            "id": answer.request_id,
            "name": name,
            "memory": 256,
            "left": True,
            "feature": runtime.removeprefix("java"),
            "environment": f"AWS_Lambda_{runtime}",
        } | {"heap": heap}
        assert f"seen {events}" in answer.log
    failed = java.invoke(name, {"fail": 1})
    assert failed.error == "Unhandled"
    assert (failed.result["errorType"], failed.result["errorMessage"]) == (
        "java.lang.IllegalStateException",
        "as asked",
    )
    assert failed.result["stackTrace"][0].startswith("example.App.handleRequest(App.java:")
    assert java.invoke(name, {}).result["events"] == 3
    assert java.invoke(name, {"exit": 1}).result["errorType"] == "Runtime.ExitError"
    assert java.invoke(name, {}).result["events"] == 1
    lines = java.logged(name, until="INIT_START")
    assert any(
        line.startswith(f"INIT_START Runtime Version: {runtime.replace('java', 'java:')}.") for line in lines
    )
    assert not [line for line in lines if "[warning]" in line or "WARNING" in line]


def test_a_version_with_snap_start_starts_as_any_and_says_so(
    java: Functions, classes: dict[str, bytes]
) -> None:
    """A JVM has threads, so nothing of it can be kept; AWS's client waits for its restore, which is over at
    once."""
    start = {"ApplyOn": "PublishedVersions"}
    name = made(java, machines()[0], classes, "example.App::handleRequest", SnapStart=start)
    version = java.aws.publish_version(FunctionName=name)["Version"]
    java.aws.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 1}
    )
    told = java.aws.get_function_configuration(FunctionName=name, Qualifier=version)["SnapStart"]
    assert told == {**start, "OptimizationStatus": "Off"}
    answer = java.invoke(name, {"number": 1}, Qualifier=version)
    assert answer.error is None, answer.log
    assert answer.result["number"] == 1
    assert any("no snapshot" in line for line in java.logged(name, until="SnapStart: "))


def test_a_method_of_ones_own_and_a_stream_handler(java: Functions, classes: dict[str, bytes]) -> None:
    runtime = machines()[0]
    plain = made(java, runtime, classes, "example.App::plain")
    assert java.invoke(plain, "word").result == "WORD"
    streams = made(java, runtime, classes, "example.App$Streams::handleRequest")
    assert java.invoke(streams, {"a": [1]}).result == [{"a": [1]}]


def test_jars_of_the_function_and_of_layers_are_on_the_class_path(
    java: Functions, folder: Path, tmp_path: Path
) -> None:
    files = compiled(folder, tmp_path, LIBRARY, USES)
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("library/Greeting.class", files.pop("library/Greeting.class"))
    layer = zipped({"java/lib/library.jar": jar.getvalue()})
    arn = java.aws.publish_layer_version(LayerName="jars", Content={"ZipFile": layer})["LayerVersionArn"]
    runtime = machines()[0]
    by_layer = made(java, runtime, files, "example.Uses::run", Layers=[arn])
    assert java.invoke(by_layer, "x").result == "from a layer"
    inside = made(java, runtime, {**files, "lib/library.jar": jar.getvalue()}, "example.Uses::run")
    assert java.invoke(inside, "x").result == "from a layer"


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        ("example.Missing::run", "example.Missing"),
        ("example.App::none", "No public method named none"),
    ],
)
def test_a_failing_init_says_why(java: Functions, classes: dict[str, bytes], handler: str, text: str) -> None:
    failed = java.invoke(made(java, machines()[0], classes, handler))
    assert failed.error == "Unhandled"
    assert text in failed.result["errorMessage"]


def test_memory_that_runs_out_is_the_functions_error(java: Functions, classes: dict[str, bytes]) -> None:
    name = made(java, machines()[0], classes, "example.App::handleRequest", MemorySize=128)
    assert java.invoke(name, {"fill": 1}).result["errorType"] == "java.lang.OutOfMemoryError"
    assert java.invoke(name, {"number": 1}).error is None


def test_starts_use_the_class_archive(folder: Path) -> None:
    for manifest in (folder / "runtimes").glob("java*/.runtime.json"):
        assert json.loads(manifest.read_text())["archive"] is True
        assert os.path.getsize(manifest.with_name("runtime.jsa")) > 1 << 20
