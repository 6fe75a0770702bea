"""Owns the rule for tests that need something of the machine: they say so by name, and on CI they must run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_unless_ci(reason: str) -> NoReturn:
    """Skip this test for `reason`; with `CI=true` fail it, so that nothing goes unproven unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot be skipped on CI: {reason}")
    pytest.skip(reason)
