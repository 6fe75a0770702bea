"""Owns the refusal of a snapshot or a restore."""

from __future__ import annotations

from oscd.errors import OscdError


class SnapshotRefused(OscdError):
    """Nothing was made. One line says why and what to do."""
