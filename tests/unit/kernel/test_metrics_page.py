from pathlib import Path

from lambent.kernel import metrics
from lambent.kernel.metrics_page import renewed

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_committed_page_is_up_to_date() -> None:
    how = "run: PYTHONPATH=kernel python -m lambent.kernel.metrics_page docs/metrics.md"
    assert PAGE.read_text() == renewed(PAGE.read_text()), how


def test_every_metric_is_on_the_page() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `lambent_")]
    names = {row.split("`")[1] for row in rows}
    assert names == {name for name, *_ in map(metrics.described, metrics.declared())}
