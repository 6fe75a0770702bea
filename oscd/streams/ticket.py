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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from oscd.errors import Forbidden
from oscd.events.salt import SaltSource
from oscd.feed.frame import StreamFilter

MAX_TICKET: Final = 4096
"""Characters; the longest names give some 2 700."""

ROUNDS: Final = 480_000
"""Of PBKDF2-HMAC-SHA256, as for user keys: 50 ms, once per API key and worker."""

_VERSION: Final = "v1"
_PURPOSE: Final = b"oscd ticket 1\n"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket opens.

    Attributes:
        expires_at: Whole seconds since 1970; the stream ends then.
        credential: Of the API key whose grant it is; None where no API key is required.
    """

    wanted: StreamFilter
    expires_at: int
    credential: bytes | None

    def require(self, asked: StreamFilter) -> None:
        """Refuse filters other than its own; none at all stand for its own.

        Raises:
            Forbidden: It was issued for others.
        """
        if asked not in (StreamFilter(), self.wanted):
            raise Forbidden("ticket: it was issued for other filters; ask for one for these.")


class Tickets:
    """Issues and redeems the tickets of one node.

    Args:
        salt: Gives the cluster's.
        clock: Seconds since 1970.
        rounds: Other than the usual ones, for tests.
    """

    def __init__(
        self, salt: SaltSource, *, clock: Callable[[], float] = time.time, rounds: int = ROUNDS
    ) -> None:
        self._salt = salt
        self._clock = clock
        self._rounds = rounds
        self._stretched: dict[bytes, asyncio.Future[bytes]] = {}

    async def issue(self, wanted: StreamFilter, seconds: int, api_key: bytes | None) -> tuple[str, int]:
        """Make a ticket; gives it and when it expires, in seconds since 1970.

        Raises:
            Unavailable: There is no salt yet.
        """
        expires_at = int(self._clock()) + seconds
        contents = orjson.dumps([expires_at, wanted.key, wanted.environment, wanted.category])
        signature = _sign(await self._key(api_key), contents)
        return f"{_VERSION}.{_text(contents)}.{_text(signature)}", expires_at

    async def redeem(self, text: str, api_keys: Sequence[bytes]) -> Ticket:
        """What a ticket opens.

        Args:
            api_keys: Those accepted now; empty where none is required.

        Raises:
            Forbidden: It is not one of ours, or has expired.
            Unavailable: There is no salt yet.
        """
        contents, signature = _parts(text)
        self._forget_all_but(api_keys)
        for api_key in api_keys or (None,):
            if hmac.compare_digest(_sign(await self._key(api_key), contents), signature):
                break
        else:
            raise Forbidden("ticket: it was not issued here, or its API key is gone; ask for a new one.")
        expires_at, key, environment, category = orjson.loads(contents)
        if self._clock() >= expires_at:
            raise Forbidden("ticket: it has expired; ask for a new one at POST /sse/tickets.")
        return Ticket(
            StreamFilter(key, environment, category),
            expires_at,
            None if api_key is None else credential(api_key),
        )

    async def _key(self, api_key: bytes | None) -> bytes:
        """The key that signs; stretched once, however many ask, and whether or not they wait for it."""
        base = hashlib.sha256(_PURPOSE + self._salt()).digest()
        if api_key is None:
            return base
        name = credential(api_key)
        stretched = self._stretched.get(name)
        if stretched is None:
            stretched = asyncio.get_running_loop().run_in_executor(
                None, hashlib.pbkdf2_hmac, "sha256", api_key, base, self._rounds
            )
            self._stretched[name] = stretched
        # A caller that leaves must not take it with it: the next would begin anew, as often as callers leave.
        return await asyncio.shield(stretched)

    def _forget_all_but(self, api_keys: Sequence[bytes]) -> None:
        """Keep what the accepted keys were stretched to, so that there are never more than those."""
        accepted = {credential(api_key) for api_key in api_keys}
        for name in self._stretched.keys() - accepted:
            del self._stretched[name]


def credential(api_key: bytes) -> bytes:
    """A name for an API key: what a stream is remembered to have been opened by."""
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
