"""Metrics: the label `function` stays bounded, and the exposition is Prometheus's."""

import pytest

from lambent.kernel import metrics


def test_functions_beyond_the_bound_share_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_functions", set())
    monkeypatch.setattr(metrics, "_MAX_FUNCTIONS", 2)
    assert [metrics.function_label(name) for name in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]


def test_no_series_is_there_twice() -> None:
    metrics.invocations.labels("once", "success").inc()
    metrics.duration.labels("once").observe(0.1)
    assert "_created" not in metrics.exposition().decode()


def test_the_exposition_names_every_metric() -> None:
    text = metrics.exposition().decode()
    for name in ("invocations", "errors", "throttles", "duration_seconds", "init_duration_seconds"):
        assert f"# TYPE lambent_{name}" in text
    assert "lambent_log_lines_dropped_total" in text
