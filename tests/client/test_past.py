"""A version as a person names it is found in the history, and is the one a rollback would restore."""

from __future__ import annotations

import httpx
import pytest

from oscd.client.errors import UsageRefused, VersionMissing, VersionSealed
from oscd.client.past import named, standing, version_name
from tests.client.answering import answer, entry, service, version


def history(*versions: dict[str, object]) -> httpx.Response:
    """A history of one page, oldest first."""
    return answer({"versions": list(versions)})


def test_a_name_is_a_number_or_a_position() -> None:
    """Digits, with a `v` or without, are a number; a position begins as all do; anything else is refused."""
    assert [version_name(text) for text in ("3", "v3", "A3")] == [3, 3, "A3"]
    for text in ("", "v", "vA", "-1", "9" * 20, "A 3", "٣"):
        with pytest.raises(UsageRefused, match="names no version"):
            version_name(text)


def test_a_number_means_the_newest_of_it_that_stands_and_has_a_value() -> None:
    """Each life counts anew, what lost a merge does not count, and a delete only where nothing else is."""
    lives = [
        version(1, value="first life"),
        version(2, value="older two"),
        version(3, type="deleted", position="A3d"),
        version(1, value="second life", position="A1b"),
        version(2, type="deleted", position="A2d"),
        version(1, value="lost", superseded=True, position="A1c"),
    ]
    one, _ = service(*[history(*lives)] * 3)
    assert named(one, "prod", "a", 1).value == "second life"
    assert named(one, "prod", "a", 2).value == "older two"
    assert not named(one, "prod", "a", 3).exists


def test_a_position_names_the_very_version() -> None:
    """One that lost a merge is found by its position."""
    one, _ = service(history(version(1, value="kept"), version(2, value="lost", superseded=True)))
    assert named(one, "prod", "a", "A2").value == "lost"


def test_any_other_position_means_the_entry_as_it_stood_there() -> None:
    """A position of another write still names a state of this entry."""
    one, script = service(history(version(1, value="x")), answer(entry(value="then"), X_OSC_Position="A9"))
    state = named(one, "prod", "a", "A9")
    assert (state.value, state.position) == ("then", "A9")
    assert dict(script.asked[1].url.params)["at"] == "A9"


def test_a_version_that_is_not_there_or_not_ours_is_said() -> None:
    """A number nobody has is missing; one that another key sealed is sealed."""
    one, _ = service(*[history(version(1))] * 2)
    with pytest.raises(VersionMissing, match="no version 7"):
        named(one, "prod", "a", 7)
    with pytest.raises(VersionSealed, match=r"version 1 .* does not open"):
        named(one, "prod", "a", 1)


def test_what_stands_is_told_from_the_newest_on() -> None:
    """Versions that lost are passed over, and a version is opened only when it is asked for."""
    lost = version(3, value=0, superseded=True)
    one, _ = service(history(version(1), version(2, value=2), lost, version(4, value=4)))
    states = standing(one, "prod", "a")
    assert [next(states).value, next(states).value] == [4, 2]
    with pytest.raises(VersionSealed):
        next(states)
