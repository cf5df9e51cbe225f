"""SQS: an invocation record, or the event with its attributes, as a message. AWS: standard queues only."""

import functools
import re
import uuid
from typing import Any

from lambent.kernel.errors import InvalidParameterValueException, ServiceException
from lambent.kernel.events import OutcomeRecord
from lambent.kernel.models import Event, Function
from lambent.kernel.ports import Clock, EventQueue
from lambent.kernel.targets import Target, TargetKind, parse_target
from lambent.scheduler.destinations.access import Clients
from lambent.scheduler.destinations.base import DeliveryFailed, FunctionArn
from lambent.scheduler.destinations.record import (
    dead_letter_attributes,
    dead_letter_body,
    invocation_record,
    trace,
)

_MAX_BYTES = 1_048_576
_REQUEST_ID = re.compile("[0-9A-Za-z-]{1,100}")


class SqsDestination:
    """`function_arn(record)`: the qualified ARN of the function that ran. The queue's URL is asked for once."""

    def __init__(self, clients: Clients, function_arn: FunctionArn) -> None:
        self._clients = clients
        self._function_arn = function_arn
        self._urls: dict[str, str] = {}

    async def __call__(self, record: OutcomeRecord, target: Target) -> None:
        """Raises DeliveryFailed."""
        await self._clients.call(target, lambda client: self._send(client, record, target))

    def _send(self, client: Any, record: OutcomeRecord, target: Target) -> None:
        url = self._urls.get(target.arn)
        if url is None:
            url = _url(client, target)
        arn = self._function_arn(record)
        header = {"DataType": "String", "StringValue": trace(record, arn)}
        message: dict[str, Any] = {"MessageSystemAttributes": {"AWSTraceHeader": header}}
        if record.dead_letter:
            message |= {
                "MessageBody": dead_letter_body(record),
                "MessageAttributes": dead_letter_attributes(record),
            }
        else:
            message["MessageBody"] = invocation_record(record, arn, most=_MAX_BYTES)
        try:
            client.send_message(QueueUrl=url, **message)
        except Exception:
            self._urls.pop(target.arn, None)  # it may be another one by now
            raise
        self._urls[target.arn] = url


class DeadLetterReader:
    """Makes events of a dead-letter queue's messages again, for a redrive. A message goes only when its event
    is in the lane: a crash in between repeats one, never loses one."""

    def __init__(self, clients: Clients, queue: EventQueue, clock: Clock) -> None:
        self._clients = clients
        self._queue = queue
        self._clock = clock

    async def take(self, function: Function, limit: int) -> int:
        """How many messages became events. Raises InvalidParameterValueException for a function without such a
        queue, ServiceException when the queue does not answer, EventQueueUnavailable."""
        target = parse_target(function.to_run.dead_letter or "")
        if target is None or target.kind is not TargetKind.SQS:
            raise InvalidParameterValueException(
                f"The function {function.name} has no SQS queue as its dead-letter queue to take events from."
            )
        taken = 0
        try:
            url = await self._clients.call(target, functools.partial(_url, target=target))
            while taken < limit:
                receive = functools.partial(_received, url=url, most=min(10, limit - taken))
                messages = await self._clients.call(target, receive)
                if not messages:
                    break
                for message in messages:
                    await self._queue.publish(self._event(function, message))
                    delete = functools.partial(_delete, url=url, receipt=message["ReceiptHandle"])
                    await self._clients.call(target, delete)
                    taken += 1
        except DeliveryFailed as failure:
            raise ServiceException(
                f"The dead-letter queue {target.arn} does not answer after {taken} messages: {failure.message}"
            ) from failure
        return taken

    def _event(self, function: Function, message: dict[str, Any]) -> Event:
        attributes = message.get("MessageAttributes", {})
        request_id = attributes.get("RequestID", {}).get("StringValue", "")
        return Event(
            # Anybody may write to the queue, and an id becomes a header and a file's name.
            request_id=request_id if _REQUEST_ID.fullmatch(request_id) else str(uuid.uuid4()),
            lane=function.uid,
            function=function.name,
            payload=message["Body"].encode(),
            accepted=self._clock.now(),
            source="redrive",
        )


def _url(client: Any, target: Target) -> str:
    answer = client.get_queue_url(QueueName=target.name, QueueOwnerAWSAccountId=target.account)
    url: str = answer["QueueUrl"]
    return url


def _received(client: Any, url: str, most: int) -> list[dict[str, Any]]:
    answer = client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=most, WaitTimeSeconds=1, MessageAttributeNames=["All"]
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def _delete(client: Any, url: str, receipt: str) -> None:
    client.delete_message(QueueUrl=url, ReceiptHandle=receipt)
