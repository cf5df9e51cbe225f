"""OS-only runtimes: a shell script that speaks the Runtime API itself, and what is said of a bootstrap that
cannot run."""

import io
import platform
import shutil
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
from running import Functions, zipped
from support import require

SHELL = """\
#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while :; do
    event=$(curl -sS -D /tmp/headers "$api/invocation/next")
    id=$(sed -n 's/^lambda-runtime-aws-request-id: *//Ip' /tmp/headers | tr -d '\\r')
    case $event in
        *fail*) curl -sS -o /dev/null -H 'Lambda-Runtime-Function-Error-Type: Mine.Own' \\
            -d '{"errorType": "Mine.Own", "errorMessage": "as asked"}' "$api/invocation/$id/error" ;;
        *) curl -sS -o /dev/null -d "{\\"got\\": $event, \\"by\\": \\"$0\\", \\"handler\\": \\"$_HANDLER\\",
            \\"execution_env\\": \\"$AWS_EXECUTION_ENV\\", \\"path\\": \\"$PATH\\"}" \\
            "$api/invocation/$id/response" ;;
    esac
done
"""
LOOKED_AT = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
OTHER_MACHINE = {"x86_64": 183, "aarch64": 62}


def archive(files: dict[str, str | bytes], mode: int = 0o755) -> dict[str, bytes]:
    return {"ZipFile": zipped(files, mode)}


def made(
    functions: Functions, code: Mapping[str, bytes], runtime: str = "provided.al2023", **members: Any
) -> str:
    """A function whose files keep the mode that the archive gives them."""
    return functions.create_from(code, Runtime=runtime, Handler="any.thing", **members)


@pytest.fixture(scope="module")
def curl() -> None:
    require("curl", shutil.which("curl"), "the shell runtime speaks HTTP by it: apt-get install curl")


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("runtime", ["provided.al2", "provided.al2023"])
def test_a_shell_script_is_a_runtime(functions: Functions, runtime: str) -> None:
    name = made(functions, archive({"bootstrap": SHELL}), runtime)
    for number in (1, 2):
        answer = functions.invoke(name, {"number": number})
        assert answer.error is None, answer.log
        assert answer.result == {
            "got": {"number": number},
            "by": "/var/task/bootstrap",
            "handler": "any.thing",
            "execution_env": "",
            "path": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        }
    failed = functions.invoke(name, {"fail": True})
    assert failed.error == "Unhandled"
    assert failed.result == {"errorType": "Mine.Own", "errorMessage": "as asked"}
    assert functions.invoke(name, {}).error is None
    [line] = [line for line in functions.logged(name, until="INIT_START") if line.startswith("INIT_START")]
    assert line.startswith(f"INIT_START Runtime Version: {runtime.replace('.', ':')}\t"), line


@pytest.mark.usefixtures("curl")
def test_a_layer_may_bring_the_bootstrap_and_the_functions_own_wins(functions: Functions) -> None:
    layer = functions.aws.publish_layer_version(LayerName="bootstrap", Content=archive({"bootstrap": SHELL}))
    arn = layer["LayerVersionArn"]
    name = made(functions, archive({"other": "x"}), Layers=[arn])
    assert functions.invoke(name, {}).result["by"] == "/opt/bootstrap"
    both = made(functions, archive({"bootstrap": SHELL}), Layers=[arn])
    assert functions.invoke(both, {}).result["by"] == "/var/task/bootstrap"


def elf(machine: int) -> bytes:
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    head[18:20] = machine.to_bytes(2, "little")
    return bytes(head)


@pytest.mark.parametrize(
    ("files", "mode", "problem"),
    [
        ({"main": "x"}, 0o755, LOOKED_AT),
        ({"bootstrap": SHELL}, 0o644, "fork/exec /var/task/bootstrap: permission denied"),
        ({"bootstrap": "echo hello\n"}, 0o755, "fork/exec /var/task/bootstrap: exec format error"),
        (
            {"bootstrap": elf(OTHER_MACHINE.get(platform.machine(), 8))},
            0o755,
            "fork/exec /var/task/bootstrap: exec format error",
        ),
        (
            {"bootstrap": "#!/no/such/shell\n"},
            0o755,
            "fork/exec /var/task/bootstrap: no such file or directory",
        ),
    ],
    ids=["missing", "not executable", "no program", "another machine's", "no interpreter"],
)
def test_a_bootstrap_that_cannot_run_is_the_functions_error_in_aws_words(
    functions: Functions, files: dict[str, str | bytes], mode: int, problem: str
) -> None:
    name = made(functions, archive(files, mode))
    for _ in range(2):
        answer = functions.invoke(name, {})
        assert answer.error == "Unhandled"
        assert answer.result == {
            "errorType": "Runtime.InvalidEntrypoint",
            "errorMessage": f"RequestId: {answer.request_id} Error: {problem}",
        }
        assert _init_report(answer.log.splitlines()) == ["Phase: invoke"]
        lines = functions.logged(name, until=f"END RequestId: {answer.request_id}")
        assert _init_report(lines)[-2:] == ["Phase: init", "Phase: invoke"]


def _init_report(lines: list[str]) -> list[str]:
    """The phases of those that say this error, of which there must be no others."""
    found = [line.split("\t") for line in lines if line.startswith("INIT_REPORT")]
    assert all(each[2:] == ["Status: error", "Error Type: Runtime.InvalidEntrypoint"] for each in found), found
    return [each[1] for each in found]


def test_a_bootstrap_that_is_a_link_is_followed_inside(functions: Functions, curl: None) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content, kind in (("real", SHELL, 0o100755), ("bootstrap", "real", 0o120777)):
            entry = zipfile.ZipInfo(name, (2026, 1, 31, 12, 0, 0))
            entry.external_attr = kind << 16
            entry.create_system = 3
            file.writestr(entry, content)
    name = made(functions, {"ZipFile": buffer.getvalue()})
    assert functions.invoke(name, {}).result["by"] == "/var/task/bootstrap"
