"""What is found and said of Node.js, Java and Ruby on machines that are only said to have them, and how each is
started there."""

import json
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from lambent.executor.runtimes import folders, jdks, nodejs_client, nodes, prefixes, ruby, tool
from lambent.executor.runtimes.dotnet import DotnetFamily
from lambent.executor.runtimes.family import Options, Place
from lambent.executor.runtimes.interpreters import Rejected
from lambent.executor.runtimes.java import JavaFamily
from lambent.executor.runtimes.jdks import Jdk
from lambent.executor.runtimes.nodejs import NodejsFamily
from lambent.executor.runtimes.nodes import Node
from lambent.executor.runtimes.registry import Runtimes
from lambent.executor.runtimes.ruby import Ruby, RubyFamily
from lambent.kernel.errors import ServiceException


def folder(root: Path, family: str, runtime: str, **said: object) -> Path:
    new = folders.new_folder(root)
    return folders.finish(new, root, family=family, runtime=runtime, said=said).path


# ---- Node.js -----------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Node]:
    """Adds a Node.js to the machine."""
    there: list[Node] = []
    monkeypatch.setattr(nodes.Nodes, "scan", lambda self: (list(there), []))

    def add(version: str, prefix: str = "/srv/node") -> Node:
        executable = tmp_path / f"node-{version}"
        executable.touch()
        there.append(Node(executable, version, (Path(prefix),), ("--no-x",)))
        return there[-1]

    return add


def test_node_is_ready_with_its_client_and_started_as_on_aws(tmp_path: Path, node: Callable[..., Node]) -> None:
    there = node("22.5.1")
    made = folder(tmp_path / "runtimes", "nodejs", "nodejs22.x", client="3.3.0", native=True)
    family = NodejsFamily(Place(tmp_path))
    assert family.problem("nodejs22.x") == (None, None)
    started = family.command("nodejs22.x", "app.handler", 1000)
    assert started is not None
    assert started.argv == (
        str(there.executable),
        *("--expose-gc", "--max-semi-space-size=50", "--max-old-space-size=900", "--no-x"),
        "/var/runtime/start.mjs",
    )
    assert (started.prefixes, started.runtime_dir) == ((Path("/srv/node"),), made)
    assert started.version_text == "nodejs:22.5.1"
    assert started.env["NODE_PATH"] == (
        "/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules"
    )
    assert started.env["AWS_EXECUTION_ENV"] == "AWS_Lambda_nodejs22.x"
    assert (made / "start.mjs").exists() and (made / "native.cjs").exists()
    assert family.info("nodejs22.x").client == "aws-lambda-ric 3.3.0"


def test_node_without_its_client_or_not_at_all_is_refused_with_what_to_run(
    tmp_path: Path, node: Callable[..., Node]
) -> None:
    there = node("20.1.0")
    family = NodejsFamily(Place(tmp_path))
    problem, _ = family.problem("nodejs20.x")
    assert problem is not None and str(there.executable) in problem
    assert f"Run: lambent runtimes install nodejs20.x --data-dir {tmp_path}." in problem
    problem, _ = family.problem("nodejs24.x")
    assert problem is not None and "there is no Node.js 24" in problem
    assert family.command("nodejs24.x", "a.b", 128) is None
    assert not (tmp_path / "runtimes").exists()


def test_a_client_whose_node_has_gone_does_not_count(tmp_path: Path, node: Callable[..., Node]) -> None:
    folder(tmp_path / "runtimes", "nodejs", "nodejs20.x", client="3.3.0", native=False)
    family = NodejsFamily(Place(tmp_path))
    assert family.problem("nodejs20.x")[0] is not None


def test_a_look_writes_nothing_into_a_folder(tmp_path: Path, node: Callable[..., Node]) -> None:
    node("22.5.1")
    made = folder(tmp_path / "runtimes", "nodejs", "nodejs22.x", client="3.3.0", native=False)
    info = NodejsFamily(Place(tmp_path, look_only=True)).info("nodejs22.x")
    assert info.available and info.client == "aws-lambda-ric 3.3.0 (its HTTP calls by Lambent)"
    assert not (made / "start.mjs").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho 'Node is not installed' >&2\nexit 1\n", "Node is not installed"),
        ("#!/bin/sh\necho '{}'\n", "does not run"),
        ("#!/no/such/shell\n", "cannot be executed"),
    ],
)
def test_a_node_that_fails_is_rejected_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    shim = tmp_path / "node"
    shim.write_text(text)
    shim.chmod(0o755)
    answer = nodes.probe(shim)
    assert isinstance(answer, Rejected) and reason in answer.reason


