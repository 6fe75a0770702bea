"""`make bench`: measures everything, prints a table, says which aims were missed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import backups, fill, flat, flood, lists, past, pieces, rates, replicate, start, streams
from bench.figures import Figure, table
from bench.machine import describe
from bench.scale import FULL, QUICK, Scale

Part = Callable[[Path, Path, Path, Scale], Iterator[Figure]]

# Each takes the small log, the large log, a directory for its own copies, and the scale.
PARTS: dict[str, Part] = {
    "rates": lambda few, _, scratch, scale: rates.measure(few, scratch, scale),
    "flat": flat.measure,
    "start": start.measure,
    "list": lambda _, many, scratch, scale: lists.measure(many, scratch, scale),
    "past": lambda _, many, scratch, scale: past.measure(many, scratch, scale),
    "flood": lambda few, _, scratch, scale: flood.measure(few, scratch, scale),
    "streams": lambda few, _, scratch, scale: streams.measure(few, scratch, scale),
    "backups": lambda _, many, scratch, scale: backups.measure(many, scratch, scale),
    "replicate": replicate.measure,
    "pieces": lambda few, _, scratch, scale: pieces.measure(few, scratch, scale),
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of: {' '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds on a smaller log")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there, too")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {' '.join(sorted(unknown))}")
    machine = describe()
    figures = _measure(chosen.parts or list(PARTS), QUICK if chosen.quick else FULL)
    if chosen.json is not None:
        document = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
        chosen.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print("\n".join(f"{name}: {text}" for name, text in machine.items()), end="\n\n")
    print(table(figures))


def _measure(parts: list[str], scale: Scale) -> list[Figure]:
    figures: list[Figure] = []
    with TemporaryDirectory(prefix="oscd-bench-") as scratch:
        few, many = Path(scratch, "few"), Path(scratch, "many")
        for directory, entries in ((few, scale.few), (many, scale.many)):
            _say(f"making a log of {entries} entries")
            directory.mkdir()
            fill.make(directory, entries)
        for part in parts:
            _say(part)
            begun = time.perf_counter()
            figures += PARTS[part](few, many, Path(scratch), scale)
            _say(f"{part}: {time.perf_counter() - begun:.0f} s")
    return figures


def _say(what: str) -> None:
    """Progress, apart from the figures."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
