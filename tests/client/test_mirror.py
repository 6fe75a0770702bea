"""The mirror: from a snapshot and what changed since it always holds what the node holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oscd.client.frames import Frame
from oscd.client.mirror import Mirror
from oscd.client.service import Filters

PROD = Filters("prod", "db", "app/")


def frame(
    event: str, key: str = "app/a", value: object = 1, category: str | None = "db", *, sealed: bool = False
) -> Frame:
    return Frame(
        event, None, {"key": key, "category": category, "data": None if sealed else {"value": value}}
    )


def mirror_after(*frames: Frame) -> Mirror:
    mirror = Mirror(PROD)
    for each in (Frame("connected", None, {}), *frames):
        mirror.take(each)
    return mirror


def test_nothing_is_told_before_the_snapshot_is_whole() -> None:
    """Entries are given from the bookmark on."""
    mirror = Mirror(PROD)
    assert mirror.take(Frame("connected", None, {})) is None
    assert mirror.take(frame("snapshot")) is None
    assert mirror.take(Frame("bookmark", "A", {})) == {"app/a": 1}


def test_an_entry_leaves_with_its_category() -> None:
    """An update that moves an entry out of the category takes it away, one that moves it in brings it."""
    mirror = mirror_after(frame("snapshot"), Frame("bookmark", "A", {}))
    assert mirror.take(frame("updated", category="other")) == {}
    assert mirror.take(frame("updated", value=2)) == {"app/a": 2}


def test_what_the_key_does_not_open_is_not_there() -> None:
    """An entry that another user key has taken over is one a list would not hold either; null is a value."""
    mirror = mirror_after(frame("snapshot"), Frame("bookmark", "A", {}))
    assert mirror.take(frame("updated", value=None)) == {"app/a": None}
    assert mirror.take(frame("updated", sealed=True)) == {}


def test_other_prefixes_are_passed_over() -> None:
    """A key that does not begin so is never held."""
    mirror = mirror_after(frame("snapshot", "other/a"), Frame("bookmark", "A", {}))
    assert mirror.take(frame("created", "application")) == {}


def test_a_snapshot_that_was_cut_off_breaks_it() -> None:
    """What was told before may be gone, and nothing will say so: it asks to be made anew."""
    mirror = mirror_after(frame("snapshot"))
    mirror.take(Frame("connected", None, {}))
    assert mirror.is_broken


@pytest.mark.parametrize("event", ["connected", "sync", "goodbye", "something"])
def test_other_frames_change_nothing(event: str) -> None:
    """A later connection, and frames it does not know, leave it as it is."""
    mirror = mirror_after(frame("snapshot"), Frame("bookmark", "A", {}))
    assert mirror.take(Frame(event, None, {})) is None
    assert not mirror.is_broken


def test_a_reset_breaks_it() -> None:
    """Changes may be missing."""
    mirror = mirror_after(frame("snapshot"), Frame("bookmark", "A", {}))
    assert mirror.take(Frame("reset", None, {"reason": "unreachable"})) is None
    assert mirror.is_broken


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3)), max_size=12),
    st.data(),
)
def test_wherever_the_snapshot_is_cut_the_end_is_the_same(
    writes: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    """Any part of a history as a snapshot and the rest as changes give the state after all of it."""
    cut = data.draw(st.integers(0, len(writes)))
    state: dict[str, int] = {}
    for key, value in writes[:cut]:
        state.pop(key, None) if value is None else state.update({key: value})
    frames = [frame("snapshot", f"app/{key}", value) for key, value in state.items()]
    mirror = mirror_after(*frames, Frame("bookmark", "A", {}))
    last: dict[str, Any] | None = {f"app/{key}": value for key, value in state.items()}
    for key, value in writes[cut:]:
        last = mirror.take(
            frame("deleted", f"app/{key}") if value is None else frame("updated", f"app/{key}", value)
        )
        state.pop(key, None) if value is None else state.update({key: value})
    assert last == {f"app/{key}": value for key, value in state.items()}
