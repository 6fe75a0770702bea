"""The dashboard is whole: panels in places of their own, queries with a legend, and a picture of them."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from compose.dashboard import dashboard, metrics_of, queries, series_name
from compose.drawing import COLUMNS, Line, dashboard_svg, shown
from compose.shipped import FOLDER

SVG = "{http://www.w3.org/2000/svg}"
BEGIN, END = 1000.0, 1060.0


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dashboard()


def test_grafana_finds_what_is_provisioned(document: dict[str, Any]) -> None:
    """Every panel asks the data source that is provisioned; dashboards are read from where they are mounted."""
    provisioning = FOLDER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "oscd.yaml").read_text())["providers"]
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    asked = {str(found) for panel in document["panels"] for found in sources_of(panel)}
    asked.update(str(each["datasource"]) for each in document["templating"]["list"])
    assert asked == {str({"type": source["type"], "uid": source["uid"]})}


def sources_of(panel: dict[str, Any]) -> list[Any]:
    """The data source of a panel, and of each of its queries."""
    return [panel["datasource"], *(t["datasource"] for t in panel["targets"])] if "targets" in panel else []


def test_no_two_panels_are_in_one_place(document: dict[str, Any]) -> None:
    """Each has an id and a place of its own, within the columns there are, and says what it shows."""
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
        assert panel["type"] == "row" or panel["description"]
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_what_an_operator_of_a_replicated_log_asks_for_is_there(document: dict[str, Any]) -> None:
    """Rate, errors and duration by route, the log, streams, replication, keys and each worker."""
    asked = [expression for _, expression, _ in queries(document, "1m")]
    for metric in (
        "osc_http_requests_total",
        "osc_http_request_duration_seconds_bucket",
        "osc_log_head_offset",
        "osc_log_events_appended_total",
        "sse_active_subscriptions",
        "sse_queue_size",
        "osc_replication_lag_events",
        "osc_replication_lag_seconds",
        "osc_replication_conflicts_total",
        "osc_key_derivations_total",
        "osc_worker_beat_age_seconds",
        "osc_worker_starts_total",
    ):
        assert any(metric in metrics_of(expression) for expression in asked), metric
    assert not any("$" in expression for expression in asked)
    for _, expression, form in queries(document, "1m"):
        for label in re.findall(r"\{\{(\w+)\}\}", form):
            grouped = re.search(r"by \(([^)]*)\)", expression)
            assert grouped is None or label in grouped[1], f"{label} is not left in {expression}"


def test_the_picture_shows_every_panel_and_line(document: dict[str, Any]) -> None:
    """It is well-formed; a gap in what is known is one in the line; what is long is cut, and says so."""
    panel = next(panel for panel in document["panels"] if panel["type"] == "timeseries")
    points = [(BEGIN + second, float(second)) for second in range(0, 60, 2) if not 20 < second < 30]
    lines = [Line("<a> & b", points), *[Line(f"a rather long name, number {n}", points) for n in range(40)]]
    svg = ElementTree.fromstring(dashboard_svg(document, {panel["id"]: lines}, BEGIN, END))  # noqa: S314 - ours
    texts = [element.text or "" for element in svg.iter(f"{SVG}text")]
    for each in document["panels"]:
        assert any(each["title"] in text for text in texts)
    assert "<a> & b" in texts
    assert any(re.fullmatch(r"and \d+ more", text) for text in texts)
    assert len(list(svg.iter(f"{SVG}polyline"))) == 2 * len(lines)
    without = sum(each["type"] != "row" for each in document["panels"]) - 1
    assert texts.count("no data") == without


def test_values_have_the_units_people_use() -> None:
    """Seconds, bytes and rates; a name in a legend is made of labels."""
    for value, unit, expected in (
        (0.0125, "s", "12.5 ms"),
        (90.0, "s", "1.5 min"),
        (13 * 86400.0, "s", "13 d"),
        (0.0, "s", "0 s"),
        (-0.00002, "s", "-20 µs"),
        (3 * 1024.0**3, "bytes", "3 GiB"),
        (1500.0, "reqps", "1.5 K req/s"),
        (2.0, "ops", "2 /s"),
        (7.0, "none", "7"),
    ):
        assert shown(value, unit) == expected
    assert series_name("{{instance}} of {{peer}}", {"instance": "a", "peer": "b"}) == "a of b"
