"""Makes a thumbnail of each photograph that is put into a bucket.

Invoked by an S3 trigger. Pillow comes from a layer, boto3 from the runtime. TARGET_BUCKET is where thumbnails
go, under the photograph's own key; THUMBNAIL_PIXELS (128) is the longer side's length at most.
"""

import io
import os
from urllib.parse import unquote_plus

import boto3
from PIL import Image, ImageOps

s3 = boto3.client("s3")


def handler(event, context):
    """Returns [{"bucket", "key", "width", "height"}], one for each record of the event."""
    return [_resize(record["s3"]) for record in event["Records"]]


def _resize(source):
    bucket = source["bucket"]["name"]
    key = unquote_plus(source["object"]["key"])
    target = os.environ["TARGET_BUCKET"]
    pixels = int(os.environ.get("THUMBNAIL_PIXELS", "128"))
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with Image.open(io.BytesIO(body)) as photo:
        kind = photo.format or "JPEG"
        # Cameras turn the picture by a note in its metadata, which a thumbnail does not keep.
        thumbnail = ImageOps.exif_transpose(photo)
        thumbnail.thumbnail((pixels, pixels))
        out = io.BytesIO()
        thumbnail.save(out, format=kind)
    s3.put_object(Bucket=target, Key=key, Body=out.getvalue(), ContentType=Image.MIME[kind])
    width, height = thumbnail.size
    print(f"s3://{bucket}/{key} -> s3://{target}/{key}, {width} x {height}")
    return {"bucket": target, "key": key, "width": width, "height": height}
