"""S3, for failures: an invocation record as an object. AWS: key
`aws/lambda/async/<function>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`."""

import time
import uuid

from lambent.kernel.events import OutcomeRecord
from lambent.kernel.targets import Target
from lambent.scheduler.destinations.access import Clients
from lambent.scheduler.destinations.base import FunctionArn
from lambent.scheduler.destinations.record import invocation_record


class S3Destination:
    """`function_arn(record)`: the qualified ARN of the function that ran."""

    def __init__(self, clients: Clients, function_arn: FunctionArn) -> None:
        self._clients = clients
        self._function_arn = function_arn

    async def __call__(self, record: OutcomeRecord, target: Target) -> None:
        """A record that is sent again writes the same object. Raises DeliveryFailed."""
        body = invocation_record(record, self._function_arn(record)).encode()
        await self._clients.call(
            target,
            lambda client: client.put_object(
                Bucket=target.name, Key=key(record), Body=body, ContentType="application/json"
            ),
        )


def key(record: OutcomeRecord) -> str:
    """The object's key."""
    at = time.gmtime(record.ending.at)
    # The same for each try, another for each ending of one request (a redriven event ends again).
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{record.event.request_id} {record.ending.at}")
    return f"aws/lambda/async/{record.event.function}/{time.strftime('%Y/%m/%d/%Y-%m-%dT%H.%M.%S', at)}-{name}"
