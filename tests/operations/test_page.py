"""No session of docs/operations.md goes untested, and no alert leads to a section that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.operations.runbook import PAGE, sections
from tests.support.sessions import is_shown


def test_every_section_is_typed() -> None:
    """Each section with a session is named by a test that types it."""
    code = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    assert set(re.findall(r'section\("([^"]+)"\)', code)) == set(sections())


def test_every_fence_is_one_that_is_read() -> None:
    """A session in a fence of another name, or without a prompt, would be passed over."""
    languages = re.findall(r"^```(\S*)\n", PAGE.read_text(), re.MULTILINE)
    opened = [name for name in languages if name]
    assert set(opened) == {"console", "ini", "sh"}
    assert sum(len(each) for each in sections().values()) == opened.count("console")


def test_what_is_shown_is_compared() -> None:
    """The comparison above can fail: another word, a missing line and a further one are seen; `…` is passed over."""
    shown = ("a … c", "…", "end")
    assert is_shown("a b c\nend\n", shown)
    assert is_shown("a b c\nx\ny\nend\n", shown)
    assert not is_shown("a b d\nend\n", shown)
    assert not is_shown("a b c\n", shown)
    assert not is_shown("a b c\nend\nmore\n", shown)
