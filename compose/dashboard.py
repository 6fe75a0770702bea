"""Owns what the shipped dashboard asks of Prometheus, as it would be asked without Grafana.

Must not draw, nor know where Prometheus is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from compose.shipped import FOLDER

_PATH: Final = FOLDER / "grafana" / "dashboards" / "oscd.json"
_NAME: Final = re.compile(r"\b(?:osc|sse)_\w+")
_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def dashboard() -> dict[str, Any]:
    """As it is shipped."""
    return dict(json.loads(_PATH.read_text()))


def queries(document: Mapping[str, Any], rate_interval: str) -> Iterator[tuple[int, str, str]]:
    """Each query of all nodes: the id of its panel, the expression, and what names a series.

    Args:
        rate_interval: In place of Grafana's `$__rate_interval`, as `15s`.
    """
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", rate_interval).replace("$instance", ".*")
            yield panel["id"], expression, target["legendFormat"]


def metrics_of(expression: str) -> set[str]:
    """The metrics of oscd that an expression names."""
    return set(_NAME.findall(expression))


def series_name(form: str, labels: Mapping[str, str]) -> str:
    """The name of a series in the legend.

    Args:
        form: With labels in braces.
    """
    return _LABEL.sub(lambda found: labels.get(found[1], ""), form) or "all"
