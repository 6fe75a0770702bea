"""`/docs`: a page that shows `/openapi.json`, from this node alone.

Owns: the page, its style and its script, as bytes. Must not: need another host, inline code, or anything the
content policy below forbids.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

DOCS_POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of the page and its assets; the script sends its forms, never the browser."""

_MEDIA_TYPES: Final = {
    "oscd-docs.css": "text/css; charset=utf-8",
    "oscd-docs.js": "text/javascript; charset=utf-8",
}
_STATIC: Final = files("oscd.api").joinpath("static")
_ASSETS: Final = {name: (_STATIC.joinpath(name).read_bytes(), kind) for name, kind in _MEDIA_TYPES.items()}

DOCS_HTML: Final = _STATIC.joinpath("oscd-docs.html").read_bytes()
"""The page, `text/html; charset=utf-8`; its links are relative to `/docs`, so a proxy may add a prefix."""


def docs_asset(name: str) -> tuple[bytes, str] | None:
    """Return content and content type of `/docs/{name}`, or None where there is no such asset."""
    return _ASSETS.get(name)
