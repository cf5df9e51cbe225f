import os
from collections.abc import Callable
from pathlib import Path

from lambent.cli.watch import changes


def _at_each_look(*steps: Callable[[], object]) -> Callable[[float], None]:
    left = list(steps)

    def sleep(_: float) -> None:
        if left:
            left.pop(0)()

    return sleep


def _nothing() -> None:
    """Nothing changes before this look."""


def test_what_changed_came_and_went_is_told_once_it_is_quiet(tmp_path: Path) -> None:
    for name in ("app.py", "old.py", "same.py"):
        (tmp_path / name).write_text("1")
    told = changes(
        tmp_path,
        sleep=_at_each_look(
            _nothing,
            lambda: (tmp_path / "app.py").write_text("longer"),
            lambda: (tmp_path / "new.py").write_text("1"),
            lambda: (tmp_path / "old.py").unlink(),
        ),
    )
    assert next(told) == ["app.py", "new.py", "old.py"]


def test_a_change_of_the_same_size_is_seen_by_its_time(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("1")
    told = changes(tmp_path, sleep=_at_each_look(lambda: os.utime(path, ns=(1, 1))))
    assert next(told) == ["app.py"]


def test_what_no_package_has_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / ".git").mkdir()
    told = changes(
        tmp_path,
        sleep=_at_each_look(
            lambda: (tmp_path / "__pycache__" / "app.pyc").write_text("1"),
            lambda: (tmp_path / ".git" / "index").write_text("1"),
            lambda: (tmp_path / "app.py").write_text("12"),
        ),
    )
    assert next(told) == ["app.py"]


def test_a_folder_that_is_between_two_states_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1")
    link = tmp_path / "link"

    def mend() -> None:
        link.unlink()
        (tmp_path / "app.py").write_text("12")

    told = changes(tmp_path, sleep=_at_each_look(lambda: link.symlink_to("nowhere"), mend))
    assert next(told) == ["app.py"]
