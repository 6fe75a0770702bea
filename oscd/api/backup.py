"""Owns the calls on backups (contract §9): from a `Call` to the use cases to an answer.

Must not touch SQL or a cipher, nor know the form of a backup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial

import orjson
from quart import Response

from oscd.api.answers import NO_STORE, entry_json, json_stream
from oscd.api.backup_entry import judge
from oscd.api.backup_models import BackupAnswer, BackupQuery, ImportAnswer, ImportQuery, ImportRequest
from oscd.api.call import Call, Handler
from oscd.api.configs import POSITION
from oscd.api.moments import known_moment, moment_of
from oscd.api.openapi import Answer, Operation
from oscd.backup.backups import BackupMaking, Backups, Wanted
from oscd.backup.document import Failure
from oscd.backup.plan import Report
from oscd.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    Invalid,
    NotAuthorized,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)
from oscd.listing import Filters
from oscd.node import Node
from oscd.values import Opened

PASSWORD = "X-Backup-Password"  # noqa: S105 - the name of the header
LEAST_PASSWORD_CHARACTERS = 8
# Entries that failed are written in slices of so many.
SLICE_FAILURES = 200

_GUARDS = (Forbidden, NotAuthorized, Invalid, TooManyRequests, Unavailable)
_HEADERS = (POSITION, "X-Request-ID")

BACKUP = Operation(
    "POST",
    "/backup",
    "Back up the entries the user key opens, sealed under a password",
    {200: Answer("The backup; `backup_data` is all that `/import` needs", BackupAnswer, _HEADERS)},
    query=BackupQuery,
    headers=(PASSWORD, "X-OSC-After"),
    refusals=(*_GUARDS, BadRequest),
    api_key=True,
    user_key=True,
)
IMPORT = Operation(
    "POST",
    "/import",
    "Import a backup: all that can be imported at once, or nothing",
    {200: Answer("What became of its entries", ImportAnswer, _HEADERS)},
    description="`backup_data` and what goes with it may stand in the query or in the body.",
    query=ImportQuery,
    body=ImportRequest,
    headers=(PASSWORD, "X-Actor"),
    refusals=(*_GUARDS, BadRequest, BodyTooLarge, UnsupportedMedia),
    api_key=True,
    user_key=True,
    is_body_optional=True,
    takes_import=True,
)


@dataclass(frozen=True, slots=True)
class BackupCalls:
    """The handlers, over the backups of one node.

    Attributes:
        most_entry_bytes: What the body of a create may have.
    """

    node: Node
    backups: Backups
    most_entry_bytes: int

    def routes(self) -> list[tuple[Operation, Handler]]:
        """What is served."""
        return [(BACKUP, self.backup), (IMPORT, self.restore)]

    async def backup(self, call: Call) -> Response:
        """`POST /backup`."""
        query, password = call.query_as(BackupQuery), _password(call, LEAST_PASSWORD_CHARACTERS)
        moment = moment_of(query.at)
        if call.after is not None:
            await self.node.wait_for(call.after)
        filters = Filters(query.environment, query.category)
        # The first part is read before the status goes out, so that a refusal is still one.
        with known_moment():
            making = await self.backups.make(filters, call.user_key, password, _to_json, moment)
        headers = dict([NO_STORE, (POSITION, making.position.encode())])
        return json_stream(_backup_parts(making), call.method, headers)

    async def restore(self, call: Call) -> Response:
        """`POST /import`."""
        password = _password(call, 1)
        wanted = self._wanted(call.query_as(ImportQuery), call.body_as(ImportRequest))
        user_key, caller, method, exchange = call.user_key, call.caller, call.method, call.exchange
        del call  # It holds the body, which is large, and an import takes long.
        try:
            report, position = await self.backups.restore(wanted, user_key, password, caller)
        finally:
            exchange.settled = wanted.settled
        headers = {} if position is None else {POSITION: position.encode()}
        return json_stream(_report_parts(report, is_dry=wanted.is_dry), method, headers)

    def _wanted(self, query: ImportQuery, body: ImportRequest) -> Wanted:
        """What is to be imported, and how, as query and body say together.

        Raises:
            Invalid: They contradict each other, or neither holds a backup.
        """
        said = body.model_dump(exclude_none=True)
        for name, asked in query.model_dump(exclude_none=True).items():
            if said.setdefault(name, asked) != asked:
                raise Invalid.field(("query", name), "must be what the body says, or be left out")
        if not said.get("backup_data"):
            raise Invalid.field(("body", "backup_data"), "is required, here or in the query")
        return Wanted(
            said["backup_data"],
            overwrite=said.get("overwrite", False),
            is_dry=said.get("dry_run", False),
            judge=partial(judge, most_bytes=self.most_entry_bytes),
        )


def _password(call: Call, least: int) -> str:
    """The password of the backup; treated as a user key is.

    Raises:
        Invalid: It is missing or too short.
    """
    password = call.exchange.text(PASSWORD.lower().encode())
    if password is None:
        raise Invalid.field(("header", PASSWORD), "is required")
    if len(password) < least:
        raise Invalid.field(("header", PASSWORD), f"must have at least {least} characters")
    return password


def _to_json(opened: Opened) -> bytes:
    return entry_json(opened.entry, opened.value_json, "full")


async def _backup_parts(making: BackupMaking) -> AsyncIterator[bytes]:
    yield b'{"backup_data":"'
    async for part in making.parts():
        yield part
    about = {
        "total_keys": making.total_keys,
        "backup_timestamp": making.backup_timestamp,
        "backup_id": making.backup_id,
    }
    yield b'",' + orjson.dumps(about)[1:]


async def _report_parts(report: Report, *, is_dry: bool) -> AsyncIterator[bytes]:
    about = {
        "message": "Dry run completed: nothing was changed" if is_dry else "Import completed",
        "backup_id": report.backup_id,
        "backup_timestamp": report.backup_timestamp,
        "total_in_backup": report.total,
        "imported": report.imported,
        "skipped": report.skipped,
        "failed": len(report.failures),
    }
    yield orjson.dumps(about)[:-1] + b',"failed_keys":['
    for part in _slices(report):
        yield part
    yield b"]}"


def _slices(report: Report) -> Iterator[bytes]:
    separator = b""
    for begin in range(0, len(report.failures), SLICE_FAILURES):
        some = map(_failure, report.failures[begin : begin + SLICE_FAILURES])
        yield separator + b",".join(some)
        separator = b","


def _failure(failure: Failure) -> bytes:
    return orjson.dumps({"key": failure.key, "environment": failure.environment, "error": failure.reason})
