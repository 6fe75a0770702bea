"""Owns when the steward writes its report, and of what it is put together. Must not know how a link works."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from oscd.events.log import MicrosecondClock
from oscd.replication.link import Link
from oscd.replication.readiness import Readiness
from oscd.replication.report import ClusterReport, write_report
from oscd.replication.seldom import Seldom
from oscd.replication.states import LinkState

_log = logging.getLogger("oscd.cluster")

REPORT_SECONDS: Final = 1.0
"""At least so often, as its readers take a report that is much older for that of a dead steward."""

GAP_SECONDS: Final = 0.1
"""At most so often, whatever changes."""


class Reporting:
    """Writes the report for as long as it runs.

    Attributes:
        changed: Set it where a person would see something else now.
    """

    def __init__(
        self,
        path: Path,
        links: Sequence[Link],
        readiness: Readiness,
        changed: asyncio.Event,
        clock: MicrosecondClock,
    ) -> None:
        self.changed = changed
        self._path = path
        self._links = links
        self._readiness = readiness
        self._clock = clock

    async def run(self) -> NoReturn:
        """Write until this is cancelled; trouble with it is told once in a while.

        Without the report nobody knows of the peers, but the links to them go on.
        """
        said = Seldom()
        while True:
            trouble = await self._written()
            if trouble is not None and said.is_due(trouble):
                _log.error("the report on the cluster cannot be written: %s", trouble)
            await asyncio.sleep(GAP_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS - GAP_SECONDS):
                    await self.changed.wait()
            self.changed.clear()

    async def _written(self) -> str | None:
        """Write once; gives why that failed."""
        try:
            await asyncio.to_thread(write_report, self._path, self.report())
        except OSError as error:
            return error.strerror or "its disk is in trouble"
        except TypeError as error:  # orjson.JSONEncodeError is one
            return f"something in it is no JSON ({error})"
        return None

    def report(self) -> ClusterReport:
        """What is known now."""
        now = self._clock()
        others = [link for link in self._links if link.state is not LinkState.ITSELF]
        return ClusterReport(
            now,
            self._readiness.reasons(),
            tuple(link.report(now) for link in others),
            tuple(one for link in others for one in link.quarantined()),
        )
