"""Owns tickets: what lets a browser's `EventSource`, which can send no header, open a stream.

A ticket is `v1.` and the base64url of its contents and of a signature over them. It is signed with a key stretched
from the API key that asked, under the cluster's salt, so any worker of any node knows it, it dies with that API key,
and who sees a ticket cannot try API keys on it. Where none is required the salt alone signs: there is nothing to
guard. Must not let through anything but what was signed, whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from oscd.errors import Forbidden
from oscd.feed.frame import StreamFilter

MAX_TICKET: Final = 4096
"""Characters; the longest names give some 2 700."""

STRETCHED_KEYS: Final = 64
"""Stretched API keys kept; a node accepts a few."""

ROUNDS: Final = 480_000
"""Of PBKDF2-HMAC-SHA256, as for user keys: 50 ms, once per API key and worker."""

_VERSION: Final = "v1"
_PURPOSE: Final = b"oscd ticket 1\n"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket opens.

    Attributes:
        expires_at: Whole seconds since 1970; the stream ends then.
        api_key: Whose grant it is; None where no API key is required.
    """

    wanted: StreamFilter
    expires_at: int
    api_key: bytes | None = field(repr=False)


class Tickets:
    """Issues and redeems the tickets of one node.

    Args:
        salt: The cluster's.
        clock: Seconds since 1970.
        rounds: Other than the usual ones, for tests.
    """

    def __init__(self, salt: bytes, *, clock: Callable[[], float] = time.time, rounds: int = ROUNDS) -> None:
        self._base = hashlib.sha256(_PURPOSE + salt).digest()
        self._clock = clock
        self._rounds = rounds
        self._stretched: OrderedDict[bytes, bytes] = OrderedDict()
        self._stretching = asyncio.Lock()

    async def issue(self, wanted: StreamFilter, seconds: int, api_key: bytes | None) -> tuple[str, int]:
        """Make a ticket; gives it and when it expires, in seconds since 1970."""
        expires_at = int(self._clock()) + seconds
        contents = orjson.dumps([expires_at, wanted.key, wanted.environment, wanted.category])
        signature = _sign(await self._key(api_key), contents)
        return f"{_VERSION}.{_text(contents)}.{_text(signature)}", expires_at

    async def redeem(self, text: str, asked: StreamFilter, api_keys: Sequence[bytes]) -> Ticket:
        """What a ticket opens.

        Args:
            asked: What the stream is asked to filter; nothing stands for what the ticket says.
            api_keys: Those accepted now; empty where none is required.

        Raises:
            Forbidden: It is not one of ours, has expired, or is for other filters.
        """
        contents, signature = _parts(text)
        for api_key in api_keys or (None,):
            if hmac.compare_digest(_sign(await self._key(api_key), contents), signature):
                break
        else:
            raise Forbidden("ticket: it was not issued here, or its API key is gone; ask for a new one.")
        expires_at, key, environment, category = orjson.loads(contents)
        ticket = Ticket(StreamFilter(key, environment, category), expires_at, api_key)
        if self._clock() >= ticket.expires_at:
            raise Forbidden("ticket: it has expired; ask for a new one at POST /sse/tickets.")
        if asked not in (StreamFilter(), ticket.wanted):
            raise Forbidden("ticket: it was issued for other filters; ask for one for these.")
        return ticket

    async def _key(self, api_key: bytes | None) -> bytes:
        if api_key is None:
            return self._base
        name = credential(api_key)
        async with self._stretching:
            key = self._stretched.get(name)
            if key is None:
                key = await asyncio.to_thread(
                    hashlib.pbkdf2_hmac, "sha256", api_key, self._base, self._rounds
                )
            self._stretched[name] = key
            self._stretched.move_to_end(name)
            if len(self._stretched) > STRETCHED_KEYS:
                self._stretched.popitem(last=False)
            return key


def credential(api_key: bytes) -> bytes:
    """A name for an API key, so that a stream need not hold the key itself."""
    return hashlib.sha256(api_key).digest()


def _parts(text: str) -> tuple[bytes, bytes]:
    """Contents and signature, neither of which is believed yet.

    Raises:
        Forbidden: It does not even look like a ticket.
    """
    try:
        version, contents, signature = text.split(".")
        if version == _VERSION and len(text) <= MAX_TICKET:
            return _bytes(contents), _bytes(signature)
    except (ValueError, Base64Error):
        pass
    raise Forbidden("ticket: this is not a ticket; ask for one at POST /sse/tickets.")


def _sign(key: bytes, contents: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + contents, "sha256")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    """The bytes that are written so.

    Raises:
        ValueError, Base64Error: None are, or not in this way: the decoder passes over what is no base64.
    """
    data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _text(data) != text:
        raise ValueError
    return data
