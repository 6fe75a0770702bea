"""Owns docs/operations.md as tests read it: its sections and their sessions. Must not run anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.support.sessions import Session, sessions_of

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def block(language: str, holding: str) -> str:
    """The code block of that language with that text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [one for one in blocks if holding in one]
    return str(found)


def sections() -> dict[str, list[Session]]:
    """The sessions of each section that has any, in the order of the page."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {title: sessions_of(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}
    return {title: sessions for title, sessions in found.items() if sessions}
