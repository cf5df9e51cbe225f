"""What `lambent deploy` asks of a server and in which order, before it is a real one's turn in the end-to-end
tests."""

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from answers import Something, error, said
from folders import HANDLER, folder, greetings_from, wheel

from lambent.cli.client import Failed
from lambent.cli.deploy import Asked, Deployed, deploy, python_for
from lambent.cli.package import this_python

OURS = this_python()


def runtime(name: str, runs_on: str | None = None, problem: str | None = None) -> dict[str, Any]:
    return {"runtime": name, "available": problem is None, "runs_on": runs_on or name, "problem": problem}


def serving(something: Something, stored: Mapping[str, Any] | None) -> Something:
    """A server with a function, or with none."""
    ready = {"Configuration": {"State": "Active", "LastUpdateStatus": "Successful"}}
    there = error("ResourceNotFoundException", "No.", 404) if stored is None else said(stored)
    something.answers = {
        "": said(ready),
        "/configuration": there,
        "/_lambent/runtimes": said({"runtimes": [runtime(OURS), runtime("python3.99")]}),
        "/healthz": said({"account_id": "123456789012"}),
    }
    return something


def run(something: Something, code: Path, **asked: Any) -> Deployed:
    return deploy(Asked(code, **asked), something.url, progress=lambda _: None)


def writes(something: Something) -> list[tuple[str, dict[str, Any]]]:
    """(the path's last part, the body) of what changed something."""
    return [(path.rpartition("/")[2], json.loads(body)) for path, body in something.asked if body]


STORED = {"Handler": "app.handler", "Runtime": "python3.99", "MemorySize": 128}


def test_a_new_function_gets_the_servers_account(something: Something, tmp_path: Path) -> None:
    done = run(serving(something, None), folder(tmp_path / "new", {"app.py": HANDLER}))
    assert (done.name, done.created, done.handler) == ("new", True, "app.handler")
    [(_, body)] = writes(something)
    assert body["Role"] == "arn:aws:iam::123456789012:role/lambent"
    assert (body["Handler"], body["Runtime"]) == ("app.handler", OURS)


def test_a_redeploy_sends_what_changed_and_installs_for_the_functions_own_python(
    something: Something, tmp_path: Path
) -> None:
    for python in (OURS, "python3.99"):
        wheel(tmp_path / "wheels", f"py{python.removeprefix('python').replace('.', '')}", python)
    requirements = greetings_from(tmp_path / "wheels")
    code = folder(tmp_path / "code", {"app.py": HANDLER, "requirements.txt": requirements})
    run(serving(something, STORED), code, configuration={"MemorySize": 128, "Timeout": 9})
    (first, configuration), (second, sent) = writes(something)
    assert (first, configuration) == ("configuration", {"Timeout": 9})
    assert second == "code"
    packed = zipfile.ZipFile(io.BytesIO(base64.b64decode(sent["ZipFile"])))
    assert packed.read("greetings.py") == b"TEXT = 'python3.99'\n"


def test_a_refused_configuration_leaves_the_code(something: Something, tmp_path: Path) -> None:
    serving(something, STORED)
    something.answers["PUT /configuration"] = error("InvalidParameterValueException", "No such layer.")
    with pytest.raises(Failed, match="InvalidParameterValueException: No such layer"):
        run(something, folder(tmp_path, {"app.py": HANDLER}), configuration={"Layers": ["x"]})
    assert [what for what, _ in writes(something)] == ["configuration"]


@pytest.mark.parametrize("configuration", [{}, {"Timeout": 9}])
def test_refused_code_says_what_has_been_changed(
    something: Something, tmp_path: Path, configuration: dict[str, int]
) -> None:
    serving(something, STORED)
    something.answers["/code"] = error("InvalidParameterValueException", "Bad zip.")
    with pytest.raises(Failed, match="InvalidParameterValueException: Bad zip.") as failed:
        run(something, folder(tmp_path, {"app.py": HANDLER}), configuration=configuration)
    assert ("The new configuration (Timeout) is in force already" in str(failed.value)) == bool(configuration)


def publishing(something: Something) -> Something:
    serving(something, STORED)
    ready = {"State": "Active", "Version": "7", "LastUpdateStatus": "Successful", **STORED}
    something.answers |= {"POST /versions": said({"Version": "7"}), "GET /configuration": said(ready)}
    something.answers |= {"GET /configuration?Qualifier=7": said(ready)}
    return something


@pytest.mark.parametrize("there", [True, False])
def test_an_alias_is_moved_to_the_version_or_made(something: Something, tmp_path: Path, there: bool) -> None:
    publishing(something)
    moved = said({}) if there else error("ResourceNotFoundException", "Cannot find alias", 404)
    something.answers["PUT /aliases/live"] = moved
    done = run(something, folder(tmp_path, {"app.py": HANDLER}), alias="live")
    assert done.version == "7"
    sent = {what: body for what, body in writes(something) if what != "code"}
    moving = {"FunctionVersion": "7", "RoutingConfig": {}}
    making = {"Name": "live", "FunctionVersion": "7"}
    assert sent == {"versions": {}, "live": moving} | ({} if there else {"aliases": making})


def test_nothing_is_published_that_was_not_asked_for(something: Something, tmp_path: Path) -> None:
    assert run(publishing(something), folder(tmp_path, {"app.py": HANDLER})).version is None
    assert [what for what, _ in writes(something)] == ["code"]


@pytest.mark.parametrize(
    ("refused", "done"),
    [("POST /versions", "nothing is published"), ("PUT /aliases/live", "version 7 is published")],
)
def test_what_is_refused_says_what_is_done_already(
    something: Something, tmp_path: Path, refused: str, done: str
) -> None:
    publishing(something).answers[refused] = error("CodeStorageExceededException", "Full.")
    with pytest.raises(Failed, match=f"Full.\nThe code is deployed, and {done}."):
        run(something, folder(tmp_path, {"app.py": HANDLER}), publish=True, alias="live")


class TestThePythonOfAFunction:
    def test_it_is_the_one_that_runs_it(self) -> None:
        assert python_for("python3.12", [runtime("python3.12", runs_on="python3.11")]) == "python3.11"

    def test_one_that_is_not_there_is_refused_with_the_servers_advice(self) -> None:
        with pytest.raises(Failed, match="Install it so"):
            python_for("python3.12", [runtime("python3.12", problem="Install it so.")])

    @pytest.mark.parametrize("name", ["banana", "python2.7", ""])
    def test_one_that_does_not_exist_is_refused(self, name: str) -> None:
        with pytest.raises(Failed, match=f"new functions can't have the runtime '{name}'.*lambent runtimes"):
            python_for(name, [runtime("python3.12")])

    def test_it_is_refused_before_anything_is_installed_or_sent(
        self, something: Something, tmp_path: Path
    ) -> None:
        code = folder(tmp_path, {"app.py": HANDLER, "requirements.txt": "/nonexistent"})
        with pytest.raises(Failed, match="banana"):
            run(serving(something, None), code, runtime="banana")
        assert writes(something) == []
