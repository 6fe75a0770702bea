"""What clients may ask of backups and what they get; see `models.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from oscd.api.models import At, Category, Count, EntryCreate, Environment, RequestModel, Time, boolean_if_word


def _boolean_if_said(text: object) -> object:
    """A truth as clients in several languages write it in a query."""
    return boolean_if_word(text.lower()) if isinstance(text, str) else text


def _plus_for_space(text: object) -> object:
    """Undo what a query does to base64 that was not percent-encoded."""
    return text.replace(" ", "+") if isinstance(text, str) else text


_Said = Annotated[bool | None, BeforeValidator(_boolean_if_said)]


class BackupQuery(RequestModel):
    """Query of `POST /backup`; what is absent matches everything."""

    category: Category | None = None
    environment: Environment | None = None
    at: At = None


class BackupEntry(EntryCreate):
    """An entry of a backup: what a create takes, and its times."""

    created_at: str | None = None
    updated_at: str | None = None


class ImportQuery(RequestModel):
    """Query of `POST /import`, for clients that send everything so."""

    backup_data: Annotated[str | None, BeforeValidator(_plus_for_space), Field(repr=False)] = None
    overwrite: _Said = None
    dry_run: _Said = None


class ImportRequest(RequestModel):
    """Body of `POST /import`."""

    backup_data: Annotated[
        str | None, Field(repr=False, description="From `POST /backup`, of this server or the original")
    ] = None
    overwrite: Annotated[
        bool | None, Field(description="Whether entries of the same user key are overwritten, or skipped")
    ] = None
    dry_run: Annotated[bool | None, Field(description="Report only")] = None


class BackupAnswer(BaseModel):
    """A backup."""

    backup_data: str
    total_keys: Count
    backup_timestamp: Time
    backup_id: str


class FailedEntry(BaseModel):
    """An entry that was not imported, and why; what it does not tell of its place is null."""

    key: str | None
    environment: str | None
    error: str


class ImportAnswer(BaseModel):
    """What became of the entries of a backup."""

    message: str
    backup_id: str
    backup_timestamp: str
    total_in_backup: Count
    imported: Count
    skipped: Count
    failed: Count
    failed_keys: list[FailedEntry]
