"""Every link from page to page leads to a page that is there, and to a heading that is on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "compose/**/*.md", "systemd/**/*.md", "oscd/**/*.md")
    for path in ROOT.glob(pattern)
)
RULES = sorted(ROOT.glob("compose/**/*.y*ml"))

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)")
_TARGET = re.compile(r"""<(?:a|img)\s[^>]*(?:href|src)=["']([^"']+)["']""")
_RUNBOOK = re.compile(r"(docs/[\w/.-]+\.md)#([\w-]+)")


def slug(heading: str) -> str:
    """The anchor that a heading gets where pages of Markdown are shown."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """What a link to a page may name behind `#`."""
    prose = _FENCE.sub("", text)
    found: set[str] = set(re.findall(r"""<a\s[^>]*(?:id|name)=["']([^"']+)["']""", prose))
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?)\s*#*$", prose, re.MULTILINE):
        name = slug(heading)
        found.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return found


def links(text: str) -> Iterator[str]:
    """Every link of a page that leads to no other site."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    for target in (*_LINK.findall(prose), *_TARGET.findall(prose)):
        if not re.match(r"[a-z]+:", target):
            yield target


@cache
def anchors_of(page: Path) -> set[str]:
    """Those of a file."""
    return anchors(page.read_text())


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for target in links(page.read_text()):
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors_of(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_lead_somewhere(page: Path) -> None:
    """Files exist, and the headings that are named behind `#`."""
    assert broken(page) == []


def test_alerts_lead_to_the_runbook() -> None:
    """What an alert names is a heading of that page."""
    named = [found for path in RULES for found in _RUNBOOK.findall(path.read_text())]
    for page, anchor in named:
        assert anchor in anchors_of(ROOT / page), f"{page}#{anchor}"


def test_every_page_is_linked() -> None:
    """Whoever starts at the README reaches every page of docs/."""
    reached, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        targets = (
            (page.parent / target.partition("#")[0]).resolve()
            for target in links(page.read_text())
            if not target.startswith("#")
        )
        new |= {file for file in targets if file.suffix == ".md" and file.exists()} - reached
    assert set(ROOT.glob("docs/*.md")) <= reached, set(ROOT.glob("docs/*.md")) - reached


def test_what_is_broken_is_found(tmp_path: Path) -> None:
    """The checks above can fail: a file and a heading that are not there are seen, code and other sites are not."""
    (tmp_path / "there.md").write_text("# A `b`, c/d\n\n```\n# no heading\n```\n## Twice\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[1](there.md#a-b-cd) [2](there.md#twice-1) [3](gone.md) [4](there.md#no-heading) [5](#none)"
        ' [6](https://example.com/gone) `[7](gone)` <img src="gone.svg">\n```\n[8](gone)\n```\n'
    )
    assert broken(page) == ["gone.md", "there.md#no-heading", "#none", "gone.svg"]
