"""EventBridge: an invocation record as the detail of an event. AWS: source `lambda`, detail-type `Lambda
Function Invocation Result - Success` or `... - Failure`, resources the bus and the function."""

from lambent.kernel.events import Condition, OutcomeRecord
from lambent.kernel.targets import Target
from lambent.scheduler.destinations.access import Clients
from lambent.scheduler.destinations.base import DeliveryFailed, FunctionArn
from lambent.scheduler.destinations.record import invocation_record

_MAX_BYTES = 262_144 - 2_048  # an entry's detail and all else together


class EventBridgeDestination:
    """`function_arn(record)`: the qualified ARN of the function that ran."""

    def __init__(self, clients: Clients, function_arn: FunctionArn) -> None:
        self._clients = clients
        self._function_arn = function_arn

    async def __call__(self, record: OutcomeRecord, target: Target) -> None:
        """Raises DeliveryFailed."""
        arn = self._function_arn(record)
        how = "Success" if record.ending.condition is Condition.SUCCESS else "Failure"
        entry = {
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {how}",
            "Resources": [target.arn, arn],
            "Detail": invocation_record(record, arn, most=_MAX_BYTES),
            "EventBusName": target.arn,
        }
        answer = await self._clients.call(target, lambda client: client.put_events(Entries=[entry]))
        if answer.get("FailedEntryCount"):
            failed = answer["Entries"][0]
            raise DeliveryFailed(f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")
