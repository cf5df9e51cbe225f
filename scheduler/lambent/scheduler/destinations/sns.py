"""SNS: an invocation record, or the event with its attributes, as a message. AWS: standard topics only."""

from typing import Any

from lambent.kernel.events import OutcomeRecord
from lambent.kernel.targets import Target
from lambent.scheduler.destinations.access import Clients
from lambent.scheduler.destinations.base import FunctionArn
from lambent.scheduler.destinations.record import (
    dead_letter_attributes,
    dead_letter_body,
    invocation_record,
)

_MAX_BYTES = 262_144


class SnsDestination:
    """`function_arn(record)`: the qualified ARN of the function that ran."""

    def __init__(self, clients: Clients, function_arn: FunctionArn) -> None:
        self._clients = clients
        self._function_arn = function_arn

    async def __call__(self, record: OutcomeRecord, target: Target) -> None:
        """Raises DeliveryFailed."""
        if record.dead_letter:
            message: dict[str, Any] = {
                "Message": dead_letter_body(record),
                "MessageAttributes": dead_letter_attributes(record),
            }
        else:
            message = {"Message": invocation_record(record, self._function_arn(record), most=_MAX_BYTES)}
        await self._clients.call(target, lambda client: client.publish(TopicArn=target.arn, **message))
