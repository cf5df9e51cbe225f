"""What `lambent deploy` makes of a folder, without a server."""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lambent.cli import deploy
from lambent.cli.client import Failed

HANDLER = "def handler(event, context):\n    pass\n"


def folder(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(package: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(package)).namelist()


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
        ({"app.py": HANDLER, "tools.py": "def handler(one): ..."}, "app.handler"),
        ({"app.py": "def handler(event, context=None, *more): ..."}, "app.handler"),
        ({"app.py": "def handler(*args): ..."}, "app.handler"),
    ],
)
def test_the_handler_is_found(tmp_path: Path, files: dict[str, str], found: str) -> None:
    assert deploy.find_handler(folder(tmp_path, files)) == found


@pytest.mark.parametrize("files", [{}, {"app.py": "x = 1"}, {"deeper/app.py": HANDLER}, {"app.js": "handler"}])
def test_no_handler_asks_for_the_flag(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(Failed, match="Name yours with --handler FILE.FUNCTION"):
        deploy.find_handler(folder(tmp_path, files))


def test_several_handlers_are_listed_and_not_guessed(tmp_path: Path) -> None:
    both = "def handler(event, context): ...\ndef lambda_handler(event, context): ...\n"
    with pytest.raises(Failed, match=r"app\.handler, app\.lambda_handler\. Choose one with --handler"):
        deploy.find_handler(folder(tmp_path, {"app.py": both}))


def test_two_packages_of_one_folder_are_the_same_bytes(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER, "data/words.txt": "a"})
    first = deploy.package(made, "python3.11")
    os.utime(made / "app.py", (1, 1))
    assert deploy.package(made, "python3.11") == first


def test_what_belongs_to_development_is_left_out(tmp_path: Path) -> None:
    unwanted = {".git/config": "", "__pycache__/app.pyc": "", ".venv/bin/python": "", "pkg/old.pyc": ""}
    made = folder(tmp_path, {"app.py": HANDLER, "pkg/__init__.py": "", **unwanted})
    assert names(deploy.package(made, "python3.11")) == ["app.py", "pkg/__init__.py"]


def test_programs_stay_executable_and_everything_readable(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER, "bin/tool": "#!/bin/sh"})
    (made / "app.py").chmod(0o600)
    (made / "bin/tool").chmod(0o700)
    archive = zipfile.ZipFile(io.BytesIO(deploy.package(made, "python3.11")))
    modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    assert modes == {"app.py": 0o644, "bin/tool": 0o755}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="has no files to deploy"):
        deploy.package(tmp_path, "python3.11")


def test_an_unreadable_file_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path, {"app.py": HANDLER})

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Failed, match=r"app\.py can't be read: Permission denied"):
        deploy.package(made, "python3.11")


def test_a_package_over_the_limit_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "_MAX_ZIP", 100)
    with pytest.raises(Failed, match="layer"):
        deploy.package(folder(tmp_path, {"app.py": HANDLER}), "python3.11")


def test_a_folder_of_comments_alone_as_requirements_installs_nothing(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER, "requirements.txt": "\n"})
    assert names(deploy.package(made, "python3.11")) == ["app.py", "requirements.txt"]
