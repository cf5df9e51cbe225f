"""Finding the handler in a folder of code."""

from pathlib import Path

import pytest
from folders import HANDLER, folder

from lambent.cli.client import Failed
from lambent.cli.handlers import find_handler, handler_for


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"app.py": HANDLER}, "app.handler"),
        ({"thing.py": "def lambda_handler(event, context): ..."}, "thing.lambda_handler"),
        ({"app.py": "async def handler(event, context): ..."}, "app.handler"),
        ({"app.py": "handler = Mangum(api)"}, "app.handler"),
        ({"app.py": "handler: Handler = Mangum(api)"}, "app.handler"),
        ({"app.py": "from package.work import handler"}, "app.handler"),
        ({"app.py": "from package import work as handler"}, "app.handler"),
        ({"app.py": HANDLER, "other.py": HANDLER}, "app.handler"),
        ({"app.py": HANDLER, "broken.py": "def handler(:"}, "app.handler"),
        ({"app.py": HANDLER, "main.py": "def handler(:"}, "app.handler"),
        ({"thing.py": HANDLER, "broken.py": "def handler(:"}, "thing.handler"),
        ({"app.py": HANDLER, "tools.py": "def handler(one): ..."}, "app.handler"),
        ({"app.py": "def handler(event, context=None, *more): ..."}, "app.handler"),
        ({"app.py": "def handler(*args): ..."}, "app.handler"),
    ],
)
def test_the_handler_is_found(tmp_path: Path, files: dict[str, str], found: str) -> None:
    assert find_handler(folder(tmp_path, files)) == found


@pytest.mark.parametrize("files", [{}, {"app.py": "x = 1"}, {"deeper/app.py": HANDLER}, {"app.js": "handler"}])
def test_no_handler_asks_for_the_flag(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(Failed, match="Name yours with --handler FILE.FUNCTION"):
        find_handler(folder(tmp_path, files))


def test_several_handlers_are_listed_and_not_guessed(tmp_path: Path) -> None:
    both = "def handler(event, context): ...\ndef lambda_handler(event, context): ...\n"
    with pytest.raises(Failed, match=r"app\.handler, app\.lambda_handler\. Choose one with --handler"):
        find_handler(folder(tmp_path, {"app.py": both}))


@pytest.mark.parametrize(
    "files",
    [
        {"app.py": "import os\nprint(\n"},
        {"odd.py": "import os\nprint(\n"},
        {"app.py": "import os\nprint(\n", "other.py": HANDLER},  # an app.py is the one that is meant
    ],
)
def test_a_syntax_error_is_told_with_its_file_and_line(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(Failed) as failed:
        find_handler(folder(tmp_path, files))
    name = next(iter(files))
    assert f"{name} line 2: '(' was never closed" in str(failed.value)
    assert "defines handler" not in str(failed.value)


def test_what_is_no_text_of_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(Failed, match=r"app\.py.*utf-8"):
        find_handler(tmp_path)


class TestARedeploy:
    """`stored` is what the function has."""

    def test_what_is_asked_for_wins(self, tmp_path: Path) -> None:
        assert handler_for(tmp_path, asked="a.b", stored="c.d") == "a.b"

    @pytest.mark.parametrize(
        ("files", "stored"),
        [
            ({"one.py": HANDLER, "two.py": HANDLER}, "two.handler"),  # not to be found without the flag
            ({"app.py": "def serve(event, context): ..."}, "app.serve"),
            ({"package/work.py": HANDLER, "app.py": HANDLER}, "package.work.handler"),
            ({"package/work.py": HANDLER, "app.py": HANDLER}, "package/work.handler"),
            ({"app.py": "globals()['run'] = print"}, "app.run"),  # parsing does not show it
            ({"app.py": "print(\n"}, "app.handler"),  # told when it runs, as AWS does
        ],
    )
    def test_it_stays_while_the_code_has_it(self, tmp_path: Path, files: dict[str, str], stored: str) -> None:
        assert handler_for(folder(tmp_path, files), asked=None, stored=stored) == stored

    @pytest.mark.parametrize(
        ("files", "found"),
        [
            ({"main.py": HANDLER}, "main.handler"),
            ({"app.py": "def lambda_handler(event, context): ..."}, "app.lambda_handler"),
        ],
    )
    def test_one_that_was_renamed_is_found_again(
        self, tmp_path: Path, files: dict[str, str], found: str
    ) -> None:
        assert handler_for(folder(tmp_path, files), asked=None, stored="app.handler") == found

    def test_one_that_is_gone_asks_for_the_flag(self, tmp_path: Path) -> None:
        with pytest.raises(Failed, match="--handler FILE.FUNCTION"):
            handler_for(folder(tmp_path, {"main.py": "x = 1"}), asked=None, stored="app.handler")
