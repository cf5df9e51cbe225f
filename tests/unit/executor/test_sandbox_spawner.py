"""What the spawner does where mounting from outside goes wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent.executor.drivers.sandbox import syscalls as sys_
from lambent.executor.drivers.sandbox import wire
from lambent.executor.drivers.sandbox.spawner import Spawner


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[Spawner]:
    ours, theirs = wire.pair()
    with ours, theirs:
        made = Spawner(theirs, str(tmp_path))
        yield made
        for descriptor in (made._namespace, made._mounts, made._root):
            os.close(descriptor)


def mounted(spawner: Spawner, trees: dict[str, str]) -> object:
    """What is said to who waits."""
    ours, theirs = wire.pair()
    with ours, theirs:
        spawner._mount_trees(trees, theirs, os.open("/", os.O_RDONLY))
        return wire.receive(ours)


def test_what_cannot_be_mounted_is_told(spawner: Spawner, tmp_path: Path) -> None:
    said = mounted(spawner, {"/var/task": str(tmp_path / "gone")})
    assert isinstance(said, tuple) and "file system: " in said[0]["error"]


def test_one_that_cannot_leave_an_environment_ends(spawner: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make the next environments from there."""

    def setns(descriptor: int, kind: int) -> None:
        if descriptor == spawner._mounts:
            raise OSError("refused")

    monkeypatch.setattr(sys_, "setns", setns)
    monkeypatch.setattr(sys_, "unmount", lambda path: None)
    with pytest.raises(RuntimeError, match="cannot leave an environment"):
        mounted(spawner, {})
