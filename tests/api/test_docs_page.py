"""`/docs` works under a policy that allows nothing but this node."""

from __future__ import annotations

import re

import pytest

from oscd.api.docs_page import DOCS_HTML, DOCS_POLICY, docs_asset

ASSETS = ("oscd-docs.css", "oscd-docs.js")


def text(name: str) -> str:
    asset = docs_asset(name)
    assert asset is not None
    return asset[0].decode()


def test_the_page_links_exactly_its_assets() -> None:
    """Each link is relative, so that a proxy's prefix does not break it, and leads to something served."""
    links = re.findall(r'(?:src|href)="([^"]*)"', DOCS_HTML.decode())
    assert set(links) == {f"docs/{name}" for name in ASSETS} | {"openapi.json"}


def test_the_page_has_no_inline_code() -> None:
    """The policy would block it: no script or style inside the page, no handler and no style attribute."""
    page = DOCS_HTML.decode()
    assert "'unsafe" not in DOCS_POLICY
    assert DOCS_POLICY.startswith("default-src 'self'")
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert not re.search(r"<style|\son\w+=|\sstyle=", page)


@pytest.mark.parametrize("name", ASSETS)
def test_no_asset_needs_another_host(name: str) -> None:
    """The page works with no internet."""
    assert not re.search(r"https?://|@import|url\(", text(name))


def test_the_script_cannot_turn_data_into_code() -> None:
    """A hostile key, value or description stays text: no sink that parses markup or code is used."""
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|DOMParser|\.srcdoc",
        text("oscd-docs.js"),
    )


def test_the_script_keeps_no_key() -> None:
    """The two keys live in their input fields and nowhere that outlives the page."""
    assert not re.search(r"Storage|cookie|indexedDB|caches", text("oscd-docs.js"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("oscd-docs.css", "text/css; charset=utf-8"), ("oscd-docs.js", "text/javascript; charset=utf-8")],
)
def test_assets_have_their_types(name: str, kind: str) -> None:
    """Browsers refuse a script or style of another type."""
    asset = docs_asset(name)
    assert asset is not None
    assert asset[1] == kind


@pytest.mark.parametrize("name", ["", "oscd-docs.html", "../docs_page.py", "static/oscd-docs.js", "OSCD.JS"])
def test_nothing_else_is_an_asset(name: str) -> None:
    """A name is looked up, never opened."""
    assert docs_asset(name) is None
