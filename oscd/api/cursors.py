"""Owns the text of a cursor: where a page ended, as its `Link` carries it to the next. Must not know what it says."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from oscd.errors import Invalid

Content = TypeVar("Content")


def cursor_of(content: object) -> str:
    """The cursor that says this; anything that JSON can say."""
    return urlsafe_b64encode(orjson.dumps(content)).decode("ascii")


def content_of(cursor: str, read: Callable[[Any], Content]) -> Content:
    """What a cursor says.

    Args:
        read: Makes of the decoded JSON what it stands for; raises ValueError or TypeError where it is none of ours.

    Raises:
        Invalid: No answer of oscd had this cursor.
    """
    try:
        return read(orjson.loads(urlsafe_b64decode(cursor.encode("ascii"))))
    except (ValueError, TypeError):  # What base64, ASCII and JSON raise is a ValueError, too.
        pass
    raise Invalid.field(("query", "cursor"), "is not a cursor; take it from the Link header")
