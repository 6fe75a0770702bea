"""Owns drawing the panels of a dashboard as SVG: where they are, their titles, lines, axes and legends.

Pure. For a page of documentation, in which nothing moves. Must not know where values come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final
from xml.sax.saxutils import escape

COLUMNS: Final = 24
_COLUMN, _ROW, _GAP = 60, 26, 6
_WIDTH: Final = COLUMNS * _COLUMN
_LEGEND_LINES: Final = 3
_LINE: Final = 13
_COLORS: Final = (
    "#1f77b4",
    "#e07b00",
    "#2a9134",
    "#c62828",
    "#7b4fb3",
    "#8c564b",
    "#d0559f",
    "#5f6b73",
    "#9a9a00",
)
_FONT: Final = "font-family='DejaVu Sans, Verdana, sans-serif'"


@dataclass(frozen=True, slots=True)
class Line:
    """One series.

    Attributes:
        name: As the legend has it.
        points: Times in seconds, rising, and values; none is NaN.
    """

    name: str
    points: Sequence[tuple[float, float]]


Values = Mapping[int, Sequence[Line]]
"""By the id of a panel."""


def dashboard_svg(dashboard: Mapping[str, Any], values: Values, begin: float, end: float) -> str:
    """All panels of a dashboard, where its grid has them.

    Args:
        begin: Of the time that is shown, in seconds; lines are within.
        end: Of it.
    """
    height = max(bottom(panel) for panel in dashboard["panels"]) * _ROW + _GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' {_FONT} font-size='10'>",
        f"<rect width='{_WIDTH}' height='{height}' fill='#f4f5f7'/>",
    ]
    for panel in dashboard["panels"]:
        parts.extend(_panel(panel, values.get(panel["id"], ()), begin, end))
    return "\n".join([*parts, "</svg>", ""])


def bottom(panel: Mapping[str, Any]) -> int:
    """The grid line below a panel."""
    place = panel["gridPos"]
    return int(place["y"] + place["h"])


def shown(value: float, unit: str) -> str:
    """A value as Grafana would write it, in a unit it knows."""
    if unit == "s":
        return _seconds(value)
    if unit == "bytes":
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    suffix = {"reqps": " req/s", "ops": " /s"}.get(unit, "")
    return _scaled(value, 1000, ("", "K", "M", "G")).rstrip() + suffix


def _seconds(value: float) -> str:
    size = abs(value)
    for least, per, name in ((86400, 86400, "d"), (3600, 3600, "h"), (60, 60, "min"), (1, 1, "s")):
        if size >= least:
            return f"{value / per:.3g} {name}"
    return f"{value * 1e3:.3g} ms" if size >= 1e-3 else f"{value * 1e6:.3g} µs" if size else "0 s"


def _scaled(value: float, step: int, names: Sequence[str]) -> str:
    number, index = value, 0
    while abs(number) >= step and index < len(names) - 1:
        number, index = number / step, index + 1
    return f"{number:.3g} {names[index]}"


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


def _panel(panel: Mapping[str, Any], lines: Sequence[Line], begin: float, end: float) -> Iterator[str]:
    place = panel["gridPos"]
    box = _Box(
        place["x"] * _COLUMN + _GAP / 2,
        place["y"] * _ROW + _GAP / 2,
        place["w"] * _COLUMN - _GAP,
        place["h"] * _ROW - _GAP,
    )
    title = escape(panel["title"])
    if panel["type"] == "row":
        yield _text(box.x + 4, box.y + 15, f"▾ {title}", size=13, weight="bold")
        return
    yield (
        f"<rect x='{box.x:g}' y='{box.y:g}' width='{box.width:g}' height='{box.height:g}' rx='3' fill='#fff'"
        " stroke='#d8dbe0'/>"
    )
    yield _text(box.x + 8, box.y + 16, title, size=11, weight="bold")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "stat":
        last = lines[0].points[-1][1] if lines and lines[0].points else None
        told = "no data" if last is None else shown(last, unit)
        yield _text(box.x + 8, box.y + box.height - 22, told, size=30, color=_stat_color(panel, last))
    else:
        yield from _plot(box, lines, unit, begin, end)


def _stat_color(panel: Mapping[str, Any], value: float | None) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    named = [step["color"] for step in steps if value is not None and (step["value"] or -math.inf) <= value]
    return {"green": "#2a9134", "orange": "#e07b00", "red": "#c62828", "blue": "#1f77b4"}.get(
        named[-1] if named else "", "#777"
    )


def _plot(box: _Box, lines: Sequence[Line], unit: str, begin: float, end: float) -> Iterator[str]:
    area = _Box(box.x + 58, box.y + 26, box.width - 70, box.height - 48 - _LEGEND_LINES * _LINE)
    if not any(line.points for line in lines):
        yield _text(area.x + area.width / 2 - 20, area.y + area.height / 2, "no data", color="#777")
        return
    found = [value for line in lines for _, value in line.points]
    low, high, step = _axis(min(found), max(found), 1024 if unit == "bytes" else 1000)

    def at(time: float, value: float) -> str:
        x = area.x + (time - begin) / (end - begin) * area.width
        return f"{x:.1f},{area.y + (high - value) / (high - low) * area.height:.1f}"

    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        y = area.y + (high - value) / (high - low) * area.height
        yield f"<path d='M{area.x:g} {y:.1f}h{area.width:g}' stroke='#e6e8eb'/>"
        yield _text(area.x - 6, y + 3, shown(0 if abs(value) < step / 1e6 else value, unit), anchor="end")
    yield from _times(area, begin, end)
    for line, color in zip(lines, _colors(), strict=False):
        for part in _unbroken(line.points):
            drawn = " ".join(at(time, value) for time, value in part)
            yield f"<polyline points='{drawn}' fill='none' stroke='{color}' stroke-width='1.4'/>"
    yield from _legend(box, lines)


def _unbroken(points: Sequence[tuple[float, float]]) -> Iterator[Sequence[tuple[float, float]]]:
    """The parts of a line between which nothing was known: a gap of more than the usual distance."""
    usual = min((later[0] - former[0] for former, later in pairwise(points)), default=0.0)
    begin = 0
    for index, (former, later) in enumerate(pairwise(points), start=1):
        if later[0] - former[0] > 1.5 * usual:
            yield points[begin:index]
            begin = index
    yield points[begin:]


def _axis(least: float, greatest: float, thousand: int) -> tuple[float, float, float]:
    """Both ends and the step of an axis with four round steps or so; 0 is on it.

    Args:
        thousand: By which the names of units differ.
    """
    low, high = min(least, 0.0), max(greatest, 0.0)
    if high == low:
        high = 1.0
    raw = (high - low) / 4
    unit = float(thousand) ** math.floor(math.log(raw, thousand))
    power = unit * 10.0 ** math.floor(math.log10(raw / unit))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _times(area: _Box, begin: float, end: float) -> Iterator[str]:
    span = end - begin
    step = next((step for step in (5, 10, 15, 30, 60, 300, 900) if span / step <= 6), 3600)
    for number in range(int(span // step) + 1):
        x = area.x + number * step / span * area.width
        label = f"{number * step // 60}:{number * step % 60:02d}"
        yield _text(x, area.y + area.height + 13, label, anchor="middle")


def _legend(box: _Box, lines: Sequence[Line]) -> Iterator[str]:
    """Names in columns below the plot; how many more there are, where not all have room."""
    widest = max(len(line.name) for line in lines) * 5.6 + 24
    columns = max(1, int((box.width - 16) // widest))
    room = columns * _LEGEND_LINES
    named = lines if len(lines) <= room else lines[: room - 1]
    top = box.y + box.height - _LEGEND_LINES * _LINE
    places = (
        (box.x + 10 + column * widest, top + row * _LINE + 6)
        for row in range(_LEGEND_LINES)
        for column in range(columns)
    )
    for line, color, (x, y) in zip(named, _colors(), places, strict=False):
        yield f"<rect x='{x:g}' y='{y - 4:g}' width='10' height='3' fill='{color}'/>"
        yield _text(x + 14, y, escape(line.name))
    for x, y in places:
        if len(named) < len(lines):
            yield _text(x + 14, y, f"and {len(lines) - len(named)} more", color="#777")
        return


def _colors() -> Iterator[str]:
    while True:
        yield from _COLORS


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 10,
    weight: str = "normal",
    color: str = "#333",
    anchor: str = "start",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' fill='{color}'"
        f" text-anchor='{anchor}'>{text}</text>"
    )
