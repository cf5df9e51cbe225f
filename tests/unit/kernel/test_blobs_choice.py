"""LAMBENT_BLOBS: a bucket, a folder, or the data folder's own."""

from pathlib import Path

import pytest

from lambent.kernel.blobs.choice import close_blobs, make_blobs
from lambent.kernel.blobs.directory import DirectoryBlobs
from lambent.kernel.blobs.s3 import S3Blobs
from lambent.kernel.blobs.s3_client import Bucket
from lambent.kernel.settings import Settings


def made(tmp_path: Path, blobs: str | None, **environment: str) -> DirectoryBlobs | S3Blobs:
    store = make_blobs(Settings(data_dir=tmp_path, blobs=blobs), environment=environment)
    assert isinstance(store, DirectoryBlobs | S3Blobs)
    return store


@pytest.mark.parametrize(("blobs", "folder"), [(None, "blobs"), ("{}/shared", "shared")])
async def test_a_folder(tmp_path: Path, blobs: str | None, folder: str) -> None:
    store = made(tmp_path, blobs and blobs.format(tmp_path))
    path = await store.path(await store.put(b"x"))
    assert path is not None and Path(path).is_relative_to(tmp_path / folder)
    await close_blobs(store)


@pytest.mark.parametrize(
    ("url", "environment", "bucket", "prefix"),
    [
        ("s3://code", {}, Bucket("code", "us-east-1"), ""),
        ("s3://code/", {"AWS_ENDPOINT_URL": "http://a"}, Bucket("code", "us-east-1", "http://a"), ""),
        (
            "s3://my.code-1/a/b_C/",
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"},
            Bucket("my.code-1", "us-east-1", "http://b"),
            "a/b_C/",
        ),
    ],
)
async def test_a_bucket(
    tmp_path: Path, url: str, environment: dict[str, str], bucket: Bucket, prefix: str
) -> None:
    store = made(tmp_path, url, **environment)
    assert isinstance(store, S3Blobs)
    assert (store.bucket, store.prefix) == (bucket, prefix)
    await close_blobs(store)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://B/x",
        "s3:///x",
        "http://b/x",
        "gs://bucket",
        "s3://bucket/../x",
        "s3://bucket//x",
        "s3://a?b=c",
    ],
)
def test_what_is_neither_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="as s3://BUCKET/PREFIX"):
        Settings(data_dir=tmp_path, blobs=url)
