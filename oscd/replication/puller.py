"""Owns the task of one link: a stream after the other, with pauses, for as long as it runs.

A link asks from where this log stands and begins anew when anything is wrong: there is no state to repair. Must not
decide for the node: forks, clocks and the question of the start are `cluster.py`'s to act on.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final, NoReturn

from oscd.errors import LogCorrupt, Unavailable
from oscd.replication.calls import Calls
from oscd.replication.errors import PeerRefused
from oscd.replication.link import Link
from oscd.replication.states import Happening, LinkState
from oscd.replication.stream import Home, OneStream
from oscd.replication.trouble import PeerTrouble

FIRST_PAUSE_SECONDS: Final = 0.1
MOST_PAUSE_SECONDS: Final = 1.0
REFUSED_PAUSE_SECONDS: Final = 5.0
"""Before the next try, each a quarter longer or shorter by chance, so that nodes do not knock all at once."""


async def keep_up(link: Link, calls: Calls, home: Home) -> NoReturn:
    """Keep a link up until this is cancelled."""
    link.begin()
    failures = 0
    while True:
        stream = OneStream(link, calls, home)
        try:
            await _run(stream, link)
        finally:
            link.sight.lost()
        failures = 0 if stream.was_steady else failures
        await asyncio.sleep(_pause(link.state, failures, home.sync_seconds))
        failures += 1
        link.move(Happening.DUE)


async def _run(stream: OneStream, link: Link) -> None:
    """One stream, to its end, which is noted in the link."""
    try:
        await stream.run()
    except PeerTrouble as trouble:
        link.failed(str(trouble), lasts=trouble.lasts)
    except PeerRefused as refusal:
        link.failed(str(refusal))
    except (Unavailable, LogCorrupt) as trouble:
        link.failed(f"this node cannot take anything in: {trouble}")
    except OSError as trouble:
        link.failed(f"this node cannot take anything in: {trouble.strerror or 'its disk is in trouble'}")
    except Exception as error:
        link.broke(error)


def _pause(state: LinkState, failures: int, sync_seconds: float) -> float:
    seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 8), MOST_PAUSE_SECONDS)
    if state is LinkState.REFUSED:
        seconds = REFUSED_PAUSE_SECONDS
    elif state is LinkState.ITSELF:
        seconds = sync_seconds
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
