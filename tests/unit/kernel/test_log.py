"""The server's log: one sentence plus fields, as text and as JSON, and never a secret."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from lambent.kernel import log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("lambent")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_text_has_the_sentence_and_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(form="text", level="info")
    log.Log("lambent.test").info("Environment started.", environment="e-1", ms=3)
    said = capsys.readouterr().err
    assert "INFO    Environment started.  environment=e-1 ms=3" in said


@pytest.mark.parametrize("value", ["a\n12:00:00.000 ERROR   Forged.", "a\x1b[2J", "a\r", "a\u2028b"])
def test_a_value_cannot_write_a_line_of_its_own(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(form="text", level="info")
    log.Log("lambent.test").info("Asked.", key=value, name="grüß 1")
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"key={value!r} name=grüß 1" in said


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(form="json", level="info")
    try:
        raise ValueError("no")
    except ValueError as failure:
        log.Log("lambent.test").error("It failed.", exc_info=failure, path=sys)
    entry = json.loads(capsys.readouterr().err)
    assert (entry["level"], entry["message"], entry["logger"]) == ("ERROR", "It failed.", "lambent.test")
    assert "ValueError: no" in entry["exception"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_never_written(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(form=form, level="info")
    log.Log("lambent.test").info(
        "Asked.", secret_key="hush", Authorization="hush", session_token="hush", password="hush"
    )
    said = capsys.readouterr().err
    assert "hush" not in said
    assert "***" in said


def test_the_level_is_ours_and_other_libraries_stay_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(form="text", level="debug")
    log.Log("lambent.test").debug("Ours.")
    logging.getLogger("other").info("Theirs.")
    said = capsys.readouterr().err
    assert "Ours." in said
    assert "Theirs." not in said
