"""The face of the command line: helps, usage errors, and how failures are told."""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from answers import Answer, Something, said
from typer.testing import CliRunner

from lambent.cli import client
from lambent.cli.client import Failed, call, read_settings, say, show, told
from lambent.cli.main import app
from lambent.executor.drivers.sandbox.reachable import taken_inside
from lambent.kernel.settings_page import page

COMMANDS = [
    ("up",),
    ("doctor",),
    ("runtimes",),
    ("gateway",),
    ("scheduler",),
    ("executor",),
    ("deploy",),
    ("invoke",),
    ("logs",),
    ("functions",),
    ("delete",),
    ("usage",),
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
    found = typer.main.get_command(app)
    assert isinstance(found, typer.core.TyperGroup)
    assert set(_paths(found)) == set(COMMANDS)


def _paths(group: typer.core.TyperGroup) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from ((name, *rest) for rest in _paths(command))
        else:
            yield (name,)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f": lambent {' '.join(command)}" in result.output


def test_no_command_shows_the_help() -> None:
    assert "lambent up" in run().output


def test_the_version_is_the_packages() -> None:
    assert run("--version").output == f"lambent {metadata.version('lambent')}\n"


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
        monkeypatch.setenv("LAMBENT_BROKER_URL", "http://:hush@h")
        with pytest.raises(Failed, match="LAMBENT_BROKER_URL.*amqp://USER") as failed:
            read_settings({})
        assert "hush" not in str(failed.value)
        monkeypatch.delenv("LAMBENT_BROKER_URL")
        monkeypatch.setenv("LAMBENT_REDIS_URL", "http://:hush@h")
        with pytest.raises(Failed, match="LAMBENT_REDIS_URL.*redis://HOST:PORT/0") as failed:
            read_settings({})
        assert "hush" not in str(failed.value)

    def test_a_file_that_is_not_there_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAMBENT_CONFIG", "/nonexistent/x.toml")
        with pytest.raises(Failed, match="/nonexistent/x.toml can't be read: there is no such file"):
            read_settings({})


class TestOtherServers:
    @pytest.mark.parametrize("url", ["not-a-url", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
    def test_a_wrong_endpoint_is_told(self, url: str) -> None:
        with pytest.raises(Failed, match="--endpoint URL"):
            call(url, "GET", "/healthz")
        result = run("functions", "--endpoint", url)
        assert result.exit_code == 1
        assert "--endpoint URL" in result.output

    def test_a_proxy_is_not_asked_for_loopback(
        self, something: Something, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        something.answers[""] = said({"Functions": []})
        assert call(something.url, "GET", "/") == {"Functions": []}
        assert "No functions yet" in run("functions", "--endpoint", something.url).output

    @pytest.mark.parametrize(
        ("variables", "endpoint"),
        [
            ({}, "http://127.0.0.1:9000"),
            ({"LAMBENT_PORT": "9010"}, "http://127.0.0.1:9010"),
            ({"LAMBENT_PORT": "0"}, "http://127.0.0.1:9000"),
            ({"LAMBENT_HOST": "0.0.0.0"}, "http://127.0.0.1:9000"),
            ({"LAMBENT_HOST": "::1", "LAMBENT_PORT": "9010"}, "http://[::1]:9010"),
        ],
    )
    def test_without_an_endpoint_it_is_where_up_listens(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str
    ) -> None:
        for name in ("LAMBENT_HOST", "LAMBENT_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert client.checked(None) == endpoint

    @pytest.mark.parametrize(
        ("answer", "how"),
        [
            (Answer(b"<html>"), "it answered what is no JSON"),
            (Answer(b'{"lines": []}', headers={}), "it answered 200"),
            (Answer(b"<Error/>", 403, {}), "it answered 403"),
        ],
    )
    def test_another_server_is_called_so(self, something: Something, answer: Answer, how: str) -> None:
        something.answers[""] = answer
        with pytest.raises(Failed) as failed:
            call(something.url, "GET", "/")
        assert str(failed.value) == (
            f"what answers at {something.url} is no Lambent ({how}). Name one with --endpoint URL."
        )

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (b'{"Message": "No."}', "No."),
            (b'{"message": "No."}', "No."),
            (b"[]", "the server answered 404"),
            (b"<html>", "the server answered 404"),
        ],
    )
    def test_an_error_answer_is_told_in_the_servers_words(
        self, something: Something, body: bytes, told: str
    ) -> None:
        something.answers[""] = Answer(body, 404)
        with pytest.raises(Failed) as failed:
            call(something.url, "GET", "/")
        assert str(failed.value) == told


def test_no_server_says_how_to_start_one() -> None:
    assert "lambent up" in str(client.not_there("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("up", ["127.0.0.1", "9000", "/var/lib/lambent as root", "0<=x<=65535"]),
        (
            "deploy",
            [
                "the folder's or image's",
                "the function's, or found in the code",
                "the function's, or this Python's",
                "128<=x<=10240",
                "1<=x<=900",
            ],
        ),
    ],
)
def test_a_help_has_the_defaults_and_the_bounds(command: str, defaults: list[str]) -> None:
    output = run(command, "--help").output
    assert [text for text in defaults if text not in output] == []


def test_the_ports_of_the_examples_are_ones_that_can_be_had() -> None:
    ports = re.findall(r"--port (\d+)", run("up", "--help").output) + re.findall(r"port = (\d+)", page())
    assert len(ports) == 2
    assert [port for port in ports if taken_inside("127.0.0.1", int(port))] == []


@pytest.mark.parametrize(
    "arguments",
    [("--memory", "5"), ("--memory", "10241"), ("--timeout", "0"), ("--timeout", "901")],
    ids=" ".join,
)
def test_what_is_out_of_bounds_is_a_usage_error(tmp_path: Path, arguments: tuple[str, str]) -> None:
    result = run("deploy", str(tmp_path), *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output
