"""Fixtures of the tests of the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.asgi import Site, opened_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """An edge that asks for no API key and takes any host name."""
    async with opened_site(tmp_path) as site:
        yield site
