"""Folders of code, and wheels, for tests of `lambent deploy`."""

import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path

HANDLER = "def handler(event, context):\n    pass\n"


def folder(root: Path, files: Mapping[str, str]) -> Path:
    """Makes the files, by their paths below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return root


def wheel(into: Path, tag: str, text: str) -> None:
    """A wheel of `greetings` 1.0 for the Pythons of `tag` (py3, py312), whose greetings.TEXT is `text`."""
    into.mkdir(parents=True, exist_ok=True)
    info = "greetings-1.0.dist-info"
    with zipfile.ZipFile(into / f"greetings-1.0-{tag}-none-any.whl", "w") as archive:
        archive.writestr("greetings.py", f"TEXT = {text!r}\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def greetings_from(wheels: Path) -> str:
    """A requirements.txt that asks for `greetings` out of a folder of wheels, and no network."""
    return f"--no-index\n--find-links {wheels}\ngreetings\n"