def test_what_aws_has_off_is_turned_off_where_the_node_knows_it() -> None:
    flags = ["--experimental-require-module", "--experimental-detect-module"]
    assert nodes._off("22.12.0", flags) == (
        "--no-experimental-require-module",
        "--no-experimental-detect-module",
    )
    assert nodes._off("20.5.0", []) == ()
    assert nodes._off("24.1.0", flags) == ()


async def test_a_client_that_cannot_be_fetched_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.touch()
    there = Node(tmp_path / "node", "22.5.1", (), ())

    async def fails(*_: object, **__: object) -> tuple[int, list[str]]:
        return 1, ["npm error network"]

    monkeypatch.setattr(tool, "run", fails)
    root = tmp_path / "runtimes"
    with pytest.raises(ServiceException, match=r"npm could not fetch aws-lambda-ric@3(.|\n)*npm error network"):
        await nodejs_client.install(root, "nodejs22.x", there, Options(seconds=9))
    assert list(root.iterdir()) == []


# ---- Java --------------------------------------------------------------------------------------------------


def jdk(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin/java").touch()
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    for path in (home, home / "bin", home / "bin/java", home / "release"):
        path.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("version", "feature"), [("1.8.0_402", 8), ("17.0.15", 17), ("21", 21), ("25.0.3", 25), ("11.0.2+9", 11)]
)
def test_javas_versions(version: str, feature: int) -> None:
    assert jdks.feature(version) == feature


def test_jdks_are_found_without_running_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "_TAKEN", ("/opt",))
    homes = [jdk(tmp_path / "a", "21.0.1"), jdk(tmp_path / "b", "17.0.2"), tmp_path / "nothing"]
    (jdk(tmp_path / "c", "x") / "release").write_text("no version")
    monkeypatch.setattr(jdks, "_candidates", lambda: iter([*homes, tmp_path / "c", homes[0]]))
    found, rejected = jdks.scan()
    assert [(one.home, one.feature, one.prefixes) for one in found] == [
        (homes[0], 21, (homes[0],)),
        (homes[1], 17, (homes[1],)),
    ]
    assert [(one.path, one.reason) for one in rejected] == [
        (tmp_path / "c", "names no version in its file release")
    ]


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JavaFamily:
    """A machine with Java 17 and 25; the client of 25 is installed."""
    there = [
        Jdk(jdk(tmp_path / name, version), version, ()) for name, version in (("a", "17.0.2"), ("b", "25.0.1"))
    ]
    monkeypatch.setattr(jdks, "scan", lambda: (there, []))
    said = {"client": "2.10.1", "jars": ["core.jar", "ric.jar"], "java": "25.0.0", "archive": True}
    folder(tmp_path / "runtimes", "java", "java25", **said)
    return JavaFamily(Place(tmp_path))


def test_java_is_started_from_its_archive_by_the_class_path_that_it_knows(java: JavaFamily) -> None:
    started = java.command("java25", "example.App::run", 1000)
    assert started is not None
    assert started.argv[0].endswith("/b/bin/java")
    assert "-Xmx750m" in started.argv
    assert "-XX:SharedArchiveFile=/var/runtime/runtime.jsa" in started.argv
    assert started.argv[-4:] == (
        "-cp",
        "../runtime/lib/core.jar:../runtime/lib/ric.jar:/var/runtime/lib/core.jar:/var/runtime/lib/ric.jar",
        "com.amazonaws.services.lambda.runtime.api.client.AWSLambda",
        "example.App::run",
    )
    assert started.version_text == "java:25.0.1"
    assert started.env["AWS_EXECUTION_ENV"] == "AWS_Lambda_java25"


def test_java_that_is_missing_or_has_no_client_is_refused_with_what_to_do(java: JavaFamily) -> None:
    problem, _ = java.problem("java17")
    assert (
        problem is not None and "/a/bin/java is there" in problem and "Run: lambent runtimes install" in problem
    )
    assert java.problem("java17.al2023")[0] is not None
    problem, _ = java.problem("java21")
    assert problem is not None and "apt-get install openjdk-21-jdk-headless" in problem
    assert java.command("java21", "a::b", 128) is None
    assert [name for name in java.names if java.info(name).available] == ["java25"]


