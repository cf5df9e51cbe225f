"""Functions in Go and Rust by AWS's own libraries for them, on the OS-only runtimes."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Command
from installed_runtimes import compiled
from running import Answer, Functions, zipped
from support import TESTS, require

BUILD = os.environ.get("LAMBENT_TEST_BUILD") == "1"
FUNCTIONS = TESTS / "functions"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    kept = request.config.cache
    assert kept is not None
    return kept.mkdir("runtimes")


@pytest.fixture(scope="module")
def go(cache: Path) -> bytes:
    found = shutil.which("go")
    require("go", found, "no Go compiler on PATH: https://go.dev/dl or apt-get install golang-go")
    return compiled(cache, FUNCTIONS / "go", [str(found), "build", "-o", "bootstrap", "."], "bootstrap")


@pytest.fixture(scope="module")
def rust(cache: Path) -> bytes:
    if not BUILD:
        pytest.skip("compiling it takes a minute or two: `make runtimes-test` does")
    found = shutil.which("cargo")
    require("cargo", found, "no Rust compiler on PATH: https://rustup.rs or apt-get install cargo")
    return compiled(
        cache, FUNCTIONS / "rust", [str(found), "build", "--release", "--locked"], "target/release/bootstrap"
    )


def made(functions: Functions, program: bytes, handler: str = "main") -> str:
    archive = zipped({"bootstrap": program}, 0o755)
    return functions.create_from({"ZipFile": archive}, Runtime="provided.al2023", Handler=handler)


def answered(functions: Functions, name: str) -> Answer:
    """Two events; the second answer, without what both languages' answers have in common."""
    for events in (1, 2):
        answer = functions.invoke(name, {"number": events * 10})
        assert answer.error is None, answer.log
        result: dict[str, Any] = answer.result
        assert (result["events"], result["number"]) == (events, events * 10)
        assert (result["id"], result["name"]) == (answer.request_id, name)
        assert result["arn"].endswith(f":function:{name}")
    return answer


def test_go(functions: Functions, go: bytes) -> None:
    name = made(functions, go)
    last = answered(functions, name)
    assert (last.result["left"], last.result["handler"]) == (True, "main")
    assert "seen 20" in last.log
    failed = functions.invoke(name, {"fail": "error"})
    assert (failed.error, failed.result) == (
        "Unhandled",
        {"errorMessage": "as asked", "errorType": "errorString"},
    )
    assert functions.invoke(name, {"number": 1}).result["events"] == 3
    panicked = functions.invoke(name, {"fail": "panic"})
    assert panicked.error == "Unhandled"
    assert (panicked.result["errorMessage"], panicked.result["errorType"]) == ("as asked", "string")
    assert any("main.go" in frame["path"] for frame in panicked.result["stackTrace"])
    assert functions.invoke(name, {"number": 1}).result["events"] == 1  # the library ends after a panic


def test_a_go_function_streams(functions: Functions, go: bytes) -> None:
    name = made(functions, go, "stream")
    answer = functions.aws.invoke_with_response_stream(FunctionName=name, Payload=b'{"number": 300000}')
    parts = [part["PayloadChunk"]["Payload"] for part in answer["EventStream"] if "PayloadChunk" in part]
    assert b"".join(parts) == b"x" * 300_000


def test_rust(functions: Functions, rust: bytes) -> None:
    name = made(functions, rust)
    answered(functions, name)
    failed = functions.invoke(name, {"fail": "error"})
    assert failed.error == "Unhandled"
    assert failed.result["errorMessage"] == "as asked"
    assert functions.invoke(name, {"number": 1}).result["events"] == 3


def test_the_example_is_built_and_deployed(functions: Functions, cache: Path, tmp_path: Path) -> None:
    go = shutil.which("go")
    require("go", go, "no Go compiler on PATH: https://go.dev/dl or apt-get install golang-go")
    folder = TESTS.parent / "examples/go"
    command = [str(go), "build", "-o", "build/bootstrap", "."]
    program = compiled(cache, folder, command, "build/bootstrap")
    (tmp_path / "build").mkdir()
    (tmp_path / "build/bootstrap").write_bytes(program)
    (tmp_path / "build/bootstrap").chmod(0o755)
    lambent = Command(tmp_path, LAMBENT_ENDPOINT=functions.server.url)
    lambent("deploy", str(tmp_path / "build"), "--name", "go-words", "--runtime", "provided.al2023")
    assert functions.invoke("go-words", {"text": "the quick brown fox"}).result == {"words": 4}
    functions.aws.delete_function(FunctionName="go-words")
