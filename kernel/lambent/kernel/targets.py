"""Where outcomes of asynchronous events go, told by ARN: one place that says what an ARN names, because the
gateway refuses what the scheduler could not deliver.

Pure. AWS: "Destinations for asynchronous invocation", "Dead-letter queues".
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class TargetKind(StrEnum):
    """The service of a target."""

    SQS = "sqs"
    SNS = "sns"
    LAMBDA = "lambda"
    EVENTBRIDGE = "events"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class Target:
    """`name`: of the queue, topic, function, event bus or bucket. `qualifier`: of a function. Region and
    account are empty for a bucket."""

    arn: str
    kind: TargetKind
    name: str
    region: str = ""
    account: str = ""
    qualifier: str | None = None

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


_ARN = re.compile(
    r"arn:aws[a-zA-Z0-9-]*:(?P<service>[a-z0-9]+):(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<rest>.+)"
)
_NAMES = {
    "sqs": re.compile(r"(?P<name>[A-Za-z0-9_-]{1,80}(\.fifo)?)"),
    "sns": re.compile(r"(?P<name>[A-Za-z0-9_-]{1,256}(\.fifo)?)"),
    "lambda": re.compile(
        r"function:(?P<name>[A-Za-z0-9_-]{1,64})(:(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
    ),
    "events": re.compile(r"event-bus/(?P<name>(?!aws\.partner/)[A-Za-z0-9/._-]{1,256})"),
    "s3": re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"),
}


def parse_target(arn: str) -> Target | None:
    """What an ARN names, or None for anything that is no destination of Lambda's (a partner's event bus
    too)."""
    found = _ARN.fullmatch(arn)
    pattern = _NAMES.get(found["service"]) if found is not None else None
    named = pattern.fullmatch(found["rest"]) if found is not None and pattern is not None else None
    if found is None or named is None:
        return None
    whole = bool(found["region"] and len(found["account"]) == 12)
    if (found["service"] == "s3") == whole:  # a bucket has neither region nor account, all others have both
        return None
    return Target(
        arn=arn,
        kind=TargetKind(found["service"]),
        name=named["name"],
        region=found["region"],
        account=found["account"],
        qualifier=named.groupdict().get("qualifier"),
    )