async def test_java_without_maven_is_told(java: JavaFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambent.executor.runtimes.java_client.shutil.which", lambda name: None)
    java.scan()
    with pytest.raises(ServiceException, match="apt-get install maven"):
        await java.install("java17", Options(seconds=9))
    with pytest.raises(ServiceException, match="there is no Java 21"):
        await java.install("java21", Options(seconds=9))


# ---- Ruby and .NET -----------------------------------------------------------------------------------------


@pytest.fixture
def rubies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Ruby 3.1 and 3.4."""
    paths = []
    for version in ("3.1.2", "3.4.1"):
        paths.append(tmp_path / f"ruby-{version}")
        paths[-1].touch()
    monkeypatch.setattr(ruby, "_candidates", lambda: iter(paths))
    monkeypatch.setattr(
        ruby, "probe", lambda path: Ruby(path, path.name.removeprefix("ruby-"), f"{path.name[5:8]}.0", ())
    )
    return tmp_path


def test_ruby_is_exact_unless_told_otherwise(rubies: Path) -> None:
    exact = RubyFamily(Place(rubies))
    assert exact.problem("ruby3.4") == (None, None)
    problem, _ = exact.problem("ruby3.2")
    assert problem is not None and "there is no Ruby 3.2 (" in problem and "ruby-3.1.2 is 3.1.2" in problem
    nearest = RubyFamily(Place(rubies, "compatible"))
    assert nearest.problem("ruby3.2") == (
        None,
        "ruby3.2 is not on this machine; the function runs on Ruby 3.4.1, because LAMBENT_RUNTIME_MATCH is "
        "compatible.",
    )
    started = nearest.command("ruby4.0", "app.handler", 128)
    assert started is not None
    assert started.argv == (str(rubies / "ruby-3.4.1"), "/var/runtime/ruby_bootstrap.rb")
    assert started.env["GEM_PATH"] == "/var/task/vendor/bundle/ruby/3.4.0:/opt/ruby/gems/3.4.0"
    assert started.env["AWS_EXECUTION_ENV"] == "AWS_Lambda_ruby4.0"
    assert (started.runtime_dir / "ruby_bootstrap.rb").exists()


async def test_dotnet_says_what_to_do_instead(tmp_path: Path) -> None:
    family = DotnetFamily(Place(tmp_path))
    problem, _ = family.problem("dotnet8")
    assert problem is not None and "provided.al2023" in problem
    with pytest.raises(ServiceException, match="cannot run dotnet8 yet"):
        await family.install("dotnet8", Options(seconds=1))


# ---- all of them -------------------------------------------------------------------------------------------


def test_every_runtime_has_one_family(tmp_path: Path) -> None:
    registry = Runtimes(tmp_path, look_only=True)
    counted = [name for family in registry._families for name in family.names]
    assert sorted(counted) == sorted(set(counted)) == sorted(registry._by_name)


def test_a_damaged_folder_and_one_of_another_schema_are_passed_over(tmp_path: Path) -> None:
    good = folder(tmp_path, "java", "java17", jars=[])
    bad = folder(tmp_path, "java", "java21", jars=[])
    (bad / folders.MANIFEST).write_text("{")
    newer = folder(tmp_path, "java", "java25", jars=[])
    said = json.loads((newer / folders.MANIFEST).read_text())
    (newer / folders.MANIFEST).write_text(json.dumps({**said, "schema": 2}))
    assert [found.path for found in folders.find(tmp_path, "java")] == [good]
    assert folders.find(tmp_path, "nodejs") == []


def test_what_a_folder_has_can_be_read_by_functions_and_the_same_is_made_once(tmp_path: Path) -> None:
    def build() -> Path:
        new = folders.new_folder(tmp_path)
        (new / "program").write_text("x")
        (new / "program").chmod(0o700)
        (new / "text").write_text("x")
        (new / "text").chmod(0o600)
        return folders.finish(new, tmp_path, family="f", runtime="r", said={}).path

    made = build()
    assert build() == made
    modes = {path.name: path.stat().st_mode & 0o777 for path in (made, *made.iterdir())}
    assert modes == {made.name: 0o755, "program": 0o755, "text": 0o644, folders.MANIFEST: 0o644}
    assert list(tmp_path.iterdir()) == [made]


async def test_a_tool_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = "sleep 60 & echo $! > pid; echo begun; wait"
    lines: list[str] = []
    with pytest.raises(ServiceException, match="sh did not end within 0 s"):
        await tool.run(["/bin/sh", "-c", script], seconds=0.3, on_line=lines.append, cwd=tmp_path)
    assert lines == ["begun"]
    try:
        child = os.pidfd_open(int((tmp_path / "pid").read_text()))
    except ProcessLookupError:
        return  # it has ended
    ended, _, _ = select.select([child], [], [], 10)
    os.close(child)
    assert ended
