"""docs/settings.md has every setting, with the default and the meaning that the code has."""

from __future__ import annotations

from pathlib import Path

from docs.settings_page import settings_page
from oscd.server.settings_table import TABLE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"


def test_the_page_is_the_table() -> None:
    """Whoever adds a setting or changes one runs `make docs`."""
    assert PAGE.read_text() == settings_page(), "run `make docs`"


def test_every_setting_is_a_line() -> None:
    """With its default, where it has one, and marked where it is secret."""
    lines = {line.split("`")[1]: line for line in settings_page().splitlines() if line.startswith("| `")}
    assert set(lines) == {row.name for row in TABLE.values()}
    for row in TABLE.values():
        assert row.meaning in lines[row.name]
        assert f"| `{row.default}` |" in lines[row.name] or not row.default
        assert ("*secret*" in lines[row.name]) is row.secret
