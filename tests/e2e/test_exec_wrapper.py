"""AWS_LAMBDA_EXEC_WRAPPER: what layers of monitoring tools start a runtime with."""

import pytest
from running import Functions, zipped

WRAPPER = """\
#!/bin/sh
echo "wrapper of $_HANDLER"
export WRAPPED="$1" _HANDLER=app.other
exec "$@"
"""
CODE = """
import os
def handler(event, context):
    return "not this one"
def other(event, context):
    return os.environ.get("WRAPPED")
"""


def variables(path: str) -> dict[str, dict[str, str]]:
    return {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": path}}


def test_a_wrapper_of_a_layer_starts_the_runtime_and_may_change_what_it_runs(functions: Functions) -> None:
    content = {"ZipFile": zipped({"wrap": WRAPPER}, 0o755)}
    layer = functions.aws.publish_layer_version(LayerName="wrap", Content=content)["LayerVersionArn"]
    name = functions.create(CODE, Layers=[layer], Environment=variables("/opt/wrap"))
    for _ in range(2):
        answer = functions.invoke(name)
        assert answer.error is None, answer.log
        assert "python" in answer.result
    assert "wrapper of app.handler" in functions.logged(name, until="wrapper of")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/opt/none", 127, "/opt/none: does not exist"),
        ("/var/task/app.py", 126, "/var/task/app.py: is not an executable"),
    ],
)
def test_a_wrapper_that_cannot_run_ends_the_runtime_as_on_aws(
    functions: Functions, path: str, status: int, text: str
) -> None:
    answer = functions.invoke(functions.create(CODE, Environment=variables(path)))
    assert answer.error == "Unhandled"
    assert answer.result["errorType"] == "Runtime.ExitError"
    assert answer.result["errorMessage"].endswith(f"Runtime exited with error: exit status {status}")
    assert text in answer.log
