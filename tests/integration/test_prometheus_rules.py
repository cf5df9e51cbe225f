"""The shipped Prometheus files by Prometheus's own tool: they are right, each alert fires on what it is for,
and none on what is well."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus import CONFIG, promtool, tool

RULES = CONFIG.parent / "rules"
UP = 'up{job="lambent",instance="a"}'
STARTED = 'process_start_time_seconds{job="lambent",instance="a"}'
OK = 'lambent_api_requests_total{operation="Invoke",status="2xx"}'
BAD = 'lambent_api_requests_total{operation="Invoke",status="5xx"}'
RAN = 'lambent_invocations_total{function="f",outcome="success"}'
MEMORY = 'lambent_memory_used_ratio_bucket{function="f",le="%s"}'
LAG = 'lambent_event_loop_lag_seconds_bucket{instance="a",le="%s"}'

# What is well: everything has a number, and no alert fires.
WELL = {
    UP: "1x60",
    STARTED: "100x60",
    OK: "0+100x60",
    BAD: "0x60",
    RAN: "0+100x60",
    'lambent_errors_total{function="f"}': "0+1x60",
    'lambent_throttles_total{function="f",reason="r"}': "5x60",
    MEMORY % "0.9": "0+100x60",
    MEMORY % "+Inf": "0+100x60",
    MEMORY.replace("_bucket", "_count").replace(',le="%s"', ""): "0+100x60",
    LAG % "0.01": "0+60x60",
    LAG % "0.25": "0+60x60",
    LAG % "1": "0+60x60",
    LAG % "+Inf": "0+60x60",
    'lambent_redis_up{instance="a"}': "1x60",
    "lambent_lease_slots": "100x60",
    "lambent_account_concurrency_limit": "1000x60",
    'lambent_environments_memory_reserved_bytes{instance="a"}': "500x60",
    'lambent_environments_memory_limit_bytes{instance="a"}': "1000x60",
    'lambent_queue_oldest_age_seconds{function="f"}': "30x60",
    'lambent_queue_dead{function="f"}': "4x60",
    'lambent_usage_ledger_lag_seconds{instance="a"}': "0x60",
    'lambent_usage_missing_records{instance="a"}': "7x60",
    'lambent_log_lines_dropped_total{instance="a"}': "3x60",
    'lambent_spans_dropped_total{instance="a"}': "3x60",
    'lambent_init_failures_total{function="f"}': "2x60",
    'lambent_environment_start_failures_total{function="f"}': "2x60",
    'lambent_recursive_invocations_dropped_total{function="f"}': "2x60",
    'lambent_dead_events_discarded_total{function="f"}': "2x60",
    'lambent_destination_delivery_failures_total{function="f"}': "2x60",
    'lambent_dead_letter_errors_total{function="f"}': "2x60",
    'lambent_trigger_events_dropped_total{function="f"}': "2x60",
}
F, A = 'function="f"', 'instance="a"'
# {alert: what is different from what is well (None: a series that is not there), a label of the alert}
FIRES: dict[str, list[tuple[dict[str, str | None], str]]] = {
    "LambentDown": [({UP: "1x30 0x30"}, A)],
    "LambentNotScraped": [({UP: None}, 'severity="page"')],
    "LambentNothingServed": [
        ({OK: "0+100x30 3000x30", BAD: "0+100x60"}, 'severity="page"'),
        ({OK: None, BAD: "0+100x60"}, 'severity="page"'),
    ],
    "LambentServerErrors": [({BAD: "0+5x60"}, 'severity="page"')],
    "LambentRedisDown": [({'lambent_redis_up{instance="a"}': "1x30 0x30"}, A)],
    "LambentRestarting": [({STARTED: "100x50 200 300 400x8"}, A)],
    "LambentFunctionErrors": [({'lambent_errors_total{function="f"}': "0+20x60"}, F)],
    "LambentThrottled": [({'lambent_throttles_total{function="f",reason="r"}': "0+1x60"}, 'reason="r"')],
    "LambentInitFailures": [
        ({'lambent_init_failures_total{function="f"}': "0+1x60"}, F),
        ({'lambent_init_failures_total{function="f"}': "_x53 1x7"}, F),
    ],
    "LambentFunctionNearMemoryLimit": [({MEMORY % "0.9": "0+90x60"}, F)],
    "LambentRecursionStopped": [
        ({'lambent_recursive_invocations_dropped_total{function="f"}': "0+1x60"}, F),
        ({'lambent_recursive_invocations_dropped_total{function="f"}': "_x53 1x7"}, F),
    ],
    "LambentConcurrencyNearLimit": [({"lambent_lease_slots": "950x60"}, 'severity="ticket"')],
    "LambentEnvironmentsMemoryFull": [
        ({'lambent_environments_memory_reserved_bytes{instance="a"}': "980x60"}, A)
    ],
    "LambentEnvironmentsDoNotStart": [
        ({'lambent_environment_start_failures_total{function="f"}': "0+1x60"}, F),
        ({'lambent_environment_start_failures_total{function="f"}': "_x53 1x7"}, F),
    ],
    "LambentEventLoopLags": [({LAG % "0.01": "0+50x60", LAG % "0.25": "0+50x60"}, A)],
    "LambentQueueOld": [({'lambent_queue_oldest_age_seconds{function="f"}': "0+60x60"}, F)],
    "LambentDeadEventsGrow": [
        ({'lambent_queue_dead{function="f"}': "0+1x60"}, F),
        ({'lambent_queue_dead{function="f"}': "_x53 1x7"}, F),
    ],
    "LambentDeadEventsDiscarded": [
        ({'lambent_dead_events_discarded_total{function="f"}': "0+1x60"}, F),
        ({'lambent_dead_events_discarded_total{function="f"}': "_x53 1x7"}, F),
    ],
    "LambentDestinationsFail": [
        ({'lambent_destination_delivery_failures_total{function="f"}': "0+1x60"}, F),
        ({'lambent_dead_letter_errors_total{function="f"}': "0+1x60"}, F),
    ],
    "LambentTriggerEventsDropped": [
        ({'lambent_trigger_events_dropped_total{function="f"}': "0+1x60"}, F),
        ({'lambent_trigger_events_dropped_total{function="f"}': "_x53 1x7"}, F),
    ],
    "LambentUsageLedgerBehind": [({'lambent_usage_ledger_lag_seconds{instance="a"}': "0+60x60"}, A)],
    "LambentUsageRecordsMissing": [
        ({'lambent_usage_missing_records{instance="a"}': "7x30 9x30"}, 'severity="ticket"')
    ],
    "LambentSpansDropped": [({'lambent_spans_dropped_total{instance="a"}': "0+9x60"}, A)],
    "LambentLogLinesDropped": [({'lambent_log_lines_dropped_total{instance="a"}': "0+9x60"}, A)],
}
CASES = [
    pytest.param(alert, changes, label, id=f"{alert}-{number}")
    for alert, cases in FIRES.items()
    for number, (changes, label) in enumerate(cases)
]


def check(folder: Path, changes: dict[str, str | None], *, alert: str | None, label: str = "") -> None:
    """Runs promtool on an hour of what is well but for `changes`; at its end `alert` fires with the label.
    None: nothing fires."""
    series = {name: values for name, values in (WELL | changes).items() if values is not None}
    named = f'alertname="{alert}",{label},' if alert is not None else ""
    firing = [] if alert is None else [{"labels": f'{{alertname="{alert}"}}', "value": 1}]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{{named}alertstate="firing"}})',
                "eval_time": "59m",
                "exp_samples": firing,
            }
        ],
    }
    files = [str(path) for path in sorted(RULES.glob("*.yml"))]
    path = folder / "test.yml"
    path.write_text(json.dumps({"rule_files": files, "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", str(path))


def test_the_files_are_right() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", str(CONFIG))
    promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, sorted(RULES.glob("*.yml"))))


def test_the_metrics_are_as_prometheus_wants_them() -> None:
    """In a process of its own: each metric is given a series, which the others' tests do not expect."""
    shown = (
        "import sys; from lambent.kernel import metrics\n"
        "for each in metrics.declared():\n"
        "    each._labelnames and each.labels(*each._labelnames)\n"
        "sys.stdout.buffer.write(metrics.exposition())"
    )
    text = subprocess.run([sys.executable, "-c", shown], capture_output=True, check=True).stdout
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    # AWS bills in ms, and dashboards of users have the name.
    known = b'lambent_billed_milliseconds_total use base unit "seconds" instead of "milliseconds"'
    assert [line for line in done.stderr.splitlines() if line != known] == [], done.stdout


def test_the_targets_of_roles_apart_are_right_once_they_are_no_comment(tmp_path: Path) -> None:
    text, count = re.subn(r"^      # (- targets|  labels)", r"      \1", CONFIG.read_text(), flags=re.MULTILINE)
    assert count == 6
    path = tmp_path / "prometheus.yml"
    path.write_text(text.replace("rules/", f"{RULES}/"))
    promtool("check", "config", "--lint=all", "--lint-fatal", str(path))


def test_every_alert_has_its_case() -> None:
    declared = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())
    assert sorted(declared) == sorted(FIRES)


def test_none_fires_when_all_is_well(tmp_path: Path) -> None:
    check(tmp_path, {}, alert=None)


@pytest.mark.parametrize(("alert", "changes", "label"), CASES)
def test_it_fires_on_what_it_is_for(
    alert: str, changes: dict[str, str | None], label: str, tmp_path: Path
) -> None:
    check(tmp_path, changes, alert=alert, label=label)
