"""What `lambent deploy` makes of a folder: what is in the zip, what is not, and what is refused by its name."""

import io
import os
import socket
import sys
import zipfile
from pathlib import Path

import pytest
from folders import HANDLER, folder, greetings_from, wheel

from lambent.cli import package as module
from lambent.cli.client import Failed
from lambent.cli.package import Package, package, this_python

OURS = this_python()
ANOTHER = f"python3.{sys.version_info.minor + 1}"


def names(packed: Package) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(packed.data)).namelist()


def content(packed: Package, name: str) -> str:
    return zipfile.ZipFile(io.BytesIO(packed.data)).read(name).decode()


def test_two_packages_of_one_folder_are_the_same_bytes(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER, "data/words.txt": "a"})
    first = package(made, OURS)
    os.utime(made / "app.py", (1, 1))
    assert package(made, OURS) == first


def test_what_belongs_to_development_is_left_out_and_told(tmp_path: Path) -> None:
    unwanted = {".git/config": "", "__pycache__/app.pyc": "", "web/node_modules/x.js": "", "pkg/old.pyc": ""}
    made = folder(tmp_path, {"app.py": HANDLER, "pkg/__init__.py": "", ".venv/bin/python": "", **unwanted})
    packed = package(made, OURS)
    assert names(packed) == ["app.py", "pkg/__init__.py"]
    assert packed.left_out == [".git", ".venv", "web/node_modules"]


def test_a_package_for_another_runtime_has_its_modules_and_installs_nothing(tmp_path: Path) -> None:
    code = {
        "index.mjs": "",
        "node_modules/x/index.js": "",
        "requirements.txt": "none-such-1b",
        ".git/config": "",
    }
    packed = package(folder(tmp_path, code), "nodejs22.x")
    assert names(packed) == ["index.mjs", "node_modules/x/index.js", "requirements.txt"]
    assert packed.left_out == [".git"]


def test_programs_stay_executable_and_everything_readable(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER, "bin/tool": "#!/bin/sh"})
    (made / "app.py").chmod(0o600)
    (made / "bin/tool").chmod(0o700)
    archive = zipfile.ZipFile(io.BytesIO(package(made, OURS).data))
    modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    assert modes == {"app.py": 0o644, "bin/tool": 0o755}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="has no files to deploy"):
        package(tmp_path, OURS)


def test_an_unreadable_file_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path, {"app.py": HANDLER})

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Failed, match=r"app\.py can't be read: Permission denied"):
        package(made, OURS)


def test_a_package_over_the_limit_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ZIP", 100)
    with pytest.raises(Failed, match="layer"):
        package(folder(tmp_path, {"app.py": HANDLER}), OURS)


def test_what_is_too_large_unzipped_names_its_largest_part(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER, "model/weights": ""})
    os.truncate(made / "model/weights", 262_144_001)  # sparse: never read
    with pytest.raises(Failed, match=r"may have 250\. The largest part is model\."):
        package(made, OURS)


class TestLinks:
    def test_a_folder_behind_a_link_is_in_the_package(self, tmp_path: Path) -> None:
        folder(tmp_path / "shared", {"tools.py": "X = 1\n", "deep/more.py": ""})
        made = folder(tmp_path / "code", {"app.py": HANDLER})
        (made / "shared").symlink_to("../shared")
        (made / "again").symlink_to(tmp_path / "shared")
        packed = package(made, OURS)
        assert names(packed) == [
            *("again/deep/more.py", "again/tools.py"),
            *("app.py", "shared/deep/more.py", "shared/tools.py"),
        ]
        assert content(packed, "shared/tools.py") == "X = 1\n"

    def test_a_file_behind_a_link_is_in_the_package(self, tmp_path: Path) -> None:
        (tmp_path / "words.txt").write_text("a b")
        made = folder(tmp_path / "code", {"app.py": HANDLER})
        (made / "words.txt").symlink_to(tmp_path / "words.txt")
        assert content(package(made, OURS), "words.txt") == "a b"

    @pytest.mark.parametrize("target", [".", "..", "../.."])
    def test_a_loop_is_refused_by_name(self, tmp_path: Path, target: str) -> None:
        made = folder(tmp_path / "parent/code", {"deep/app.py": HANDLER})
        (made / "deep/loop").symlink_to(target)
        with pytest.raises(Failed, match="loop.* is a link to a folder that it lies in"):
            package(made, OURS)

    @pytest.mark.parametrize("target", ["nowhere", "broken"])
    def test_one_that_leads_nowhere_is_refused_by_name(self, tmp_path: Path, target: str) -> None:
        made = folder(tmp_path, {"app.py": HANDLER})
        (made / "broken").symlink_to(target)
        with pytest.raises(Failed, match=f"broken is a link to {target}, which is not there"):
            package(made, OURS)


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path) -> None:
    made = folder(tmp_path, {"app.py": HANDLER})
    os.mkfifo(made / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(made / "socket"))
    packed = package(made, OURS)
    assert names(packed) == ["app.py"]
    assert packed.left_out == ["pipe", "socket"]


class TestRequirements:
    def test_blank_ones_install_nothing(self, tmp_path: Path) -> None:
        made = folder(tmp_path, {"app.py": HANDLER, "requirements.txt": "\n"})
        assert names(package(made, OURS)) == ["app.py", "requirements.txt"]

    @pytest.mark.parametrize("python", [OURS, ANOTHER])
    def test_they_are_those_of_the_python_that_runs_the_function(self, tmp_path: Path, python: str) -> None:
        for each in (OURS, ANOTHER):
            wheel(tmp_path / "wheels", f"py{each.removeprefix('python').replace('.', '')}", each)
        # pip takes a py311 wheel for a 3.12 too, but prefers its own.
        requirements = greetings_from(tmp_path / "wheels")
        made = folder(tmp_path / "code", {"app.py": HANDLER, "requirements.txt": requirements})
        assert content(package(made, python), "greetings.py") == f"TEXT = '{python}'\n"

    def test_a_file_of_ones_own_wins_over_a_dependencys(self, tmp_path: Path) -> None:
        wheel(tmp_path / "wheels", "py3", "theirs")
        requirements = greetings_from(tmp_path / "wheels")
        made = folder(tmp_path / "code", {"greetings.py": "TEXT = 'mine'\n", "requirements.txt": requirements})
        assert content(package(made, OURS), "greetings.py") == "TEXT = 'mine'\n"

    def test_other_encodings_are_left_to_pip(self, tmp_path: Path) -> None:
        wheel(tmp_path / "wheels", "py3", "hello")
        made = folder(tmp_path / "code", {"app.py": HANDLER})
        requirements = "# -*- coding: latin-1 -*-\n# f\u00fcr\n" + greetings_from(tmp_path / "wheels")
        (made / "requirements.txt").write_bytes(requirements.encode("latin-1"))
        assert "greetings.py" in names(package(made, OURS))

    def test_those_that_cannot_be_installed_are_told_with_the_python(self, tmp_path: Path) -> None:
        wheel(tmp_path / "wheels", OURS.replace("python3.", "cp3"), "hello")
        requirements = greetings_from(tmp_path / "wheels")
        made = folder(tmp_path / "code", {"app.py": HANDLER, "requirements.txt": requirements})
        with pytest.raises(Failed, match=f"could not be installed for {ANOTHER}:\n.*greetings"):
            package(made, ANOTHER)
