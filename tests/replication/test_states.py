"""The table of a link's states."""

from __future__ import annotations

import pytest

from oscd.replication.states import TRANSITIONS, Happening, LinkState, after


def test_every_state_has_a_row_and_is_reached() -> None:
    """No state is forgotten, and each but the first can be come to."""
    assert set(TRANSITIONS) == set(LinkState)
    reached = {state for row in TRANSITIONS.values() for state in row.values()}
    assert reached == set(LinkState)


def test_every_state_leads_back_to_connecting() -> None:
    """No link is lost for ever, also where it was taken for this very node."""
    for state in LinkState:
        seen, open_states = {state}, [state]
        while open_states:
            for following in TRANSITIONS[open_states.pop()].values():
                if following not in seen:
                    seen.add(following)
                    open_states.append(following)
        assert LinkState.CONNECTING in seen


def test_what_cannot_happen_is_a_fault_of_ours() -> None:
    """A link that backs off was not refused by anybody."""
    assert after(LinkState.CONNECTING, Happening.ANSWERED) is LinkState.CATCHING_UP
    with pytest.raises(KeyError):
        after(LinkState.BACKING_OFF, Happening.REFUSED)
