"""Owns the states of a link and what leads from one to another: documentation, check and source of the diagram.

Must not know how anything in it is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class LinkState(StrEnum):
    """Where a link to one peer stands."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    """Its stream is open, and there is more than was told yet."""
    LIVE = "live"
    """All that it had was taken once; what comes now is what it commits."""
    BACKING_OFF = "backing_off"
    """It did not answer, or its stream broke: a new try soon."""
    REFUSED = "refused"
    """One of the two will not have the other: a new try seldom, as somebody has to do something first."""
    ITSELF = "itself"
    """The address led to this very node at the last look; a new one seldom, as it may lead elsewhere one day."""


class Happening(StrEnum):
    """What moves a link."""

    ANSWERED = "answered"
    """It has said who it is: another node of this cluster."""
    CAUGHT_UP = "caught_up"
    LOST = "lost"
    REFUSED = "refused"
    RECOGNISED = "recognised"
    DUE = "due"


TRANSITIONS: Final[Mapping[LinkState, Mapping[Happening, LinkState]]] = {
    LinkState.CONNECTING: {
        Happening.ANSWERED: LinkState.CATCHING_UP,
        Happening.RECOGNISED: LinkState.ITSELF,
        Happening.LOST: LinkState.BACKING_OFF,
        Happening.REFUSED: LinkState.REFUSED,
    },
    LinkState.CATCHING_UP: {
        Happening.CAUGHT_UP: LinkState.LIVE,
        Happening.LOST: LinkState.BACKING_OFF,
        Happening.REFUSED: LinkState.REFUSED,
    },
    LinkState.LIVE: {
        Happening.CAUGHT_UP: LinkState.LIVE,
        Happening.LOST: LinkState.BACKING_OFF,
        Happening.REFUSED: LinkState.REFUSED,
    },
    LinkState.BACKING_OFF: {Happening.DUE: LinkState.CONNECTING},
    LinkState.REFUSED: {Happening.DUE: LinkState.CONNECTING},
    LinkState.ITSELF: {
        Happening.DUE: LinkState.ITSELF,
        Happening.RECOGNISED: LinkState.ITSELF,
        Happening.ANSWERED: LinkState.CATCHING_UP,
        Happening.LOST: LinkState.BACKING_OFF,
        Happening.REFUSED: LinkState.REFUSED,
    },
}


def after(state: LinkState, happening: Happening) -> LinkState:
    """The state that follows.

    Raises:
        KeyError: This cannot happen there: a fault of ours.
    """
    return TRANSITIONS[state][happening]
