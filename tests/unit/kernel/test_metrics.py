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


def test_every_metric_is_in_the_exposition_under_the_name_of_its_page() -> None:
    text = metrics.exposition().decode()
    for name, kind, _, _ in map(metrics.described, metrics.declared()):
        assert f"# TYPE {name} {kind}" in text
    assert "process_cpu_seconds_total" in text and "process_resident_memory_bytes" in text


def test_names_are_prometheus_own_kind() -> None:
    for name, kind, text, labels in map(metrics.described, metrics.declared()):
        assert name.startswith("lambent_") and text.endswith(".")
        assert name.endswith("_total") == (kind == "counter")
        assert kind != "histogram" or name.endswith(("_seconds", "_ratio"))
        assert set(labels) <= {
            "function",
            "outcome",
            "reason",
            "state",
            "operation",
            "status",
            "version",
            "kind",
        }


def test_the_series_of_a_forgotten_function_end_and_its_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_functions", set())
    monkeypatch.setattr(metrics, "_MAX_FUNCTIONS", 1)
    label = metrics.function_label("forgotten")
    metrics.invocations.labels(label, "success").inc()
    metrics.throttles.labels(label, "reason").inc()
    metrics.duration.labels(label).observe(1)
    metrics.show_reserved("forgotten", 3)
    metrics.invocations.labels("kept", "success").inc()
    metrics.forget("forgotten")
    text = metrics.exposition()
    assert b'"forgotten"' not in text and b'"kept"' in text
    assert not metrics.has_series("forgotten")
    assert metrics.function_label("next") == "next"


def test_a_reservation_takes_no_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_functions", {"seen"})
    for name in ("seen", "unseen"):
        metrics.show_reserved(name, 7)
    assert metrics.REGISTRY.get_sample_value("lambent_reserved_concurrency", {"function": "seen"}) == 7
    assert metrics.REGISTRY.get_sample_value("lambent_reserved_concurrency", {"function": "unseen"}) is None
    metrics.show_reserved("seen", None)
    assert metrics.REGISTRY.get_sample_value("lambent_reserved_concurrency", {"function": "seen"}) is None


def test_requests_are_counted_by_class_of_status() -> None:
    for status in (200, 202, 404):
        metrics.count_request("CountedHere", status, 0.01)
    labels = {"operation": "CountedHere", "status": "2xx"}
    assert metrics.REGISTRY.get_sample_value("lambent_api_requests_total", labels) == 2
    count = metrics.REGISTRY.get_sample_value(
        "lambent_api_request_duration_seconds_count", {"operation": "CountedHere"}
    )
    assert count == 3
