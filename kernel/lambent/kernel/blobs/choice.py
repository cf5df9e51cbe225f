"""Which blob store a server has, by its setting alone, so that every role of an installation makes the same
one."""

import os
from collections.abc import Mapping
from pathlib import Path

from lambent.kernel.blobs.directory import DirectoryBlobs
from lambent.kernel.blobs.s3 import S3Blobs
from lambent.kernel.blobs.s3_client import Bucket
from lambent.kernel.ports import BlobStore
from lambent.kernel.settings import Settings


def make_blobs(settings: Settings, *, environment: Mapping[str, str] = os.environ) -> BlobStore:
    """The store of `LAMBENT_BLOBS`, else the data folder's own `blobs`. No S3 server is asked yet; its endpoint
    and keys are those of the `environment`."""
    where = settings.blobs
    if where is None:
        return DirectoryBlobs(settings.data_dir / "blobs")
    if not where.startswith("s3://"):
        return DirectoryBlobs(Path(where))
    name, _, prefix = where.removeprefix("s3://").partition("/")
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    return S3Blobs(Bucket(name, settings.region, endpoint), f"{prefix}/" if prefix else "")


async def close_blobs(blobs: BlobStore) -> None:
    """Ends what the store has running; call it when nobody uses it any more."""
    if isinstance(blobs, S3Blobs):
        await blobs.close()
