"""What `oscd release` says where the disk does not say whether it was done."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from oscd import release
from oscd.errors import Unavailable
from oscd.release import release_entry, require_serving
from tests.events.no_commit import no_commit
from tests.projections.history import log_with


def test_a_commit_that_fails_is_not_told_as_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event may be in the log all the same, so the line says that nobody knows."""
    with log_with(tmp_path / "log.db", [("create", "prod", "a", "")]):
        pass

    def require_and_break(log: sqlite3.Connection) -> None:
        require_serving(log)
        no_commit(log)

    monkeypatch.setattr(release, "require_serving", require_and_break)
    with pytest.raises(Unavailable) as refused:
        release_entry(tmp_path / "log.db", "prod", "a")
    assert refused.value.detail.startswith("It is not known whether this was written")
