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


def test_what_the_page_quotes_is_what_oscd_says() -> None:
    """Each sentence in the tables of what a node says is in its code, apart from what `…` stands for."""
    code = "\n".join(path.read_text() for path in (PAGE.parents[1] / "oscd").rglob("*.py"))
    said = re.sub(r'"\s*\n\s*f?"', "", code)  # sentences that go on in the next line
    tables = re.findall(r"^\| It says \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    quoted = [
        quote
        for table in tables
        for row in table.splitlines()
        for quote in re.findall(r"`(.*?)`", row.split("|")[1])
    ]
    assert len(quoted) > 10
    for quote in quoted:
        for words in filter(None, map(str.strip, quote.split("…"))):
            assert words in said, words
