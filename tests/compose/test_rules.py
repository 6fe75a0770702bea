"""Each alert fires when it should, and is silent just before; each says what to do. `promtool` is who judges."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.shipped import FOLDER
from tests.support.requirements import skip_unless_ci
from tests.support.waiting import PATIENCE

RULES = FOLDER / "prometheus" / "rules.yaml"
NODE = 'job="oscd",instance="node-1:9000"'
DAY = 86400
MIB = 1024 * 1024

Series = dict[str, str]
"""What a node shows, minute after minute, in promtool's notation: `5x3` is 5 5 5 5, `0+2x3` is 0 2 4 6."""


@dataclass(frozen=True, slots=True)
class Case:
    """One alert, looked at after `minutes`.

    Attributes:
        fires: Series with which it does.
        silent: Series with which it does not, near by.
    """

    alert: str
    fires: Series
    silent: Series
    minutes: int = 10


def gauge(name: str, labels: str, fires: str, silent: str) -> tuple[Series, Series]:
    """One series, with the values that make the alert fire and those that do not."""
    series = f"{name}{{{NODE}{labels and ','}{labels}}}"
    return {series: fires}, {series: silent}


REQUESTS = f'osc_http_requests_total{{{NODE},endpoint="/configs",method="POST",status_code='
PROBES = f'osc_http_requests_total{{{NODE},endpoint="/ready",method="GET",status_code='
CASES = [
    Case("OscdNodeDown", *gauge("up", "", "1 0x10", "1 0 1x10"), minutes=3),
    Case("OscdWorkerSilent", *gauge("osc_worker_beat_age_seconds", 'worker="1"', "1 60+60x10", "1 9x10"), minutes=3),
    Case("OscdWorkerCrashes", *gauge("osc_worker_starts_total", 'worker="1"', "1 1 2 3x20", "1 1 2x20"), minutes=12),
    Case(
        "OscdServerErrors",
        {f'{REQUESTS}"201"}}': "0+98x30", f'{REQUESTS}"503"}}': "0+2x30"},
        {f'{REQUESTS}"201"}}': "0+1000x30", f'{REQUESTS}"503"}}': "0+9x30", f'{REQUESTS}"404"}}': "0+500x30"},
        minutes=15,
    ),
    # One that refuses a caller who comes every few minutes; one that was restarted, and says that it is not ready.
    Case(
        "OscdServerErrors",
        {f'{REQUESTS}"201"}}': "0+98x30", f'{REQUESTS}"503"}}': "0 20x2 40x2 60x30"},
        {f'{REQUESTS}"201"}}': "0+98x30", f'{REQUESTS}"503"}}': "0x3 20 40x30", f'{PROBES}"503"}}': "0+12x30"},
        minutes=9,
    ),
    # Time begins at 0 in promtool.
    Case(
        "OscdCertificateEnds",
        *gauge("osc_certificate_expiry_timestamp_seconds", 'use="serving"', f"{13 * DAY}x20", f"{15 * DAY}x20"),
        minutes=15,
    ),
    Case("OscdLogNotWritable", *gauge("osc_log_writable", "", "1 0x10", "1 0 1x10"), minutes=3),
    # Full within a day, and not; almost full, and not.
    Case(
        "OscdDiskFilling",
        *gauge("osc_log_room_bytes", "", f"{900 * MIB}-{MIB}x80", f"{900 * MIB}x80"),
        minutes=70,
    ),
    Case("OscdDiskFilling", *gauge("osc_log_room_bytes", "", f"{120 * MIB}x20", f"{130 * MIB}x20")),
    Case("OscdLinkDown", *gauge("osc_replication_link_up", 'peer="node-2:9000"', "1 0x10", "1 0 0 1x10"), minutes=4),
    Case("OscdReplicationLag", *gauge("osc_replication_lag_seconds", 'peer="node-2:9000"', "31x9", "9x9"), minutes=3),
    Case("OscdFork", *gauge("osc_replication_quarantined", "", "0 1x5", "0x6"), minutes=1),
    Case("OscdStatesDiverged", *gauge("osc_replication_diverged", "", "0 1x5", "0 1 0x5"), minutes=4),
    Case("OscdConflicts", *gauge("osc_replication_conflicts_total", "", "7+1x30", "7 8x30"), minutes=20),
    # A node that was added, and one that was made anew.
    Case("OscdConflicts", *gauge("osc_replication_conflicts_total", "", "0x16 90x9", "_x16 0 90x9"), minutes=20),
    Case("OscdConflicts", *gauge("osc_replication_conflicts_total", "", "80x16 100x9", "90x16 0 90x9"), minutes=20),
    Case("OscdClockSkew", *gauge("osc_replication_skew_seconds", 'peer="node-2:9000"', "-2.5x10", "-1.5x10")),
]  # fmt: skip


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        skip_unless_ci("promtool is not installed (`make test` installs it where it may)")
    return program


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def rules() -> list[dict[str, Any]]:
    """Every alert that is shipped."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_has_nothing_to_say(promtool: str) -> None:
    """Of the rules, and of the configuration that loads them."""
    checked = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    configuration = FOLDER / "prometheus" / "prometheus.yml"
    checked = run(promtool, "check", "config", "--syntax-only", str(configuration))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_and_is_silent(promtool: str, tmp_path: Path) -> None:
    """With one set of series it fires, with another it does not; none of the alerts is without such a case."""
    assert {case.alert for case in CASES} == {rule["alert"] for rule in rules()}
    tests = [
        {
            "name": f"{case.alert} {'fires' if does_fire else 'is silent'}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})',
                    "eval_time": f"{case.minutes}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if does_fire else [],
                }
            ],
        }
        for case in CASES
        for does_fire, series in ((True, case.fires), (False, case.silent))
    ]
    document = tmp_path / "rules.test.yaml"
    document.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests})
    )
    checked = run(promtool, "test", "rules", str(document))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_rule_is_told_in_words(promtool: str, tmp_path: Path) -> None:
    """What an operator reads names the node and the number, in the unit that people use."""
    lag = next(rule for rule in rules() if rule["alert"] == "OscdReplicationLag")
    summary = "node-1:9000 has lacked events of node-2:9000 for 1m 30s"
    labels = {"severity": "ticket", "job": "oscd", "instance": "node-1:9000", "peer": "node-2:9000"}
    told = {"summary": summary, "description": lag["annotations"]["description"]}
    series = {"series": f'osc_replication_lag_seconds{{{NODE},peer="node-2:9000"}}', "values": "90x10"}
    alert = {
        "alertname": "OscdReplicationLag",
        "eval_time": "3m",
        "exp_alerts": [{"exp_labels": labels, "exp_annotations": told}],
    }
    test = {"interval": "1m", "input_series": [series], "alert_rule_test": [alert]}
    document = tmp_path / "words.test.yaml"
    document.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}))
    checked = run(promtool, "test", "rules", str(document))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_says_what_to_do() -> None:
    """It has a summary, a severity, and a description that ends with a section of the operator's page."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert re.search(r": docs/operations\.md#[a-z-]+$", rule["annotations"]["description"])
        assert 'job="oscd"' in rule["expr"]


def test_the_page_lists_every_alert() -> None:
    """With the section that its description names, and no alert that there is not."""
    rows = re.findall(
        r"^\| (`Oscd.*?) \|.*operations\.md#([a-z-]+)\)", (FOLDER / "README.md").read_text(), re.M
    )
    listed = {alert: section for alerts, section in rows for alert in re.findall(r"`(\w+)`", alerts)}
    assert listed == {
        rule["alert"]: rule["annotations"]["description"].rpartition("#")[2] for rule in rules()
    }
