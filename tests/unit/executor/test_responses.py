import base64
import json

import pytest

from lambent.executor import responses
from lambent.executor.runtime_api import ACCEPTED, TOO_LARGE, Posted
from lambent.kernel.models import Outcome, Response

MODE = b"lambda-runtime-function-response-mode"
TYPE = b"lambda-runtime-function-error-type"
BODY = b"lambda-runtime-function-error-body"


def test_a_response_is_its_body() -> None:
    assert responses.response(Posted(b"1")) == (Outcome.SUCCESS, Response(b"1"), ACCEPTED)


def test_of_a_streamed_one_only_the_type_is_left() -> None:
    posted = Posted(b"", {MODE: b"streaming", b"content-type": b"text/html"}, streamed=True)
    assert responses.response(posted) == (
        Outcome.SUCCESS,
        Response(b"", content_type="text/html"),
        ACCEPTED,
    )
    assert responses.content_type({}) == "application/octet-stream"


@pytest.mark.parametrize("mode, expected", [(b"streaming", True), (b"Streaming", True), (b"other", False)])
def test_the_mode_is_in_a_header(mode: bytes, expected: bool) -> None:
    assert responses.streams({MODE: mode}) is expected


def test_a_mode_that_is_unknown_is_refused_and_fails_the_invocation() -> None:
    read = responses.response(Posted(b"1", {MODE: b"sometimes"}))
    assert (read.outcome, read.response.error_type) == (Outcome.ERROR, "Runtime.InvalidResponseModeHeader")
    assert (read.answer.status, json.loads(read.answer.body)["errorType"]) == (
        400,
        "InvalidFunctionResponseMode",
    )


@pytest.mark.parametrize("streamed, most", [(False, 6291556), (True, 209715200)])
def test_one_that_is_too_large_says_what_it_may_have(streamed: bool, most: int) -> None:
    read = responses.response(Posted(b"", too_large=True, streamed=streamed))
    assert read.answer is TOO_LARGE
    assert read.response.error_type == "Function.ResponseSizeTooLarge"
    assert f"({most} bytes)" in json.loads(read.response.payload)["errorMessage"]


@pytest.mark.parametrize(
    "body, expected",
    [(base64.b64encode(b'{"a": 1}'), b'{"a": 1}'), (b'{"plain": 1}', b'{"plain": 1}'), (None, b"so far")],
    ids=["base64", "as it is", "none"],
)
def test_trailers_say_how_a_stream_broke_off(body: bytes | None, expected: bytes) -> None:
    headers = {MODE: b"streaming", TYPE: b"Runtime.StreamError"} | ({} if body is None else {BODY: body})
    read = responses.response(Posted(b"so far", headers))
    assert read.response == Response(expected, "Unhandled", "Runtime.StreamError")
    assert read.outcome is Outcome.ERROR


@pytest.mark.parametrize(
    "body, headers, expected",
    [
        (b'{"errorType": "KeyError"}', {}, "KeyError"),
        (b'{"errorType": "KeyError"}', {TYPE: b"Function.Other"}, "Function.Other"),
        (b'{"errorType": 1}', {}, "Runtime.Unknown"),
        (b"[" * 100_000, {}, "Runtime.Unknown"),
        (b'{"errorType": "a\\r\\nb"}', {}, "Runtime.Unknown"),
        (b"no json", {}, "Runtime.Unknown"),
    ],
)
def test_the_type_of_an_error_is_in_a_header_or_in_its_body(
    body: bytes, headers: dict[bytes, bytes], expected: str
) -> None:
    assert responses.error(Posted(body, headers)).response == Response(body, "Unhandled", expected)
