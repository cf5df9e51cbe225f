"""What targets are sent: AWS's invocation record, and the message of a dead-letter queue. Pure.

Payloads stand in the record as they were sent, byte for byte, where they are JSON. AWS: "Invocation record",
"Dead-letter queues".
"""

import json
import re
import time
from typing import Any

from lambent.kernel import lineage
from lambent.kernel.events import Condition, Ending, OutcomeRecord

_MAX_MESSAGE = 1024
# AWS: what SQS and SNS take of Unicode, in messages and their attributes.
_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Of events that nothing was tried for: the status that a caller who waits would have got.
_CODES = {
    Condition.EVENT_AGE_EXCEEDED: 429,
    Condition.ZERO_RESERVED_CONCURRENCY: 429,
    Condition.RECURSION_DETECTED: 400,
}


def invocation_record(record: OutcomeRecord, function_arn: str, *, most: int | None = None) -> str:
    """JSON of the record, version 1.0. `function_arn`: with the qualifier that was invoked. `most`: bytes
    that the target takes; the answer, and then the request, are left out of a record that is larger."""
    request, answer = _json(record.event.payload), _answer(record.ending)
    whole = _assembled(record, function_arn, request, answer)
    if most is None or len(whole.encode()) <= most:
        return whole
    without_answer = _assembled(record, function_arn, request, None)
    return (
        without_answer if len(without_answer.encode()) <= most else _assembled(record, function_arn, None, None)
    )


def _assembled(record: OutcomeRecord, arn: str, request: str | None, answer: str | None) -> str:
    ending = record.ending
    members: dict[str, Any] = {
        "version": "1.0",
        "timestamp": timestamp(ending.at),
        "requestContext": {
            "requestId": record.event.request_id,
            "functionArn": arn,
            "condition": ending.condition.value,
            "approximateInvokeCount": ending.attempts,
        },
    }
    parts = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members.items()]
    if request is not None:
        parts.append(f'"requestPayload":{request}')
    if ending.status is not None:
        context: dict[str, Any] = {"statusCode": ending.status}
        if ending.executed_version is not None:
            context["executedVersion"] = ending.executed_version
        if ending.function_error is not None:
            context["functionError"] = ending.function_error
        parts.append(f'"responseContext":{json.dumps(context)}')
    if answer is not None:
        parts.append(f'"responsePayload":{answer}')
    return "{" + ",".join(parts) + "}"


def _answer(ending: Ending) -> str | None:
    return None if ending.response is None else _json(ending.response)


def _json(payload: bytes) -> str:
    """The payload as JSON: as it is, or, where it is none (an own runtime may answer anything), as a text."""
    text = payload.decode("utf-8", "replace")
    try:
        json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return json.dumps(text)
    return text


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def timestamp(seconds: float) -> str:
    """`2026-01-31T12:00:00.123Z`, from seconds since the epoch."""
    ms = round(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"


def trace(record: OutcomeRecord, function_arn: str) -> str:
    """The trace header that goes on to the target, with the run of the function counted: a loop over a target
    is found by it."""
    return lineage.followed(record.event.trace_id, function_arn.rpartition(":")[0])


def dead_letter_body(record: OutcomeRecord) -> str:
    """The event, unchanged."""
    return record.event.payload.decode("utf-8", "replace")


def dead_letter_attributes(record: OutcomeRecord) -> dict[str, dict[str, str]]:
    """{name: {DataType, StringValue}}: RequestID, ErrorCode (an HTTP status), ErrorMessage (its first 1 KB)."""
    ending = record.ending
    # An empty attribute is refused, and so is one with a control character, which an error may well have.
    message = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", error_message(ending)) or ending.condition.value
    code = ending.status or _CODES.get(ending.condition, 200)
    return {
        "RequestID": {"DataType": "String", "StringValue": record.event.request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": str(code)},
        "ErrorMessage": {"DataType": "String", "StringValue": _shortened(message)},
    }


def _shortened(text: str) -> str:
    return text.encode("utf-8", "replace")[:_MAX_MESSAGE].decode("utf-8", "ignore")


def error_message(ending: Ending) -> str:
    """What a person should read of how an event ended: the function's own error, else the platform's; at most
    1 KB."""
    try:
        body = json.loads(ending.response or b"null")
    except (ValueError, RecursionError):
        body = None
    found = body.get("errorMessage") if isinstance(body, dict) else None
    return _shortened(found if isinstance(found, str) and found else ending.message)
