"""`/docs` in a real browser, under its own content policy."""

from __future__ import annotations

import html
import re
from pathlib import Path

from tests.conftest import StartNode
from tests.support.browser import drawn


def test_the_page_draws_every_operation_of_the_document(start_node: StartNode, tmp_path: Path) -> None:
    """Whatever an operation takes and answers, the page's script gets past it, and shows it."""
    node = start_node()
    with node.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    page = drawn(f"{node.base_url}/docs", tmp_path)
    shown = re.findall(r'<span class="method (\w+)">\w+</span><code>([^<]+)</code>', page)
    assert [(path, method) for method, path in shown] == [
        (html.escape(path), method) for path, methods in paths.items() for method in methods
    ]
