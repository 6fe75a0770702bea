"""Owns the entries that match a stream's filter as they stood at one position, page by page, each in a short view.

Must not know how they are written down.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable

from oscd.errors import LogCorrupt
from oscd.events.cipher import Cipher
from oscd.events.log import Reading
from oscd.events.position import Position
from oscd.feed.frame import StreamFilter
from oscd.listing import LARGE_READ_BYTES, START, Filters, Page, entries_of_page
from oscd.projections.entry import Entry
from oscd.values import open_each

PAGE_ENTRIES = 200
# Of ciphertext, where values are asked for.
PAGE_BYTES = 32 * 1024

Shown = tuple[Entry, bytes | None]

# Reads a page in a short view, None where that cannot be done now; takes the bytes it may return, too.
ReadPage = Callable[[Callable[[Reading[sqlite3.Connection]], Page], int], Awaitable[Page | None]]


async def entries_at(
    read: ReadPage, wanted: StreamFilter, position: Position, cipher: Cipher | None
) -> AsyncIterator[list[Shown]]:
    """Pages of entries with their values, None where the cipher does not open them.

    A page may be empty, as it is where the log could not be read: whoever takes it has a turn, and asks again.

    Args:
        position: The cut; the log that is read holds it.
        cipher: None where no values are asked for.

    Raises:
        LogCorrupt: It does not hold what was appended.
    """
    filters = Filters(wanted.environment, wanted.category, key=wanted.key)
    after: tuple[str, str] | None = START
    while after is not None:
        page = await read(
            lambda reading, begin=after: _page(  # type: ignore[misc]
                reading, filters, begin, position, with_bodies=cipher is not None
            ),
            LARGE_READ_BYTES,
        )
        if page is None:
            yield []
            continue
        values: dict[int, bytes] = {}
        if cipher is not None:
            ours = [found for found in page.found if found[0].key_id in (None, cipher.key_id)]
            values = {opened.entry.offset: opened.value_json for opened in await open_each(cipher, ours)}
        yield [(entry, values.get(entry.offset)) for entry, _ in page.found]
        after = page.next_after


def _page(
    reading: Reading[sqlite3.Connection],
    filters: Filters,
    after: tuple[str, str],
    position: Position,
    *,
    with_bodies: bool,
) -> Page:
    cut = reading.cut_of(position)
    if cut is None:
        raise LogCorrupt("the log has lost events while it was read")
    return entries_of_page(reading, filters, after, cut, (PAGE_ENTRIES, PAGE_BYTES), with_bodies=with_bodies)
