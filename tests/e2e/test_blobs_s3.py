"""`lambent up` with its code and large payloads in a bucket: nothing of them lies in the data folder."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from running import Functions, Server
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
