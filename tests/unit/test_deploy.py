"""What `deploy/` ships asks for nothing that does not exist; that its queries return data is
`e2e/test_dashboards.py`'s."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lambent.kernel import metrics

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
_NAME = re.compile(r"\b(lambent_[a-z0-9_]+|lambent:[a-z0-9_:]+)")
_RECORD = re.compile(r"record: (\S+)")


def known() -> set[str]:
    names = set()
    for name, kind, _, _ in map(metrics.described, metrics.declared()):
        names |= {name} if kind != "histogram" else {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return names | {name for path in RULES for name in _RECORD.findall(path.read_text())}


def expressions(text: str) -> str:
    """A rules file without its comments and annotations, which may name settings."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not re.match(r"\s*(#|- name|summary|action)", line))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_ask_for_metrics_that_are_declared(path: Path) -> None:
    assert set(_NAME.findall(expressions(path.read_text()))) - known() == set()


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    alerts = (ROOT / "deploy/prometheus/rules/alerts.yml").read_text().split("- alert: ")[1:]
    assert len(alerts) > 15
    for alert in alerts:
        name = alert.split("\n", 1)[0]
        assert re.search(r"severity: (page|ticket)", alert), name
        assert "summary: " in alert and "action: " in alert, name


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_ask_for_metrics_that_are_declared(path: Path) -> None:
    asked = [target["expr"] for panel in panels(path) for target in panel.get("targets", ())]
    assert len(asked) > 8
    assert set(_NAME.findall("\n".join(asked))) - known() == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    built_in = {"__rate_interval", "__range"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used - built_in <= variables
    assert variables - used == set(), "no variable without an effect"
    ids = [panel["id"] for panel in panels(path)]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels(path):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboards_have_names_of_their_own() -> None:
    read = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({each["uid"] for each in read}) == len({each["title"] for each in read}) == len(read) == 4
