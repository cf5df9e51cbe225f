import json
from typing import Any

import pytest
from playing import TARGET

from lambent.executor.attached import exit_of
from lambent.executor.drivers.base import Exit
from lambent.executor.extensions import MAX_EXTENSIONS, Extension, Extensions
from lambent.executor.runtime_api import Answer
from lambent.kernel.models import Invocation

INVOCATION = Invocation("id-1", TARGET, "arn:f", b"{}", "Root=1")


class Waiting:
    def __init__(self) -> None:
        self.given: list[Any] = []

    def give(self, head: bytes, payload: bytes) -> None:
        assert head.startswith(b"lambda-extension-event-identifier: ")
        self.given.append(json.loads(payload))


def _registered(extensions: Extensions, name: str, *events: str) -> Extension:
    made = extensions.register(name, {"events": list(events)})
    assert isinstance(made, Extension), made
    return made


def _refused(answer: Extension | Answer) -> tuple[int, str]:
    assert isinstance(answer, Answer)
    return answer.status, json.loads(answer.body)["errorType"]


def test_none_is_nothing_to_wait_for() -> None:
    extensions = Extensions()
    assert not extensions and extensions.registered and extensions.settled
    assert not extensions.busy and not extensions.ending and not extensions.external


def test_init_waits_until_all_have_registered_and_asked() -> None:
    extensions = Extensions(["one", "two"])
    assert extensions and extensions.external and not extensions.registered
    one = _registered(extensions, "one", "INVOKE", "SHUTDOWN")
    inside = _registered(extensions, "inside", "INVOKE")
    assert not extensions.registered
    two = _registered(extensions, "two")
    assert extensions.registered and not extensions.settled
    for each in (one, two, inside):
        assert not extensions.settled
        each.waiting = Waiting()
    assert extensions.settled
    assert (one.external, inside.external) == (True, False)


def test_an_invocation_goes_to_those_who_registered_for_it_and_is_over_when_they_ask_again() -> None:
    extensions = Extensions(["one", "two"])
    one, two = _registered(extensions, "one", "INVOKE"), _registered(extensions, "two", "SHUTDOWN")
    first, other = Waiting(), Waiting()
    one.waiting, two.waiting = first, other
    assert extensions.invoked and not extensions.busy
    extensions.invoke(INVOCATION, 1234)
    assert first.given == [
        {
            "eventType": "INVOKE",
            "deadlineMs": 1234,
            "requestId": "id-1",
            "invokedFunctionArn": "arn:f",
            "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"},
        }
    ]
    assert not other.given and extensions.busy
    one.waiting = Waiting()
    assert not extensions.busy


def test_the_end_goes_to_those_who_registered_for_it_and_is_over_when_they_are_gone() -> None:
    extensions = Extensions(["one", "two"])
    one, two = _registered(extensions, "one", "SHUTDOWN"), _registered(extensions, "two", "INVOKE")
    first, other = Waiting(), Waiting()
    one.waiting, two.waiting = first, other
    extensions.shut_down("timeout", 99)
    assert first.given == [{"eventType": "SHUTDOWN", "shutdownReason": "timeout", "deadlineMs": 99}]
    assert not other.given
    assert extensions.ending
    one.gone = True
    assert not extensions.ending


def test_one_that_is_busy_gets_the_end_when_it_asks_next() -> None:
    extensions = Extensions(["one"])
    one = _registered(extensions, "one", "INVOKE", "SHUTDOWN")
    first, second, third = Waiting(), Waiting(), Waiting()
    one.wait(first)
    extensions.invoke(INVOCATION, 1)
    extensions.shut_down("timeout", 99)
    assert [event["eventType"] for event in first.given] == ["INVOKE"]
    one.wait(second)
    assert [event["shutdownReason"] for event in second.given] == ["timeout"]
    one.wait(third)
    assert not third.given, "once"


def test_who_hangs_up_waits_no_more() -> None:
    extensions = Extensions(["one"])
    one = _registered(extensions, "one", "INVOKE")
    waiting = Waiting()
    one.waiting = waiting
    extensions.hung_up(waiting)
    assert not extensions.settled
    extensions.invoke(INVOCATION, 1)
    assert not waiting.given
    again = Waiting()
    one.wait(again)
    assert [event["requestId"] for event in again.given] == ["id-1"], "it gets it when it is back"


@pytest.mark.parametrize(
    "name, document, expected",
    [
        ("", {"events": []}, (400, "Extension.InvalidExtensionName")),
        ("a b", {"events": []}, (400, "Extension.InvalidExtensionName")),
        ("x", [], (400, "InvalidRequestFormat")),
        ("x", {"events": "INVOKE"}, (400, "InvalidRequestFormat")),
        ("x", {"events": ["SHUTDOWN"]}, (400, "Extension.InvalidEventType")),
        ("outside", {"events": ["OTHER"]}, (400, "Extension.InvalidEventType")),
        ("x", {"events": [{"type": "INVOKE"}]}, (400, "Extension.InvalidEventType")),
        ("there", {"events": []}, (403, "Extension.AlreadyRegistered")),
    ],
)
def test_a_registration_that_is_wrong(name: str, document: Any, expected: tuple[int, str]) -> None:
    extensions = Extensions(["outside"])
    _registered(extensions, "there")
    assert _refused(extensions.register(name, document)) == expected


def test_there_are_ten_at_most_and_none_after_init() -> None:
    extensions = Extensions()
    for number in range(MAX_EXTENSIONS):
        _registered(extensions, f"e{number}")
    assert _refused(extensions.register("more", {})) == (403, "Extension.TooManyExtensions")
    extensions.closed = True
    assert _refused(extensions.register("late", {})) == (403, "Extension.RegistrationClosed")


def test_who_calls_is_known_by_the_identifier() -> None:
    extensions = Extensions()
    made = _registered(extensions, "one")
    assert extensions.of(made.id.encode()) is made
    assert _refused(extensions.of(None)) == (403, "Extension.MissingExtensionIdentifier")
    assert _refused(extensions.of(b"x")) == (403, "Extension.InvalidExtensionIdentifier")
    unknown = b"00000000-0000-4000-8000-000000000000"
    assert _refused(extensions.of(unknown)) == (403, "Extension.UnknownExtensionIdentifier")


@pytest.mark.parametrize(
    "status, end",
    [
        (7 << 8, Exit(code=7)),
        (9, Exit(signal=9)),
        (1 << 40, Exit(code=1)),
        (-1, Exit(code=1)),
        ("7", Exit(code=1)),
    ],
)
def test_a_wait_status_is_an_exit_and_what_is_none_is_no_fault_of_ours(status: object, end: Exit) -> None:
    assert exit_of(status) == end
