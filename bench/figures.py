"""Owns what a measurement gives: samples, their median and spread, the aim they are held against, the table.

Must not measure anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured several times.

    Attributes:
        group: Which part of the benchmark it belongs to.
        name: What was measured.
        unit: Of the samples; "" for a ratio.
        samples: One per round.
        at_least: The aim for the median, where bigger is better.
        at_most: The aim for the median, where smaller is better.
    """

    group: str
    name: str
    unit: str
    samples: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return median(self.samples)

    @property
    def aim(self) -> str:
        """The aim in words, "" where there is none."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def is_met(self) -> bool:
        """Whether the median keeps to the aim; true where there is none."""
        return (self.at_least is None or self.median >= self.at_least) and (
            self.at_most is None or self.median <= self.at_most
        )

    def as_json(self) -> dict[str, Any]:
        """For `--json`: everything, samples included."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": list(self.samples),
            "aim": self.aim,
            "met": self.is_met,
        }


def ratios(
    group: str,
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """The ratio of two things measured side by side, round by round, so that drift of the machine cancels."""
    samples = tuple(a / b for a, b in zip(over, under, strict=True))
    return Figure(group, name, "", samples, at_least, at_most)


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, which is also readable as it is."""
    rows = [("what", "median", "min to max", "unit", "aim", "")]
    for figure in figures:
        low, high = min(figure.samples), max(figure.samples)
        verdict = "" if not figure.aim else ("met" if figure.is_met else "MISSED")
        spread = f"{_number(low)} to {_number(high)}" if len(figure.samples) > 1 else ""
        rows.append((figure.name, _number(figure.median), spread, figure.unit, figure.aim, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(_padded(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
