"""The face of the command line: helps, usage errors, and how failures are told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lambent.cli import client
from lambent.cli.client import Failed, call, read_settings, say, show, told
from lambent.cli.main import app

COMMANDS = [
    ("up",),
    ("doctor",),
    ("runtimes",),
    ("deploy",),
    ("invoke",),
    ("logs",),
    ("functions",),
    ("delete",),
    ("trigger", "add"),
    ("trigger", "list"),
    ("trigger", "rm"),
    ("queue", "peek"),
    ("queue", "redrive"),
    ("queue", "purge"),
    ("queue", "replay"),
]


def run(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(arguments))


def test_the_list_above_has_every_command() -> None:
    found: set[tuple[str, ...]] = {
        (command.callback.__name__,) for command in app.registered_commands if command.callback
    }
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found |= {(f"{group.name}", f"{each.name}") for each in group.typer_instance.registered_commands}
    assert found == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f": lambent {' '.join(command)}" in result.output


def test_no_command_shows_the_help() -> None:
    assert "lambent up" in run().output


def test_an_unknown_command_is_a_usage_error() -> None:
    assert run("nonsense").exit_code == 2


class TestSaying:
    def test_brackets_and_long_lines_come_out_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = "[a-z]{2} [/closing] :smile: " + "arn:aws:lambda:" * 40
        say(text, style="red")
        assert capsys.readouterr().out == text + "\n"

    def test_a_table_in_a_pipe_has_one_line_a_row(self, capsys: pytest.CaptureFixture[str]) -> None:
        show(("name", "arn"), [("[x]", "a" * 300), ("longer", "b")])
        assert capsys.readouterr().out == f"name    arn\n[x]     {'a' * 300}\nlonger  b\n"

    def test_a_failure_is_one_line_and_exit_code_1(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(typer.Exit) as ended, told():
            raise Failed("no [such] thing. Make one.")
        assert ended.value.exit_code == 1
        assert capsys.readouterr().err == "error: no [such] thing. Make one.\n"

    def test_ctrl_c_is_exit_code_130(self) -> None:
        with pytest.raises(typer.Exit) as ended, told():
            raise KeyboardInterrupt
        assert ended.value.exit_code == 130


class TestSettings:
    def test_each_wrong_one_is_named_with_its_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAMBENT_PORT", "abc")
        monkeypatch.setenv("LAMBENT_REGION", "Mars")
        with pytest.raises(Failed) as failed:
            read_settings({})
        assert "LAMBENT_PORT" in str(failed.value)
        assert "'abc'" in str(failed.value)
        assert "LAMBENT_REGION" in str(failed.value)
        assert "\n" not in str(failed.value)

    def test_a_password_in_a_wrong_url_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAMBENT_REDIS_URL", "http://:hush@h")
        with pytest.raises(Failed, match="LAMBENT_REDIS_URL.*redis://HOST:PORT/0") as failed:
            read_settings({})
        assert "hush" not in str(failed.value)

    def test_a_file_that_is_not_there_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAMBENT_CONFIG", "/nonexistent/x.toml")
        with pytest.raises(Failed, match="/nonexistent/x.toml can't be read: there is no such file"):
            read_settings({})


class _Answers(BaseHTTPRequestHandler):
    status = 200
    body = b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the tests' output."""


@pytest.fixture
def something() -> Iterator[str]:
    """The URL of a server that answers as `_Answers` says."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class TestOtherServers:
    @pytest.mark.parametrize("url", ["not-a-url", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
    def test_a_wrong_endpoint_is_told(self, url: str) -> None:
        with pytest.raises(Failed, match="--endpoint URL"):
            call(url, "GET", "/healthz")
        result = run("functions", "--endpoint", url)
        assert result.exit_code == 1
        assert "--endpoint URL" in result.output

    def test_a_proxy_is_not_asked_for_loopback(self, something: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(_Answers, "body", b'{"Functions": []}')
        assert call(something, "GET", "/") == {"Functions": []}
        assert "No functions yet" in run("functions", "--endpoint", something).output

    def test_an_answer_that_is_no_json_is_told(self, something: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_Answers, "body", b"<html>")
        with pytest.raises(Failed, match="--endpoint URL"):
            call(something, "GET", "/")

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (json.dumps({"Message": "No."}).encode(), "No."),
            (json.dumps({"message": "No."}).encode(), "No."),
            (b"[]", "the server answered 404"),
            (b"<html>", "the server answered 404"),
        ],
    )
    def test_an_error_answer_is_told_in_the_servers_words(
        self, something: str, monkeypatch: pytest.MonkeyPatch, body: bytes, told: str
    ) -> None:
        monkeypatch.setattr(_Answers, "status", 404)
        monkeypatch.setattr(_Answers, "body", body)
        with pytest.raises(Failed) as failed:
            call(something, "GET", "/")
        assert str(failed.value) == told


def test_no_server_says_how_to_start_one() -> None:
    assert "lambent up" in str(client.not_there("http://127.0.0.1:1"))
