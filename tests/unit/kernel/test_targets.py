"""targets.py: what an ARN of a destination names."""

import pytest

from lambent.kernel.targets import Target, TargetKind, parse_target

ACCOUNT = "us-east-1:000000000000"


@pytest.mark.parametrize(
    ("arn", "kind", "name", "qualifier"),
    [
        (f"arn:aws:sqs:{ACCOUNT}:q-1", TargetKind.SQS, "q-1", None),
        (f"arn:aws-cn:sns:{ACCOUNT}:t", TargetKind.SNS, "t", None),
        (f"arn:aws:lambda:{ACCOUNT}:function:f", TargetKind.LAMBDA, "f", None),
        (f"arn:aws:lambda:{ACCOUNT}:function:f:live", TargetKind.LAMBDA, "f", "live"),
        (f"arn:aws:lambda:{ACCOUNT}:function:f:$LATEST", TargetKind.LAMBDA, "f", "$LATEST"),
        (f"arn:aws:events:{ACCOUNT}:event-bus/orders", TargetKind.EVENTBRIDGE, "orders", None),
    ],
)
def test_what_an_arn_names(arn: str, kind: TargetKind, name: str, qualifier: str | None) -> None:
    assert parse_target(arn) == Target(arn, kind, name, "us-east-1", "000000000000", qualifier)


def test_a_bucket_has_neither_region_nor_account() -> None:
    assert parse_target("arn:aws:s3:::b.ucket") == Target("arn:aws:s3:::b.ucket", TargetKind.S3, "b.ucket")


def test_a_fifo_queue_is_told() -> None:
    found = parse_target(f"arn:aws:sqs:{ACCOUNT}:q.fifo")
    assert found is not None and found.fifo


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "q",
        "arn:aws:sqs:us-east-1:1:q",
        "arn:aws:sqs::000000000000:q",
        f"arn:aws:sqs:{ACCOUNT}:a b",
        f"arn:aws:sqs:{ACCOUNT}:q\n",
        f"arn:aws:s3:{ACCOUNT}:bucket",
        "arn:aws:s3:::Bucket",
        f"arn:aws:lambda:{ACCOUNT}:layer:l:1",
        f"arn:aws:events:{ACCOUNT}:rule/r",
        f"arn:aws:events:{ACCOUNT}:event-bus/aws.partner/example.com/x",
        f"arn:aws:kinesis:{ACCOUNT}:stream/s",
    ],
)
def test_what_is_no_target(arn: str) -> None:
    assert parse_target(arn) is None
