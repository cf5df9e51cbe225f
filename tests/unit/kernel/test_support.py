"""The rule for missing tools: skipped on a laptop, failed in CI, excused only by name."""

from pathlib import Path

import pytest
import support


@pytest.fixture(autouse=True)
def own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "missing", {})
    monkeypatch.delenv("CI", raising=False)


def test_a_tool_that_is_there_changes_nothing() -> None:
    support.require("weed", "/usr/bin/weed", "not installed")
    assert support.missing == {}


def test_a_missing_tool_skips_on_a_laptop_and_is_listed() -> None:
    with pytest.raises(pytest.skip.Exception, match="weed is missing: not installed"):
        support.require("weed", None, "not installed")
    assert support.missing == {"weed": "not installed"}


def test_a_missing_tool_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(support, "cannot_run_here", lambda: {"other": "no"})
    with pytest.raises(pytest.fail.Exception, match="does not name it"):
        support.require("weed", None, "not installed")


def test_a_named_tool_skips_in_ci_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(support, "cannot_run_here", lambda: {"weed": "no disk for it"})
    with pytest.raises(pytest.skip.Exception, match="no disk for it"):
        support.require("weed", None, "not installed")


def test_the_list_is_read_from_toml(tmp_path: Path) -> None:
    listed = tmp_path / "list.toml"
    listed.write_text('[tools]\nweed = "no disk for it"\n')
    assert support.cannot_run_here(listed) == {"weed": "no disk for it"}
    assert support.cannot_run_here(tmp_path / "absent.toml") == {}


def test_the_committed_list_gives_a_reason_for_each_tool() -> None:
    assert all(reason.strip() for reason in support.cannot_run_here().values())
