"""Owns how what a node told is printed: values, documents for machines, colours. Must not write to standard error."""

from __future__ import annotations

import json

import click

from oscd.client.entries import Entry, Json


def json_text(document: Json, *, indent: int | None = None) -> str:
    """JSON for a person or a pipe: readable where the output can be UTF-8, escaped where a text is none."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, from an entry taken over from OpenSecureConf
        return json.dumps(document, indent=indent)
    return text


def value_text(value: Json) -> str:
    """A value as `get` prints it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def tell_json(document: Json) -> None:
    """Print one document for machines, on one line, at once."""
    click.echo(json_text(document))


def entry_document(entry: Entry) -> dict[str, Json]:
    """An entry for machines."""
    return {
        "key": entry.key,
        "environment": entry.environment,
        "category": entry.category,
        "value": entry.value,
        "version": entry.version,
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "etag": entry.tag,
        "position": entry.position,
    }
