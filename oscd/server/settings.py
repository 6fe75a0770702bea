"""The effective settings of a node: read, checked against each other, warned about.

Owns: which settings contradict each other, and what a contradiction costs. Must not: touch the process (its
environment is an argument), open anything but `.env` and secret files, or let a secret into a message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oscd.errors import StartRefused
from oscd.server.settings_sources import Given, given_texts, secret_from_file, unknown_name_warnings
from oscd.server.settings_table import TABLE, Row, Settings, known_names

__all__ = ["Settings", "load_settings"]

# The example in the original's documentation; many deployments never changed it.
PLACEHOLDER_API_KEY = b"your-super-secret-api-key-here"


def load_settings(environ: Mapping[str, str], directory: Path) -> tuple[Settings, list[str]]:
    """Read the settings of a node that runs in `directory`, and the warnings its operator should see.

    Relative secret files and `.env` are looked up in `directory`.

    Raises:
        StartRefused: A value cannot be parsed, a secret is given twice or cannot be read, or settings
            contradict each other in a way that would leave the node open.
    """
    texts = given_texts(environ, directory)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for attribute, row in TABLE.items():
        given = _given(row, texts, directory)
        if given is not None:
            values[attribute] = _parsed(row, given)
            sources[row.name] = given.source
    settings = Settings(**values, sources=sources)
    _refuse_open_doors(settings)
    refuse_cluster_without_replication(settings)
    warnings = [*unknown_name_warnings(texts, known_names()), *_warnings(settings)]
    return _without_wildcard_origin(settings), warnings


def refuse_cluster_without_replication(settings: Settings) -> None:
    """Stop a start that asks for replication, which this version has not: its silence would lose data.

    Raises:
        StartRefused: Clustering is on.
    """
    if settings.cluster_enabled:
        raise StartRefused("OSC_CLUSTER_ENABLED=true: this version has no replication yet; accepted is false")


def _given(row: Row, texts: Mapping[str, Given], directory: Path) -> Given | None:
    direct = texts.get(row.name) or (texts.get(row.alias) if row.alias else None)
    filed = secret_from_file(row.name, texts, directory) if row.secret else None
    if direct is None or filed is None:
        return direct or filed
    if not row.additive:
        raise StartRefused(f"{row.name} and {row.name}_FILE are both set; accepted is one of them")
    return Given(f"{direct.text}\n{filed.text}", f"{direct.source} and {filed.source}")


def _parsed(row: Row, given: Given) -> object:
    try:
        return row.parse(given.text.strip() if not row.secret else given.text)
    except ValueError as accepted:
        shown = "" if row.secret else f"={given.text[:80]!r}"
        # `from None`: a secret must not ride along in the chain of a traceback.
        raise StartRefused(f"{row.name}{shown} ({given.source}): accepted is {accepted}") from None


def _refuse_open_doors(settings: Settings) -> None:
    if settings.api_key_required and not settings.api_keys:
        raise StartRefused("OSC_API_KEY_REQUIRED=true: set OSC_API_KEY or OSC_API_KEY_FILE")
    if settings.api_key_required and PLACEHOLDER_API_KEY in settings.api_keys:
        raise StartRefused("OSC_API_KEY is the example everybody knows; choose a secret one")
    if settings.cluster_enabled and not settings.api_key_required:
        raise StartRefused(
            "OSC_CLUSTER_ENABLED=true: peers must be authenticated; set OSC_API_KEY_REQUIRED=true"
        )


def _warnings(settings: Settings) -> Iterator[str]:
    if settings.api_keys and not settings.api_key_required:
        yield "OSC_API_KEY is set but not asked for: set OSC_API_KEY_REQUIRED=true"
    if settings.ssl_ca_certs is not None and not settings.https_enabled:
        yield "OSC_SSL_CA_CERTS is set, but nobody is asked for a certificate: set OSC_HTTPS_ENABLED=true"
    if "*" in settings.cors_origins and not settings.api_key_required:
        yield "OSC_CORS_ORIGINS=* is ignored, because no API key is required"


def _without_wildcard_origin(settings: Settings) -> Settings:
    if settings.api_key_required or "*" not in settings.cors_origins:
        return settings
    return dataclasses.replace(settings, cors_origins=tuple(o for o in settings.cors_origins if o != "*"))
