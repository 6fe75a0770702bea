"""Owns the refusal of an import."""

from __future__ import annotations

from oscd.errors import OscdError


class ImportRefused(OscdError):
    """Nothing was imported. The first line says why and what to do; further ones, if any, name rows."""
