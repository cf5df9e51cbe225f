"""record.py: the invocation record and a dead letter, as AWS documents them."""

import json

import pytest
from unit.scheduler.samples import event

from lambent.kernel.events import Condition, Ending, OutcomeRecord
from lambent.scheduler.destinations.record import (
    dead_letter_attributes,
    dead_letter_body,
    invocation_record,
    timestamp,
    trace,
)

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST"
FAILED = Ending(
    Condition.RETRIES_EXHAUSTED,
    at=1_769_860_800.123,
    attempts=3,
    status=200,
    executed_version="$LATEST",
    function_error="Unhandled",
    response=b'{"errorMessage": "boom", "errorType": "ValueError"}',
)


def record(ending: Ending = FAILED, payload: bytes = b'{"orderId": 7.0}') -> OutcomeRecord:
    from dataclasses import replace

    return OutcomeRecord(replace(event(), payload=payload), ending, "arn", dead_letter=False)


def test_the_record_of_a_failure() -> None:
    assert json.loads(invocation_record(record(), ARN)) == {
        "version": "1.0",
        "timestamp": "2026-01-31T12:00:00.123Z",
        "requestContext": {
            "requestId": "request-1",
            "functionArn": ARN,
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"orderId": 7.0},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "boom", "errorType": "ValueError"},
    }


def test_payloads_stand_as_they_were_sent() -> None:
    text = invocation_record(record(payload=b'{"big":12345678901234567890, "f":1.0}'), ARN)
    assert '"requestPayload":{"big":12345678901234567890, "f":1.0}' in text


@pytest.mark.parametrize(
    ("response", "shown"), [(b"null", None), (b"plain", "plain"), (b"\xff", "\ufffd"), (b"", "")]
)
def test_an_answer_that_is_no_json_is_a_text(response: bytes, shown: object) -> None:
    found = json.loads(invocation_record(record(FAILED._replace(response=response)), ARN))
    assert found["responsePayload"] == shown


def test_what_never_ran_has_no_response() -> None:
    ending = Ending(Condition.EVENT_AGE_EXCEEDED, at=0.0, attempts=0)
    found = json.loads(invocation_record(record(ending), ARN))
    assert "responsePayload" not in found and "responseContext" not in found


def test_a_record_too_large_for_its_target_loses_the_answer_and_then_the_request() -> None:
    large = record(FAILED._replace(response=b'"%b"' % (b"x" * 1000)))
    whole = json.loads(invocation_record(large, ARN, most=10_000))
    assert {"requestPayload", "responsePayload"} <= whole.keys()
    smaller = json.loads(invocation_record(large, ARN, most=1000))
    assert "requestPayload" in smaller and "responsePayload" not in smaller
    larger = record(payload=b'"%b"' % (b"y" * 1000))
    least = json.loads(invocation_record(larger, ARN, most=500))
    assert "requestPayload" not in least and least["responseContext"]["statusCode"] == 200


def test_a_dead_letter_is_the_event_with_its_attributes() -> None:
    assert dead_letter_body(record()) == '{"orderId": 7.0}'
    assert dead_letter_attributes(record()) == {
        "RequestID": {"DataType": "String", "StringValue": "request-1"},
        "ErrorCode": {"DataType": "Number", "StringValue": "200"},
        "ErrorMessage": {"DataType": "String", "StringValue": "boom"},
    }


@pytest.mark.parametrize(
    ("ending", "code", "message"),
    [
        (
            Ending(Condition.EVENT_AGE_EXCEEDED, 0.0, 0, status=429, message="Rate Exceeded."),
            "429",
            "Rate Exceeded.",
        ),
        (Ending(Condition.ZERO_RESERVED_CONCURRENCY, 0.0, 0), "429", "ZeroReservedConcurrency"),
        (Ending(Condition.RECURSION_DETECTED, 0.0, 0), "400", "RecursionDetected"),
        (
            FAILED._replace(response=b'{"errorMessage": "\\u001b[31mred\\u0000\\n"}'),
            "200",
            "\ufffd[31mred\ufffd\n",
        ),
        (FAILED._replace(response=b"[1]"), "200", "RetriesExhausted"),
        (FAILED._replace(response=b'{"errorMessage": ""}'), "200", "RetriesExhausted"),
    ],
)
def test_a_dead_letter_always_says_why(ending: Ending, code: str, message: str) -> None:
    attributes = dead_letter_attributes(record(ending))
    assert (attributes["ErrorCode"]["StringValue"], attributes["ErrorMessage"]["StringValue"]) == (
        code,
        message,
    )


def test_the_message_is_cut_at_one_kilobyte_and_not_within_a_character() -> None:
    response = json.dumps({"errorMessage": "x" + "ü" * 1000}).encode()
    message = dead_letter_attributes(record(FAILED._replace(response=response)))["ErrorMessage"]["StringValue"]
    assert message == "x" + "ü" * 511
    assert len(message.encode()) == 1023


def test_the_trace_counts_the_functions_own_run() -> None:
    assert trace(record(), ARN).startswith("Lineage=") and trace(record(), ARN).endswith(":1")


def test_milliseconds_never_round_into_the_next_second_alone() -> None:
    assert timestamp(1_769_860_799.9996) == "2026-01-31T12:00:00.000Z"


@pytest.mark.parametrize("answer", [b"NaN", b'{"x": [-Infinity]}'])
def test_what_only_python_calls_json_stands_in_the_record_as_a_text(answer: bytes) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    whole = invocation_record(record(FAILED._replace(response=answer)), ARN)
    assert json.loads(whole, parse_constant=refuse)["responsePayload"] == answer.decode()
