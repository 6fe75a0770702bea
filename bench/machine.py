"""Owns the description of the machine that a set of figures belongs to. Must not name it or its paths."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("hypercorn", "quart", "h11", "uvloop", "orjson", "cryptography", "aiosqlite")


def describe() -> dict[str, str]:
    """What decides the figures, and when they were taken; the load average tells whether others worked too."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{len(os.sched_getaffinity(0))} x {_cpu_model()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": sqlite3.sqlite_version,
        **{package: version(package) for package in _PACKAGES},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"
