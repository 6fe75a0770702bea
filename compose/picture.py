"""Owns the picture of the dashboard in the documentation: what a real Prometheus has of a real cluster under load.

`python -m compose.picture FILE [SECONDS]` runs what compose.yaml describes as plain processes, has it worked for so
long, and draws the queries of the shipped dashboard. Must not make up a value.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import httpx

from compose.certificates import write_trial
from compose.dashboard import dashboard, queries, series_name
from compose.drawing import Line, Values, dashboard_svg
from compose.shipped import NODES
from compose.stack import Stack

SECONDS: Final = 90
SCRAPE_SECONDS: Final = 2
_RATE: Final = "10s"
_ENVIRONMENT: Final = "production"
_PAUSE_SECONDS: Final = 0.02
_STREAMS: Final = 6
_ASK_SECONDS: Final = 30.0


class Work:
    """People who read, write and listen through nginx, until they are stopped. What fails is what is shown."""

    def __init__(self, stack: Stack, secrets: Path) -> None:
        self._stack = stack
        self._stop = Event()
        api, user = ((secrets / name).read_text().strip() for name in ("api-key", "user-key"))
        self._headers = {"X-API-Key": api, "X-User-Key": user}
        jobs = [self._write, self._read, self._meet, *[self._listen] * _STREAMS]
        self._threads = [Thread(target=self._again, args=[job], daemon=True) for job in jobs]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, in bounded time: streams end with their nodes."""
        self._stop.set()

    def _again(self, job: Callable[[httpx.Client], None]) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            with suppress(httpx.HTTPError), self._client("nginx") as client:
                job(client)

    def _client(self, service: str) -> httpx.Client:
        return httpx.Client(
            base_url=self._stack.url(service),
            headers=self._headers,
            verify=self._stack.trust,
            timeout=_ASK_SECONDS,
            trust_env=False,
        )

    def _write(self, client: httpx.Client) -> None:
        number = 0
        while not self._stop.wait(_PAUSE_SECONDS):
            number += 1
            key, where = f"app/{number % 500}", f"?environment={_ENVIRONMENT}"
            headers = {} if number > 500 else {"If-None-Match": "*"}
            client.put(f"/configs/{key}{where}", json={"value": number}, headers=headers)
            if number % 20 == 0:
                client.delete(f"/configs/app/{number // 20}{where}")

    def _read(self, client: httpx.Client) -> None:
        number = 0
        while not self._stop.wait(_PAUSE_SECONDS / 4):
            number += 1
            client.get(f"/configs/app/{number % 600}?environment={_ENVIRONMENT}")
            if number % 100 == 0:
                client.get(f"/configs?environment={_ENVIRONMENT}&limit=100")

    def _meet(self, _client: httpx.Client) -> None:
        """Write one entry on two nodes at a time."""
        with self._client(NODES[0]) as first, self._client(NODES[1]) as second:
            target, number = f"/configs/met?environment={_ENVIRONMENT}", 0
            first.put(target, json={"value": 0}, headers={"If-None-Match": "*"})
            while not self._stop.wait(1.0):
                number += 1
                threads = [
                    Thread(target=self._put, args=[client, target, number]) for client in (first, second)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    def _put(self, client: httpx.Client, target: str, number: int) -> None:
        with suppress(httpx.HTTPError):
            client.put(target, json={"value": number})

    def _listen(self, client: httpx.Client) -> None:
        with client.stream("GET", f"/sse/subscribe?environment={_ENVIRONMENT}") as response:
            for _ in response.iter_raw():
                if self._stop.is_set():
                    return


def values_of(stack: Stack, document: Mapping[str, Any], begin: float, end: float) -> Values:
    """What Prometheus has for each panel."""
    values: dict[int, list[Line]] = {}
    for panel, expression, form in queries(document, _RATE):
        found = stack.ask_prometheus(
            "query_range", query=expression, start=f"{begin}", end=f"{end}", step=f"{SCRAPE_SECONDS}"
        )
        for series in found["result"]:
            points = [(float(moment), float(value)) for moment, value in series["values"]]
            known = [(moment, value) for moment, value in points if not math.isnan(value)]
            values.setdefault(panel, []).append(
                Line(series_name(form, _named(stack, series["metric"])), known)
            )
    return values


def _named(stack: Stack, labels: Mapping[str, str]) -> dict[str, str]:
    """Labels in which nodes are called as in compose.yaml, and not by a port of this machine."""
    names = {f"127.0.0.1:{stack.ports[node]}": node for node in NODES}
    return {
        label: names.get(text.removeprefix("https://"), text) if label in {"instance", "peer"} else text
        for label, text in labels.items()
    }


def picture(seconds: int) -> str:
    """The SVG of the dashboard over so many seconds, in the middle of which a node is restarted."""
    with tempfile.TemporaryDirectory(prefix="oscd-picture-") as name, ExitStack() as undo:
        secrets = Path(name) / "secrets"
        write_trial(secrets)
        stack = Stack(Path(name) / "run", secrets)
        undo.callback(stack.close)
        stack.start_nodes()
        stack.start_nginx()
        stack.start_prometheus(SCRAPE_SECONDS)
        work = Work(stack, secrets)
        undo.callback(work.stop)
        begin = time.time()
        work.start()
        time.sleep(seconds / 2)
        stack.stop(NODES[2])
        stack.start_nodes(NODES[2])
        time.sleep(max(0.0, begin + seconds - time.time()))
        document, end = dashboard(), time.time()
        return dashboard_svg(document, values_of(stack, document, begin, end), begin, end)


def main(arguments: Sequence[str]) -> int:
    """Draw it into a file."""
    if len(arguments) not in (1, 2) or not all(seconds.isdecimal() for seconds in arguments[1:]):
        print("usage: python -m compose.picture FILE [SECONDS]", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(int(arguments[1]) if arguments[1:] else SECONDS))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
