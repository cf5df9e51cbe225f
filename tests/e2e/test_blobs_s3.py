"""Code and large payloads in a bucket: nothing of them lies in a data folder, and all roles have the same."""

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from roles import ClusterOf
from running import ROLE, RUNTIME, Functions, Server, zipped
from s3_server import BUCKET, S3Server


@pytest.fixture
def environment(s3_server: S3Server) -> Mapping[str, str]:
    return {
        "LAMBENT_BLOBS": f"s3://{BUCKET}/{uuid.uuid4().hex}",
        "AWS_ENDPOINT_URL_S3": s3_server.url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }


def test_functions_run_from_a_bucket_also_after_a_restart(
    tmp_path: Path, environment: Mapping[str, str], s3_server: S3Server
) -> None:
    server = Server(tmp_path / "data", environment=environment).start()
    try:
        functions = Functions(server)
        name = functions.create("def handler(event, context):\n    return event\n")
        client = s3_server.client()
        prefix = environment["LAMBENT_BLOBS"].removeprefix(f"s3://{BUCKET}/")
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
        client.close()
        assert any(key.startswith(f"{prefix}/sha256/") for key in keys)
        assert not (tmp_path / "data/blobs").exists()
        assert server.stop() == 0
        server.start()
        answer = Functions(server).aws.invoke(FunctionName=name, Payload=b'{"a": 1}')
        assert json.loads(answer["Payload"].read()) == {"a": 1}
    finally:
        code = server.stop()
    assert code == 0, server.output()
    assert "Traceback" not in server.output()


def test_a_bucket_that_is_not_there_ends_the_start_with_what_to_do(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    server = Server(tmp_path / "data", environment={**environment, "LAMBENT_BLOBS": "s3://nowhere/x"})
    try:
        with pytest.raises(AssertionError, match=r"ended with 1:(.|\n)*There is no bucket nowhere at http"):
            server.start()
    finally:
        server.stop()
    assert "Traceback" not in server.output()


def create(client: Any, name: str) -> None:
    """Once the gateway has heard of the executor, which tells it each second."""
    code = zipped({"app.py": "def handler(event, context):\n    return event\n"})
    given = {"Role": ROLE, "Runtime": RUNTIME, "Handler": "app.handler", "Code": {"ZipFile": code}}
    until = time.monotonic() + 30
    while True:
        try:
            client.create_function(FunctionName=name, **given)
            return
        except ClientError as failure:
            if "No executor has joined" not in str(failure) or time.monotonic() > until:
                raise
        time.sleep(0.1)


def test_the_roles_of_a_cluster_share_a_bucket_and_one_with_another_store_ends(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """They are all started at once, so that several of them are the first."""
    with ClusterOf(tmp_path, environment=environment) as cluster:
        client = cluster.gateways[0].client()
        create(client, "f")
        client.get_waiter("function_active_v2").wait(FunctionName="f")
        answer = client.invoke(FunctionName="f", Payload=b'{"a": 1}')
        assert json.loads(answer["Payload"].read()) == {"a": 1}
        client.close()
        stray = cluster.add_executor()
        stray.environment["LAMBENT_BLOBS"] = str(tmp_path / "elsewhere")
        with pytest.raises(AssertionError, match=r"ended with 1:(.|\n)*not the one that the other roles use"):
            stray.start()
        assert "Traceback" not in "".join(role.output() for role in cluster.all)
