"""Each way in which asking a server can fail is one line that says what to do, and never a traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answers import Answer, Something, error, said
from botocore.parsers import ResponseParserError
from support import free_port

from lambent.cli.aws import Lambda
from lambent.cli.client import Failed


def told(aws: Lambda, work: Callable[[Any], object]) -> str:
    """The one line that a failure is."""
    with pytest.raises(Failed) as failed, aws.errors():
        work(aws.client)
    assert "\n" not in str(failed.value)
    return str(failed.value)


def listing(client: Any) -> object:
    return client.list_functions()


def test_an_error_of_the_server_is_told_in_its_words(something: Something) -> None:
    something.answers[""] = error("TooManyRequestsException", "Rate exceeded", 429)
    assert told(Lambda(something.url), listing) == "TooManyRequestsException: Rate exceeded"


def test_nobody_there() -> None:
    assert "lambent up" in told(Lambda(f"http://127.0.0.1:{free_port()}"), listing)


def test_https_to_a_port_of_http(something: Something) -> None:
    url = something.url.replace("http:", "https:")
    assert told(Lambda(url), listing).startswith(f"{url} could not be asked: SSL validation failed")


def test_no_answer_in_time(something: Something) -> None:
    something.answers[""] = Answer(silent=True)
    assert "did not answer in time" in told(Lambda(something.url, read_timeout=0.1), listing)


def test_an_answer_that_breaks_off(something: Something) -> None:
    something.answers[""] = Answer(broken=True)
    assert "--endpoint URL" in told(Lambda(something.url), listing)


def test_an_answer_that_botocore_cannot_read(something: Something) -> None:
    def unreadable(_: Any) -> None:
        raise ResponseParserError("no JSON")

    assert "is no Lambent" in told(Lambda(something.url), unreadable)


@pytest.mark.parametrize("body", [b"<Error>AccessDenied</Error>", b"[]"])
@pytest.mark.parametrize("status", [200, 403, 404])
def test_another_server_is_called_so(something: Something, status: int, body: bytes) -> None:
    something.answers[""] = Answer(body, status, {"server": "other"})
    assert told(Lambda(something.url), listing) == (
        f"what answers at {something.url} is no Lambent (it answered {status}). Name one with --endpoint URL."
    )


def test_what_is_not_even_sent(something: Something) -> None:
    why = told(Lambda(something.url), lambda client: client.invoke(FunctionName=""))
    assert why.startswith("Invalid length for parameter FunctionName")
    assert something.asked == []


@pytest.mark.parametrize(
    ("configuration", "why"),
    [
        (
            {"State": "Failed", "StateReason": "The disk is full."},
            "the function is Failed: The disk is full.",
        ),
        ({"State": "Failed"}, "Look at the server's log"),
    ],
)
def test_a_function_that_does_not_become_active(
    something: Something, configuration: dict[str, str], why: str
) -> None:
    something.answers[""] = said({"Configuration": configuration})
    assert why in told(
        Lambda(something.url),
        lambda client: client.get_waiter("function_active_v2").wait(FunctionName="f"),
    )


def test_a_failure_inside_a_failure_stays_itself(something: Something) -> None:
    something.answers[""] = error("ServiceException", "No.", 500)
    aws = Lambda(something.url)
    assert told(aws, lambda _: aws.configuration("f")) == "ServiceException: No."


def test_ctrl_c_passes(something: Something) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Lambda(something.url).errors():
        interrupted(None)


def test_the_persons_own_aws_configuration_is_not_read(
    something: Something, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text("[[[ broken\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "nope")
    something.answers[""] = said({"Functions": []})
    aws = Lambda(something.url)
    with aws.errors():
        assert listing(aws.client)


def test_a_wrong_variable_of_boto3_is_told(something: Something, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_RETRY_MODE", "nonsense")
    with pytest.raises(Failed, match="nonsense"):
        Lambda(something.url)


def test_no_such_function_has_no_configuration(something: Something) -> None:
    something.answers[""] = error("ResourceNotFoundException", "Function not found", 404)
    assert Lambda(something.url).configuration("f") is None
    something.answers[""] = said({"Runtime": "python3.12"})
    found = Lambda(something.url).configuration("f")
    assert found is not None and found["Runtime"] == "python3.12"
